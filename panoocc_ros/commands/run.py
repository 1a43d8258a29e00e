"""`panoocc run BAG`: the command line around `replay`, and the table it prints."""

import argparse
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..health.latency import latency_table, summarise

if TYPE_CHECKING:
    from panoocc_core.config import TemporalConfig

    from ..bags.replay import ReplayReport

EXIT_OK, EXIT_BAD_INPUT, EXIT_NO_GRID, EXIT_NOT_WRITTEN, EXIT_FAILED = 0, 2, 3, 4, 5

DESCRIPTION = """\
Runs a network over a recorded bag, with no ROS on the machine, and writes the voxel grids to a new bag.

The bag (a rosbag2 folder, or one .mcap or .db3 file) needs the images and the CameraInfo of every camera of the rig,
the vehicle's poses on /tf and the cameras' mounts on /tf_static.  The result has the grids (panoocc/VoxelGrid), the
same as coloured points and as a grid that Foxglove shows by itself, and the transforms; it opens in Foxglove and plays
with `ros2 bag play`.
"""
EPILOG = """\
examples:
  panoocc run drive/ --model pano_small_occ3d --checkpoint pano_small.pth --out grids.mcap
  panoocc run street.mcap --model nano --out trial.mcap --limit 5          # with the weights of the package

exit status: 0 grids were written; 2 bad input or arguments; 3 the bag gave no grid; 4 the output could not be written;
5 the network failed.  Whenever it is not 0, nothing is left at --out.
"""


def add_run(subparsers: Any) -> None:
    """Register `panoocc run`."""
    parser = subparsers.add_parser(
        "run",
        help="run a network over a bag and write the voxel grids to a new bag",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bag", type=Path, help="rosbag2 folder, or one .mcap or .db3 file")
    parser.add_argument(
        "--out", type=Path, required=True, help="new bag: a name ending in .mcap is one file, else a folder"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace --out where it exists")
    _add_network_options(parser)
    _add_input_options(parser)
    output = parser.add_argument_group("output")
    encoding = output.add_mutually_exclusive_group()
    encoding.add_argument(
        "--sparse", dest="encoding", action="store_const", const="sparse", help="list occupied voxels only (default)"
    )
    encoding.add_argument(
        "--dense", dest="encoding", action="store_const", const="dense", help="list every voxel, free or not"
    )
    output.add_argument("--no-confidence", action="store_true", help="leave out the probability of every voxel's class")
    output.add_argument("--no-points", action="store_true", help="leave out the PointCloud2")
    output.add_argument("--no-foxglove", action="store_true", help="leave out Foxglove's own grid")
    output.add_argument("--limit", type=_positive, metavar="N", help="stop after N grids")
    output.add_argument("--no-progress", action="store_true", help="no progress bar")
    parser.set_defaults(run=run, encoding="sparse")


def _add_network_options(parser: argparse.ArgumentParser) -> None:
    network = parser.add_argument_group("network")
    network.add_argument(
        "--model",
        default="pano_small_occ3d",
        help="preset, or a YAML file that describes a network (default: %(default)s)",
    )
    weights = network.add_mutually_exclusive_group()
    weights.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="weights: .safetensors, or a published .pth (default: those that come with the package, where it has any)",
    )
    weights.add_argument(
        "--seeded-weights",
        action="store_true",
        help="random weights from a fixed seed: for trials of the machinery, the voxels mean nothing",
    )
    network.add_argument("--device", default="auto", help="cpu, cuda, cuda:N, or auto: cuda where there is one")
    network.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16"),
        default="fp32",
        help="number format of the network (default: %(default)s)",
    )
    network.add_argument("--threads", type=_positive, metavar="N", help="CPU threads (default: torch's choice)")


def _add_input_options(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("input")
    inputs.add_argument(
        "--rig", default="nuscenes", help="which camera is on which topic: a name in config/rigs, or a YAML file"
    )
    inputs.add_argument("--base-frame", help="frame of the voxels (default: the rig's, usually base_link)")
    inputs.add_argument(
        "--fixed-frame", help="frame that does not move, through which history is fused (default: the rig's choice)"
    )
    inputs.add_argument("--spread-ms", type=float, help="largest distance of an image from the reference camera's")
    inputs.add_argument(
        "--missing-camera",
        choices=("drop", "reuse_last", "blank"),
        default="drop",
        help="what to do with a set that lacks an image (default: %(default)s it)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Work on one bag; returns the exit status."""
    from panoocc_core import CheckpointError
    from panoocc_core.base.strict_yaml import ConfigError

    from ..bags.bag import BagError, BagWriteError

    try:
        return _run(arguments)
    except BagWriteError as error:
        return fail(error, EXIT_NOT_WRITTEN)
    except (BagError, CheckpointError, ConfigError, _BadArgument) as error:
        return fail(error, EXIT_BAD_INPUT)
    except NoGrid as error:
        return fail(error, EXIT_NO_GRID)
    except RuntimeError as error:  # torch: out of memory, a broken driver
        return fail(f"the network failed: {error}", EXIT_FAILED)


def fail(error: Exception | str, status: int) -> int:
    """Say in one line on stderr why it failed."""
    print("panoocc: " + " ".join(str(error).split()), file=sys.stderr)
    return status


class NoGrid(Exception):
    """The bag was read to its end and gave no grid; the text says why."""


class _BadArgument(ValueError):
    pass


def _run(arguments: argparse.Namespace) -> int:
    from panoocc_core import OccupancyStream, model_config

    from ..bags.bag import BagReader, BagWriter
    from ..bags.replay import Replay, ReplayOptions, check_topics
    from ..frames.assembler import AssemblerOptions, FrameAssembler

    if arguments.out.resolve() == arguments.bag.resolve():
        raise _BadArgument(f"--out {arguments.out} is the bag itself: choose another name")
    config, rig = model_config(arguments.model), _chosen_rig(arguments)
    chosen = rig.select(config.cameras)
    with BagReader(arguments.bag) as bag:
        check_topics(bag, chosen)
        # Before the weights are loaded, so that a wrong path does not cost a minute.
        with BagWriter(arguments.out, arguments.overwrite) as writer:
            stream = OccupancyStream(_loaded(config, arguments))
            assembler = FrameAssembler(chosen, AssemblerOptions(missing_camera=arguments.missing_camera))
            report = Replay(bag, stream, rig, assembler).run(
                writer,
                ReplayOptions(
                    outputs=chosen_outputs(arguments),
                    encoding=arguments.encoding,
                    with_confidence=not arguments.no_confidence,
                    limit=arguments.limit,
                    show_progress=not arguments.no_progress and sys.stderr.isatty(),
                ),
            )
            if report.grids == 0:
                raise NoGrid(why_no_grid(report, chosen.names))
    print(summary(report, stream.model.device, config.temporal))
    print(f"written: {arguments.out}")
    return EXIT_OK


def chosen_outputs(arguments: argparse.Namespace) -> Any:
    """The outputs that the bag gets."""
    from ..node.outputs import FOXGLOVE, OUTPUTS, POINTS

    without = {POINTS} if arguments.no_points else set()
    without |= {FOXGLOVE} if arguments.no_foxglove else set()
    return tuple(output for output in OUTPUTS if output.in_bags and output not in without)


def _chosen_rig(arguments: argparse.Namespace) -> Any:
    from ..frames.rig import load_rig

    changes = {
        "base_frame": arguments.base_frame,
        "fixed_frame": arguments.fixed_frame,
        "spread_ms": arguments.spread_ms,
    }
    try:
        return replace(load_rig(arguments.rig), **{key: value for key, value in changes.items() if value is not None})
    except ValueError as error:
        raise _BadArgument(str(error)) from error


def _loaded(config: Any, arguments: argparse.Namespace) -> Any:
    import torch

    from panoocc_core import CheckpointError, load_model

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return load_model(config, arguments.checkpoint, arguments.seeded_weights, device, arguments.precision)
    except CheckpointError:
        raise
    except ValueError as error:
        raise _BadArgument(str(error)) from error


def why_no_grid(report: "ReplayReport", rig_names: tuple[str, ...]) -> str:
    """One sentence: what became of the sets of a bag without a grid."""
    status = report.status
    assert status is not None
    lost = ", ".join(lines_of_drops(status.set_drops))
    if report.failures:
        return f"no grid: the network failed on all sets: {next(iter(report.failures))}"
    if status.last_drop is not None:
        return f"no grid from {status.sets} sets (lost: {lost}): {status.last_drop}"
    never = [name for name in rig_names if not status.images[name]]
    hint = f"; no image came from {', '.join(never)}" if never else ""
    return (
        f"no grid: the {sum(status.images.values())} images made no complete set ({lost or 'no drops'}){hint}; are the "
        "stamps of the cameras within spread_ms of the reference camera's?"
    )


def lines_of_drops(drops: "Counter[tuple[str, str]]") -> list[str]:
    """ "3 missing_camera (CAM_BACK)", most frequent first."""
    return [f"{count} {reason}" + (f" ({camera})" if camera else "") for (reason, camera), count in drops.most_common()]


def summary(report: "ReplayReport", device: Any, temporal: "TemporalConfig") -> str:
    """Sets in, grids out, drops, resets, ego motion, and the latency of every stage."""
    status = report.status
    assert status is not None
    lost = sum(status.set_drops.values()) + sum(report.failures.values())
    lines = [
        f"{status.sets} sets in, {report.grids} grids out, {lost} sets lost; fixed frame {status.fixed_frame}",
        f"{report.bag_s:.2f} s of driving in {report.wall_s:.2f} s on {device}",
    ]
    lines += [f"  lost: {line}" for line in lines_of_drops(status.set_drops)]
    lines += [f"  lost: {count} failed: {text}" for text, count in report.failures.items()]
    for what, filled in (("blank", status.blank), ("reused", status.reused)):
        lines += [f"  filled in: {count} {what} ({camera})" for camera, count in filled.most_common()]
    lines += [f"  images dropped: {line}" for line in lines_of_drops(status.image_drops)]
    lines += [f"  memory reset: {count} {reason}" for reason, count in report.resets.items()]
    lines += _motion_line("since the last frame", report.frame_motions)
    lines += _motion_line("since the newest fused state", report.fused_motions)
    if temporal.ages_s and not report.grids_with_history:
        lines.append(_why_no_history(report, temporal))
    times = {stage: summarise(values) for stage, values in report.stage_ms.items()}
    return "\n".join([*lines, latency_table(times)])


def _why_no_history(report: "ReplayReport", temporal: "TemporalConfig") -> str:
    *older, newest = (f"{age_s:g}" for age_s in temporal.ages_s)
    ages = f"states {', '.join(older)} and {newest}" if older else f"a state {newest}"
    return (
        f"no history fused: the network wants {ages} s old (+-{temporal.tolerance_s:g} s); "
        f"the bag's frames reach back {report.longest_history_s:.1f} s"
    )


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


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value
