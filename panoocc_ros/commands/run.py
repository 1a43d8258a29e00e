"""`panoocc run BAG`: the command line around `replay`, and the table it prints."""

import argparse
import difflib
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from panoocc_core import ModelConfig, OccupancyStream
from panoocc_core.cameras.calibration_file import CalibrationFile
from panoocc_core.config import TemporalConfig
from panoocc_core.cuda.front_end import uploads_to

from ..bags.bag import BagReader
from ..bags.writer import BagWriter
from ..frames.assembler import FrameAssembler
from ..frames.rig import Rig
from ..frames.sets import AssemblerStatus
from ..frames.waiting import AssemblerOptions
from ..health.latency import latency_table, summarise
from ..motion.motion_options import MotionOptions
from ..node.choices import chosen_calibration, chosen_config, chosen_rig, placed_by, rig_for, unused
from ..node.settings import CAMERA_LIMITS, NodeSettings, camera_limits
from ..outputs.catalogue import OUTPUTS
from ..outputs.output import Output, no_free_space
from ..outputs.output_options import MAX_RATE, OutputOptions
from ..outputs.planner_outputs import check_outputs
from ..replay.replay import Replay, ReplayOptions, ReplayReport, check_topics, lacks
from ..ros.argument_types import number, whole_number
from ..ros.exit_codes import BAD_INPUT, NETWORK_FAILED, NO_GRID, NOT_WRITTEN, explained
from ..ros.parameter_fields import SettingsError
from .shared import options
from .shared.failures import Ended, status_of
from .shared.network import executor_of, tell_weights
from .shared.words import many

MAX_NOTICES = 6  # oddities of the input that are told
MOTION = tuple(field.name for field in fields(MotionOptions))  # parameters
OF_ROS = ("sync_policy", "transform_source")  # parameters that may choose a package of an installed ROS

DESCRIPTION = """\
Runs a network over a recorded bag, with no ROS on the machine, and writes the voxel grids to a new bag.

The bag (a rosbag2 folder, or one .mcap or .db3 file) needs the images and the CameraInfo of every camera of the rig,
the vehicle's poses on /tf and the cameras' mounts on /tf_static; calibration and mounts can be given by a file instead.
Stamps count: a topic that was recorded up to 10 s later than the others is read ahead by as much.  The result has the
grids (panoocc/VoxelGrid), the same as coloured points and as a grid that Foxglove shows by itself, a map, things as
boxes with numbers, and the transforms; it opens in Foxglove and plays with `ros2 bag play` (which warns of types whose
packages, foxglove_msgs, vision_msgs or autoware_perception_msgs, are not installed, and plays the rest).  --outputs
chooses what is written; docs/topics.md says what each is.  What the summary says is explained in docs/node.md.
"""
BAG_OUTPUTS = {output.topic: output for output in OUTPUTS if output.in_bags}
SHORT_FOR_LESS = {  # options for those who only want a smaller bag
    "--no-points": ("points",),
    "--no-objects": ("objects", "detected_objects", "object_markers"),
    "--no-foxglove": ("occupancy_foxglove",),
}
EPILOG = f"""\
examples:
  panoocc run drive/ --model pano_small_occ3d --checkpoint pano_small.pth --out grids.mcap
  panoocc run street.mcap --model nano --out trial.mcap --limit 5          # with the weights of the package

{explained(BAD_INPUT, NO_GRID, NOT_WRITTEN, NETWORK_FAILED, more="Whenever it is not 0, nothing is left at --out.")}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `panoocc run`."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="rosbag2 folder, or one .mcap or .db3 file")
    options.add(parser, "--out", "--overwrite")
    network = parser.add_argument_group("network")
    options.add(network, "--model", default="pano_small_occ3d")
    options.add(network.add_mutually_exclusive_group(), "--checkpoint", "--seeded-weights")
    options.add(network, "--instances", "--device", "--precision", "--threads")
    add_input_options(parser)
    output = parser.add_argument_group("output")
    encoding = output.add_mutually_exclusive_group()
    encoding.add_argument(
        "--sparse", dest="encoding", action="store_const", const="sparse", help="list occupied voxels only (default)"
    )
    encoding.add_argument(
        "--dense", dest="encoding", action="store_const", const="dense", help="list every voxel, free or not"
    )
    output.add_argument("--no-confidence", action="store_true", help="leave out the probability of every voxel's class")
    usual = ", ".join(topic for topic, one in BAG_OUTPUTS.items() if one.by_default)
    output.add_argument(
        "--outputs",
        type=chosen_outputs,
        default=chosen_outputs("default"),
        metavar="TOPICS",
        help=f"what is written, with commas between: all, default (which it is: {usual}), or some of "
        f"{', '.join(BAG_OUTPUTS)}; --outputs=-TOPIC leaves one out of the default",
    )
    for name, topics in SHORT_FOR_LESS.items():
        words = " and ".join(topics)
        output.add_argument(
            name, dest="left_out", action="append_const", const=topics, default=[], help=f"leave out {words}"
        )
    of_topics = [field.name for field in fields(OutputOptions) if field.name not in ("encoding", "confidence")]
    rates = [name for name in of_topics if name.endswith(MAX_RATE)]
    options.add_parameters(output, OutputOptions, *(name for name in of_topics if name not in rates))
    output.add_argument("--limit", type=whole_number(1), metavar="N", help="stop after N grids")
    options.add(output, "--no-progress")
    at_most = parser.add_argument_group("rates", "Each topic is written at most this often; 0: as often as grids come.")
    options.add_parameters(at_most, OutputOptions, *rates, are_alike=True)
    parser.set_defaults(encoding="sparse")


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """The options that say how a bag is read."""
    inputs = parser.add_argument_group("input")
    options.add(inputs, "--rig")
    inputs.add_argument(
        "--base-frame",
        default="",
        metavar="FRAME",
        help="frame of the vehicle, in which grids are given (default: the rig's, usually base_link)",
    )
    inputs.add_argument(
        "--network-frame",
        default="",
        metavar="FRAME",
        help="frame in which the network's voxels lie (default: the rig's, or else the pose that the preset has)",
    )
    inputs.add_argument(
        "--fixed-frame",
        default="",
        metavar="FRAME",
        help="frame that does not move, through which history is fused (default: the rig's choice)",
    )
    inputs.add_argument(
        "--spread-ms",
        type=number(0.0, 10_000.0),
        default=0.0,
        metavar="MS",
        help="largest distance of an image from the reference camera's (default: the rig's)",
    )
    for topic, kind in (("tf", "moving"), ("tf-static", "fixed")):
        text = f"topic of {kind} transforms (default: the rig's, usually /{topic.replace('-', '_')})"
        inputs.add_argument(f"--{topic}-topic", default="", metavar="TOPIC", help=text)
    inputs.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="YAML file with mounts and intrinsics, in place of /tf_static and CameraInfo",
    )
    options.add_parameters(inputs, AssemblerOptions, *MOTION, *OF_ROS)
    options.add_parameters(inputs, NodeSettings, "lens")
    options.add_parameters(inputs, AssemblerOptions, "missing_camera", "reuse_age_s", "camera_timeout_s")
    usual = "as long as it takes; a number counts what is late after reading ahead"
    options.add_parameters(inputs, AssemblerOptions, "deadline_s", "tf_timeout_s", usual=usual)
    options.add_parameters(inputs, NodeSettings, *CAMERA_LIMITS)


def run(arguments: argparse.Namespace) -> int:
    """Work on one bag; returns the exit status."""
    return status_of("run", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    config = chosen_config(arguments.model, camera_limits(arguments), arguments.instances, arguments.ego_motion)
    of_outputs = {
        field.name: getattr(arguments, field.name) for field in fields(OutputOptions) if field.name != "confidence"
    }
    output_options = OutputOptions(confidence=not arguments.no_confidence, **of_outputs)
    rig = recorded_rig(arguments, config)
    calibration = chosen_calibration(arguments.calibration, rig)
    check_outputs(output_options, placed_by(calibration, config))
    chosen, waiting = rig_for(config, rig, arguments.network_frame), chosen_waiting(arguments)
    tell_unused("run", config, rig, arguments)
    outputs = kept_outputs(arguments)
    tell_left_out(outputs, config)
    read = (arguments.bag, arguments.checkpoint, arguments.rig, arguments.model, arguments.calibration)
    inputs = [Path(one) for one in read if one is not None and Path(one).exists()]
    with BagReader(arguments.bag) as bag:
        check_topics(bag, chosen, calibration, waiting)
        # Before the weights are loaded, so that a wrong path does not cost a minute.
        with BagWriter(arguments.out, arguments.overwrite, inputs) as writer:
            stream = OccupancyStream(executor_of(arguments, config))
            tell_weights("run", arguments.checkpoint, arguments.seeded_weights)
            map_frame = output_options.grid_frame
            uploads = uploads_to(stream.network.device)
            with closing(FrameAssembler(chosen, waiting, calibration, config, map_frame, uploads=uploads)) as assembler:
                report = Replay(bag, stream, rig, assembler).run(
                    writer,
                    ReplayOptions(
                        outputs=outputs,
                        options=output_options,
                        limit=arguments.limit,
                        show_progress=not arguments.no_progress and sys.stderr.isatty(),
                    ),
                )
            check_grids_came(report, bag, chosen, calibration, waiting)
    print(summary(report, stream.network.device, config.temporal))
    print(f"written: {str(arguments.out).encode(errors='backslashreplace').decode()}")


def tell_unused(command: str, config: ModelConfig, rig: Rig, arguments: argparse.Namespace) -> None:
    """Say on stderr what of the rig the network does not take."""
    for sentence in unused(config, rig, arguments.network_frame):
        print(f"panoocc {command}: {sentence}", file=sys.stderr)


def tell_left_out(outputs: Sequence[Output], config: ModelConfig) -> None:
    """Say on stderr which outputs the bag cannot have, since the network never has what they need."""
    for output in outputs:
        if output.lacks(config.panoptic.instances, config.labels) == "free":
            print(f"panoocc run: {output.topic} is left out: {no_free_space(config.labels)}", file=sys.stderr)


def check_grids_came(
    report: ReplayReport, bag: BagReader, rig: Rig, calibration: CalibrationFile | None, sources: MotionOptions
) -> None:
    """Raises Ended, with all that is known of the reasons, where a bag gave no grid."""
    if report.grids == 0:
        why = [why_no_grid(report, rig.names), lacks(bag, rig, calibration, sources)]
        raise Ended("; ".join(filter(None, why)), NETWORK_FAILED if report.failures else NO_GRID)


def recorded_rig(arguments: argparse.Namespace, config: ModelConfig) -> Rig:
    """The rig, with frames and topics as the options have them; `config` is that of the network.

    Raises:
        SettingsError: it cannot be used.
    """
    rig = chosen_rig(
        arguments.rig,
        config,
        arguments.base_frame,
        arguments.fixed_frame,
        arguments.spread_ms,
        arguments.lens,
    )
    topics = {"tf_topic": arguments.tf_topic, "tf_static_topic": arguments.tf_static_topic}
    try:
        return replace(rig, **{key: value for key, value in topics.items() if value})
    except ValueError as error:
        raise SettingsError(str(error), "tf_topic", "tf_static_topic") from error


def chosen_waiting(arguments: argparse.Namespace) -> AssemblerOptions:
    """What to do without an image, and how long to wait: for ever where no time is given, since all is in the bag."""
    chosen = AssemblerOptions(
        missing_camera=arguments.missing_camera,
        camera_timeout_s=arguments.camera_timeout_s,
        reuse_age_s=arguments.reuse_age_s,
        **{name: getattr(arguments, name) for name in (*MOTION, *OF_ROS)},
    ).patient()
    limits = {"deadline_s": arguments.deadline_s, "tf_timeout_s": arguments.tf_timeout_s}
    return replace(chosen, **{name: value for name, value in limits.items() if value is not None})


def kept_outputs(arguments: argparse.Namespace) -> tuple[Output, ...]:
    """The outputs of --outputs without those of --no-points and its like."""
    left_out = {topic for topics in arguments.left_out for topic in topics}
    return tuple(one for one in arguments.outputs if one.topic not in left_out)


def chosen_outputs(text: str) -> tuple[Output, ...]:
    """The outputs that the bag gets, by the text of --outputs.

    Raises:
        argparse.ArgumentTypeError: a name is none of them, or none is left.
    """
    words = [word.strip() for word in text.split(",")]
    found: set[str] = set()
    for word in ["default", *words] if words[0].startswith("-") else words:
        topic = word.removeprefix("-")
        if topic not in ("all", "default", *BAG_OUTPUTS):
            near = difflib.get_close_matches(topic, BAG_OUTPUTS, n=1)
            hint = f"is {near[0]} meant?" if near else f"there are {', '.join(BAG_OUTPUTS)}, all and default"
            raise argparse.ArgumentTypeError(f"{topic[:40]!r} is no output of a bag; {hint}")
        topics = {
            name
            for name, one in BAG_OUTPUTS.items()
            if topic in ("all", name) or (topic == "default" and one.by_default)
        }
        found = found - topics if word.startswith("-") else found | topics
    if not found:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} leaves no output")
    return tuple(one for topic, one in BAG_OUTPUTS.items() if topic in found)


def why_no_grid(report: ReplayReport, rig_names: tuple[str, ...]) -> str:
    """One sentence: what became of the sets of a bag without a grid."""
    status = report.status
    assert status is not None
    lost = ", ".join(lines_of_drops(status.set_drops))
    if report.failures:
        geometry = "".join(f"; geometry: {text}" for text in status.geometry or ())  # which may be why
        return f"no grid: every set failed: {next(iter(report.failures))}{geometry}"
    odd = [f"; {notice.text}" for notice in status.notices[:MAX_NOTICES] if notice.text not in (status.last_drop or "")]
    odd += [f"; {line}" for line in lines_of_broken(report)]
    if status.last_drop is not None:
        return f"no grid from {status.sets} sets (lost: {lost}): {status.last_drop}{''.join(odd)}"
    never = [name for name in rig_names if not status.images[name]]
    odd += [f"; no image came from {', '.join(never)}"] if never else []
    hint = "" if odd else "; are the stamps of the cameras within spread_ms of the reference camera's?"
    images = sum(status.images.values())
    return f"no grid: the {images} images made no complete set ({lost or 'no drops'}){''.join(odd)}{hint}"


def lines_of_broken(report: ReplayReport) -> list[str]:
    """The messages that could not be read, by topic."""
    return [
        f"{many(count, 'message')} on {topic} cannot be read, the last one: {report.last_broken[topic]}"
        for topic, count in report.broken.most_common()
    ]


def lines_of_drops(drops: Counter[tuple[str, str]]) -> list[str]:
    """ "3 missing_camera (CAM_BACK)", most frequent first."""
    return [f"{count} {reason}" + (f" ({camera})" if camera else "") for (reason, camera), count in drops.most_common()]


def summary(report: ReplayReport, device: Any, temporal: TemporalConfig) -> str:
    """Sets in, grids out, drops, resets, ego motion, and the latency of every stage."""
    status = report.status
    assert status is not None
    lost = sum(status.set_drops.values()) + sum(report.failures.values())
    lines = [
        f"{status.sets} sets in, {report.grids} grids out, {lost} sets lost; fixed frame {status.fixed_frame}",
        _pose_line(report, status),
        f"the frame of the voxels is {status.network_frame}",
        f"{report.bag_s:.2f} s of the bag in {report.wall_s:.2f} s on {device}",
    ]
    for key, count in status.set_drops.most_common():
        why = status.last_texts.get(key)
        lines += [
            f"  lost: {line}" + (f", the last one: {why}" if why else "")
            for line in lines_of_drops(Counter({key: count}))
        ]
    lines += [f"  lost: {count} failed: {text}" for text, count in report.failures.items()]
    for what, filled in (("blank", status.blank), ("reused", status.reused)):
        lines += [f"  filled in: {count} {what} ({camera})" for camera, count in filled.most_common()]
    never = [camera for camera in status.blank if not status.images[camera]]
    lines += [f"  WARNING: no image of {camera} is in the bag: was it dead, is its topic right?" for camera in never]
    for key, count in status.image_drops.most_common():
        why = status.last_texts.get(key)
        lines += [
            f"  images dropped: {line}" + (f", the last one: {why}" if why else "")
            for line in lines_of_drops(Counter({key: count}))
        ]
    lines += [f"  left out: {line}" for line in lines_of_broken(report)]
    lines += [f"  transforms: {count} {reason}" for reason, count in status.transform_drops.most_common() if count]
    lines += [f"  motion: {line}" for line in lines_of_drops(status.motion_drops)]
    lines += [f"  WARNING: {one.text} (noticed {many(one.count, 'time')})" for one in status.notices[:MAX_NOTICES]]
    lines += [f"  WARNING, geometry: {text}" for text in status.geometry or ()]
    lines += [f"  camera {name}: cv_bridge decodes its {encoding}" for name, encoding in status.converted.items()]
    lines += [f"  odd pictures: {line}" for line in lines_of_drops(status.odd_pictures)]
    lines.append(_instances_line(report))
    lines += [f"  memory reset: {count} {reason}" for reason, count in report.resets.items()]
    lines += _motion_lines(report)
    if temporal.ages_s and not report.grids_with_history:
        lines.append(_why_no_history(report, temporal))
    times = {stage: summarise(values) for stage, values in report.stage_ms.items()}
    return "\n".join([*lines, latency_table(times)])


def _pose_line(report: ReplayReport, status: AssemblerStatus) -> str:
    rates = ", ".join(f"{source} ({many(count, 'grid')})" for source, count in report.ego_motion.most_common())
    return f"the vehicle's poses come from {status.pose_source}, its rates of motion from {rates or 'nowhere'}"


def _instances_line(report: ReplayReport) -> str:
    if report.instances == "none":
        return "things are not told apart"
    return f"things told apart by {report.instances}: {report.things} in all grids, {len(report.numbers)} tracks"


def _why_no_history(report: ReplayReport, temporal: TemporalConfig) -> str:
    *older, newest = (f"{age_s:g}" for age_s in temporal.ages_s)
    ages = f"states {', '.join(older)} and {newest}" if older else f"a state {newest}"
    return (
        f"no history fused: the network wants {ages} s old (+-{temporal.tolerance_s:g} s); "
        f"the bag's frames reach back {report.longest_history_s:.1f} s"
    )


def _motion_lines(report: ReplayReport) -> list[str]:
    if report.frame_motions == report.fused_motions:
        return _motion_line("since the last frame, the newest fused state", report.frame_motions)
    return [
        *_motion_line("since the last frame", report.frame_motions),
        *_motion_line("since the newest fused state", report.fused_motions),
    ]


def _motion_line(since: str, motions: list[tuple[float, float]]) -> list[str]:
    if not motions:
        return []
    if len(motions) == 1:
        return [f"ego motion {since}: {motions[0][0]:.2f} m, yaw {motions[0][1]:+.2f} deg"]
    metres, degrees = zip(*motions)
    return [
        f"ego motion {since}, {len(motions)} times: mean {sum(metres) / len(metres):.2f} m, "
        f"largest {max(metres):.2f} m; yaw {min(degrees):+.2f} to {max(degrees):+.2f} deg"
    ]
