"""`panoocc models`: the table of presets."""

import argparse
import json
from typing import Any

import torch

from panoocc_core.config import ModelConfig, model_config, presets
from panoocc_core.memory import history_bytes, states_kept
from panoocc_core.models import build_network

from ..ros.exit_codes import NOT_WRITTEN, OK, explained, fail
from .shared import options

DESCRIPTION = """\
Lists the presets that --model takes: what each network sees, computes and remembers, where its weights come from, and
what of its configuration was checked.  The history's memory is that of all states that are kept, in float32 (half of it
with --precision fp16 or bf16).
"""
EPILOG = explained(NOT_WRITTEN)

BYTES_OF_FLOAT32 = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc models`."""
    options.add(parser, "--json")


def model_row(config: ModelConfig) -> dict[str, Any]:
    """What a user chooses a preset by."""
    temporal, states = config.temporal, states_kept(config.temporal)
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
        "points_xyz": list(config.points.cells_xyz or config.output_shape_xyz),
        "history": temporal.kind if temporal.ages_s else "none",
        "history_ages_s": list(temporal.ages_s),
        "history_states": states,
        "history_bytes": history_bytes(config, BYTES_OF_FLOAT32),
        "title": config.title,
        "checkpoint_source": config.origin.checkpoint,
        "confirmed": config.origin.confirmed,
    }


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc models`; returns the exit status, errors are said on stderr."""
    rows = [model_row(model_config(name)) for name in presets()]
    if arguments.json is not None:
        try:
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
        except OSError as error:
            return fail("models", f"{arguments.json}: cannot be written: {error}", NOT_WRITTEN)
    heads = f"{'preset':26s} {'param.':>9s} {'cameras':>7s} {'input':>9s} {'grid':>11s} {'classes':>7s} {'memory':>8s}"
    print(f"{heads}  history")
    for row in rows:
        print("\n".join(_lines(row)))
    return OK


def _lines(row: dict[str, Any]) -> list[str]:
    """A row of the table, and below it where the weights come from."""
    size, grid, points = ("x".join(map(str, row[key])) for key in ("input_hw", "grid_xyz", "points_xyz"))
    ages = ", ".join(f"{age:g}" for age in row["history_ages_s"])
    history = f"{row['history']} ({ages} s)" if ages else "none"
    finer = "" if points == grid else f"; points read their class from {points} cells"
    return [
        f"{row['name']:26s} {row['parameters_m']:7.2f} M {len(row['cameras']):7d} {size:>9s} {grid:>11s} "
        f"{row['classes']:7d} {row['history_bytes'] / 1e6:5.0f} MB  {history}",
        f"    checkpoint: {row['checkpoint_source']}; confirmed: {row['confirmed']}{finer}",
    ]
