"""The simulator as a process: images, truth and transforms over DDS at the rate, and clean ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

from test.ros.needs_ros import require_ros

require_ros()

import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402

from panoocc_core.labels import OCC3D  # noqa: E402
from panoocc_ros.frames.rig import load_rig  # noqa: E402
from panoocc_ros.messages.fields import stamp_ns  # noqa: E402
from panoocc_ros.messages.truth import BOXES, LABELS, TRUE_OCCUPANCY, TYPES  # noqa: E402
from panoocc_ros.messages.types import CAMERA_INFO, COMPRESSED_IMAGE, TRANSFORMS  # noqa: E402
from panoocc_ros.ros.graph import message_class, qos  # noqa: E402
from panoocc_ros.sim.node import main  # noqa: E402
from test.ros.live import PATIENCE_S, ROOT, node_and_peer  # noqa: E402
from test.ros.messages import listed  # noqa: E402

pytestmark = pytest.mark.live

FRONT, BACK = "/cam_front/image_raw/compressed", "/cam_back/image_raw/compressed"
LATCHED = ("/tf_static", LABELS)
RATE_HZ = 1.0  # two cores render it while other tests run


class Listener:
    """Keeps what the simulator sends, with the system's clock at its arrival."""

    def __init__(self):
        if not rclpy.ok():
            rclpy.init()
        self.node = rclpy.create_node("listener")
        self.heard, self.health = {}, {}
        cameras = load_rig("nuscenes").cameras
        types = (
            TYPES
            | {"/tf": TRANSFORMS, "/tf_static": TRANSFORMS}
            | {camera.topic: COMPRESSED_IMAGE for camera in cameras}
        )
        types |= {camera.info_topic: CAMERA_INFO for camera in cameras}
        for topic, kind in types.items():
            self.listen(topic, message_class(kind))
        self.listen("/clock", Clock)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos())

    def listen(self, topic, kind):
        self.heard[topic] = []
        # Images as an occupancy node asks for them.
        profile = qos(reliable="image" not in topic, latched=topic in LATCHED)
        self.node.create_subscription(
            kind, topic, lambda message: self.heard[topic].append((message, time.time_ns())), profile
        )

    def _on_diagnostics(self, message):
        for status in message.status:
            name, _, subject = status.name.partition(": ")
            if name == "simulator":
                self.health[subject] = status

    def messages(self, topic):
        return [message for message, _ in self.heard[topic]]

    def stamps(self, topic):
        return [stamp_ns(message.header.stamp) for message in self.messages(topic)]

    def wait(self, condition, what, process, timeout_s=PATIENCE_S):
        end_s = time.monotonic() + timeout_s
        while not condition():
            heard = {topic: len(messages) for topic, messages in self.heard.items() if messages}
            said = {subject: status.message for subject, status in self.health.items()}
            assert time.monotonic() < end_s, f"no {what} within {timeout_s} s; heard {heard}; it says {said}"
            assert process.poll() is None, f"no {what}: the simulator has ended"
            rclpy.spin_once(self.node, timeout_sec=0.02)


def start(log, start_new_session=False, **parameters):
    command = [sys.executable, str(ROOT / "scripts" / "sim_node"), "--ros-args"]
    for name, value in (
        {"scale": 0.05, "rate_hz": RATE_HZ, "workers": 1, "diagnostics_period_s": 0.2} | parameters
    ).items():
        command += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    with log.open("wb") as stream:
        return subprocess.Popen(
            command, stdout=stream, stderr=stream, env=environment, start_new_session=start_new_session
        )


@contextmanager
def simulator(log, **parameters):
    """A simulator's process and a listener that is there before it."""
    listener = Listener()
    process = start(log, **parameters)
    try:
        yield process, listener
    finally:
        listener.node.destroy_node()
        rclpy.try_shutdown()
        if process.poll() is None:
            process.kill()
            process.wait()


def workers_of(process):
    """Its child processes."""
    children = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    fields = stat.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == process.pid:
                children.append(int(entry))
    return children


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_end(children, timeout_s=PATIENCE_S):
    end_s = time.monotonic() + timeout_s
    while any(map(is_running, children)):
        assert time.monotonic() < end_s, "children have outlived their node"
        time.sleep(0.1)


def test_images_truth_and_transforms_come_at_the_rate_with_true_stamps(tmp_path):
    log = tmp_path / "sim.log"
    with simulator(log, seed=3, faults="drop camera=cam_back") as (process, listener):
        listener.wait(lambda: len(listener.heard[FRONT]) >= 5, "five images", process)
        listener.wait(lambda: "faults" in listener.health and listener.health["faults"].values, "faults", process)
        assert len(listener.heard["/tf_static"]) == len(listener.heard[LABELS]) == 1
        assert list(listener.messages(LABELS)[0].names) == list(OCC3D.names)
        images = listener.stamps(FRONT)
        boxes = [stamp_ns(message.markers[0].header.stamp) for message in listener.messages(BOXES)]
        for stamps in (listener.stamps(TRUE_OCCUPANCY), boxes):
            assert len(set(stamps) & set(images)) >= 3  # images come without guarantee
        grid = listener.messages(TRUE_OCCUPANCY)[0]
        assert len(listed(grid)) > 1000 and 0 < np.unpackbits(np.asarray(grid.visible, np.uint8)).mean() < 1
        assert not listener.heard[BACK] and listener.heard["/cam_back/camera_info"]
        arrivals = [arrived_ns for _, arrived_ns in listener.heard[FRONT]]
        assert all(0 <= arrived - stamp < 60e9 for stamp, arrived in zip(images, arrivals)), "stamps are not true"
        # On a busy machine sets may be left out, but then the node says so, and the grid of times is kept.
        periods = [(b - a) * 1e-9 * RATE_HZ for a, b in zip(images, images[1:])]
        assert all(abs(period - round(period)) < 1e-3 and period > 0.5 for period in periods)
        values = {value.key: value.value for value in listener.health["renderer"].values}
        assert max(periods) < 1.5 or int(values["left_out"]) > 0
        poses = [stamp_ns(message.transforms[0].header.stamp) for message in listener.messages("/tf")]
        assert len(poses) > 200 and np.median(np.diff(poses)) == pytest.approx(10e6, rel=0.01)
        assert listener.health["faults"].level == b"\x01" and "drop cam_back" in listener.health["faults"].message
        assert not listener.heard["/clock"]
        children = workers_of(process)
        assert children
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0, log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()
        all_end(children)


def test_a_drive_with_its_own_clock_ends_by_itself(tmp_path):
    log = tmp_path / "sim.log"
    with simulator(log, seconds=3.0, rate_hz=2.0, use_clock=True, with_truth=False, rig="waymo") as (process, listener):
        listener.wait(lambda: len(listener.heard["/clock"]) > 20, "clock", process)
        end_s = time.monotonic() + 2 * PATIENCE_S
        while process.poll() is None and time.monotonic() < end_s:
            rclpy.spin_once(listener.node, timeout_sec=0.02)
        assert process.wait(1) == 0, log.read_text()
        times = [stamp_ns(message.clock) for message in listener.messages("/clock")]
        assert times == sorted(times) and 2.5e9 < times[-1] - times[0] < 4e9
        assert not listener.heard[TRUE_OCCUPANCY]
        assert "the drive is over" in log.read_text() and "Traceback" not in log.read_text()


def test_ctrl_c_during_the_start_ends_node_and_renderers_without_a_traceback(tmp_path):
    log = tmp_path / "sim.log"
    process = start(log, start_new_session=True)
    try:
        end_s = time.monotonic() + PATIENCE_S
        while not workers_of(process) or "rendering" not in log.read_text():
            assert time.monotonic() < end_s and process.poll() is None, log.read_text()
            time.sleep(0.02)
        time.sleep(0.5)  # in the middle of the workers' imports
        children = workers_of(process)
        for _ in range(3):  # by somebody impatient
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
            time.sleep(0.1)
        assert process.wait(PATIENCE_S) == 0, log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()
        all_end(children)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"faults": "melt"}, "parameter faults: unknown fault 'melt'"),
        ({"rate_hz": "100.0"}, "parameter rate_hz"),
        ({"seconds": "soon"}, "parameter seconds: must be of type float"),
        ({"rig": "tricycle"}, "parameter rig: unknown simulated rig"),
    ],
)
def test_a_bad_start_ends_with_one_fatal_line(parameters, words, capfd):
    given = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    assert main(["sim_node", "--ros-args", *given]) == 2
    fatal = [line for line in capfd.readouterr().err.splitlines() if "[FATAL]" in line]
    assert len(fatal) == 1 and words in fatal[0]


def test_the_occupancy_node_makes_grids_of_it_with_the_truth_s_stamps(tmp_path):
    with node_and_peer(tmp_path / "node.log", threads=1) as (node, peer):
        truth = []
        peer.node.create_subscription(message_class(TYPES[TRUE_OCCUPANCY]), TRUE_OCCUPANCY, truth.append, qos())
        process = start(tmp_path / "sim.log", rate_hz=0.5, scale=0.1)
        try:
            peer.wait_for_grids(2)
            stamps = {stamp_ns(grid.header.stamp) for grid in peer.grids}
            known = {stamp_ns(message.header.stamp): message for message in truth}
            assert stamps <= set(known), "grid and truth cannot be compared"
            first, there = peer.grids[0], known[stamp_ns(peer.grids[0].header.stamp)]
            for name in ("size_x", "size_y", "size_z", "origin", "voxel_size", "label_set"):
                assert getattr(first, name) == getattr(there, name), name
            renderers = workers_of(process)
            assert renderers
        finally:
            process.kill()
            process.wait()
        assert node.process.poll() is None
    all_end(renderers)
