"""Networks in every setting that was asked for, each in a process of its own."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from panoocc_core import CheckpointError, ModelConfig, NonFiniteError
from panoocc_core.base.host_memory import keep_freed_memory, kept_by_environment
from panoocc_core.base.processors import multiplies_natively
from panoocc_core.base.resources import shipped_weights
from panoocc_core.bench import (
    Effort,
    NetworkReport,
    Setting,
    check_memory,
    draw_networks,
    measure,
    network_table,
    summary_table,
)
from panoocc_core.config import presets
from panoocc_core.cuda.kernels import CudaError
from panoocc_core.sim.pool import WorkerPool
from panoocc_core.weights.checkpoint import PRECISIONS

from ...frames.rig import Rig
from ...node.choices import chosen_config, chosen_device, chosen_rig, device_notes, rig_for, warn_once
from ...ros.parameter_fields import SettingsError
from .bag_frames import bag_frames

DEFAULT_NETWORKS = ("nano", "pano_small_occ3d")
EVERY = "all"
STREET_FRAMES = 4  # that are rendered, and sent forth and back


@dataclass(frozen=True, slots=True)
class Choice:
    """A network with its cameras, and the settings in which it is measured."""

    config: ModelConfig
    rig: Rig
    settings: tuple[Setting, ...]


def choices(arguments: argparse.Namespace) -> list[Choice]:
    """What the options ask for, all combinations.

    Raises:
        SettingsError: a network, rig, device or file that cannot be used.
        ValueError: a network that does not fit into the memory.
    """
    device = chosen_device(arguments.device)
    for sentence in device_notes(arguments.device, "fp32"):
        warn_once(sentence)
    if "graph" in (arguments.executor or ()) and device == "cpu":
        raise SettingsError("graph is for CUDA: take eager, or a CUDA device (--device)", "executor")
    names = arguments.model or DEFAULT_NETWORKS
    names = list(presets()) if EVERY in names else names
    if arguments.checkpoint is not None and len(names) > 1:
        raise SettingsError(f"it holds the weights of one network, not of {len(names)}: name that one", "checkpoint")
    found = []
    for name in names:
        config = chosen_config(name, instances=arguments.instances)
        rig = rig_for(config, chosen_rig(arguments.rig, config))
        settings = tuple(_settings(config, device, arguments))
        for setting in settings:
            check_memory(config, torch.device(device), PRECISIONS[setting.precision].itemsize)
        found.append(Choice(config, rig, settings))
    return found


def _settings(config: ModelConfig, device: str, arguments: argparse.Namespace) -> Iterator[Setting]:
    pays = config.real_time_on_cpu and multiplies_natively("bf16") if device == "cpu" else True
    usual = ("fp32", "bf16") if pays else ("fp32",)
    seeded = arguments.seeded_weights or (arguments.checkpoint is None and shipped_weights(config.name) is None)
    for precision, threads, executor in product(
        arguments.precision or usual,
        arguments.threads or (torch.get_num_threads(),),
        arguments.executor or ("eager",),
    ):
        yield Setting(config, device, precision, threads, arguments.checkpoint, seeded, executor, kept_by_environment())


def measure_networks(
    chosen: Sequence[Choice], bags: Sequence[Path], effort: Effort, frame_count: int = STREET_FRAMES
) -> tuple[list[NetworkReport], dict[str, str]]:
    """Reports of all settings, and what those failed with of which there is none.

    Raises:
        BagError: a bag cannot be read or gives no frame.
        SettingsError: a checkpoint does not fit.
        BrokenExecutor: a process was killed, e.g. for want of memory.
    """
    reports: list[NetworkReport] = []
    failed: dict[str, str] = {}
    for choice, bag in zip(chosen, bags, strict=True):
        for setting in choice.settings:
            print(f"measuring {setting.label} ...", file=sys.stderr)
            try:
                with WorkerPool(1, unwinds=False) as own_process:
                    report = own_process.submit(measure_bag, setting, bag, choice.rig, frame_count, effort).result()
            except CheckpointError as error:
                raise SettingsError(str(error), "checkpoint") from error
            except (NonFiniteError, RuntimeError, MemoryError) as error:
                if isinstance(error, (NonFiniteError, torch.OutOfMemoryError, MemoryError)) or _is_of_torch(error):
                    failed[setting.label] = " ".join((str(error) or type(error).__name__).split())
                    print(f"{setting.label}: failed: {failed[setting.label]}\n", file=sys.stderr)
                    continue
                raise
            print(network_table(report) + "\n", flush=True)
            reports.append(report)
    if reports:
        print(summary_table(reports) + "\n", flush=True)
    return reports, failed


def measure_bag(setting: Setting, bag: Path, rig: Rig, frame_count: int, effort: Effort) -> NetworkReport:
    """The work of such a process: a setting on the first frames of a bag.

    Raises:
        BagError: the bag cannot be read or gives no frame.
    """
    keep_freed_memory(setting.kept)
    return measure(setting, bag_frames(bag, setting.config, rig, frame_count), effort)


def _is_of_torch(error: Exception) -> bool:
    """Whether an operator failed, as it does not know a precision, or a capture; a process that was killed is another
    matter."""
    return type(error) is RuntimeError or isinstance(error, (NotImplementedError, CudaError))


def numbers_of(reports: Sequence[NetworkReport], failed: dict[str, str]) -> dict[str, Any]:
    """What is written as JSON."""
    return {"networks": [report.as_dict() for report in reports], **({"failed": failed} if failed else {})}


def draw(path: Path | None, reports: Sequence[NetworkReport]) -> None:
    """The picture, where one is wanted and there is something to show."""
    if path is not None and reports:
        draw_networks(path, reports)
        print(f"written: {path}")
