"""What goes wrong is named in /diagnostics, and the node goes on when it is mended.  The tests build on each other."""

import pytest

from test.ros.needs_ros import require_ros

require_ros()

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402

from panoocc_ros.ros.graph import qos  # noqa: E402
from test.ros.drive import Drive  # noqa: E402
from test.ros.live import node_and_peer  # noqa: E402

pytestmark = pytest.mark.live

OK, WARN, ERROR = (int.from_bytes(getattr(DiagnosticStatus, name), "little") for name in ("OK", "WARN", "ERROR"))
DRIVE = Drive()
BACK = DRIVE.rig.camera("CAM_BACK")


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    log = tmp_path_factory.mktemp("node") / "node.log"
    # States that last until a timeout must be seen before it, on a busy machine, too.
    limits = {"tf_timeout_s": 2.0, "camera_timeout_s": 5.0, "image_reliability": "reliable"}
    with node_and_peer(log, **limits) as (node, peer):
        peer.advertise(DRIVE.messages(1))
        yield node, peer
        assert node.process.poll() is None, f"the node has died: {node.words}"


def test_1_missing_calibration_is_named(live):
    _, peer = live
    peer.send([DRIVE.static(), *DRIVE.whole_set(0)])
    peer.wait_for_health(f"camera {BACK.name}", ERROR, f"no CameraInfo yet on {BACK.info_topic}")
    peer.wait(lambda: "drops.no_camera_info" in peer.values("output"), "count of the lost set")
    assert not peer.raw_grids


def test_2_missing_transforms_are_named(live):
    _, peer = live
    peer.send([*DRIVE.infos(), *DRIVE.images(1)])
    peer.wait_for_health("transforms", ERROR, "base_link")
    assert "odom" in peer.health["transforms"].message
    assert peer.values("output")["drops.tf_timeout"] == "1"
    assert not peer.raw_grids


def test_3_with_everything_there_a_grid_comes(live):
    _, peer = live
    peer.send(DRIVE.whole_set(2))
    peer.wait_for_grids(1)
    peer.wait_for_health("transforms", OK, "odom")


def test_4_a_broken_jpeg_is_refused_by_name_and_the_next_set_taken(live):
    node, peer = live
    peer.send(DRIVE.whole_set(3, broken=[BACK.name]))
    peer.wait_for_health("output", WARN, f"camera {BACK.name}")
    assert BACK.topic in peer.health["output"].message
    assert peer.values("output")["drops.image"] == "1"
    assert f"set refused: camera {BACK.name}" in node.words
    count = len(peer.raw_grids)
    peer.send(DRIVE.whole_set(4))
    peer.wait_for_grids(count + 1)
    peer.wait_for_health("output", OK, "grids from")


def test_5_a_dead_camera_is_an_error_with_the_age_of_its_last_image(live):
    _, peer = live
    count, words = len(peer.raw_grids), f"dead: the last image on {BACK.topic} came"
    for k in range(5, 150):
        peer.send(DRIVE.whole_set(k, without=[BACK.name]))
        peer.spin(0.4)
        if peer.level(f"camera {BACK.name}") == ERROR and words in peer.health[f"camera {BACK.name}"].message:
            break
    assert float(peer.values(f"camera {BACK.name}")["last_image_age_s"]) > 5
    assert len(peer.raw_grids) == count
    assert int(peer.values("sets")[f"incomplete.{BACK.name}"]) >= 2
    assert peer.level("output") == ERROR and BACK.name in peer.health["output"].message


def test_6_the_camera_comes_back(live):
    _, peer = live
    count = len(peer.raw_grids)
    for k in range(150, 153):
        peer.send(DRIVE.whole_set(k))
        peer.spin(0.3)
    peer.wait_for_grids(count + 1)
    peer.wait_for_health(f"camera {BACK.name}", OK, "Hz")


def test_7_a_publisher_that_cannot_be_heard_is_named_with_the_policy(live):
    """The node asks for reliable images here, and this driver offers less."""
    _, peer = live
    peer.node.create_publisher(CompressedImage, BACK.topic, qos(reliable=False))
    peer.wait(lambda: "RELIABILITY" in peer.health[f"camera {BACK.name}"].message, "words about QoS")
    assert BACK.topic in peer.health[f"camera {BACK.name}"].message
    assert peer.level(f"camera {BACK.name}") in (WARN, ERROR)
