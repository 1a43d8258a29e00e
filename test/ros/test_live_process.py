"""The node as a process: bad starts, a busy network that holds up nothing, quick ends, a step that fails."""

import dataclasses
import itertools
import signal
import threading
import time

import pytest

from test.ros.needs_ros import require_ros

require_ros()

import rclpy  # noqa: E402
from builtin_interfaces.msg import Time  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from panoocc_ros.evaluation.node import main as evaluator_main  # noqa: E402
from panoocc_ros.node.node import OccupancyNode, main  # noqa: E402
from panoocc_ros.node.settings import NodeSettings  # noqa: E402
from panoocc_ros.ros.graph import qos  # noqa: E402
from test.ros.drive import Drive  # noqa: E402
from test.ros.live import PATIENCE_S, NodeProcess, Peer, node_and_peer  # noqa: E402

pytestmark = pytest.mark.live

DRIVE = Drive()
BAD_ARGUMENTS = {
    "no_file": (["--params-file", "/nowhere.yaml"], "/nowhere.yaml"),
    "no_value": (["-p", "model"], "-p model"),
    "no_flag": (["-p", "use_sim_time:=soon"], "use_sim_time"),
    "list": (["-p", "model:=[nano, nano]"], "parameter model"),
    "not_a_number": (["-p", "tf_timeout_s:=.nan"], "parameter tf_timeout_s"),
    "no_calibration": (["-p", "model:=nano", "-p", "calibration:=/nowhere.yaml"], "parameter calibration"),
    "no_topic": (["-p", "model:=nano", "-p", "rig:={folder}/rig.yaml"], "parameter rig"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_end_with_one_fatal_line_and_no_traceback(name, tmp_path, capfd):
    arguments, named = BAD_ARGUMENTS[name]
    cameras = [f"  - {{name: {one.name}, topic: 'a {one.name}', info_topic: {one.name}}}" for one in DRIVE.rig.cameras]
    (tmp_path / "rig.yaml").write_text("\n".join(["reference: CAM_FRONT", "cameras:", *cameras]) + "\n")
    code = main(["occupancy_node", "--ros-args", *(one.replace("{folder}", str(tmp_path)) for one in arguments)])
    words = capfd.readouterr().err
    fatal = [line for line in words.splitlines() if "[FATAL]" in line]
    assert code == 2 and len(fatal) == 1 and named in fatal[0] and "Traceback" not in words, words


@pytest.mark.parametrize("argument", ["capacity:=0", "truth:=''", "prediction:='a topic'", "min_voxels:=many"])
def test_the_evaluator_refuses_bad_arguments_with_one_fatal_line(argument, capfd):
    code = evaluator_main(["evaluate_node", "--ros-args", "-p", argument])
    words = capfd.readouterr().err
    fatal = [line for line in words.splitlines() if "[FATAL]" in line]
    assert code == 2 and len(fatal) == 1 and "Traceback" not in words, words


def test_unknown_parameters_are_named_with_what_was_meant(tmp_path):
    with node_and_peer(tmp_path / "node.log", presision="fp16") as (node, _):
        assert "parameter presision is unknown" in node.words and "is precision meant?" in node.words


def test_a_bad_start_ends_the_process(tmp_path):
    node = NodeProcess(tmp_path / "node.log", model="pano_small_occ3d")
    try:
        assert node.wait() == 2, node.words
        assert "parameter checkpoint" in node.words and "Traceback" not in node.words
    finally:
        node.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_the_node_even_while_it_loads(number, tmp_path):
    node = NodeProcess(tmp_path / "node.log", model="pano_small_occ3d", seeded_weights=True)
    try:
        end_s = time.monotonic() + PATIENCE_S
        while "loading" not in node.words:
            assert node.process.poll() is None and time.monotonic() < end_s, node.words
            time.sleep(0.02)
        node.process.send_signal(number)
        assert node.wait() == 0, node.words
        assert "loading" in node.words and "Traceback" not in node.words, node.words
    finally:
        node.kill()


@pytest.fixture
def slow_model(tmp_path):
    """A network of the size of nano whose step takes seconds: the same layers over a much finer grid."""
    path = tmp_path / "slow.yaml"
    path.write_text("extends: nano\ngrid: {rows: 200, columns: 200, layers: 16}\n")
    return path


def test_a_long_step_holds_up_neither_services_nor_diagnostics_nor_the_end(tmp_path, slow_model):
    with node_and_peer(tmp_path / "node.log", model=slow_model, image_reliability="reliable") as (node, peer):
        client = peer.node.create_client(Trigger, "/panoocc/reset_history")
        assert client.wait_for_service(10)
        peer.advertise(DRIVE.messages(1))
        peer.send(DRIVE.messages(1))
        peer.wait(lambda: peer.values("output")["state"] == "working", "busy worker")
        for k in range(1, 4):
            peer.send(DRIVE.whole_set(k))
            node_answers(peer, client)
        peer.wait(lambda: "drops.busy" in peer.values("output"), "sets that were replaced")
        assert peer.values("output")["state"] == "working" and not peer.raw_grids, "the step was too short to tell"
        assert node.interrupt() == 0, node.words
        peer.spin(0.2)
        assert not peer.raw_grids, "the end waited for the step"


def node_answers(peer, client):
    """The service answers, and diagnostics come."""
    future = client.call_async(Trigger.Request())
    rclpy.spin_until_future_complete(peer.node, future, timeout_sec=PATIENCE_S)
    assert future.done(), "the service did not answer"
    count = peer.health_count
    peer.wait(lambda: peer.health_count > count, "diagnostics")


@pytest.fixture
def node_inside():
    """A node in this process, so that its network can be made to fail, and a peer."""
    peer = Peer()
    given = {"model": "nano", "seeded_weights": True, "image_reliability": "reliable", "diagnostics_period_s": 0.2}
    node = OccupancyNode(parameter_overrides=[Parameter(name, value=value) for name, value in given.items()])
    node.start()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield node, peer
    executor.shutdown()
    thread.join(5)
    assert node.stop()
    node.destroy_node()
    peer.close()


def test_parameters_are_described_and_have_limits(node_inside):
    node, _ = node_inside
    for field in dataclasses.fields(NodeSettings):
        descriptor = node.describe_parameter(field.name)
        assert descriptor.description == field.metadata["description"] and not descriptor.read_only, field.name
        ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
        limits = field.metadata["limits"]
        assert [(one.from_value, one.to_value) for one in ranges] == ([limits] if limits else []), field.name


@pytest.mark.parametrize(
    ("error", "reset"),
    [
        (RuntimeError("a fault on the test bench"), "the step before failed"),
        (KeyError("another one"), "the step before failed"),
    ],
)
def test_a_step_that_fails_is_reported_and_the_next_one_starts_afresh(node_inside, monkeypatch, error, reset):
    node, peer = node_inside
    peer.advertise(DRIVE.messages(1))
    peer.send(DRIVE.messages(1))
    peer.wait_for_grids(1)

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("panoocc_core.stream.advance", fail)
        peer.send(DRIVE.whole_set(1))
        peer.wait_for_health("model", 2, str(error))
        assert peer.values("output")["drops.failed"] == "1"
        peer.wait_for_health("output", 2, str(error))
    peer.send(DRIVE.whole_set(2))  # 1 s after the first set: without the failure that one would be fused
    peer.wait_for_grids(2)
    assert peer.grids[-1].history_frames == 0
    peer.wait_for_health("model", 1, "seeded")
    assert peer.values("model")[f"resets.{reset}"] == "1"
    assert node._session._stream.memory.resets == {reset: 1}


def test_grids_that_cannot_be_sent_are_none(node_inside, monkeypatch):
    node, peer = node_inside
    peer.advertise(DRIVE.messages(1))

    def fail(*_):
        raise ValueError("no such message on the test bench")

    with monkeypatch.context() as patch:
        patch.setattr(node._outputs, "publish", fail)
        peer.send(DRIVE.messages(1))
        peer.wait_for_health("output", 2, "no grid from the last set: no such message")
        assert peer.values("output")["grids_out"] == "0" and peer.values("output")["drops.failed"] == "1"
    peer.send(DRIVE.whole_set(1))
    peer.wait_for_grids(1)
    assert peer.grids[-1].sequence == 1  # its gap tells of the one that was lost
    peer.wait_for_health("output", 0, "1 grids from")


def test_a_callback_that_fails_is_counted_and_the_node_goes_on(node_inside, monkeypatch):
    node, peer = node_inside
    peer.advertise(DRIVE.messages(1))

    def fail(*_):
        raise KeyError("a bug on the test bench")

    with monkeypatch.context() as patch:
        for name in ("on_image", "on_camera_info", "on_transforms", "poll"):
            patch.setattr(node._session._assembler, name, fail)
        peer.send(DRIVE.messages(1))
        peer.wait_for_health("callbacks", 1, "a bug on the test bench")
        topics = {DRIVE.rig.cameras[0].topic, DRIVE.rig.cameras[0].info_topic, "/tf"}
        peer.wait(lambda: topics <= set(node._guard.failures), "failures of every callback")
        assert int(peer.values("callbacks")["callback_errors"]) > 3
    peer.send(DRIVE.messages(1))
    peer.wait_for_grids(1)
    peer.wait_for_health("callbacks", 0, "no callback fails")


def test_raw_images_serve_as_well_and_a_clock_that_stands_is_named(tmp_path):
    cameras = [
        f"  - {{name: {one.name}, topic: {one.topic.removesuffix('/compressed')}, info_topic: {one.info_topic}}}"
        for one in DRIVE.rig.cameras
    ]
    rig = tmp_path / "raw.yaml"
    rig.write_text("\n".join(["reference: CAM_FRONT", "cameras:", *cameras]) + "\n")
    settings = {"rig": rig, "image_reliability": "reliable", "use_sim_time": True}
    with node_and_peer(tmp_path / "node.log", **settings) as (_, peer):
        peer.wait_for_health("clock", 2, "nothing has come on /clock")
        peer.wait_for_health("output", 2, "nothing has come on /clock")
        messages = [DRIVE.static(), *DRIVE.infos(), *DRIVE.poses(0), *DRIVE.raw_images(0)]
        peer.advertise(messages)
        clock = peer.node.create_publisher(Clock, "/clock", qos())
        begin_ns = DRIVE.stamp_ns(0) + 10**9
        times = (Clock(clock=Time(sec=ns // 10**9, nanosec=ns % 10**9)) for ns in itertools.count(begin_ns, 10**8))
        peer.node.create_timer(0.1, lambda: clock.publish(next(times)))
        peer.wait_for_health("clock", 0, "")
        peer.send(messages)
        peer.wait_for_grids(1)  # nothing follows the set: the deadline, in simulated time, decides that it is complete
        assert peer.grids[0].cameras_used == 0b111111
