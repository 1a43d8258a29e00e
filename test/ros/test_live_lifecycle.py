"""The node's lifecycle, its services and its parameters at run time, over DDS: one node in this process."""

import dataclasses
import re
import threading
import weakref
from pathlib import Path

import pytest
import yaml

from test.ros.needs_ros import require_ros

require_ros()

import rclpy  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from panoocc.msg import VoxelGrid  # noqa: E402
from rcl_interfaces.srv import SetParametersAtomically  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from std_msgs.msg import Float64, String  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402

from panoocc_core import NonFiniteError, model_config  # noqa: E402
from panoocc_ros.bags.bag import BagReader  # noqa: E402
from panoocc_ros.commands.cli import main  # noqa: E402
from panoocc_ros.health.stages import STAGES, stage_topic  # noqa: E402
from panoocc_ros.node.node import OccupancyNode  # noqa: E402
from panoocc_ros.node.settings import NodeSettings  # noqa: E402
from panoocc_ros.ros.graph import qos  # noqa: E402
from panoocc_ros.ros.parameter_fields import SettingsError, changed  # noqa: E402
from panoocc_ros.ros.throttle import RateLimit  # noqa: E402
from test.ros.drive import Drive  # noqa: E402
from test.ros.live import PATIENCE_S, Peer  # noqa: E402
from test.ros.messages import listed  # noqa: E402

pytestmark = pytest.mark.live

DRIVE = Drive()
OK, WARN, ERROR = 0, 1, 2
TEXTS = ("parameters", "status", "rig")  # topics of a saved set
SENTENCE = "taken when the node is configured"


class Remote:
    """A node in this process, as others see it."""

    def __init__(self, peer, **parameters):
        self.peer, self._set = peer, 0
        given = {"model": "nano", "seeded_weights": True, "image_reliability": "reliable", "diagnostics_period_s": 0.2}
        overrides = [Parameter(name, value=value) for name, value in (given | parameters).items()]
        self.node = OccupancyNode(parameter_overrides=overrides)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def call(self, kind, name, request):
        client = self.peer.node.create_client(kind, f"/panoocc/{name}")
        assert client.wait_for_service(PATIENCE_S)
        future = client.call_async(request)
        rclpy.spin_until_future_complete(self.peer.node, future, timeout_sec=PATIENCE_S)
        assert future.done(), f"{name} did not answer"
        self.peer.node.destroy_client(client)
        return future.result()

    def change(self, label="", number=0):
        return self.call(
            ChangeState, "change_state", ChangeState.Request(transition=Transition(id=number, label=label))
        )

    @property
    def state(self):
        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def trigger(self, name):
        return self.call(Trigger, name, Trigger.Request())

    def set(self, **values):
        request = SetParametersAtomically.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        )
        return self.call(SetParametersAtomically, "set_parameters_atomically", request).result

    def put(self, later=1):
        """Send the next set but `later - 1`; every session needs what is sent once."""
        self._set += later
        self.peer.send([DRIVE.static(), *DRIVE.infos(), *DRIVE.whole_set(self._set)])

    def send(self, later=1):
        """One set; returns the grid that it becomes."""
        count = len(self.peer.raw_grids)
        self.put(later)
        self.peer.wait_for_grids(count + 1)
        return self.peer.grids[-1]

    def close(self):
        self._executor.shutdown()
        self._thread.join(5)
        assert self.node.stop()
        self.node.destroy_node()


@pytest.fixture(scope="module")
def remote():
    peer = Peer()
    remote = Remote(peer)
    yield remote
    remote.close()
    peer.close()


@pytest.fixture
def active(remote):
    if remote.state == "unconfigured":
        assert remote.change("configure").success
    if remote.state == "inactive":
        assert remote.change("activate").success
    remote.peer.advertise(DRIVE.messages(1))
    remote.send()
    return remote


def test_every_state_says_what_it_is_and_weights_outlive_a_deactivation(remote):
    peer = remote.peer
    assert remote.state == "unconfigured"
    peer.wait_for_health("output", WARN, "the node is unconfigured: `ros2 lifecycle set /panoocc configure`")
    assert not remote.change("activate").success and not remote.change(number=77).success  # and the node lives
    refused = remote.trigger("reset_history")
    assert not refused.success and "unconfigured" in refused.message

    assert remote.set(model="no_such_network").successful  # it is looked at when the node is configured
    assert not remote.change("configure").success and remote.state == "unconfigured"
    peer.wait_for_health("output", ERROR, "no_such_network")
    assert remote.set(model="nano").successful
    assert remote.change("configure").success and remote.state == "inactive"
    peer.wait(lambda: peer.labels, "labels")
    peer.wait_for_health("output", WARN, "the node is inactive: `ros2 lifecycle set /panoocc activate`")
    assert peer.values("model")["model"] == "nano"
    assert re.fullmatch(r"\d+\.\d", peer.values("model")["warm_up_s"])  # it was warmed up, in seconds
    network = remote.node._loaded.network

    assert remote.change("activate").success and remote.state == "active"
    peer.advertise(DRIVE.messages(1))
    assert remote.send().sequence == 0
    assert remote.send(2).history_frames == 1

    assert remote.change("deactivate").success and remote.state == "inactive"
    assert not any(one.get_subscription_count() for one in peer.publishers.values() if one.topic.startswith("/cam"))
    peer.wait_for_health("output", WARN, "inactive")
    assert remote.change("activate").success and remote.node._loaded.network is network
    peer.advertise(DRIVE.messages(1))
    again = remote.send()
    assert (again.sequence, again.history_frames) == (2, 0)  # numbers go on, the memory does not

    assert remote.change("deactivate").success and remote.change("cleanup").success
    assert remote.state == "unconfigured" and remote.node._loaded is None
    peer.wait_for_health("output", WARN, "unconfigured")
    assert "model" not in peer.health


def test_no_session_outlives_its_end_and_a_failed_activation_leaves_nothing(remote):
    if remote.state == "unconfigured":
        assert remote.change("configure").success
    if remote.state == "active":
        assert remote.change("deactivate").success
    node = remote.node
    before = len(list(node.subscriptions)), len(list(node.publishers))
    nowhere = dataclasses.replace(node.settings, label_points_topic="no topic!")
    node._loaded = dataclasses.replace(node._loaded, settings=nowhere)
    assert not remote.change("activate").success and remote.state == "inactive"
    assert (len(list(node.subscriptions)), len(list(node.publishers))) == before
    node._loaded = dataclasses.replace(node._loaded, settings=node.settings)

    assert remote.change("activate").success
    session, stream = weakref.ref(node._session), weakref.ref(node._session._stream)
    remote.peer.advertise(DRIVE.messages(1))
    remote.send()
    assert remote.change("deactivate").success
    assert session() is None and stream() is None
    assert (len(list(node.subscriptions)), len(list(node.publishers))) == before


def test_what_is_switched_off_is_counted_and_keeps_its_memory(active):
    peer = active.peer
    assert active.call(SetBool, "set_enabled", SetBool.Request(data=False)).success
    peer.wait_for_health("output", WARN, "switched off by ~/set_enabled")
    refused = active.trigger("save")
    assert not refused.success and "call ~/set_enabled with data: true" in refused.message
    active.put()
    peer.wait(lambda: peer.values("output").get("drops.disabled") == "1", "the dropped set")
    assert active.call(SetBool, "set_enabled", SetBool.Request(data=True)).success
    assert active.send().history_frames == 1


def test_dynamic_parameters_are_taken_together_and_the_rest_says_why_not(active):
    assert active.set(obstacles_min_z_m=0.5, obstacles_max_z_m=1.5, encoding="dense").successful
    assert active.send().encoding == VoxelGrid.DENSE
    crossed = active.set(obstacles_min_z_m=3.0, encoding="sparse")
    assert not crossed.successful and "obstacles_min_z_m" in crossed.reason
    assert active.node.get_parameter("encoding").value == "dense"  # none of a call is set where one is refused
    for name, value, words in (
        ("model", "pano_small_occ3d", SENTENCE),
        ("rig", "waymo", SENTENCE),
        ("obstacles_classes", "unicorn", "unicorn"),
        ("missing_camera", "pray", "pray"),
        ("deadline_s", float("nan"), "deadline_s"),
        ("deadline_s", "soon", "type"),
        ("no_such_parameter", 1, ""),
    ):
        result = active.set(**{name: value})
        assert not result.successful and words.lower() in result.reason.lower(), (name, result.reason)
    back = {"obstacles_min_z_m": 0.3, "obstacles_max_z_m": 2.2, "encoding": "sparse"}
    assert active.set(model="nano", **back).successful  # what stays as it is is no change
    assert active.set(deadline_s=0.1, missing_camera="drop", max_focal_change=0.2).successful
    assert active.node._session._assembler.options.missing_camera == "drop"
    assert active.node._loaded.network.config.temporal.max_focal_change == 0.2
    ages_s = active.node._loaded.network.config.temporal.ages_s
    assert active.set(deadline_s=0.25, missing_camera="reuse_last", max_focal_change=0.0).successful
    own = model_config("nano").temporal
    assert active.node._loaded.network.config.temporal.max_focal_change == own.max_focal_change and ages_s == own.ages_s


def failing(monkeypatch, errors):
    """Have the next steps fail with these errors, one each."""
    from panoocc_core import stream

    advance, left = stream.advance, list(errors)

    def advance_or_fail(*arguments):
        if left:
            raise left.pop(0)
        return advance(*arguments)

    monkeypatch.setattr("panoocc_core.stream.advance", advance_or_fail)
    return left


TRANSIENT = [
    (NonFiniteError("the class logits are not finite"), "non_finite"),
    (MemoryError("no room on the test bench"), "out_of_memory"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "out_of_memory"),
]


@pytest.mark.parametrize(("error", "reset"), TRANSIENT)
def test_what_the_history_may_have_caused_is_tried_once_more_without(active, monkeypatch, error, reset):
    failing(monkeypatch, [error])
    grid = active.send(2)
    assert grid.history_frames == 0
    active.peer.wait(lambda: f"resets.{reset}" in active.peer.values("model"), "the reset")
    assert active.state == "active"


def test_what_fails_twice_deactivates_the_node_which_can_be_activated_again(active, monkeypatch):
    left = failing(monkeypatch, [MemoryError("no room on the test bench")] * 2)
    active.put()
    active.peer.wait_for_health("output", ERROR, "inactive, since MemoryError: no room on the test bench")
    assert active.state == "inactive" and not left
    assert active.change("activate").success
    active.peer.advertise(DRIVE.messages(1))
    assert active.send().history_frames == 0
    active.peer.wait_for_health("output", OK, "grids from")


def test_a_person_reads_the_status_and_plots_the_stages(active):
    peer, texts, times_ms = active.peer, [], []
    peer.node.create_subscription(String, "/panoocc/status", lambda one: texts.append(one.data), qos(latched=True))
    topics = {name for name, _ in peer.node.get_topic_names_and_types() if name.startswith("/panoocc/debug/")}
    assert topics == {f"/panoocc/{stage_topic(stage)}" for stage in STAGES}
    backbone = peer.node.create_subscription(
        Float64, "/panoocc/debug/backbone_ms", lambda one: times_ms.append(one.data), qos()
    )
    peer.wait(lambda: peer.node.count_subscribers("/panoocc/debug/backbone_ms"), "a subscription")
    peer.wait(lambda: texts, "the latched text")
    for _ in range(2):
        active.send()
    peer.wait(lambda: times_ms, "the time of the backbone")
    assert 0 < times_ms[0] < 1e5
    peer.wait(lambda: "grids from" in texts[-1] and "nano on cpu" in texts[-1], "the status of a node that works")
    assert len(texts[-1].splitlines()) <= 12 and "CAM_BACK" in texts[-1]
    assert float(peer.values("model")["memory_mb.host"]) > 50
    peer.node.destroy_subscription(backbone)


def test_the_next_set_is_saved_and_becomes_the_same_grid_offline(active, tmp_path):
    peer = active.peer
    assert active.set(save_dir=str(tmp_path / "saved")).successful
    active.trigger("reset_history")
    answer = active.trigger("save")
    path = Path(answer.message.split()[6].rstrip(";"))
    assert answer.success and path.parent == tmp_path / "saved" and not path.exists()
    grid = active.send()
    peer.wait(path.exists, "the bag")
    again = tmp_path / "again.mcap"
    assert main(["run", str(path), "--model", "nano", "--seeded-weights", "--no-progress", "--out", str(again)]) == 0
    with BagReader(path) as bag, BagReader(again) as other:
        saved, same = (one.deserialise(next(iter(one.messages(["/panoocc/occupancy"])))) for one in (bag, other))
        said = {topic: bag.deserialise(next(iter(bag.messages([f"/panoocc/{topic}"])))) for topic in TEXTS}
    assert list(saved.class_id) == list(grid.class_id) and saved.sequence == grid.sequence
    saved, same = (dict(zip(listed(one), one.class_id)) for one in (saved, same))
    assert len(saved.items() ^ same.items()) < 1e-3 * len(saved)  # another number of threads, another last bit
    parameters = yaml.safe_load(said["parameters"].data)["panoocc"]["ros__parameters"]
    assert parameters["model"] == "nano" and "grids from" in said["status"].data
    assert yaml.safe_load(said["rig"].data)["reference"] == DRIVE.rig.reference


def test_a_set_that_fails_is_saved_too_and_what_cannot_be_saved_is_refused(active, monkeypatch, tmp_path):
    assert active.set(save_dir=str(tmp_path)).successful
    path = Path(active.trigger("save").message.split()[6].rstrip(";"))
    refused = active.trigger("save")
    assert not refused.success and f"{path} was asked for before" in refused.message
    failing(monkeypatch, [IndexError("row 7")])
    active.put()
    active.peer.wait(path.exists, "the bag")
    with BagReader(path) as bag:
        assert "IndexError: row 7" in bag.deserialise(next(iter(bag.messages(["/panoocc/problem"])))).data
        assert "/panoocc/occupancy" not in bag.topics and bag.count([DRIVE.rig.cameras[0].topic]) == 1
    (tmp_path / "file").write_text("")
    assert active.set(save_dir=str(tmp_path / "file")).successful
    refused = active.trigger("save")
    assert not refused.success and f"{tmp_path / 'file'}: cannot be written" in refused.message


def test_what_hangs_is_named_with_its_stage_and_its_stack_and_a_thread_that_hears_nothing_too(active, monkeypatch):
    peer, release, is_there, lines = active.peer, threading.Event(), threading.Event(), []
    fuse = active.node._loaded.network.fuse

    def fuse_that_hangs(*arguments):
        is_there.set()
        release.wait(PATIENCE_S)
        return fuse(*arguments)

    monkeypatch.setattr(active.node._loaded.network, "fuse", fuse_that_hangs)
    monkeypatch.setattr(active.node._watchdog, "_tell", lines.append)
    monkeypatch.setattr(active.node._watchdog, "_limits", [RateLimit(0), RateLimit(0)])
    active.put()
    assert is_there.wait(PATIENCE_S)
    monkeypatch.setattr("panoocc_ros.health.verdicts.timing.STEP_LATE_S", 0.1)
    monkeypatch.setattr("panoocc_ros.health.verdicts.timing.STEP_LATE_TIMES", 0.0)
    peer.wait_for_health("output", WARN, "of it in stage temporal")
    assert peer.values("output")["stage"] == "temporal"
    peer.wait(lambda: any("fuse_that_hangs" in line and "stage temporal" in line for line in lines), "its stack")
    release.set()
    monkeypatch.undo()
    active.send()

    def reset_that_hangs(reason):
        is_there.set()
        release.wait(PATIENCE_S)

    for event in (release, is_there):
        event.clear()
    monkeypatch.setattr(active.node._watchdog, "_tell", lines.append)
    monkeypatch.setattr(active.node._watchdog, "_limits", [RateLimit(0), RateLimit(0)])
    monkeypatch.setattr(active.node._session, "request_reset", reset_that_hangs)
    client = peer.node.create_client(Trigger, "/panoocc/reset_history")
    assert client.wait_for_service(PATIENCE_S)
    client.call_async(Trigger.Request())
    assert is_there.wait(PATIENCE_S)
    monkeypatch.setattr("panoocc_ros.health.watchdog.CALLBACK_LATE_S", 0.1)
    peer.wait_for_health("output", ERROR, "in one callback, reset_history")
    peer.wait(lambda: any("reset_that_hangs" in line for line in lines), "its stack")
    release.set()
    monkeypatch.undo()
    active.send()
    peer.wait_for_health("output", OK, "grids from")


def test_a_remedy_names_what_cannot_change_and_only_that():
    settings = NodeSettings()
    with pytest.raises(SettingsError, match="parameters model and rig: later"):
        changed(settings, {"model": "nano", "rig": "waymo", "deadline_s": 0.1}, "later")
    assert changed(settings, {"model": "nano", "use_sim_time": True}).model == "nano"
    assert {field.name for field in dataclasses.fields(settings) if field.metadata["dynamic"]} >= {
        "points_max_rate_hz",
        "obstacles_max_z_m",
        "obstacles_classes",
        "latency_warn_ms",
        "tf_timeout_s",
        "max_mount_turn_deg",
    }
