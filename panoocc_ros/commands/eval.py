"""`panoocc eval`: the command line around `evaluation`, light enough to be imported for every `--help`."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panoocc_core.base.whole_files import whole_file

if TYPE_CHECKING:
    from panoocc_core.config import ModelConfig
    from panoocc_core.evaluation import DriveScores
    from panoocc_core.ground_truth import Drive

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_NOT_WRITTEN = 0, 1, 2, 4  # as in `panoocc run`
TRAINING_SEEDS_FROM = 9_000  # the package's weights were trained and validated on seeds from here on

DESCRIPTION = """\
Measures a network on drives with known truth: simulated streets, by default some that the package's own weights have
not learned from, or a data set's folder with --data.  Voxels are compared where a camera sees them: IoU per class and
by distance, geometric IoU, panoptic quality, RayIoU, each with the history that a stream has, and the IoU also without.
LiDAR points give panoptic quality at points; --boxes adds mAP and NDS.
"""
EPILOG = """\
examples:
  panoocc eval                                            the shipped weights on 20 held-out streets
  panoocc eval --json eval.json --picture eval.png
  panoocc eval --checkpoint runs/nano/weights.safetensors --scenes 5
  panoocc eval --model pano_small_occ3d --checkpoint PanoOcc_small.pth --data /data/nuscenes --split mini_val

exit status: 0 measured; 1 a process that renders was killed; 2 bad arguments, weights or data, or nothing in the data
that can be measured; 4 a result could not be written.
"""


def add_eval(subparsers: Any) -> None:
    """Register `panoocc eval`."""
    parser = subparsers.add_parser(
        "eval",
        help="measure a network on simulated streets or a data set",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    network = parser.add_argument_group("network")
    network.add_argument("--model", default="nano", help="preset, or YAML file (default: %(default)s)")
    network.add_argument("--checkpoint", type=Path, metavar="FILE", help="weights (default: those of the package)")
    network.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    network.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "bf16"), help="default: %(default)s")
    network.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    streets = parser.add_argument_group("simulated streets")
    street = partial(streets.add_argument, action=_OfStreets)
    street("--scenes", type=int, default=20, metavar="N", help="drives (default: %(default)s)")
    street("--first-seed", type=int, default=100, metavar="SEED", help="default: %(default)s")
    street("--seconds", type=float, default=12.0, help="of each drive (default: %(default)s)")
    street("--rate", type=float, default=2.0, help="frames per second (default: %(default)s)")
    street("--scale", type=float, default=0.16, help="image size, 1 is 1600x900 (default: %(default)s)")
    street("--rig", default="nuscenes", help="name or YAML file, as of panoocc sim (default: %(default)s)")
    street("--streets", type=Path, metavar="FOLDER", help="keep the rendered drives here")
    street("--workers", type=int, metavar="N", help="processes that render (default: one per processor)")
    folder = parser.add_argument_group("data set")
    folder.add_argument("--data", type=Path, metavar="FOLDER", help="nuScenes' root, or a folder of rendered drives")
    folder.add_argument("--gts", type=Path, metavar="FOLDER", help="Occ3D's labels (default: DATA/gts)")
    folder.add_argument("--version", help="folder of nuScenes' tables (default: the only one there is)")
    folder.add_argument("--split", help="mini_train, mini_val, or a file with names of scenes (default: all)")
    measured = parser.add_argument_group("what is measured")
    measured.add_argument("--boxes", action="store_true", help="mAP and NDS of the box branch")
    measured.add_argument("--no-rays", action="store_true", help="leave out RayIoU")
    measured.add_argument("--no-panoptic", action="store_true", help="leave out panoptic quality")
    measured.add_argument("--no-alone", action="store_true", help="leave out the results without history")
    output = parser.add_argument_group("output")
    output.add_argument("--json", type=Path, metavar="FILE", help="everything as numbers")
    output.add_argument("--picture", type=Path, metavar="FILE.png", help="bars per class and curves over distance")
    output.add_argument("--no-progress", action="store_true", help="no progress bars")
    parser.set_defaults(run=run, of_streets=())


class _OfStreets(argparse.Action):
    """Stores an option of the simulated streets, and that it was given."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.of_streets = (*namespace.of_streets, self.option_strings[0])


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc eval`; returns the exit status, errors are said on stderr."""
    try:
        _evaluate(arguments)
    except BrokenExecutor:
        print(
            "panoocc eval: a process that renders was killed, perhaps for want of memory; give fewer --workers",
            file=sys.stderr,
        )
        return EXIT_FAILED
    except ValueError as error:  # settings, weights and data raise ValueErrors
        print(f"panoocc eval: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        print(f"panoocc eval: {error}", file=sys.stderr)
        return EXIT_NOT_WRITTEN
    return EXIT_OK


def _evaluate(arguments: argparse.Namespace) -> None:
    import torch
    from tqdm import tqdm

    from panoocc_core.config import model_config
    from panoocc_core.evaluation import Measures, evaluate, report
    from panoocc_core.metrics.report import as_plain, as_text
    from panoocc_core.pictures.render import write_png
    from panoocc_core.pictures.scores import picture
    from panoocc_core.weights.checkpoint import load_model

    _check_source(arguments)
    _check_outputs(arguments)
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise ValueError(f"--threads must be at least 1, not {arguments.threads}")
        torch.set_num_threads(arguments.threads)
    config = model_config(arguments.model)
    model = load_model(config, arguments.checkpoint, device=arguments.device, precision=arguments.precision)
    measures = Measures(
        without_history=not arguments.no_alone,
        panoptic=not arguments.no_panoptic,
        rays=not arguments.no_rays,
        boxes=arguments.boxes,
    )
    with _drives(arguments, config) as (drives, where):
        frames = sum(len(drive) for drive in drives)
        quiet = True if arguments.no_progress else None
        with tqdm(total=frames, unit="frame", desc=f"evaluating {config.name}", disable=quiet) as bar:
            scores = evaluate(model, drives, measures, bar.update)
        names = [drive.name for drive in drives]
    weights = "shipped with the package" if arguments.checkpoint is None else str(arguments.checkpoint)
    facts: dict[str, str | int | float] = {
        "weights": weights,
        "drives": where,
        "frames": frames,
        **({} if scores.voxels is None else {"voxels": "counted where a camera sees them"}),
        "device": f"{arguments.device}, {arguments.precision}, {torch.get_num_threads()} threads",
    }
    tree = report(scores, config, f"{config.name}: {len(names)} drives, {frames} frames", facts)
    try:  # a closed pipe must not cost the files, nor a full disk the table
        if arguments.json is not None:
            _write_json(arguments.json, {**summary(scores, config), "scenes": names, "report": as_plain(tree)})
        if arguments.picture is not None:
            write_png(arguments.picture, picture(tree))
    finally:
        print(as_text(tree))


def _check_source(arguments: argparse.Namespace) -> None:
    """Drives come from a data set or are simulated.

    Raises:
        ValueError: an option of the other kind is given, and would not be heard.
    """
    if arguments.data is not None and arguments.of_streets:
        raise ValueError(
            f"{arguments.of_streets[0]} is for simulated streets and does not go with --data; leave it out"
        )
    for name in ("gts", "version", "split"):
        if arguments.data is None and getattr(arguments, name) is not None:
            raise ValueError(f"--{name} is for a data set: give its folder with --data, or leave it out")


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Before hours go by.

    Raises:
        ValueError: a result could not be written where it is wanted.
    """
    for path in (arguments.json, arguments.picture):
        if path is not None and path.is_dir():
            raise ValueError(f"{path}: is a folder; give the path of a file")
        if path is not None and not path.resolve().parent.is_dir():
            raise ValueError(f"{path}: the folder is not there")
    if arguments.picture is not None and arguments.picture.suffix.lower() != ".png":
        raise ValueError(f"--picture {arguments.picture}: the picture is a PNG; give a name that ends in .png")


def summary(scores: "DriveScores", config: "ModelConfig") -> dict[str, Any]:
    """The numbers that are compared most, as fractions of 1: those of the voxels that a camera sees."""
    from panoocc_core.metrics.confusion import Confusion

    def number(value: float) -> float | None:
        return None if value != value else round(float(value), 5)

    def of(confusion: Confusion, suffix: str = "") -> dict[str, Any]:
        return {
            f"miou{suffix}": number(confusion.miou_of_present(labels)),
            f"geometric_iou{suffix}": number(confusion.geometric_iou(labels)),
            f"per_class{suffix}": {
                name: number(value)
                for k, (name, value, present) in enumerate(zip(labels.names, confusion.iou(), confusion.present()))
                if present and k != labels.free_id
            },
        }

    labels, out = config.labels, dict[str, Any]()
    if scores.voxels is not None:
        out |= of(scores.voxels.total)
    if scores.voxels_without_history is not None:
        out |= of(scores.voxels_without_history, "_without_history")
    if scores.panoptic is not None:
        out["pq"] = number(scores.panoptic.means_of_present(labels).pq)
    if scores.rays is not None:
        out["ray_iou"] = number(scores.rays.mean_of_present())
    return {"model": config.name, "frames": scores.frames, **out}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with whole_file(path) as part:
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


@contextmanager
def _drives(arguments: argparse.Namespace, config: "ModelConfig") -> Iterator[tuple[Sequence["Drive"], str]]:
    """The drives and what they are, in words."""
    if arguments.data is not None:
        from panoocc_core.data import open_dataset

        drives = open_dataset(
            arguments.data,
            version=arguments.version,
            split=arguments.split,
            gts=arguments.gts,
            show_progress=not arguments.no_progress,
        )
        yield drives, str(arguments.data)
        return
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.scenes)
    if not seeds or seeds[0] < 0:
        raise ValueError("--scenes must be at least 1 and --first-seed at least 0")
    with _street_folder(arguments.streets) as folder:
        yield _rendered(arguments, config, folder, seeds), _seeds_in_words(seeds, arguments.checkpoint is None)


def _seeds_in_words(seeds: range, own_weights: bool) -> str:
    """What other weights than the package's own were trained on, nobody here knows."""
    words = f"simulated streets, seeds {seeds[0]} to {seeds[-1]}"
    if not own_weights:
        return words
    if seeds[-1] < TRAINING_SEEDS_FROM:
        return f"{words} (held out)"
    return f"{words} (NOT held out: the weights were trained on seeds from {TRAINING_SEEDS_FROM} on)"


@contextmanager
def _street_folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="panoocc_streets_") as folder:
        yield Path(folder)


def _rendered(
    arguments: argparse.Namespace, config: "ModelConfig", folder: Path, seeds: Sequence[int]
) -> Sequence["Drive"]:
    from tqdm import tqdm

    from panoocc_core.data.simulated import simulated_streets
    from panoocc_core.data.street_plan import StreetPlan
    from panoocc_core.stream import output_geometry

    plan = StreetPlan(arguments.seconds, arguments.rate, arguments.scale, rig=arguments.rig).for_network(config)
    quiet = True if arguments.no_progress else None
    with tqdm(total=len(seeds), unit="drive", desc="rendering streets", disable=quiet) as bar:
        return simulated_streets(
            folder,
            seeds,
            output_geometry(config),
            plan,
            workers=arguments.workers,
            progress=lambda done, total: bar.update(done - bar.n),
        )
