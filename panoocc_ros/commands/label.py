"""`panoocc label BAG`: the point clouds of a bag with the classes and instances of the voxels that they lie in."""

import argparse
import sys
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from panoocc_core import ModelConfig, OccupancyStream
from panoocc_core.cuda.front_end import uploads_to

from ..bags.bag import BagError, BagReader
from ..bags.source import motion_topics
from ..bags.writer import BagWriter
from ..frames.assembler import FrameAssembler
from ..node.choices import chosen_calibration, chosen_config, rig_for
from ..node.settings import CAMERA_LIMITS, NodeSettings, camera_limits
from ..outputs.catalogue import OCCUPANCY
from ..replay.labelling import CloudLabeller, check_clouds, check_grids, label_by_grids
from ..replay.replay import Replay, ReplayOptions, ReplayReport, check_poses, check_topics, lacks
from ..ros.exit_codes import BAD_INPUT, NETWORK_FAILED, NO_GRID, NOT_WRITTEN, explained
from ..ros.parameter_fields import SettingsError
from ..streams.cloud_queue import CloudCounts, point_rules
from .run import (
    add_input_options,
    check_grids_came,
    chosen_waiting,
    lines_of_broken,
    recorded_rig,
    summary,
    tell_unused,
)
from .shared import options
from .shared.failures import Ended, status_of
from .shared.network import executor_of, tell_weights
from .shared.words import many

DESCRIPTION = """\
Labels the clouds (sensor_msgs/PointCloud2) on one topic of a bag, and writes them to a new bag on
/panoocc/labelled_points: the same points in the same order with all that they had, and label, instance, confidence and
the colour of the class beside.

The grids are those of a network that runs over the same bag, as `panoocc run` would, or with --grids those that it
wrote before.  The grid nearest in time labels a cloud; the transforms account for how the vehicle moved in between.
What points take from a grid, and which labels mean what, stands in docs/node.md.
"""
EPILOG = f"""\
examples:
  panoocc label drive/ --points /lidar_top --model pano_small_4f --checkpoint pano_small_4f.pth --out labelled.mcap
  panoocc label drive/ --points /lidar_top --grids grids.mcap --out labelled.mcap       # grids of `panoocc run`

{
    explained(
        BAD_INPUT,
        NO_GRID,
        NOT_WRITTEN,
        NETWORK_FAILED,
        more="3 means, too, that no cloud could be labelled.  Whenever it is not 0, nothing is left at --out.",
    )
}
"""
OF_NETWORK = (  # and its images
    *("checkpoint", "seeded_weights", "instances", "device", "precision", "threads", "with_grids"),
    *("network_frame", "calibration", "missing_camera", "reuse_age_s", "camera_timeout_s", *CAMERA_LIMITS),
    *("imu_topic", "ego_motion", "sync_policy"),
)
GRIDS, LABELS = "/panoocc/occupancy", "/panoocc/labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc label`."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="rosbag2 folder, or one .mcap or .db3 file")
    parser.add_argument("--points", required=True, metavar="TOPIC", help="the clouds")
    options.add(parser, "--out", "--overwrite")
    grids = parser.add_argument_group("grids of a bag, in place of a network")
    grids.add_argument("--grids", type=Path, metavar="BAG", help="bag with grids: of `panoocc run`, or of the node")
    grids.add_argument("--grids-topic", default=GRIDS, metavar="TOPIC", help="the grids (default: %(default)s)")
    grids.add_argument("--labels-topic", default=LABELS, metavar="TOPIC", help="their classes (default: %(default)s)")
    network = parser.add_argument_group("network")
    options.add(network, "--model", default="pano_small_occ3d")
    options.add(network.add_mutually_exclusive_group(), "--checkpoint", "--seeded-weights")
    options.add(network, "--instances", "--device", "--precision", "--threads")
    add_input_options(parser)
    output = parser.add_argument_group("labels")
    options.add_parameters(output, NodeSettings, "label_max_age_s", "label_outside")
    output.add_argument("--with-grids", action="store_true", help="write the grids of the network, too")
    options.add(output, "--no-progress")


def run(arguments: argparse.Namespace) -> int:
    """Work on one bag; returns the exit status."""
    return status_of("label", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    _check_of_network(arguments)
    read = (
        arguments.bag,
        arguments.grids,
        arguments.checkpoint,
        arguments.rig,
        arguments.model,
        arguments.calibration,
    )
    inputs = [Path(one) for one in read if one is not None and Path(one).exists()]
    with BagReader(arguments.bag) as bag:
        check_clouds(bag, arguments.points)
        print((_by_network if arguments.grids is None else _by_grids)(arguments, bag, inputs))
    print(f"written: {str(arguments.out).encode(errors='backslashreplace').decode()}")


def _check_of_network(arguments: argparse.Namespace) -> None:
    """That no option for the network stands beside --grids."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = [name for name in OF_NETWORK if getattr(arguments, name) != parser.get_default(name)]
    if arguments.grids is not None and given:
        raise SettingsError("no network runs with --grids: leave out one or the other", *given)


def _by_network(arguments: argparse.Namespace, bag: BagReader, inputs: list[Path]) -> str:
    config = chosen_config(arguments.model, camera_limits(arguments), arguments.instances, arguments.ego_motion)
    rig = recorded_rig(arguments, config)
    calibration = chosen_calibration(arguments.calibration, rig)
    chosen, waiting = rig_for(config, rig, arguments.network_frame), chosen_waiting(arguments)
    tell_unused("label", config, rig, arguments)
    check_topics(bag, chosen, calibration, waiting)
    # Before the weights are loaded, so that a wrong path does not cost a minute.
    with BagWriter(arguments.out, arguments.overwrite, inputs) as writer:
        network = executor_of(arguments, config)
        tell_weights("label", arguments.checkpoint, arguments.seeded_weights)
        outputs = (OCCUPANCY,) if arguments.with_grids else ()
        uploads = uploads_to(network.device)
        with closing(FrameAssembler(chosen, waiting, calibration, config, uploads=uploads)) as assembler:
            labeller = _labeller(arguments, bag, assembler, writer, config)
            report = Replay(bag, OccupancyStream(network), rig, assembler, labeller).run(
                writer, ReplayOptions(outputs, show_progress=_shows_progress(arguments))
            )
            counts = labeller.finish()
        check_grids_came(report, bag, chosen, calibration, waiting)
        _check_labelled(counts)
    return "\n".join([*cloud_lines(counts), summary(report, network.device, config.temporal)])


def _by_grids(arguments: argparse.Namespace, bag: BagReader, inputs: list[Path]) -> str:
    rig = recorded_rig(arguments, chosen_config(arguments.model))
    waiting = chosen_waiting(arguments)
    if waiting.pose_source == "tf" and not any(bag.count([topic]) for topic in (rig.tf_topic, rig.tf_static_topic)):
        raise BagError(f"{bag.path}: {lacks(bag, rig)}")
    check_poses(bag, rig, waiting)
    with (
        BagReader(arguments.grids) as grids,
        closing(FrameAssembler(rig, waiting)) as assembler,
    ):
        check_grids(grids, arguments.grids_topic)
        with BagWriter(arguments.out, arguments.overwrite, inputs) as writer:
            labeller = _labeller(arguments, bag, assembler, writer, None)
            total = bag.count([*labeller.topics, rig.tf_topic, rig.tf_static_topic, *motion_topics(assembler)])
            total += grids.count([arguments.grids_topic])
            with tqdm(total=total, unit="msg", disable=not _shows_progress(arguments)) as bar:
                report = label_by_grids(
                    bag,
                    grids,
                    arguments.grids_topic,
                    arguments.labels_topic,
                    assembler,
                    labeller,
                    writer,
                    lambda _: bar.update(),
                )
            counts = labeller.finish()
            _check_labelled(counts)
    return "\n".join([*cloud_lines(counts), *_grid_lines(report)])


def _labeller(
    arguments: argparse.Namespace,
    bag: BagReader,
    assembler: FrameAssembler,
    writer: BagWriter,
    config: ModelConfig | None,
) -> CloudLabeller:
    rules = point_rules(config, arguments.label_outside)
    return CloudLabeller(bag, arguments.points, assembler, writer, rules, arguments.label_max_age_s, config)


def _shows_progress(arguments: argparse.Namespace) -> bool:
    return not arguments.no_progress and sys.stderr.isatty()


def _check_labelled(counts: CloudCounts) -> None:
    if not counts.labelled:
        raise Ended(f"no cloud of {counts.clouds} was labelled: {'; '.join(counts.texts.values())}", NO_GRID)


def cloud_lines(counts: CloudCounts) -> list[str]:
    """What became of the clouds and their points."""
    lines = [f"{many(counts.clouds, 'cloud')} in, {counts.labelled} labelled: {many(counts.points, 'point')}"]
    if counts.unknown:
        outside = counts.unknown - counts.not_finite
        lines.append(f"  unknown: {outside} points outside of the grid, {counts.not_finite} that are not finite")
    return lines + [f"  lost: {count} {why}, the last one: {counts.texts[why]}" for why, count in counts.lost.items()]


def _grid_lines(report: ReplayReport) -> list[str]:
    assert report.status is not None
    lines = [f"{many(report.grids, 'grid')}; fixed frame {report.status.fixed_frame}"]
    lines += [_source_line(source, count) for source, count in report.sources.items()]
    lines += [f"  left out: {line}" for line in lines_of_broken(report)]
    lines += [f"  transforms: {count} {why}" for why, count in report.status.transform_drops.most_common() if count]
    return lines + [f"  WARNING: {one.text} (noticed {many(one.count, 'time')})" for one in report.status.notices]


def _source_line(source: str, grids: int) -> str:
    told = "not told apart" if source == "none" else f"told apart by {source}"
    return f"  things {told} in {many(grids, 'grid')}"
