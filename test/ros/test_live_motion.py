"""A node without /tf: the vehicle's poses from odometry, its rates from odometry and IMU, over DDS."""

import numpy as np
import pytest

from test.ros.needs_ros import require_ros

require_ros()

from panoocc_ros.bags.bag import RawMessage  # noqa: E402
from panoocc_ros.health.verdicts import OK, WARN  # noqa: E402
from panoocc_ros.messages.types import IMU, ODOMETRY, typestore  # noqa: E402
from test.ros.drive import Drive  # noqa: E402
from test.ros.live import node_and_peer  # noqa: E402
from test.ros.messages import MS, imu, odometry  # noqa: E402

pytestmark = pytest.mark.live

DRIVE = Drive()


def raw(topic, kind, stamp_ns, message):
    return RawMessage(topic, kind, stamp_ns, bytes(typestore().serialize_cdr(message, kind)))


def whole_set(k, frame="base_link"):
    """The images of set k, odometry and IMU around them; nothing on /tf."""
    found = DRIVE.images(k)
    for stamp_ns in range(DRIVE.stamp_ns(k) - 100 * MS, DRIVE.stamp_ns(k) + 101 * MS, 20 * MS):
        pose = DRIVE.pose(stamp_ns)
        message = odometry(stamp_ns, pose, pose[:3, :3].T @ (4.0, 0.2, 0.0), (0, 0, 0.1))
        found.append(raw("/odom", ODOMETRY, stamp_ns, message))
        found.append(raw("/imu", IMU, stamp_ns, imu(stamp_ns, frame=frame)))
    return sorted(found, key=lambda message: message.stamp_ns)


def test_a_node_lives_by_odometry_and_imu_and_says_so(tmp_path):
    parameters = {"pose_source": "odometry", "odometry_topic": "/odom", "imu_topic": "/imu"}
    parameters |= {"image_reliability": "reliable", "tf_timeout_s": 5.0}
    with node_and_peer(tmp_path / "node.log", **parameters) as (_, peer):
        first = [DRIVE.static(), *DRIVE.infos(), *whole_set(0)]
        peer.advertise(first)
        peer.send(first)
        peer.wait_for_grids(1)
        peer.wait_for_health("transforms", OK, "history is fused through odom")
        assert peer.values("transforms")["pose_source"] == "odometry (/odom)"
        peer.wait(lambda: peer.values("model")["ego_motion"] == "sensors", "rates by sensors in the status `model`")
        broken = odometry(DRIVE.stamp_ns(1), np.full((4, 4), np.nan))
        peer.send([raw("/odom", ODOMETRY, DRIVE.stamp_ns(1), broken)])
        peer.wait_for_health("transforms", WARN, "a message on /odom was refused: its pose has a quaternion of NaN")
        assert peer.values("transforms")["/odom.refused"] == "1"
        peer.send(whole_set(1, frame="moon"))
        peer.wait_for_health("transforms", WARN, "the frame moon of /imu is not known to ride on the vehicle")
        peer.wait_for_grids(2)
