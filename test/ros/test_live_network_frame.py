"""A node whose network's frame comes from /tf_static: it waits for it by name, and its grids lie there."""

import numpy as np
import pytest

from test.ros.needs_ros import require_ros

require_ros()

from panoocc_core.geometry import rigid  # noqa: E402
from panoocc_ros.bags.bag import RawMessage  # noqa: E402
from panoocc_ros.health.verdicts import ERROR, WARN  # noqa: E402
from panoocc_ros.messages.types import typestore  # noqa: E402
from test.ros.drive import T0, TF_TYPE, Drive, turn  # noqa: E402
from test.ros.live import node_and_peer  # noqa: E402
from test.ros.messages import pose_of, tf  # noqa: E402

pytestmark = pytest.mark.live

DRIVE = Drive()
LIDAR = rigid(turn(np.radians(30)), np.array([0.9, -0.2, 0.4]))


def lidar_mount():
    message = typestore().serialize_cdr(tf(("base_link", "lidar_top", 0, LIDAR)), TF_TYPE)
    return RawMessage("/tf_static", TF_TYPE, T0, bytes(message))


def test_the_node_waits_for_the_network_frame_by_name_and_its_grids_lie_there(tmp_path):
    parameters = {"network_frame": "lidar_top", "image_reliability": "reliable", "tf_timeout_s": 1.0}
    with node_and_peer(tmp_path / "node.log", **parameters) as (node, peer):
        peer.advertise(DRIVE.messages(1))
        peer.send([DRIVE.static(), *DRIVE.infos(), *DRIVE.whole_set(0)])
        peer.wait_for_health(
            "transforms", ERROR, "no transform has named the frame 'lidar_top'; known frames: base_link, "
        )
        assert "cam_back" in peer.health["transforms"].message and peer.values("output")["drops.tf_timeout"] == "1"
        peer.wait_for_health("output", ERROR, "no grid yet: transforms")
        assert not peer.raw_grids and "the frame of the voxels is lidar_top" in node.words
        peer.send([lidar_mount(), *DRIVE.whole_set(1)])
        peer.wait_for_grids(1)
        corner = LIDAR @ rigid(np.eye(3), np.array([-25.6, -25.6, -1.0]))
        np.testing.assert_allclose(pose_of(peer.grids[0].origin), corner, atol=1e-6)
        text = "the network's frame, lidar_top, lies 1.00 m and 30.0 degrees from where nano was trained to have it"
        peer.wait_for_health("transforms", WARN, text)
        assert peer.values("transforms")["network_frame"] == "lidar_top"
