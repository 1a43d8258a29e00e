"""A LiDAR's clouds through a node: labelled as `panoocc label` labels them, and what is told where they cannot be."""

import numpy as np
import pytest
import torch

from test.ros.needs_ros import require_ros

require_ros()

from rclpy.serialization import deserialize_message  # noqa: E402
from sensor_msgs.msg import PointCloud2  # noqa: E402

from panoocc_core.geometry import rigid  # noqa: E402
from panoocc_ros.bags import play  # noqa: E402
from panoocc_ros.bags.bag import BagReader, RawMessage  # noqa: E402
from panoocc_ros.bags.writer import BagWriter  # noqa: E402
from panoocc_ros.commands.cli import main  # noqa: E402
from panoocc_ros.messages.types import typestore  # noqa: E402
from panoocc_ros.ros.graph import qos  # noqa: E402
from test.ros.clouds import cloud, points  # noqa: E402
from test.ros.drive import TF_TYPE, Drive  # noqa: E402
from test.ros.live import node_and_peer  # noqa: E402
from test.ros.messages import MS, tf  # noqa: E402

pytestmark = pytest.mark.live

DRIVE, SETS = Drive(), 3
TOPIC, OUT, CLOUD = "/lidar/points", "/panoocc/labelled_points", "sensor_msgs/msg/PointCloud2"
LIDAR = rigid(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([0.9, 0.0, 1.84]))


def raw(topic, kind, stamp_ns, message):
    return RawMessage(topic, kind, stamp_ns, bytes(typestore().serialize_cdr(message, kind)))


def lidar(stamp_ns, seed):
    random = np.random.default_rng(seed)
    values = {axis: random.uniform(-28, 28, 400) for axis in "xyz"} | {"ring": random.integers(0, 32, 400)}
    values["z"] /= 10
    message = cloud(values, {"x": "f4", "ring": "u2", "y": "f4", "z": "f8"}, height=4, stamp_ns=stamp_ns)
    return raw(TOPIC, CLOUD, stamp_ns + 5 * MS, message)


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """Three sets; clouds shortly before and long after each set but the last."""
    path = tmp_path_factory.mktemp("bag") / "drive.mcap"
    messages = DRIVE.messages(SETS) + [
        raw("/tf_static", TF_TYPE, DRIVE.stamp_ns(0), tf(("base_link", "lidar", 0, LIDAR)))
    ]
    stamps = [DRIVE.stamp_ns(k) + offset for k in range(SETS) for offset in (-40 * MS, 300 * MS)][:-1]
    messages += [lidar(stamp, seed) for seed, stamp in enumerate(stamps)]
    with BagWriter(path) as writer:
        for message in sorted(messages, key=lambda message: message.stamp_ns):
            writer.write(message.topic, message.type, message.stamp_ns, message.data)
    return path


def test_node_and_command_label_the_clouds_alike_and_the_node_says_how_it_goes(tmp_path, bag):
    out, before = tmp_path / "labelled.mcap", torch.get_num_threads()
    network = ["--model", "nano", "--seeded-weights", "--threads", "1", "--device", "cpu", "--no-progress"]
    assert main(["label", str(bag), "--points", TOPIC, *network, "--out", str(out)]) == 0
    torch.set_num_threads(before)
    with BagReader(out) as reader:
        offline = [reader.deserialise(message) for message in reader.messages([OUT])]
    assert len(offline) == 5
    parameters = {"image_reliability": "reliable", "threads": 1, "label_points_topic": TOPIC, "label_wait_s": 30.0}
    with node_and_peer(tmp_path / "node.log", **parameters) as (node, peer):
        peer.advertise([lidar(DRIVE.stamp_ns(0), 0)])
        peer.send([lidar(DRIVE.stamp_ns(0), 0)] * 3)
        peer.spin(1.0)
        assert peer.values("labels")["clouds"] == "0" and peer.level("labels") == 0, node.words  # nobody listens
        live = []
        peer.node.create_subscription(PointCloud2, OUT, live.append, qos(), raw=True)
        peer.wait_for_health("labels", 1, f"nothing comes on {TOPIC}")
        play_steps(peer, bag)
        peer.wait(lambda: len(live) == 5, "labelled clouds")
        for ours, theirs in zip((deserialize_message(data, PointCloud2) for data in live), offline, strict=True):
            assert ours.header.stamp.nanosec == theirs.header.stamp.nanosec and ours.header.frame_id == "lidar"
            np.testing.assert_array_equal(points(ours), points(theirs))
            assert {255} < set(np.unique(points(ours)["label"]).tolist())
        peer.wait(lambda: peer.values("labels")["labelled"] == "5", "the count of labelled clouds")
        broken = lidar(DRIVE.stamp_ns(SETS - 1), 0)
        message = typestore().deserialize_cdr(broken.data, CLOUD)
        message.fields[0].name = "range"
        peer.send([raw(TOPIC, CLOUD, 0, message), lidar(DRIVE.stamp_ns(SETS) + 3000 * MS, 1)])
        peer.wait_for_health("labels", 1, "1 clouds cannot be used: the cloud has no field x")


def play_steps(peer, bag):
    topics = [topic for camera in DRIVE.rig.cameras for topic in (camera.topic, camera.info_topic)]
    arguments = ["--wait-for-node", "panoocc", "--step", "--step-timeout", "30", "--quiet", "--wait-for-listeners", "1"]
    arguments = play.parser().parse_args([str(bag), *arguments, "--wait-for-subscribers", *topics, TOPIC])
    report = play.play(arguments, peer.node)
    assert (report.steps, report.unanswered) == (SETS, 0)
