"""A bag over DDS: what comes live equals what comes offline, and topics carry what they promise."""

import numpy as np
import pytest
import torch

from test.ros.needs_ros import require_ros

require_ros()

import rclpy  # noqa: E402
from panoocc.msg import VoxelGrid  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from sensor_msgs.msg import PointCloud2  # noqa: E402
from vision_msgs.msg import Detection3DArray  # noqa: E402
from visualization_msgs.msg import MarkerArray  # noqa: E402

from panoocc_core import OccupancyStream, load_model  # noqa: E402
from panoocc_ros.bags import play  # noqa: E402
from panoocc_ros.bags.bag import BagReader  # noqa: E402
from panoocc_ros.bags.writer import BagWriter  # noqa: E402
from panoocc_ros.frames.assembler import FrameAssembler  # noqa: E402
from panoocc_ros.messages.fields import stamp_ns  # noqa: E402
from panoocc_ros.messages.types import typestore  # noqa: E402
from panoocc_ros.node.choices import chosen_config  # noqa: E402
from panoocc_ros.replay.replay import Replay, ReplayOptions  # noqa: E402
from panoocc_ros.ros.graph import message_class, qos  # noqa: E402
from test.ros.drive import Drive  # noqa: E402
from test.ros.live import node_and_peer  # noqa: E402
from test.ros.messages import listed  # noqa: E402

pytestmark = pytest.mark.live

SETS = 6
THREADS = 1  # bits are equal for equal threads: work is summed in the same order
DRIVE = Drive()
THINGS = {
    "/panoocc/objects": "vision_msgs/msg/Detection3DArray",
    "/panoocc/object_markers": "visualization_msgs/msg/MarkerArray",
}


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return DRIVE.write_bag(tmp_path_factory.mktemp("bag") / "drive.mcap", SETS)


@pytest.fixture(scope="module")
def live(tmp_path_factory, bag):
    """Node and peer after the bag was played in steps, so that the node dropped nothing."""
    log = tmp_path_factory.mktemp("node") / "node.log"
    with node_and_peer(log, image_reliability="reliable", threads=THREADS, instances="components") as (node, peer):
        things = {topic: [] for topic in THINGS}
        for topic, kind in THINGS.items():
            peer.node.create_subscription(message_class(kind), topic, things[topic].append, qos(), raw=True)
            peer.wait(lambda topic=topic: peer.node.count_publishers(topic), f"the topic {topic}")
        report = play_steps(peer, bag)
        assert (report.steps, report.unanswered) == (SETS, 0), node.words
        peer.wait(lambda: min(map(len, things.values())) >= SETS, "things of every grid")
        yield node, peer, list(peer.raw_grids), {topic: list(data) for topic, data in things.items()}


def play_steps(peer, bag, *options):
    topics = [topic for camera in DRIVE.rig.cameras for topic in (camera.topic, camera.info_topic)]
    arguments = ["--wait-for-node", "panoocc", "--step", "--step-timeout", "30", "--quiet"]
    arguments += ["--wait-for-listeners", "1", *options]  # the peer
    return play.play(play.parser().parse_args([str(bag), *arguments, "--wait-for-subscribers", *topics]), peer.node)


@pytest.fixture(scope="module")
def offline(tmp_path_factory, bag):
    """Raw grids of the same bag without ROS."""
    path = tmp_path_factory.mktemp("offline") / "grids.mcap"
    network = load_model(chosen_config("nano", instances="components"), seeded_weights=True)
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    with BagReader(bag) as reader, BagWriter(path) as writer:
        assembler = FrameAssembler(DRIVE.rig.select(network.config.cameras))
        Replay(reader, OccupancyStream(network), DRIVE.rig, assembler).run(writer, ReplayOptions())
    torch.set_num_threads(before)
    with BagReader(path) as reader:
        return {
            topic: [message.data for message in reader.messages((topic,))]
            for topic in ("/panoocc/occupancy", "/panoocc/objects", "/panoocc/object_markers")
        }


def test_every_set_gives_a_grid_with_its_stamps_and_number(live):
    grids = [deserialize_message(data, VoxelGrid) for data in live[2]]
    assert [stamp_ns(grid.header.stamp) for grid in grids] == [DRIVE.stamp_ns(k) for k in range(SETS)]
    assert [grid.sequence for grid in grids] == list(range(SETS))
    assert [grid.history_frames for grid in grids] == [0, 1, 2, 2, 2, 2]  # states are 0.5 s and 1 s old
    offsets = [camera.shutter_offset_ns for camera in DRIVE.rig.cameras]
    for k, grid in enumerate(grids):
        assert stamp_ns(grid.oldest_image_stamp) == DRIVE.stamp_ns(k) + min(offsets)
        assert stamp_ns(grid.newest_image_stamp) == DRIVE.stamp_ns(k) + max(offsets)
        assert grid.header.frame_id == "base_link" and grid.cameras_used == 0b111111
        assert (np.diff(np.asarray(listed(grid), dtype=np.int64)) > 0).all()
        assert len(listed(grid)) == len(grid.class_id) == len(grid.confidence) > 0


def test_live_and_offline_grids_are_equal_bit_for_bit(live, offline):
    assert len(offline["/panoocc/occupancy"]) == SETS
    for number, (ours, theirs) in enumerate(zip(live[2], offline["/panoocc/occupancy"], strict=True)):
        a, b = (deserialize_message(data, VoxelGrid) for data in (ours, theirs))
        for field in VoxelGrid.get_fields_and_field_types():
            assert getattr(a, field) == getattr(b, field), f"grid {number} differs in {field}"
        # The node's class was built by colcon, the offline bytes were written by rosbags.
        assert without_garbage(ours, "panoocc/msg/VoxelGrid") == theirs, f"grid {number}"


def test_live_and_offline_things_are_equal_bit_for_bit(live, offline):
    node, _, _, things = live
    for topic, kind in THINGS.items():
        assert len(things[topic]) == SETS
        for ours, theirs in zip(things[topic], offline[topic], strict=True):
            assert without_garbage(ours, kind) == theirs, topic
    arrays = [deserialize_message(data, Detection3DArray) for data in things["/panoocc/objects"]]
    numbers = [{found.id for found in array.detections} for array in arrays]
    assert all(numbers) and numbers[0] & numbers[-1]  # some thing was followed through the drive
    for data, own in zip(live[2], numbers, strict=True):
        assert {str(one) for one in set(deserialize_message(data, VoxelGrid).instance_id) - {0}} == own
    assert "what tells things apart: components" in node.words


def test_the_time_for_things_is_told(live):
    _, peer, *_ = live
    peer.wait(lambda: int(peer.values("timing").get("instances.count", 0)) >= SETS, "the stage `instances`")
    assert peer.values("model")["instances"] == "components"


def without_garbage(data, kind):
    """The same message with zeros between fields, where Fast CDR leaves whatever was in memory."""
    clean = bytes(typestore().serialize_cdr(typestore().deserialize_cdr(data, kind), kind))
    assert len(clean) == len(data)
    return clean


def test_playing_does_not_begin_before_the_listeners_are_there(live, bag):
    _, peer, first, _ = live
    with pytest.raises(play.PlayError, match="of 99 listeners after 1 s") as refused:
        play_steps(peer, bag, "--wait-for-listeners", "99", "--wait-timeout", "1")
    assert refused.value.code == 3 and len(peer.raw_grids) == len(first)


def test_labels_are_there_for_whoever_comes_late(live):
    _, peer, *_ = live
    peer.wait(lambda: peer.labels, "labels")
    labels = peer.labels[0]
    assert labels.key == peer.grids[0].label_set and labels.names[labels.free_id] == "free"
    assert len(labels.rgb) == 3 * len(labels.names) == 3 * len(labels.is_thing)


def test_a_looped_bag_resets_the_memory_once_and_goes_on(live, bag):
    node, peer, first, _ = live
    points, markers = [], []
    subscriptions = [
        peer.node.create_subscription(PointCloud2, "/panoocc/points", points.append, qos()),
        peer.node.create_subscription(MarkerArray, "/panoocc/markers", markers.append, qos(), raw=True),
    ]
    before = len(peer.raw_grids)
    report = play_steps(peer, bag)
    for subscription in subscriptions:
        peer.node.destroy_subscription(subscription)
    assert report.unanswered == 0
    grids = [deserialize_message(data, VoxelGrid) for data in peer.raw_grids[before:]]
    assert [grid.sequence for grid in grids] == list(range(before, before + SETS))
    again = [deserialize_message(data, VoxelGrid) for data in first]
    assert [grid.history_frames for grid in grids] == [grid.history_frames for grid in again]
    for ours, theirs in zip(grids, again):
        assert (ours.occupied, ours.class_id, ours.confidence) == (theirs.occupied, theirs.class_id, theirs.confidence)
    assert node.words.count("the memory is cleared") == 1
    resets = {key: value for key, value in peer.values("model").items() if key.startswith("resets.")}
    assert list(resets.values()) == ["1"], resets
    check_points(points, grids)
    check_markers(markers)


def check_points(points, grids):
    assert 1 <= len(points) <= SETS  # the node makes them from when it has met the subscription
    by_stamp = {stamp_ns(grid.header.stamp): grid for grid in grids}
    for cloud in points:
        grid = by_stamp[stamp_ns(cloud.header.stamp)]
        assert cloud.header == grid.header and cloud.width == len(listed(grid))
        offset = {field.name: field.offset for field in cloud.fields}
        rows = np.frombuffer(cloud.data, np.uint8).reshape(cloud.width, cloud.point_step)
        assert (rows[:, offset["class_id"]] == np.asarray(grid.class_id)).all()


def check_markers(markers):
    assert 1 <= len(markers) <= SETS
    for data in markers:
        array = deserialize_message(data, MarkerArray)
        assert array.markers[0].action == 3  # DELETEALL
        assert sum(len(marker.points) for marker in array.markers) > 1000
        assert without_garbage(serialize_message(array), "visualization_msgs/msg/MarkerArray") == data


def test_the_reset_service_empties_the_history(live):
    node, peer, *_ = live
    from std_srvs.srv import Trigger

    client = peer.node.create_client(Trigger, "/panoocc/reset_history")
    assert client.wait_for_service(10)
    future = client.call_async(Trigger.Request())
    rclpy.spin_until_future_complete(peer.node, future, timeout_sec=5)
    assert future.result() is not None and future.result().success
    count = len(peer.raw_grids)
    peer.advertise(DRIVE.messages(1))
    peer.send(DRIVE.whole_set(SETS))
    peer.wait_for_grids(count + 1)
    assert peer.grids[-1].history_frames == 0
    peer.wait(lambda: "the memory is cleared: requested by service" in node.words, "word of it in the log")
