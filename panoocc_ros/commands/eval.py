"""`panoocc eval`: the command line around `evaluation`."""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from panoocc_core.base.whole_files import write_json
from panoocc_core.bench import hardware
from panoocc_core.bench.capacity import Capacity, capacity_table, checked_capacities, sweep
from panoocc_core.bench.precisions import frames_of_sweep, multiplied_natively, precision_sweep, precision_table
from panoocc_core.config import ModelConfig, model_config, presets
from panoocc_core.data import check_files, open_dataset
from panoocc_core.data.folder import guessed_kind, only_version
from panoocc_core.data.panoptic_results import PanopticResults
from panoocc_core.data.simulated import simulated_streets
from panoocc_core.data.splits import MEASURED_SPLIT, official_splits
from panoocc_core.data.street_plan import StreetPlan
from panoocc_core.evaluation import NOISE, DriveScores, Measures, evaluate, report
from panoocc_core.ground_truth import Drive
from panoocc_core.labels import LIDARSEG
from panoocc_core.metrics.confusion import Confusion
from panoocc_core.metrics.published import beside, published_scores
from panoocc_core.metrics.report import as_plain, as_text
from panoocc_core.missing_cameras import check_counts, dead_camera_sweep, dead_camera_table
from panoocc_core.network import Network
from panoocc_core.pictures import charts
from panoocc_core.pictures.scores import write_scores
from panoocc_core.stream import output_geometry
from panoocc_core.weights.checkpoint import PRECISIONS

from ..node.choices import chosen_config, loaded_network
from ..ros.argument_types import number, whole_number
from ..ros.exit_codes import BAD_INPUT, FAILED, NETWORK_FAILED, NOT_WRITTEN, explained
from .shared import options
from .shared.failures import status_of

TRAINING_SEEDS_FROM = 9_000  # the package's weights were trained and validated on seeds from here on

DESCRIPTION = """\
Measures a network on drives with known truth: simulated streets, by default some that the package's own weights have
not learned from, or a data set's folder with --data.  Voxels are compared where a camera sees them: IoU per class and
by distance, geometric IoU, panoptic quality, segmentation and tracking quality (STQ), RayIoU and RayPQ, each with the
history that a stream has, and the IoU also without.  LiDAR points give panoptic quality at points, boxes mAP and NDS.
"""
EPILOG = f"""\
examples:
  panoocc eval                                            the shipped weights on 20 held-out streets
  panoocc eval --json eval.json --picture eval.png
  panoocc eval --checkpoint runs/nano/weights.safetensors --scenes 5
  panoocc eval --data /data/nuscenes --model pano_small_4f --checkpoint PanoOcc_small_4f.pth
  panoocc eval --data /data/nuscenes --model pano_small_4f --checkpoint PanoOcc_small_4f.pth --panoptic-out results
  panoocc eval --data /data/nuscenes --model pano_small_occ3d --checkpoint PanoOcc_small.pth --gts /data/occ3d/gts
  panoocc eval --model nano_sparse --checkpoint runs/sparse/weights.safetensors --capacity 1 0.5 0.5,0.25
  panoocc eval --dead-cameras 1 2 5 --json dead.json      each camera dead, two at random, all but one
  panoocc eval --precisions fp32 bf16 fp16 --scenes 5     what half precision changes: logits, classes, scores

{explained(FAILED, BAD_INPUT, NOT_WRITTEN, NETWORK_FAILED)}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc eval`."""
    network = parser.add_argument_group("network")
    options.add(network, "--model", default="nano")
    options.add(network, "--checkpoint", "--instances", "--device", "--precision", "--threads")
    streets = parser.add_argument_group("simulated streets")
    street = partial(streets.add_argument, action=_OfStreets)
    street("--scenes", type=whole_number(1, 10_000), default=20, metavar="N", help="drives (default: %(default)s)")
    street(
        "--first-seed",
        type=whole_number(0, options.MAX_SEED),
        default=100,
        metavar="SEED",
        help="street of the first drive; the others follow (default: %(default)s)",
    )
    street("--seconds", type=float, default=12.0, help="length of each drive (default: %(default)s)")
    street("--rate", type=float, default=2.0, metavar="HZ", help="frames per second (default: %(default)s)")
    street(
        "--scale",
        type=float,
        default=0.16,
        help="size of the images, as a share of the rig's own, e.g. 1600x900 (default: %(default)s)",
    )
    street(
        "--rig",
        default="auto",
        help="where the cameras sit: a name in config/sim_rigs, or a YAML file (default: the rig with the network's "
        "cameras)",
    )
    street("--streets", type=Path, metavar="FOLDER", help="keep the rendered drives here (default: thrown away)")
    options.add(streets, "--workers", action=_OfStreets)
    folder = parser.add_argument_group("data set")
    folder.add_argument("--data", type=Path, metavar="FOLDER", help="nuScenes' root, or a folder of rendered drives")
    folder.add_argument("--gts", type=Path, metavar="FOLDER", help="Occ3D's labels (default: DATA/gts)")
    folder.add_argument("--version", help="folder of nuScenes' tables (default: the only one there is)")
    folder.add_argument(
        "--split",
        help="train, val, test, mini_train, mini_val, all, or a file with names of scenes (default: val, mini_val or "
        "test, by the version)",
    )
    measured = parser.add_argument_group("what is measured")
    measured.add_argument("--no-boxes", action="store_true", help="without mAP and NDS")
    measured.add_argument(
        "--capacity",
        nargs="+",
        type=_shares,
        metavar="SHARE[,SHARE]",
        help="only time, memory, mIoU and geometric IoU of a sparse decoder, densely and at each of these capacities: "
        "shares of the voxels that are kept after each stage, or one share for all of them",
    )
    measured.add_argument(
        "--dead-cameras",
        nargs="+",
        type=whole_number(1, 63),
        metavar="N",
        help="only mIoU and geometric IoU with so many cameras dead, under missing_camera: blank and reuse_last: for 1 "
        "every camera in turn, else as many as are drawn at random for each drive",
    )
    measured.add_argument(
        "--precisions",
        nargs="+",
        choices=tuple(PRECISIONS),
        help="only mIoU, geometric IoU and PQ at each of these precisions, and how far logits and classes are from "
        "float32 as the network is written",
    )
    measured.add_argument(
        "--dead-from",
        type=number(0, 1e6),
        metavar="SECONDS",
        help="when they die, from the first frame of a drive on; 0: they have never sent an image (default: 4)",
    )
    measured.add_argument("--no-rays", action="store_true", help="leave out RayIoU and RayPQ")
    measured.add_argument("--no-panoptic", action="store_true", help="leave out PQ, STQ, id switches and RayPQ")
    measured.add_argument(
        "--no-visible", action="store_true", help="leave out what is visible, and what of the free space is occupied"
    )
    measured.add_argument("--no-alone", action="store_true", help="leave out the results without history")
    output = parser.add_argument_group("output")
    options.add(output, "--json")
    output.add_argument(
        "--picture", type=Path, metavar="FILE", help="also draw bars for every class, and curves over distance"
    )
    output.add_argument(
        "--panoptic-out",
        type=Path,
        metavar="FOLDER",
        help="also write nuScenes' panoptic results: FOLDER/panoptic/SPLIT/TOKEN_panoptic.npz and "
        "FOLDER/SPLIT/submission.json; nothing that is there is replaced",
    )
    options.add(output, "--no-progress")
    parser.set_defaults(of_streets=())


def _shares(text: str) -> tuple[float, ...]:
    """Numbers between commas."""
    try:
        return tuple(float(share) for share in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no share such as 0.5, nor several such as 0.5,0.25") from None


class _OfStreets(argparse.Action):
    """Stores an option of the simulated streets, and that it was given."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.of_streets = (*namespace.of_streets, self.option_strings[0])


def run(arguments: argparse.Namespace) -> int:
    """Run `panoocc eval`; returns the exit status, errors are said on stderr."""
    return status_of("eval", lambda: _evaluate(arguments), "fewer --workers need less")


def _evaluate(arguments: argparse.Namespace) -> None:
    _check_source(arguments)
    _check_outputs(arguments)
    config = chosen_config(arguments.model, instances=arguments.instances)
    capacities = None if arguments.capacity is None else checked_capacities(config, arguments.capacity)
    if arguments.dead_cameras is not None:
        check_counts(config, arguments.dead_cameras)
    if arguments.precisions is not None:
        _compare_precisions(arguments, config)
        return
    model = loaded_network(
        config,
        arguments.checkpoint,
        device=arguments.device,
        precision=arguments.precision,
        threads=arguments.threads,
    )
    if capacities is not None:
        _compare_capacities(arguments, model, capacities)
        return
    if arguments.dead_cameras is not None:
        _compare_dead_cameras(arguments, model)
        return
    measures = Measures(
        without_history=not arguments.no_alone,
        panoptic=not arguments.no_panoptic,
        rays=not arguments.no_rays,
        boxes=not arguments.no_boxes,
        visible=not arguments.no_visible,
    )
    with _drives(arguments, config) as (drives, where, split):
        results = _panoptic_results(arguments.panoptic_out, config, drives, split)
        frames = sum(len(drive) for drive in drives)
        quiet = True if arguments.no_progress else None
        with tqdm(total=frames, unit="frame", desc=f"evaluating {config.name}", disable=quiet) as bar:
            scores = evaluate(model, drives, measures, bar.update, results)
        if results is not None:
            results.finish()
        names = [drive.name for drive in drives]
    weights = "shipped with the package" if arguments.checkpoint is None else str(arguments.checkpoint)
    facts: dict[str, str | int | float] = {
        "weights": weights,
        "drives": where,
        "frames": frames,
        **({} if scores.voxels is None else {"voxels": "counted where a camera sees them"}),
        "instances": config.panoptic.instances,
        "device": f"{model.device}, {arguments.precision}, {torch.get_num_threads()} threads",
    }
    tree = report(scores, config, f"{config.name}: {len(names)} drives, {frames} frames", facts)
    if split is not None:
        tree = replace(tree, notes=tuple(_not_measured(scores, config, measures)))
        if (published := published_scores(arguments.model)) is not None:
            tree = beside(tree, published, split)
    try:  # a closed pipe must not cost the files, nor a full disk the table
        if arguments.json is not None:
            write_json(arguments.json, {**summary(scores, config), "scenes": names, "report": as_plain(tree)})
        if arguments.picture is not None:
            write_scores(arguments.picture, tree)
    finally:
        print(as_text(tree))


def _compare_capacities(arguments: argparse.Namespace, model: Network, capacities: Sequence[Capacity]) -> None:
    config = model.config
    with _drives(arguments, config) as (drives, where, _):
        frames = sum(len(drive) for drive in drives)
        quiet = True if arguments.no_progress else None
        with tqdm(total=frames, unit="frame", desc=f"decoding {config.name}", disable=quiet) as bar:
            rows = sweep(model, drives, capacities, bar.update)
        names = [drive.name for drive in drives]
    facts = _facts(arguments, model, where, f"{frames} frames")
    try:
        if arguments.json is not None:
            plain = {**facts, "scenes": names, "capacities": [row.as_dict() for row in rows]}
            write_json(arguments.json, {"model": config.name, **plain})
    finally:
        print(capacity_table(rows, f"decoder of {config.name}, {', '.join(facts.values())}"))


def _compare_precisions(arguments: argparse.Namespace, config: ModelConfig) -> None:
    for precision in arguments.precisions:  # what is said of weights, device and precision, before anything is rendered
        model = loaded_network(config, arguments.checkpoint, None, arguments.device, precision, arguments.threads)
    device, precisions = model.device, arguments.precisions
    with _drives(arguments, config) as (drives, where, _):
        quiet = True if arguments.no_progress else None
        total = frames_of_sweep(drives, precisions)
        with tqdm(total=total, unit="frame", desc=f"precisions of {config.name}", disable=quiet) as bar:
            rows = precision_sweep(config, arguments.checkpoint, drives, precisions, device, bar.update)
        names, frames = [drive.name for drive in drives], sum(map(len, drives))
    facts = _facts(arguments, model, where, f"{frames} frames")
    del facts["precision"]
    try:
        if arguments.json is not None:
            native = {"natively_multiplied": multiplied_natively(device)}
            plain = {**facts, **native, "scenes": names, "precisions": [row.as_dict() for row in rows]}
            write_json(arguments.json, {"model": config.name, **plain})
    finally:
        print(precision_table(rows, device, f"{config.name}, {', '.join(facts.values())}"))


def _compare_dead_cameras(arguments: argparse.Namespace, model: Network) -> None:
    config, dead_from_s = model.config, 4.0 if arguments.dead_from is None else arguments.dead_from
    with _drives(arguments, config) as (drives, where, _):
        quiet = True if arguments.no_progress else None
        with tqdm(total=len(drives), unit="drive", desc=f"dead cameras of {config.name}", disable=quiet) as bar:
            rows = dead_camera_sweep(model, drives, arguments.dead_cameras, dead_from_s, bar.update)
        names = [drive.name for drive in drives]
    facts = _facts(arguments, model, where, f"{len(names)} drives, cameras dead from {dead_from_s:g} s on")
    try:
        if arguments.json is not None:
            plain = {**facts, "scenes": names, "dead_from_s": dead_from_s, "rows": [row.as_dict() for row in rows]}
            write_json(arguments.json, {"model": config.name, **plain})
    finally:
        print(dead_camera_table(rows, f"{config.name}, {', '.join(facts.values())}"))


def _facts(arguments: argparse.Namespace, model: Network, where: str, frames: str) -> dict[str, str]:
    """What a comparison was made with."""
    return {
        "weights": str(arguments.checkpoint or "shipped with the package"),
        "drives": where,
        "frames": frames,
        "hardware": hardware(model.device),
        "precision": arguments.precision,
    }


def _check_source(arguments: argparse.Namespace) -> None:
    """Drives come from a data set or are simulated.

    Raises:
        ValueError: an option of the other kind is given, and would not be heard.
    """
    if arguments.data is not None and arguments.of_streets:
        raise ValueError(
            f"{arguments.of_streets[0]} is for simulated streets and does not go with --data; leave it out"
        )
    for name in ("gts", "version", "split", "panoptic_out"):
        if arguments.data is None and getattr(arguments, name) is not None:
            raise ValueError(f"{_option(name)} is for a data set: give its folder with --data, or leave it out")


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
    _check_comparison(arguments)
    if arguments.picture is not None:
        charts.check_name(arguments.picture)


def _check_comparison(arguments: argparse.Namespace) -> None:
    """A comparison has scores of its own.

    Raises:
        ValueError: an option of a whole evaluation, or of another comparison, is given, and would not be heard.
    """
    chosen = [option for option in ("capacity", "dead_cameras", "precisions") if getattr(arguments, option) is not None]
    names = ("picture", "panoptic_out", "instances", "no_boxes", "no_rays", "no_panoptic", "no_visible", "no_alone")
    for name in (*names, *chosen[1:]):
        if chosen and getattr(arguments, name):
            raise ValueError(f"{_option(name)} does not go with {_option(chosen[0])}, which compares: leave one out")
    if arguments.dead_from is not None and arguments.dead_cameras is None:
        raise ValueError("--dead-from is for --dead-cameras: say how many die, or leave it out")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def summary(scores: DriveScores, config: ModelConfig) -> dict[str, Any]:
    """The numbers that are compared most, as fractions of 1: those of the voxels that a camera sees."""

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
    if scores.point_classes is not None:
        out["point_miou"] = number(scores.point_classes.miou(LIDARSEG, NOISE))
    if scores.points is not None:
        out["point_pq"] = number(scores.points.means(LIDARSEG).pq)
    if scores.components is not None:
        out["pq_components"] = number(scores.components.means_of_present(labels).pq)
    if scores.boxes is not None:
        boxes = scores.boxes.scores()
        out |= {"map": number(boxes.mean_ap), "nds": number(boxes.nds)}
    if scores.point_tracks is not None:
        tracks = scores.point_tracks.means()
        out |= {"point_stq": number(tracks.stq), "point_id_switches": tracks.id_switches}
    if scores.tracks is not None:
        tracks = scores.tracks.means_of_present()
        out |= {"stq": number(tracks.stq), "aq": number(tracks.aq)}
        out |= {"id_switches": tracks.id_switches, "followed_objects": tracks.followed, "true_objects": tracks.objects}
    if scores.rays is not None:
        out["ray_iou"] = number(scores.rays.mean_of_present())
    if scores.ray_instances is not None:
        out["raypq"] = number(scores.ray_instances.mean_of_present())
    if scores.seen is not None:
        out |= {name: number(value) for name, value in scores.seen.scores().items()}
        out["visible_by_distance"] = {
            row: {name: number(value) for name, value in found.items()}
            for row, found in scores.seen.by_distance().items()
        }
    return {"model": config.name, "instances": config.panoptic.instances, "frames": scores.frames, **out}


def _panoptic_results(
    folder: Path | None, config: ModelConfig, drives: Sequence[Drive], split: str | None
) -> PanopticResults | None:
    """Where the labels of LiDAR points go; None where nobody wants them.

    Raises:
        ValueError: there are no such points, the network gives them no class, or results are there already.
    """
    if folder is None:
        return None
    wanted = "--panoptic-out is for the LiDAR points of nuScenes, and for networks that learn from points, which"
    if config.truth != "points":
        others = [name for name in presets() if model_config(name).truth == "points"]
        raise ValueError(f"{wanted} {config.name} does not; these do: {', '.join(others)}")
    if split is None:
        raise ValueError(f"{wanted} {config.name} does")
    check_files(drives, with_sweeps=True)
    return PanopticResults(folder, split if split in official_splits() else Path(split).stem)


def _not_measured(scores: DriveScores, config: ModelConfig, measures: Measures) -> Iterator[str]:
    """What nuScenes could give and this folder did not, in words."""
    if config.truth == "voxels" and scores.voxels is None:
        yield "no mIoU: there are no voxel labels; unpack the gts of Occ3D-nuScenes into DATA/gts, or give --gts FOLDER"
    if config.truth == "points" and scores.point_classes is None:
        yield (
            "no mIoU and no PQ: the tables have no labels of points; unpack nuScenes-lidarseg (classes) and Panoptic "
            "nuScenes (instances)"
        )
    elif config.truth == "points" and measures.panoptic and config.panoptic.instances == "none":
        yield "no PQ and no STQ: nothing tells the things of a class apart (instances: none)"
    elif config.truth == "points" and scores.points is None and measures.panoptic:
        yield "no PQ: the tables do not tell the things of a class apart; unpack Panoptic nuScenes"
    if measures.boxes and scores.boxes is None and config.panoptic.instances == "boxes":
        yield "no mAP and no NDS: the tables have no annotations, as those of v1.0-test"


@contextmanager
def _drives(arguments: argparse.Namespace, config: ModelConfig) -> Iterator[tuple[Sequence[Drive], str, str | None]]:
    """The drives, what they are, in words, and the split of nuScenes."""
    if arguments.data is not None:
        yield _of_folder(arguments, config)
        return
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.scenes)
    with _street_folder(arguments.streets) as folder:
        yield _rendered(arguments, config, folder, seeds), _seeds_in_words(seeds, arguments.checkpoint is None), None


def _of_folder(arguments: argparse.Namespace, config: ModelConfig) -> tuple[Sequence[Drive], str, str | None]:
    """As `_drives`; of nuScenes only the truth is read that the network is measured by."""
    root, gts, show_progress = arguments.data, arguments.gts, not arguments.no_progress
    kind = guessed_kind(root, has_gts=gts is not None)
    if kind == "simulated":
        drives = open_dataset(root, kind, version=arguments.version, split=arguments.split, gts=gts)
        return drives, str(root), None
    on_points = config.truth == "points"
    if on_points and gts is not None:
        raise ValueError(f"--gts is for networks that learn from voxels; {config.name} does from points: leave it out")
    version = only_version(root) if arguments.version is None else arguments.version
    split = MEASURED_SPLIT.get(version, "all") if arguments.split is None else arguments.split
    drives = open_dataset(
        root,
        "nuscenes" if on_points else kind,
        version=version,
        split=None if split == "all" else split,
        gts=gts,
        network_frame=config.grid.network_frame,
        with_points=on_points,
        show_progress=show_progress,
    )
    check_files(drives)
    return drives, f"{root}, {version}, {'all scenes' if split == 'all' else split}", split


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
    arguments: argparse.Namespace, config: ModelConfig, folder: Path, seeds: Sequence[int]
) -> Sequence[Drive]:
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
