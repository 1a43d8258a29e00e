"""The hand-packed MarkerArray is byte for byte what a serialiser makes of the same message."""

import time

import numpy as np
import pytest

from panoocc_core.geometry import quaternion_from_rotation, rigid
from panoocc_core.labels import OCC3D
from panoocc_core.types import GridGeometry
from panoocc_ros.messages.fields import fill_header
from panoocc_ros.messages.markers import marker_array
from panoocc_ros.messages.types import new_message, typestore
from panoocc_ros.messages.voxel_grid import VoxelList

T0 = 1_533_151_603_512_404_321
KIND = "visualization_msgs/msg/MarkerArray"
POSE = rigid(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([4.0, -40.0, -1.0]))


def voxels(count, shape=(200, 200, 16)):
    random = np.random.default_rng(1)
    indices = np.sort(random.choice(np.prod(shape), count, replace=False)).astype(np.uint32)
    classes = random.integers(0, 17, count).astype(np.uint8)
    return VoxelList(indices, classes, None, None, GridGeometry(shape, (0.4, 0.4, 0.5), POSE), OCC3D)


def reference(cubes, frame_id, per_marker):
    """The same message from one object per voxel."""
    types = typestore().types
    message = new_message(KIND)
    delete = new_message("visualization_msgs/msg/Marker")
    fill_header(delete.header, T0, frame_id)
    delete.ns, delete.type, delete.action, delete.pose.orientation.w, delete.color.a = "panoocc", 6, 3, 1.0, 1.0
    message.markers = [delete]
    nx, ny, _ = cubes.geometry.shape_xyz
    for number, start in enumerate(range(0, len(cubes.indices), per_marker)):
        marker = new_message("visualization_msgs/msg/Marker")
        fill_header(marker.header, T0, frame_id)
        marker.ns, marker.id, marker.type, marker.color.a = "panoocc", number + 1, 6, 1.0
        place, turn, scale = marker.pose.position, marker.pose.orientation, marker.scale
        place.x, place.y, place.z = POSE[:3, 3].tolist()
        turn.x, turn.y, turn.z, turn.w = quaternion_from_rotation(POSE[:3, :3]).tolist()
        scale.x, scale.y, scale.z = 0.95 * 0.4, 0.95 * 0.4, 0.95 * 0.5
        part = slice(start, start + per_marker)
        for index, label in zip(cubes.indices[part].tolist(), cubes.class_id[part]):
            x, y, z = index % nx, index // nx % ny, index // (nx * ny)
            marker.points.append(
                types["geometry_msgs/msg/Point"](x=(x + 0.5) * 0.4, y=(y + 0.5) * 0.4, z=(z + 0.5) * 0.5)
            )
            r, g, b = (float(np.float32(v) / np.float32(255)) for v in OCC3D.colours[label])
            marker.colors.append(types["std_msgs/msg/ColorRGBA"](r=r, g=g, b=b, a=1.0))
        message.markers.append(marker)
    return bytes(typestore().serialize_cdr(message, KIND))


@pytest.mark.parametrize("frame_id", ["", "b", "ab", "abc", "base_link", "a/longer_name"])  # every alignment
@pytest.mark.parametrize("count", [0, 1, 7, 10])
def test_bytes_equal_those_of_a_serialiser(frame_id, count):
    cubes = voxels(count)
    packed = marker_array(cubes, T0, frame_id, max_per_marker=4)
    assert packed == reference(cubes, frame_id, per_marker=4)


def test_what_is_drawn_stays_until_the_next_grid_however_slow_the_network_is():
    message = typestore().deserialize_cdr(marker_array(voxels(9), T0, "base_link"), KIND)
    assert {(marker.lifetime.sec, marker.lifetime.nanosec) for marker in message.markers} == {(0, 0)}


def test_it_reads_back_with_everything_deleted_first():
    message = typestore().deserialize_cdr(marker_array(voxels(9), T0, "base_link", max_per_marker=4), KIND)
    assert [marker.action for marker in message.markers] == [3, 0, 0, 0]
    assert [len(marker.points) for marker in message.markers] == [0, 4, 4, 1]
    assert [marker.id for marker in message.markers] == [0, 1, 2, 3]  # RViz refuses to draw one id twice


def test_the_cubes_turned_by_the_markers_pose_lie_on_the_voxels_centres():
    cubes = voxels(50)
    marker = typestore().deserialize_cdr(marker_array(cubes, T0, "base_link"), KIND).markers[1]
    points = np.array([(p.x, p.y, p.z) for p in marker.points])
    np.testing.assert_allclose(points @ POSE[:3, :3].T + POSE[:3, 3], cubes.centres_m(), atol=1e-9)


def test_thirty_thousand_cubes_take_milliseconds():
    cubes = voxels(30_000)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        packed = marker_array(cubes, T0, "base_link")
        seconds.append(time.perf_counter() - start)
    assert len(packed) > 30_000 * 40
    assert min(seconds) < 0.1  # an object per voxel takes 0.25 s and more; this takes about 3 ms


def test_a_marker_without_room_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        marker_array(voxels(1), T0, "", max_per_marker=0)
