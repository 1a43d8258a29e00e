"""The whole way over real DDS: a bag is played into the installed node; what that publishes is recorded, scored, drawn.

`python -m panoocc_ros demo` leaves in `out`: panoocc_demo.gif, panoocc_demo.png, the node's last overlay.jpg and
grid_2d.png, occupancy.mcap, report.json, the processes' logs and, where Rerun is installed, panoocc_demo.rrd.  Node,
evaluator, player and recorder are processes of their own, as on a vehicle; nothing is waited for without a limit.  The
street is one of the simulator, which knows the truth; a bag without truth is not scored.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from panoocc_core import ModelConfig
from panoocc_core.base.processors import multiplies_natively, processor_count
from panoocc_core.base.resources import folder, shipped_weights
from panoocc_core.base.rig_files import rig_with
from panoocc_core.base.whole_files import write_json
from panoocc_core.labels import OCC3D, LabelSet, counterparts
from panoocc_core.pictures.animation import Style
from panoocc_core.sim import load_sim_rig
from panoocc_core.sim.pool import WORKER_KILLED
from panoocc_core.stream import output_geometry

from ..bags.bag import BagError, BagReader, BagWriteError
from ..bags.recording import Recording, newest_message
from ..evaluation.bag import evaluate_bag, truth_labels
from ..evaluation.evaluator import EvaluationError, check_labels
from ..frames.rig import Rig
from ..health.latency import latency_table
from ..messages import truth as truth_messages
from ..node.choices import chosen_config, chosen_device, chosen_rig, rig_for, unused
from ..replay.replay import check_topics
from ..ros.exit_codes import BAD_INPUT, FAILED, INTERRUPTED, OK, failed
from ..ros.signals import Terminated, unwound_by_signals
from ..sim.bag import write_street_bag
from ..view.packages import has_viewer
from ..view.rerun_sink import write_rerun
from .animation import animate
from .processes import Child, Children, ProcessError, environment_on_this_machine
from .report import (
    NOTE_SEEDED,
    DemoRun,
    demo_report,
    read_recording,
    score_report,
    stages,
    write_map,
    write_overlay,
    write_picture,
)

FEW_GRIDS = 20  # below which scores are chance
NODE, EVALUATOR = "panoocc", "evaluator"
OVERLAY, MAP = f"/{NODE}/overlay/compressed", f"/{NODE}/grid_2d"
RECORDED = (f"/{NODE}/occupancy", f"/{NODE}/labels", OVERLAY, MAP, "/diagnostics", "/tf", "/tf_static")
RECORDED_SCORES = tuple(
    f"/{EVALUATOR}/{name}" for name in ("iou", "miou", "pq", "stq", "id_switches", "visible_iou", "free_but_occupied")
)
PACES = {"real": "real time", "step": "one set at a time"}
SEED = 107  # a street on which no weights of ours were trained, one of those that `make eval` takes
DRIVES = {"real": (17.0, 6.0), "step": (8.0, 2.0)}  # pace -> seconds and sets per second of the simulated street
OVERLAY_HZ = 0.2  # one of them becomes a picture, and each takes as long as half a grid
MAX_SCALE = 0.25  # simulated images are as wide as the network's, but not slow to make
RERUN = "panoocc_demo.rrd"  # where Rerun is installed
PICTURES = {OVERLAY: ("overlay.jpg", write_overlay), MAP: ("grid_2d.png", write_map)}  # of the last message of each
RESULTS = (
    "panoocc_demo.gif",
    "panoocc_demo.png",
    *(name for name, _ in PICTURES.values()),
    RERUN,
    "occupancy.mcap",
    "report.json",
)
STREET, LOGS = "street.mcap", ("node.log", "evaluator.log", "recorder.log", "player.log")
MARK = ".panoocc_demo"  # lies in the folder of a demo, whose files the next one replaces
START_S = 300.0  # for weights to be made or loaded
STEP_S = 600.0  # for one set
RECORDER_STOP_S = 60.0  # to write what it has
LAST_REPORT_S = 1.5  # the node says once a second what it has measured


class DemoError(RuntimeError):
    """The demo cannot be run, or had no result; the message says what to do."""


def demo(arguments: argparse.Namespace) -> Path:
    """Run the demo; returns the folder with its results.

    Raises:
        BagError, CheckpointError, ConfigError, DemoError: bad input; the message names it.
        ProcessError: node, player or recorder failed; the message has the end of its log.
    """
    out = arguments.out
    _take(out)
    config = chosen_config(arguments.model)
    rig = chosen_rig(arguments.rig, config)
    pace = _pace(arguments, config)
    bag = arguments.bag or _simulated_street(out / STREET, config, pace)
    with BagReader(bag) as reader:
        check_topics(reader, rig_for(config, rig))
    for sentence in unused(config, rig):
        print(sentence, flush=True)
    truth = _usable_truth(bag, config)
    for name in RESULTS:  # of an earlier run: they must not be taken for those of one that fails
        (out / name).unlink(missing_ok=True)
    print(f"{config.name} on {bag}: {PACES[pace]}", flush=True)
    begin_s = time.monotonic()
    recording = _run_processes(arguments, config, bag, rig_for(config, rig), pace, truth is not None)
    wall_s = time.monotonic() - begin_s
    scene = f"simulated street, seed {SEED}" if arguments.bag is None else bag.name
    run = DemoRun(bag, arguments.bag is None, PACES[pace], wall_s, (scene,))
    _leave_results(out, recording, run, rig, truth)
    return out


def _take(out: Path) -> None:
    """Make the folder of the results, or take that of an earlier demo.

    Raises:
        ValueError: files are in the way that may be somebody else's.
    """
    out.mkdir(parents=True, exist_ok=True)
    mark = out / MARK
    foreign = [name for name in (*RESULTS, STREET, *LOGS) if os.path.lexists(out / name) and not mark.exists()]
    if foreign:
        raise ValueError(f"{out} has files that no demo has left there ({', '.join(foreign)}): give another --out")
    mark.touch()


def _simulated_street(path: Path, config: ModelConfig, pace: str) -> Path:
    """A drive through a simulated street, the same every time; with truth where the model's classes can tell it."""
    seconds, rate_hz = DRIVES[pace]
    name, can_be_told = rig_with("sim_rigs", config.cameras), None not in counterparts(OCC3D, config.labels)
    width_px = max(camera.width for camera in load_sim_rig(name))
    with tqdm(desc="simulated street", unit="set") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return write_street_bag(
            path,
            SEED,
            seconds,
            rate_hz,
            load_sim_rig(name, min(MAX_SCALE, config.images.width / width_px)),
            grid=output_geometry(config) if can_be_told else None,
            labels=config.labels if can_be_told else OCC3D,
            overwrite=True,
            progress=show,
        )


def _usable_truth(bag: Path, config: ModelConfig) -> LabelSet | None:
    """The label set of the bag's truth; None where there is none, or one of other classes."""
    labels = truth_labels(bag)
    if labels is not None:
        try:
            check_labels(config.labels, labels)
        except EvaluationError as error:
            print(f"no scores: {error}", flush=True)
            return None
    return labels


def _pace(arguments: argparse.Namespace, config: ModelConfig) -> str:
    if arguments.pace != "auto":
        return str(arguments.pace)
    fast = config.real_time_on_cpu or chosen_device(arguments.device) != "cpu"
    return "real" if fast else "step"


def _run_processes(
    arguments: argparse.Namespace, config: ModelConfig, bag: Path, rig: Rig, pace: str, has_truth: bool
) -> Path:
    """Start node, evaluator, recorder and player, and wait for the end of the player; returns the recording."""
    path = arguments.out / "occupancy.mcap"
    recorded = (*RECORDED, *RECORDED_SCORES) if has_truth else RECORDED
    recorder_command = [*_executable("record_bag"), *recorded, "--out", str(path), "--overwrite"]
    recorder_command += ["--use-sim-time"] if pace == "real" else []
    truth_topics = [truth_messages.TRUE_OCCUPANCY] if has_truth else []
    with Children(_environment(), arguments.out) as children, _progress() as show:
        children.start("node", _node_command(arguments, config, pace))
        evaluator = children.start("evaluator", _evaluator_command(pace)) if has_truth else None
        recorder = children.start("recorder", recorder_command)
        player = children.start("player", _player_command(bag, rig, truth_topics, pace))
        children.wait(player, timeout_s=_time_limit_s(bag, rig), on_tick=lambda: show(player))
        time.sleep(LAST_REPORT_S)
        if evaluator is not None:
            evaluator.stop()  # before the recorder, which is to have its last report
        if recorder.stop(RECORDER_STOP_S) != 0:
            raise recorder.fail("could not write the recording")
    return path


def _node_command(arguments: argparse.Namespace, config: ModelConfig, pace: str) -> list[str]:
    precision = _precision(arguments, pace)
    parameters = {
        "model": arguments.model,
        **_weights(arguments, config),
        "rig": arguments.rig,
        "device": arguments.device,
        "precision": precision,
        "overlay_max_rate_hz": OVERLAY_HZ,
        "threads": _threads(arguments, pace, precision),
        "image_reliability": "reliable",
        "use_sim_time": pace == "real",
    }
    return [*_executable("occupancy_node"), *_ros_arguments(parameters)]


def _ros_arguments(parameters: Mapping[str, Any]) -> list[str]:
    """Parameters on the command line of a node; in JSON, which ROS reads as YAML: a file's name stays a text."""
    words = [("-p", f"{name}:={json.dumps(value, ensure_ascii=False)}") for name, value in parameters.items()]
    return ["--ros-args", *(word for pair in words for word in pair)]


def _evaluator_command(pace: str) -> list[str]:
    return [*_executable("evaluate_node"), *_ros_arguments({"use_sim_time": pace == "real"})]


def _player_command(bag: Path, rig: Rig, truth_topics: Sequence[str], pace: str) -> list[str]:
    """It begins when everybody listens: the node to all cameras; recorder and evaluator to the node."""
    topics = [topic for camera in rig.cameras for topic in (camera.topic, camera.info_topic)]
    command = [*_executable("play_bag"), str(bag), "--wait-for-node", NODE]
    command += ["--wait-for-listeners", "2" if truth_topics else "1"]
    command += ["--wait-for-subscribers", *topics, *truth_topics]
    command += ["--wait-timeout", str(START_S), "--step-timeout", str(STEP_S)]
    return command + (["--clock"] if pace == "real" else ["--step"])


def _precision(arguments: argparse.Namespace, pace: str) -> str:
    """bfloat16 where real time is asked of a processor that multiplies it natively, else float32."""
    if arguments.precision != "auto":
        return str(arguments.precision)
    is_fast = pace == "real" and chosen_device(arguments.device) == "cpu" and multiplies_natively("bf16")
    return "bf16" if is_fast else "fp32"


def _threads(arguments: argparse.Namespace, pace: str, precision: str) -> int:
    """Of the network; 0 is torch's choice.

    One where player, recorder and evaluator share two cores with it: a second thread would wait for its core at every
    operation.  In float32 it still saves more than it waits.
    """
    crowded = processor_count() <= 2 and pace == "real" and chosen_device(arguments.device) == "cpu"
    return 1 if crowded and precision == "bf16" else 0


def _weights(arguments: argparse.Namespace, config: ModelConfig) -> dict[str, Any]:
    """Parameters of the node for the weights that were asked for, else those that ship with the preset, if any."""
    if arguments.checkpoint is not None:
        return {"checkpoint": str(arguments.checkpoint)}
    seeded = arguments.seeded_weights or shipped_weights(config.name) is None
    return {"seeded_weights": True} if seeded else {}


def _executable(name: str) -> list[str]:
    """The command of an installed executable of the package, run by this interpreter (the one that has torch).

    Raises:
        DemoError: the package is not built, or its workspace is not sourced.
    """
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        path = Path(prefix) / "lib" / "panoocc" / name
        if path.is_file():
            return [sys.executable, str(path)]
    raise DemoError(
        f"no prefix in AMENT_PREFIX_PATH has lib/panoocc/{name}: build the package and source its workspace "
        "(`make demo` does both)"
    )


def _environment() -> dict[str, str]:
    """That of all processes; with room in shared memory the images of all cameras go through it."""
    environment = environment_on_this_machine() | {"PYTHONUNBUFFERED": "1"}
    if Path("/dev/shm").is_dir():
        environment.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(folder("config") / "fastdds.xml"))
    return environment


def _time_limit_s(bag: Path, rig: Rig) -> float:
    with BagReader(bag) as reader:
        sets = reader.count([rig.camera(rig.reference).topic])
        return START_S + (reader.end_ns - reader.start_ns) * 1e-9 + STEP_S * (sets + 1)


@contextmanager
def _progress() -> Iterator["_Progress"]:
    progress = _Progress()
    yield progress
    progress.end()


class _Progress:
    """Shows the player's own progress bar, which goes to its log; every ten seconds where nobody watches."""

    def __init__(self) -> None:
        self._tty = sys.stderr.isatty()
        self._shown, self._next_s = "", 0.0

    def __call__(self, player: Child) -> None:
        lines = player.log.read_text(errors="replace").replace("\r", "\n").split("\n")
        line = next((line for line in reversed(lines) if line.strip()), "waiting for the node")
        if line != self._shown and (self._tty or time.monotonic() >= self._next_s):
            print(line, end="\r" if self._tty else "\n", file=sys.stderr, flush=True)
            self._shown, self._next_s = line, time.monotonic() + 10

    def end(self) -> None:
        if self._tty:
            print(file=sys.stderr)


def _leave_results(out: Path, recorded: Path, run: DemoRun, rig: Rig, truth: LabelSet | None) -> None:
    recording = read_recording(recorded, NODE)
    report = demo_report(recording, run)
    scored = None if truth is None else evaluate_bag(recorded, run.bag, NODE)
    if scored is not None:
        report |= score_report(scored, read_recording(recorded, EVALUATOR).diagnostics)
    write_json(out / "report.json", report)
    if recording.labels is None or not recording.grids:
        raise DemoError(f"the node gave no grid; it says: {report['last_words']} (see {out / 'node.log'})")
    write_picture(out / "panoocc_demo.png", recording, run, rig, report)
    for topic, (name, write) in PICTURES.items():
        message = newest_message(recorded, topic)
        if message is not None:
            write(out / name, message)
    note = NOTE_SEEDED if report["weights"].startswith("seeded") else ""
    where = " of a simulated street" if run.bag_is_simulated else ""
    style = Style(f"PanoOcc {report['model']}: {len(rig.cameras)} cameras{where} in, labelled voxels out", note)
    gif, frames = out / "panoocc_demo.gif", () if scored is None else scored.frames
    animate(gif, recorded, run.bag, rig, recording.labels, style, node=NODE, true_labels=truth, scores=frames)
    if has_viewer("rerun"):
        write_rerun(out / RERUN, recorded, run.bag, f"/{NODE}/occupancy")
    _say_results(out, recording, report)


def line_of_scores(report: Mapping[str, Any]) -> str:
    """The scores of a report, and whether they are of too few grids."""
    names = {"mIoU": "miou", "geometric IoU": "geometric_iou", "PQ": "pq", "STQ": "stq"}
    numbers = ", ".join(f"{name} {_percent(report[key])}" for name, key in names.items())
    few = f": fewer than {FEW_GRIDS}, so these numbers mean little" if report["evaluated_grids"] < FEW_GRIDS else ""
    return f"against the truth, where cameras see: {numbers} ({report['evaluated_grids']} grids{few})"


def _say_results(out: Path, recording: Recording, report: Mapping[str, Any]) -> None:
    print(latency_table(stages(recording)))
    drops = ", ".join(f"{count} {reason}" for reason, count in report["drops"].items()) or "none"
    rate = "-" if report["rate_hz"] is None else f"{report['rate_hz']:.2f}"
    print(f"sets in: {report['sets_in']}, grids out: {report['grids_out']} ({rate} a second), dropped: {drops}")
    if "miou" in report:
        print(line_of_scores(report))
        if report["visible_iou"] is not None:
            feared = _percent(report["free_but_occupied"])
            print(f"visible: IoU {_percent(report['visible_iou'])}; of what is called free and visible {feared} is not")
        if report["id_switches"] is not None:
            print(f"id switches: {report['id_switches']} (true things followed: {report['followed_objects']})")
        if report["not_evaluated"]:
            print(f"not all could be compared: {report['not_evaluated']}")
    if report["weights"].startswith("seeded"):
        print("The weights are seeded, not trained: the voxels show that everything works, not what the cameras see.")
    print(f"results: {', '.join(str(out / name) for name in RESULTS if (out / name).exists())}")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--bag", type=Path, metavar="BAG", help="rosbag2 folder, or .mcap or .db3 file (default: a simulated street)"
    )
    parser.add_argument("--model", default="nano", metavar="MODEL", help="preset, or YAML file (default: %(default)s)")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="weights (default: those of the preset, else seeded ones)"
    )
    weights.add_argument(
        "--seeded-weights", action="store_true", help="weights from a random generator: the voxels mean nothing"
    )
    parser.add_argument(
        "--rig",
        default="auto",
        help="a name in config/rigs, or a YAML file (default: the rig with the network's cameras)",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:N, or auto (default: auto)")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "fp32", "fp16", "bf16"),
        help="auto: bf16 in real time on a CPU that multiplies it natively, else fp32 (default: auto)",
    )
    parser.add_argument(
        "--pace",
        default="auto",
        choices=("auto", "real", "step"),
        help="real: by the bag's stamps; step: every set waits for the grid of the one before, so that none is "
        "dropped; auto: step for networks that are slow on this device (default: auto)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out"), metavar="FOLDER", help="folder for the results (default: out)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        with unwound_by_signals():
            demo(arguments)
    except Terminated as ended:
        return ended.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except (DemoError, ProcessError, BagWriteError) as error:
        print(f"demo: {error}", file=sys.stderr)  # as it is: it may have lines of a log
        return FAILED
    except BrokenExecutor:
        return failed("demo", WORKER_KILLED, FAILED)
    except OSError as error:
        text = f"cannot write {error.filename}: {error.strerror}" if error.filename else str(error)
        return failed("demo", text, FAILED)
    except (BagError, ValueError) as error:
        return failed("demo", error, BAD_INPUT)
    return OK


if __name__ == "__main__":
    raise SystemExit(main())
