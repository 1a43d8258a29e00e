"""Rows: starts that cannot be, signals, a full disk, and files that are no bags.  Each has processes of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.commands.cli import main as command
from panoocc_ros.messages.types import new_message
from test.faults.fault import PROMPT_S, Outcome
from test.faults.traffic import Traffic, serialised
from test.ros.drive import T0, TF_TYPE

ROOT = Path(__file__).parents[2]
SEEDED = {"model": "nano", "seeded_weights": "true"}
# parameters of a start, and what its one fatal line must have in it
STARTS = {
    "rig unknown": (SEEDED | {"rig": "tricycle"}, ("parameter rig", "nuscenes")),
    "rig without the network's cameras": (SEEDED | {"rig": "waymo"}, ("parameter rig", "CAM_FRONT")),
    "model unknown": (SEEDED | {"model": "pano_tiny"}, ("parameter model", "nano")),
    "checkpoint missing": ({"model": "nano", "checkpoint": "/nowhere.pth"}, ("parameter checkpoint", "no such file")),
    "checkpoint damaged": (
        {"model": "nano", "checkpoint": "{folder}/cut.safetensors"},
        ("parameter checkpoint", "cut"),
    ),
    "checkpoint of something else": ({"model": "nano", "checkpoint": "{folder}/other.pth"}, ("parameter checkpoint",)),
    "parameter of another type": (SEEDED | {"tf_timeout_s": "soon"}, ("parameter tf_timeout_s", "float")),
    "parameter out of range": (SEEDED | {"image_queue": 0}, ("parameter image_queue", "1..100")),
    "parameter not a number": (SEEDED | {"tf_timeout_s": ".nan"}, ("parameter tf_timeout_s",)),
    "parameter of no choice": (SEEDED | {"encoding": "octree"}, ("parameter encoding", "sparse, dense")),
    "parameter a list": (SEEDED | {"model": "[nano, nano]"}, ("parameter model",)),
    "device unknown": (SEEDED | {"device": "tpu"}, ("parameter device", "cuda")),
    "calibration missing": (SEEDED | {"calibration": "/nowhere.yaml"}, ("parameter calibration",)),
}
BAGS = {  # name -> bytes of the file, exit status, what the one line must have in it
    "bag empty": (b"", 2, "bag.mcap"),
    "bag of something else": (b"RIFF" + 500 * b"\0", 2, "bag.mcap"),
    "bag truncated": (None, 2, "bag.mcap"),
    "bag without images": ("tf alone", 2, "no topic /cam_front"),
}
RUN = ["--model", "nano", "--seeded-weights", "--no-progress"]


def starts(name, folder):
    """The node ends with one fatal line, at once."""
    from panoocc_ros.node.node import main

    parameters, words = STARTS[name]
    (folder / "other.pth").write_bytes(b"not a checkpoint")
    shipped = next((ROOT / "config" / "weights").glob("nano*.safetensors")).read_bytes()
    (folder / "cut.safetensors").write_bytes(shipped[: len(shipped) // 2])
    given = [f"{key}:={value}".format(folder=folder) for key, value in parameters.items()]
    begin_s = time.monotonic()
    with caught_output() as output:
        code = main(["occupancy_node", "--ros-args", *(word for one in given for word in ("-p", one))])
    outcome = Outcome(name, "live", detected_s=time.monotonic() - begin_s)
    outcome.note = f"exit status 2 and one fatal line with {' and '.join(words)}; counted from the call of main()"
    text = output()
    fatal = [line for line in text.splitlines() if "[FATAL]" in line]
    _check(outcome, code == 2, f"exit status {code}: {text}")
    _check(outcome, len(fatal) == 1 and all(word in text for word in words), text)
    _check(outcome, "Traceback" not in text, text)
    return outcome


def reads(name, folder):
    """`panoocc run` ends with one line that names the file, and leaves nothing behind."""
    content, status, words = BAGS[name]
    path = folder / "bag.mcap"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with BagWriter(path, overwrite=True) as writer:
            for event in [Traffic().mounts(), *(Traffic().events(0) if content is None else [])]:
                writer.write(event.topic, event.type, event.stamp_ns, serialised(event))
            if content is not None:
                writer.write("/tf", TF_TYPE, T0, new_message(TF_TYPE))
    if content is None:
        path.write_bytes(path.read_bytes()[:3000])
    begin_s = time.monotonic()
    with caught_output() as output:
        code = command(["run", str(path), *RUN, "--out", str(folder / "grids.mcap")])
    outcome = Outcome(name, "offline", detected_s=time.monotonic() - begin_s)
    outcome.note = f"exit status {status}, one line with '{words}', nothing left at --out"
    text = output()
    _check(outcome, code == status and words in text and "Traceback" not in text, f"exit status {code}: {text}")
    _check(outcome, not (folder / "grids.mcap").exists(), "something was left at --out")
    return outcome


def disk_full(name, folder):
    """The kernel refuses to let files grow, as a full disk does."""
    path = folder / "drive.mcap"
    with BagWriter(path, overwrite=True) as writer:
        for event in [Traffic().mounts(), *(one for k in range(3) for one in Traffic().events(k))]:
            writer.write(event.topic, event.type, event.stamp_ns, serialised(event))
    rig = folder / "rig.yaml"
    Traffic().write_rig(rig)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from panoocc_ros.commands.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["run", str(path), *RUN, "--rig", str(rig), "--out", str(folder / "grids.mcap")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    outcome = Outcome(name, "offline", note="exit status 4, one line that names the file; nothing is left")
    _check(outcome, done.returncode == 4 and "grids.mcap: cannot be written" in done.stderr, done.stderr)
    _check(outcome, not (folder / "grids.mcap").exists(), "something was left at --out")
    return outcome


def interrupted(name, folder):
    """SIGINT before the node is ready: it ends with 0, and says nothing of tracebacks."""
    from test.ros.live import NodeProcess

    node = NodeProcess(folder / f"{name}.log", **SEEDED)
    try:
        maps = Path(f"/proc/{node.process.pid}/maps")
        while "loading" not in node.words if name.endswith("loading") else "libtorch" not in maps.read_text():
            assert node.process.poll() is None, node.words
            time.sleep(0.01)
        begin_s = time.monotonic()
        node.process.send_signal(signal.SIGINT)
        code = node.wait(60.0)
        outcome = Outcome(name, "live", detected_s=time.monotonic() - begin_s)
    finally:
        node.kill()
    outcome.note = "the process ends with status 0, 130 or by the signal, without a traceback; detected_s: how soon"
    _check(
        outcome, code in (0, 130, -signal.SIGINT) and "Traceback" not in node.words, f"exit status {code}: {node.words}"
    )
    return outcome


SIGNALS = ("SIGINT while importing", "SIGINT while loading")
ROWS = {
    **dict.fromkeys(STARTS, starts),
    **dict.fromkeys(BAGS, reads),
    "disk full while recording": disk_full,
    **dict.fromkeys(SIGNALS, interrupted),
}
IS_QUICK = (*STARTS, *BAGS)


def run(name, folder, is_strict):
    """Let one of them happen, in a folder of its own below `folder`; `is_strict` holds it to the second."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        outcome = ROWS[name](name, Path(own))
    if is_strict and name in IS_QUICK and outcome.detected_s > PROMPT_S:
        outcome.problems.append(f"told after {outcome.detected_s:.1f} s")
    return outcome


def _check(outcome, is_right, text):
    if not is_right:
        outcome.problems.append(" ".join(text.split())[:500])


@contextlib.contextmanager
def caught_output():
    """What this process writes to stdout and stderr, also from C; a function that returns it."""
    kept = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile("w+") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        text = []
        try:
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                yield lambda: text[0]
        finally:
            file.flush()
            for number, descriptor in enumerate(kept, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            file.seek(0)
            text.append(file.read())
