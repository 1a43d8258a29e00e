"""`panoocc models`: the table of presets."""

import argparse
import json
from typing import Any

import torch

from panoocc_core.config import ModelConfig, model_config, presets
from panoocc_core.models import build_network

from ..ros.exit_codes import NOT_WRITTEN, OK, explained, fail
from . import options

DESCRIPTION = "Lists the presets that --model takes: what each network sees, computes and remembers."
EPILOG = explained(NOT_WRITTEN)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc models`."""
    options.add(parser, "--json")


def model_row(config: ModelConfig) -> dict[str, Any]:
    """What a user chooses a preset by."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in build_network(config).parameters())
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


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc models`; returns the exit status, errors are said on stderr."""
    rows = [model_row(model_config(name)) for name in presets()]
    if arguments.json is not None:
        try:
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
        except OSError as error:
            return fail("models", f"{arguments.json}: cannot be written: {error}", NOT_WRITTEN)
    print(f"{'preset':26s} {'param.':>9s} {'cameras':>7s} {'input':>9s} {'grid':>11s} {'classes':>7s}  history")
    for row in rows:
        size, grid = ("x".join(map(str, row[key])) for key in ("input_hw", "grid_xyz"))
        ages = ", ".join(f"{age:g}" for age in row["history_ages_s"])
        history = f"{row['history']} ({ages} s)" if ages else "none"
        print(
            f"{row['name']:26s} {row['parameters_m']:7.2f} M {len(row['cameras']):7d} {size:>9s} {grid:>11s} "
            f"{row['classes']:7d}  {history}"
        )
    return OK
