"""What goes wrong is named in /diagnostics, and the node goes on when it is mended.  The tests build on each other.

The rig's topics do not tell their type; the CameraInfo of the front camera was sent, latched, before the node
was there; /tf_static comes from a volatile publisher, as bridges send it.
"""

import dataclasses
import itertools
import time

import pytest
import yaml

from test.ros.needs_ros import require_ros

require_ros()

import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from panoocc_ros.frames.rig import load_rig  # noqa: E402
from panoocc_ros.ros.graph import qos  # noqa: E402
from test.ros.drive import Drive  # noqa: E402
from test.ros.live import PATIENCE_S, node_and_peer  # noqa: E402

pytestmark = pytest.mark.live

OK, WARN, ERROR = (int.from_bytes(getattr(DiagnosticStatus, name), "little") for name in ("OK", "WARN", "ERROR"))
RIG = load_rig("nuscenes")


class QuietDrive(Drive):
    """Images on topics whose names say nothing of their type."""

    rig = dataclasses.replace(
        RIG, cameras=tuple(dataclasses.replace(one, topic=f"/{one.name.lower()}/picture") for one in RIG.cameras)
    )

    def write_rig(self, path):
        cameras = [{"name": one.name, "topic": one.topic, "info_topic": one.info_topic} for one in self.rig.cameras]
        keys = {"reference": self.rig.reference, "spread_ms": self.rig.spread_ms, "period_ms": self.rig.period_ms}
        path.write_text(yaml.safe_dump(keys | {"cameras": cameras}))
        return path


DRIVE = QuietDrive()
NUMBERS = itertools.count()  # of the sets that are sent
FRONT, BACK = (DRIVE.rig.camera(name) for name in ("CAM_FRONT", "CAM_BACK"))
BACK_STATUS = f"camera {BACK.name}"


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    # States that last until a timeout must be seen before it, on a busy machine, too.
    limits = {"tf_timeout_s": 2.0, "camera_timeout_s": 5.0, "image_reliability": "reliable"}

    def send_latched_info(peer):
        front = [message for message in DRIVE.infos() if message.topic == FRONT.info_topic]
        peer.publish(front, latched=(FRONT.info_topic,))
        peer.publish([DRIVE.static()], latched=())
        peer.send(front)

    rig = DRIVE.write_rig(folder / "rig.yaml")
    with node_and_peer(folder / "node.log", send_latched_info, rig=rig, **limits) as (node, peer):
        peer.advertise(DRIVE.messages(1))
        yield node, peer
        assert node.process.poll() is None, f"the node has died: {node.words}"


def send_until(peer, condition, what, messages=DRIVE.whole_set):
    """The messages of one set after another until `condition()`."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        peer.send(messages(next(NUMBERS)))
        peer.spin(0.4)
        if condition():
            return
    raise AssertionError(f"no {what}; the node says { {name: one.message for name, one in peer.health.items()} }")


def without_back(k):
    return DRIVE.whole_set(k, without=[BACK.name])


def says(peer, subject, level, text):
    return peer.level(subject) == level and text in peer.health[subject].message


def test_1_missing_calibration_is_named_and_a_latched_one_was_heard(live):
    _, peer = live
    peer.send([DRIVE.static(), *DRIVE.whole_set(next(NUMBERS))])
    peer.wait_for_health(BACK_STATUS, ERROR, f"no CameraInfo yet on {BACK.info_topic}")
    peer.wait(lambda: "drops.no_camera_info" in peer.values("output"), "count of the lost set")
    assert "CameraInfo" not in peer.health[f"camera {FRONT.name}"].message
    peer.wait_for_health("output", ERROR, "no CameraInfo yet")
    assert not peer.raw_grids


def test_2_missing_transforms_are_named_and_so_is_a_volatile_tf_static(live):
    node, peer = live
    peer.send([*DRIVE.infos(), *DRIVE.images(next(NUMBERS))])
    peer.wait_for_health("transforms", ERROR, "base_link")
    assert "odom" in peer.health["transforms"].message and "VOLATILE" in peer.health["transforms"].message
    peer.wait_for_health("output", ERROR, "no grid yet: transforms")
    assert peer.values("output")["drops.tf_timeout"] == "1"
    assert not peer.raw_grids
    peer.wait(lambda: "no grid yet" in node.words and "base_link" in node.words, "words in the log")


def test_3_with_everything_there_grids_come(live):
    node, peer = live
    peer.send(DRIVE.whole_set(next(NUMBERS)))
    peer.wait_for_grids(1)
    peer.wait(lambda: "base_link" not in peer.health["transforms"].message, "end of the complaint")
    send_until(peer, lambda: says(peer, "output", OK, "grids from"), "output that is OK")
    assert "grids come" in node.words


def test_4_a_broken_jpeg_is_refused_by_name_and_the_next_set_taken(live):
    node, peer = live
    peer.send(DRIVE.whole_set(next(NUMBERS), broken=[BACK.name]))
    peer.wait_for_health(BACK_STATUS, WARN, "image (1)")
    assert peer.level("sets") == WARN and BACK.topic in peer.health["sets"].message
    assert peer.values("output")["drops.image"] == "1"
    assert f"set refused: camera {BACK.name}" in node.words
    send_until(peer, lambda: says(peer, "output", OK, "grids from"), "output that is OK")
    send_until(peer, lambda: says(peer, BACK_STATUS, OK, "Hz"), "end of the warning")


def test_4b_a_camera_that_sends_only_broken_jpegs_is_an_error_and_so_is_the_output(live):
    _, peer = live

    def broken(k):
        return DRIVE.whole_set(k, broken=[BACK.name])

    send_until(peer, lambda: says(peer, BACK_STATUS, ERROR, "none that can be used"), "error", broken)
    send_until(peer, lambda: says(peer, "output", ERROR, BACK.topic), "output in error", broken)
    send_until(peer, lambda: says(peer, "output", OK, "grids from"), "output that is OK")
    send_until(peer, lambda: says(peer, BACK_STATUS, OK, "Hz"), "end of the error")


def test_5_a_dead_camera_is_an_error_and_grids_go_on_without_it(live):
    node, peer = live
    words = f"dead: the last image on {BACK.topic} came"
    send_until(peer, lambda: says(peer, BACK_STATUS, ERROR, words), "dead camera", without_back)
    count = len(peer.raw_grids)
    send_until(peer, lambda: len(peer.raw_grids) >= count + 2, "grids without it", without_back)
    assert peer.grids[-1].cameras_used == 0b111111 & ~(1 << DRIVE.rig.names.index(BACK.name))
    assert peer.level("output") == OK
    assert peer.level("sets") == WARN and BACK.name in peer.health["sets"].message
    send_until(peer, lambda: f"{BACK_STATUS}: {words}" in node.words, "word of it in the log", without_back)


def test_6_the_camera_comes_back(live):
    node, peer = live
    send_until(peer, lambda: says(peer, BACK_STATUS, OK, "Hz"), "camera that is well")
    count = len(peer.raw_grids)
    send_until(peer, lambda: len(peer.raw_grids) > count, "grid with it")
    peer.wait(lambda: peer.grids[-1].cameras_used == 0b111111, "grid of all cameras")
    assert f"{BACK_STATUS}: well again" in node.words


def test_7_tf_that_dies_in_mid_drive_ends_the_ok_and_comes_back(live):
    _, peer = live

    def complains():
        return says(peer, "output", ERROR, "no new grid") and "transforms" in peer.health["output"].message

    send_until(peer, complains, "complaint about transforms", DRIVE.images)
    send_until(peer, lambda: says(peer, "output", OK, "grids from"), "output that is OK")


def test_8_publishers_that_are_not_heard_or_too_many_are_named_until_they_leave(live):
    _, peer = live

    def is_named_while_there(publisher, node, text):
        peer.wait(lambda: text in peer.health[BACK_STATUS].message, text)
        assert BACK.topic in peer.health[BACK_STATUS].message and peer.level(BACK_STATUS) in (WARN, ERROR)
        node.destroy_publisher(publisher)
        peer.wait(lambda: text not in peer.health[BACK_STATUS].message, f"end of {text!r}")

    unreliable = peer.node.create_publisher(CompressedImage, BACK.topic, qos(reliable=False))
    is_named_while_there(unreliable, peer.node, "RELIABILITY")
    second = peer.node.create_publisher(CompressedImage, BACK.topic, qos())
    is_named_while_there(second, peer.node, "2 publishers")
    context = rclpy.Context()
    rclpy.init(context=context)
    other = rclpy.create_node("other", context=context)
    raw = other.create_publisher(Image, BACK.topic, qos())
    peer.wait(lambda: "sensor_msgs/msg/Image, not" in peer.health[BACK_STATUS].message, "word of the other type")
    assert "publishers" not in peer.health[BACK_STATUS].message
    is_named_while_there(raw, other, "sends sensor_msgs/msg/Image, not sensor_msgs/msg/CompressedImage")
    other.destroy_node()
    rclpy.shutdown(context=context)
