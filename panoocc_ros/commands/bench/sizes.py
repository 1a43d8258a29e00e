"""How the cost of a network grows: `--sweep`."""

import argparse

import torch
from tqdm import tqdm

from panoocc_core.base.whole_files import write_json
from panoocc_core.bench import computing_threads, draw_sweep, hardware, sweep_sizes, sweep_table, variants

from .rivals import one_choice


def sweep(arguments: argparse.Namespace) -> None:
    """Measure every variant, and say it as table, JSON and picture."""
    choice, setting = one_choice(arguments, "sweep")
    device, count = torch.device(setting.device), sum(1 for _ in variants(choice.config))
    with computing_threads(setting.threads), tqdm(total=count, unit="network", desc="sweep", disable=None) as bar:
        rows = sweep_sizes(choice.config, device, setting.precision, bar.update)
        title = f"{setting.label}, variants with seeded weights, on {hardware(device)}"
    print(sweep_table(rows, title))
    if arguments.json is not None:
        write_json(arguments.json, {"sweep": [row.as_dict() for row in rows], "of": setting.label})
        print(f"written: {arguments.json}")
    if arguments.picture is not None:
        draw_sweep(arguments.picture, rows, title)
        print(f"written: {arguments.picture}")
