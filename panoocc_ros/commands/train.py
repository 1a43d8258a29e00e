"""`panoocc train`: the command line around the training loop."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from panoocc_core.base.devices import usable_device
from panoocc_core.base.strict_yaml import ConfigError, merged, parse_yaml
from panoocc_core.data import open_splits
from panoocc_core.data.simulated import SimulatedStreets, simulated_streets
from panoocc_core.data.street_plan import StreetPlan, drive_files
from panoocc_core.ground_truth import Drive
from panoocc_core.models import build_network
from panoocc_core.network import Network
from panoocc_core.stream import output_geometry
from panoocc_core.train.clips import rounds_of_epoch
from panoocc_core.train.curves import check_tensorboard
from panoocc_core.train.loop import Options, TrainingError, start_from_scratch, train
from panoocc_core.train.optimiser import build_optimiser
from panoocc_core.train.processes import Processes, joined, own_device
from panoocc_core.train.snapshot import FILE
from panoocc_core.train.train_config import FolderConfig, StreetsConfig, TrainConfig, train_config
from panoocc_core.types import GridGeometry
from panoocc_core.weights.checkpoint import load_published, with_fresh_heads
from panoocc_core.weights.tensor_files import read_tensors

from ..ros.argument_types import number, whole_number
from ..ros.exit_codes import BAD_INPUT, FAILED, NETWORK_FAILED, NOT_WRITTEN, explained
from .shared import options
from .shared.failures import Ended, status_of

DESCRIPTION = """\
Trains a network by a recipe: a name in config/train, or a YAML file.  Recipes on simulated streets render their drives
first; recipes on nuScenes take --data.  Curves go to OUT/curve.csv and OUT/validation.csv, the weights to
OUT/weights.safetensors.  A training that was killed goes on with --resume and gives the same numbers as if it had not
been.
"""
EPILOG = f"""\
examples:
  panoocc train nano --out runs/nano
  panoocc train nano --out runs/nano --resume
  panoocc train pano_small_occ3d --data /data/nuscenes --checkpoint start.pth --out runs/small --device cuda
  torchrun --nproc-per-node 2 -m panoocc_ros.commands.cli train nano --out runs/nano --threads 1
  panoocc train nano --out runs/try --set epochs=1 data.drives=4 optimiser.lr=3e-4

{explained(FAILED, BAD_INPUT, NOT_WRITTEN, NETWORK_FAILED)}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc train`."""
    parser.add_argument("recipe", metavar="RECIPE", help="name in config/train, or YAML file")
    options.add(
        parser, "--out", metavar="FOLDER", help="folder of this training: snapshot, curves, weights, rendered streets"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the snapshot in --out; begin anew, and say so, without one"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change keys of the recipe, e.g. optimiser.lr=1e-4 epochs=2",
    )
    options.add(
        parser,
        "--checkpoint",
        help="begin with these weights, not from scratch; not used, and said so, where --resume goes on",
    )
    options.add(parser, "--device", "--threads")
    data = parser.add_argument_group("data")
    data.add_argument("--data", type=Path, metavar="FOLDER", help="nuScenes' root, for recipes that learn from it")
    data.add_argument("--gts", type=Path, metavar="FOLDER", help="Occ3D's labels (default: DATA/gts)")
    data.add_argument("--streets", type=Path, metavar="FOLDER", help="rendered drives (default: OUT/streets)")
    options.add(data, "--workers")
    course = parser.add_argument_group("course")
    course.add_argument(
        "--snapshot-every",
        type=number(0.0),
        default=120.0,
        metavar="SECONDS",
        help="time between two snapshots (default: %(default)s)",
    )
    course.add_argument(
        "--stop-after",
        type=whole_number(1),
        metavar="STEPS",
        help="leave a snapshot after so many steps and stop",
    )
    course.add_argument(
        "--tensorboard", action="store_true", help="also write TensorBoard events (pip install tensorboard)"
    )
    options.add(course, "--no-progress")


def changes_from(pairs: Sequence[str]) -> dict[str, Any]:
    """Nested changes from "a.b=value" texts, whose values are YAML.

    Raises:
        ConfigError: a text without "=", or a value that is no YAML.
    """
    out: dict[str, Any] = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        if not equals or not path:
            raise ConfigError(f"--set {pair}: write KEY=VALUE, e.g. optimiser.lr=1e-4")
        value = parse_yaml(text, f"--set {pair}")
        if isinstance(value, str):  # YAML takes 1e-4, without a dot, for a text
            with contextlib.suppress(ValueError):
                value = float(value)
        for key in reversed(path.split(".")):
            value = {key: value}
        out = merged(out, value)
    return out


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc train`; returns the exit status, errors are said on stderr."""
    return status_of("train", lambda: _train_or_end(arguments), "fewer --workers need less")


def _train_or_end(arguments: argparse.Namespace) -> None:
    try:
        _train(arguments)
    except TrainingError as error:
        raise Ended(str(error), FAILED) from error


def _train(arguments: argparse.Namespace) -> None:
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    config = train_config(arguments.recipe, changes_from(arguments.set))
    device = own_device(str(usable_device(arguments.device)))
    model = start_from_scratch(build_network(config.model_config), config)
    if arguments.checkpoint is not None:
        tensors = read_tensors(arguments.checkpoint)
        complete = with_fresh_heads(model, tensors)
        if len(complete) > len(tensors):
            print(f"panoocc train: {arguments.checkpoint} has no occupancy heads: they start anew", file=sys.stderr)
        load_published(model, complete, str(arguments.checkpoint))
    with joined(device) as processes:
        begun = processes.is_first and (arguments.out / FILE).exists()  # the others' folders do not count
        if processes.any(begun and not arguments.resume, device):
            raise ValueError(f"{arguments.out}: holds a training already; go on with --resume, or give another --out")
        if processes.is_first and arguments.resume:
            _tell_where_it_begins(arguments, begun)
        check_before_rendering(config, model, arguments, processes)
        show = processes.is_first and not arguments.no_progress
        # After the first process those of other machines render: nothing, where they share its disk.
        for renders in (processes.is_first, processes.leads_machine):
            if renders:
                render_streets(config, arguments, show)
            processes.wait()
        drives, validation = open_drives(config, arguments, show)
        with _Bar(show) as bar:
            path = train(config, model.to(device), drives, validation, bar.options(arguments), processes)
    if processes.is_first:
        print(path)


def _tell_where_it_begins(arguments: argparse.Namespace, begun: bool) -> None:
    """Whoever starts the same command again after a kill may not know whether there was a snapshot before it."""
    path = arguments.out / FILE
    if not begun:
        print(f"panoocc train: {path} is not there yet: the training begins anew", file=sys.stderr)
    elif arguments.checkpoint is not None:
        print(f"panoocc train: goes on from {path}; {arguments.checkpoint} is not used", file=sys.stderr)


def check_before_rendering(
    config: TrainConfig, model: Network, arguments: argparse.Namespace, processes: Processes
) -> None:
    """What the loop would refuse, for all that is known before the streets are there: rendering them may take hours.

    Raises:
        ConfigError: a group fits no parameter, or everything is frozen; the rig cannot be used.
        ValueError: there are too few clips; the rig's cameras are not those of the network.
        ImportError: TensorBoard is not installed.
    """
    if arguments.tensorboard and processes.is_first:
        check_tensorboard()
    build_optimiser(model, config.optimiser, config.fixed_norms)
    if isinstance(config.data, StreetsConfig):
        _, plan, _ = _street_files(config, arguments)
        rounds_of_epoch([plan.frames] * config.data.drives, config, config.batch * processes.count, epoch=0)


def open_drives(
    config: TrainConfig, arguments: argparse.Namespace, show: bool
) -> tuple[Sequence[Drive], Sequence[Drive]]:
    """What is learned from and what is validated on; streets are rendered before (`render_streets`).

    Raises:
        ValueError: --data is missing or not wanted; the data set's own errors.
    """
    data = config.data
    if isinstance(data, FolderConfig):
        if arguments.data is None:
            raise ValueError(f"the recipe {config.name} learns from nuScenes: give its root with --data")
        kind = "occ3d" if config.model_config.truth == "voxels" else "nuscenes"
        training, validation = open_splits(
            arguments.data,
            (data.training_split, data.validation_split),
            kind,
            version=data.version,
            gts=arguments.gts if kind == "occ3d" else None,
            network_frame=config.model_config.grid.network_frame,
            with_points=kind == "nuscenes",
            show_progress=show,
        )
        return training, validation
    if arguments.data is not None:
        raise ValueError(f"the recipe {config.name} learns from simulated streets: leave out --data")
    folder, plan, geometry = _street_files(config, arguments)
    learned, held_out = (
        SimulatedStreets(drive_files(folder, own, plan, geometry)) for own in (data.seeds, data.validation_seeds)
    )
    return learned, held_out


def render_streets(config: TrainConfig, arguments: argparse.Namespace, show: bool) -> None:
    """Render the recipe's simulated streets that are not in their folder yet; other recipes have none."""
    data = config.data
    if not isinstance(data, StreetsConfig) or arguments.data is not None:
        return
    folder, plan, geometry = _street_files(config, arguments)
    seeds = [*data.seeds, *data.validation_seeds]
    with tqdm(total=len(seeds), unit="drive", desc="rendering streets", disable=None if show else True) as bar:
        simulated_streets(
            folder,
            seeds,
            geometry,
            plan,
            workers=arguments.workers,
            progress=lambda done, total: bar.update(done - bar.n),
        )


def _street_files(config: TrainConfig, arguments: argparse.Namespace) -> tuple[Path, StreetPlan, GridGeometry]:
    """Where the drives are, and what they are made of.

    Raises:
        ValueError: the rig cannot be used, or its cameras are not those of the network.
    """
    data = config.data
    assert isinstance(data, StreetsConfig)
    folder = arguments.streets or arguments.out / "streets"
    network = config.model_config
    plan = StreetPlan(data.seconds, data.rate_hz, data.scale, rig=data.rig).for_network(network)
    return folder, plan, output_geometry(network)


class _Bar:
    """The progress bar of the steps, with the loss of the last fifty."""

    def __init__(self, show: bool):
        self._bar = tqdm(unit="step", desc="training", disable=None if show else True)
        self._losses: list[float] = []

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def options(self, arguments: argparse.Namespace) -> Any:
        """Options of the loop that move this bar."""
        return Options(
            out=arguments.out,
            resume=arguments.resume,
            snapshot_every_s=arguments.snapshot_every,
            stop_after_steps=arguments.stop_after,
            tensorboard=arguments.tensorboard,
            on_step=self._on_step,
            on_validation=self._on_validation,
        )

    def _on_step(self, progress: Any, steps: int, values: dict[str, float]) -> None:
        self._bar.total = steps
        self._losses = [*self._losses, values.get("loss", 0.0)][-50:]
        self._bar.set_postfix(epoch=progress.epoch + 1, loss=f"{sum(self._losses) / len(self._losses):.3f}")
        self._bar.update(progress.step + 1 - self._bar.n)

    def _on_validation(self, progress: Any, values: dict[str, float]) -> None:
        text = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        self._bar.write(f"epoch {progress.epoch}: {text}", file=sys.stderr)
