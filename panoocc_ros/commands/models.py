"""Commands that need neither ROS nor a bag: `panoocc models`, `checkpoint`, `train` and `eval`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from panoocc_core.config import ConfigError, ModelConfig, model_config, presets
from panoocc_core.models.panoocc import PanoOcc
from panoocc_core.weights.checkpoint import CheckpointError, convert

from .eval import add_eval
from .train import add_train

EXIT_OK, EXIT_BAD_INPUT = 0, 2


def add_commands(subparsers: Any) -> None:
    """Register the core's commands with the `panoocc` parser."""
    models = subparsers.add_parser(
        "models",
        help="list the model presets",
        description="Lists the presets that --model takes: what each network sees, computes and remembers.",
    )
    models.add_argument("--json", type=Path, metavar="FILE", help="also write the table as JSON")
    models.set_defaults(run=_models)

    checkpoint = subparsers.add_parser(
        "checkpoint",
        help="convert a published checkpoint to safetensors, with a report",
        description=(
            "Reads a published PanoOcc checkpoint (.pth), finds the preset that it fits, checks every entry, and "
            "writes safetensors. Nothing in the file is executed. Published files: https://github.com/Robertwyq/PanoOcc"
        ),
    )
    checkpoint.add_argument("file", type=Path, help="published checkpoint (.pth), or .safetensors to check again")
    checkpoint.add_argument("--out", type=Path, help="target (default: FILE with the suffix .safetensors)")
    checkpoint.add_argument("--model", help="preset the file is meant for (default: found by its entries)")
    checkpoint.set_defaults(run=_checkpoint)
    add_train(subparsers)
    add_eval(subparsers)


def model_row(config: ModelConfig) -> dict[str, Any]:
    """What a user chooses a preset by."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in PanoOcc(config).parameters())
    return {
        "name": config.name,
        "description": config.description,
        "parameters_m": round(parameters / 1e6, 2),
        "cameras": list(config.cameras),
        "input_hw": list(config.images.padded_hw),
        "queries_hwz": [config.grid.rows, config.grid.columns, config.grid.layers],
        "grid_xyz": list(config.output_shape_xyz),
        "classes": config.class_count,
        "labels": config.labels.key,
        "history": config.temporal.kind if config.temporal.ages_s else "none",
        "history_ages_s": list(config.temporal.ages_s),
    }


def _models(arguments: argparse.Namespace) -> int:
    rows = [model_row(model_config(name)) for name in presets()]
    if arguments.json is not None:
        try:
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
        except OSError as error:
            return _fail(f"{arguments.json}: cannot be written: {error}")
    print(f"{'preset':26s} {'param.':>9s} {'cameras':>7s} {'input':>9s} {'grid':>11s} {'classes':>7s}  history")
    for row in rows:
        size, grid = ("x".join(map(str, row[key])) for key in ("input_hw", "grid_xyz"))
        ages = ", ".join(f"{age:g}" for age in row["history_ages_s"])
        history = f"{row['history']} ({ages} s)" if ages else "none"
        print(
            f"{row['name']:26s} {row['parameters_m']:7.2f} M {len(row['cameras']):7d} {size:>9s} {grid:>11s} "
            f"{row['classes']:7d}  {history}"
        )
    return EXIT_OK


def _checkpoint(arguments: argparse.Namespace) -> int:
    target = arguments.out or arguments.file.with_suffix(".safetensors")
    if target.resolve() == arguments.file.resolve():
        return _fail(f"{target}: is the file itself; name another one with --out")
    try:
        print(convert(arguments.file, target, arguments.model))
    except (CheckpointError, ConfigError) as error:
        return _fail(str(error))
    return EXIT_OK


def _fail(text: str) -> int:
    print(f"panoocc: {text}", file=sys.stderr)
    return EXIT_BAD_INPUT
