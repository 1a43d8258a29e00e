"""rclpy's message classes and rosbags' go through the same functions and are the same messages on the wire.

Bytes are compared by what rclpy reads from them: its own serialiser leaves the padding between fields uninitialised.
"""

import numpy as np
import pytest

from test.ros.needs_ros import require_ros

require_ros()

from panoocc.msg import LabelSet, VoxelGrid  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402
from vision_msgs.msg import Detection3DArray  # noqa: E402
from visualization_msgs.msg import MarkerArray  # noqa: E402

from panoocc_core.cameras.lens import calibration  # noqa: E402
from panoocc_core.geometry import rigid  # noqa: E402
from panoocc_core.labels import LIDARSEG, OCC3D  # noqa: E402
from panoocc_ros.frames.images import decode  # noqa: E402
from panoocc_ros.messages.fields import transforms  # noqa: E402
from panoocc_ros.messages.markers import marker_array  # noqa: E402
from panoocc_ros.messages.points import fill_points  # noqa: E402
from panoocc_ros.messages.types import new_message, typestore  # noqa: E402
from panoocc_ros.messages.vision import fill_detections  # noqa: E402
from panoocc_ros.messages.voxel_grid import fill_label_set, fill_voxel_grid, occupied_voxels  # noqa: E402
from panoocc_ros.ros import graph  # noqa: E402
from test.ros.messages import camera_info, jpeg, picture, raw_image, tf  # noqa: E402
from test.ros.test_cdr import voxels  # noqa: E402
from test.ros.test_convert import T0, occupancy  # noqa: E402
from test.ros.test_objects import BOX  # noqa: E402


def bytes_of(message, name):
    return bytes(typestore().serialize_cdr(message, name))


def as_rclpy(message, name, kind):
    """The rclpy message that a rosbags message is on the wire."""
    return deserialize_message(bytes_of(message, name), kind)


def assert_same(ours, name, theirs):
    """That rclpy reads its own message from the bytes of ours, and that no byte is left over."""
    data = bytes_of(ours, name)
    assert deserialize_message(data, type(theirs)) == theirs
    assert len(data) == len(serialize_message(theirs))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (LabelSet, "panoocc/msg/LabelSet"),
        (CompressedImage, "sensor_msgs/msg/CompressedImage"),
        (PointCloud2, "sensor_msgs/msg/PointCloud2"),
        (MarkerArray, "visualization_msgs/msg/MarkerArray"),
        (Detection3DArray, "vision_msgs/msg/Detection3DArray"),
    ],
)
def test_an_empty_message_is_empty_in_both(kind, name):
    assert_same(new_message(name), name, kind())


@pytest.mark.parametrize("encoding", ["sparse", "dense"])
def test_voxel_grids(encoding):
    name = "panoocc/msg/VoxelGrid"
    ours, theirs = (
        fill_voxel_grid(message, occupancy(), 5, encoding=encoding) for message in (new_message(name), VoxelGrid())
    )
    assert_same(ours, name, theirs)


@pytest.mark.parametrize("labels", [OCC3D, LIDARSEG])
def test_label_sets(labels):
    name = "panoocc/msg/LabelSet"
    assert_same(fill_label_set(new_message(name), labels), name, fill_label_set(LabelSet(), labels))


def test_points():
    name, field = "sensor_msgs/msg/PointCloud2", typestore().types["sensor_msgs/msg/PointField"]
    grid = occupied_voxels(occupancy())
    ours = fill_points(new_message(name), grid, T0, "base_link", field)
    assert_same(ours, name, fill_points(PointCloud2(), grid, T0, "base_link", PointField))


def test_detections():
    name = "vision_msgs/msg/Detection3DArray"
    ours = fill_detections(new_message(name), BOX, T0, "base_link", new_message)
    theirs = fill_detections(Detection3DArray(), BOX, T0, "base_link", graph.new_message)
    assert_same(ours, name, theirs)
    assert [found.id for found in theirs.detections] == ["7"]


def test_rclpy_reads_the_markers_of_things():
    packed = marker_array(voxels(3), T0, "base_link", boxes=BOX, colour_by="instance")
    message = deserialize_message(packed, MarkerArray)
    assert len(serialize_message(message)) == len(packed)
    assert [marker.ns for marker in message.markers] == ["panoocc", "panoocc", "boxes", "numbers", "velocities"]
    assert [marker.text for marker in message.markers] == ["", "", "", "bus 7", ""]


@pytest.mark.parametrize("count", [0, 1, 10])
def test_rclpy_reads_the_packed_markers_to_their_last_byte(count):
    packed = marker_array(voxels(count), T0, "base_link", max_per_marker=4)
    message = deserialize_message(packed, MarkerArray)
    assert len(serialize_message(message)) == len(packed)
    assert sum(len(marker.points) for marker in message.markers) == count
    again = typestore().deserialize_cdr(packed, "visualization_msgs/msg/MarkerArray")
    for ours, theirs in zip(again.markers, message.markers, strict=True):
        assert (ours.ns, ours.id, ours.action, ours.header.frame_id) == (
            theirs.ns,
            theirs.id,
            theirs.action,
            theirs.header.frame_id,
        )
        assert [(p.x, p.y, p.z) for p in ours.points] == [(p.x, p.y, p.z) for p in theirs.points]
        assert [(c.r, c.a) for c in ours.colors] == [(c.r, c.a) for c in theirs.colors]


def test_images_calibrations_and_transforms_are_read_alike():
    rgb = picture(3)
    plain = raw_image("rgb8", rgb, *rgb.shape[:2], 3 * rgb.shape[1])
    for message, name, kind in (
        (jpeg(T0, "a", rgb), "sensor_msgs/msg/CompressedImage", CompressedImage),
        (plain, "sensor_msgs/msg/Image", Image),
    ):
        np.testing.assert_array_equal(decode(message), decode(as_rclpy(message, name, kind)))
    info = camera_info(distortion=(-0.3, 0.1, 0.0, 0.0, 0.0))
    lens = calibration(info, False)
    other = calibration(as_rclpy(info, "sensor_msgs/msg/CameraInfo", CameraInfo), False)
    np.testing.assert_array_equal(lens.intrinsics, other.intrinsics)
    np.testing.assert_array_equal(lens.rectify(rgb), other.rectify(rgb))
    pose = rigid(np.eye(3), np.array([1.0, 2.0, 3.0]))
    message = tf(("odom", "base_link", T0, pose))
    (ours,), (theirs,) = (
        list(transforms(m)) for m in (message, as_rclpy(message, "tf2_msgs/msg/TFMessage", TFMessage))
    )
    assert ours[:3] == theirs[:3]
    np.testing.assert_array_equal(ours[3], theirs[3])
