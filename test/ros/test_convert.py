"""Grids into messages and back: indices, colours, rotations, and both kinds of sequence fields."""

import array
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from panoocc_core.geometry import NS_PER_S, rigid, rotation_from_quaternion
from panoocc_core.labels import LIDARSEG, OCC3D
from panoocc_core.types import GridGeometry, HistoryReport, Occupancy
from panoocc_ros.messages.fields import set_stamp, stamp_ns, transforms
from panoocc_ros.messages.foxglove import fill_foxglove_grid
from panoocc_ros.messages.points import fill_points
from panoocc_ros.messages.types import new_message, typestore
from panoocc_ros.messages.voxel_grid import all_voxels, camera_mask, fill_label_set, fill_voxel_grid, occupied_voxels
from test.ros.messages import listed, tf

T0 = 1_533_151_603_512_404_321
SHAPE = (5, 4, 3)
SIZE_M = (0.5, 0.25, 1.0)
QUARTER = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # 90 degrees about z
FREE = OCC3D.free_id


def occupancy(class_id=None, ego_from_grid=None, shape=SHAPE, size_m=SIZE_M, instances=True):
    random = np.random.default_rng(4)
    if class_id is None:
        class_id = np.where(random.uniform(size=shape) < 0.4, random.integers(0, 17, shape), FREE)
    pose = rigid(np.eye(3), np.array([-1.0, -0.5, -2.0])) if ego_from_grid is None else ego_from_grid
    return Occupancy(
        stamp_ns=T0,
        oldest_image_stamp_ns=T0 - 8_000_000,
        newest_image_stamp_ns=T0 + 35_000_000,
        class_id=torch.as_tensor(class_id, dtype=torch.uint8),
        confidence=torch.as_tensor(random.integers(0, 256, shape), dtype=torch.uint8),
        instance_id=torch.as_tensor(random.integers(0, 60000, shape), dtype=torch.int32) if instances else None,
        geometry=GridGeometry(shape, size_m, pose),
        labels=OCC3D,
        instances="components" if instances else "none",
        cameras=("B", "C"),
        history=HistoryReport(ages_s=(1.0, 0.5)),
    )


def rclpy_like(kind):
    """The empty message, with array.array where rclpy has it."""
    message = new_message(kind)
    for name, value in vars(message).items():
        if isinstance(value, np.ndarray) and value.dtype != bool:
            setattr(message, name, array.array({1: "B", 2: "H", 4: "I"}[value.dtype.itemsize]))
        elif isinstance(value, np.ndarray):
            setattr(message, name, [])
    return message


@pytest.mark.parametrize("empty", [new_message, rclpy_like])
@pytest.mark.parametrize("encoding", ["sparse", "dense"])
def test_a_voxel_grid_says_what_the_occupancy_says(empty, encoding):
    grid = occupancy()
    message = empty("panoocc/msg/VoxelGrid")
    fill_voxel_grid(message, grid, 7, encoding=encoding, rig_cameras=("A", "B", "C"), frame_id="base_link")
    assert stamp_ns(message.header.stamp) == T0 and message.header.frame_id == "base_link"
    assert stamp_ns(message.oldest_image_stamp) == T0 - 8_000_000
    assert stamp_ns(message.newest_image_stamp) == T0 + 35_000_000
    assert (message.sequence, message.history_frames, message.cameras_used) == (7, 2, 0b110)
    assert message.instance_source == 2
    assert (message.size_x, message.size_y, message.size_z) == SHAPE
    assert (message.label_set, message.label_set_version) == ("occ3d_nuscenes", 1)
    found = np.full(SHAPE, FREE)
    nx, ny, _ = SHAPE
    numbers = list(listed(message)) if encoding == "sparse" else range(grid.class_id.numel())
    assert list(numbers) == sorted(set(numbers)) and len(message.class_id) == len(numbers)
    for number, label, instance, confidence in zip(
        numbers, message.class_id, message.instance_id, message.confidence, strict=True
    ):
        place = number % nx, number // nx % ny, number // (nx * ny)
        found[place] = label
        assert instance == grid.instance_id[place] and confidence == grid.confidence[place]
    np.testing.assert_array_equal(found, grid.class_id)
    assert (len(listed(message)) == 0) == (encoding == "dense") and message.encoding == (encoding == "sparse")
    assert type(message.class_id) is type(empty("panoocc/msg/VoxelGrid").class_id)


def test_what_is_not_asked_for_or_not_there_is_empty():
    message = new_message("panoocc/msg/VoxelGrid")
    fill_voxel_grid(message, occupancy(instances=False), 0, with_confidence=False)
    assert len(message.class_id) > 0 and len(message.confidence) == 0 and len(message.instance_id) == 0
    assert message.instance_source == 0
    free = new_message("panoocc/msg/VoxelGrid")
    fill_voxel_grid(free, occupancy(np.full(SHAPE, FREE)), 0)
    assert len(listed(free)) == 0 and len(free.class_id) == 0


def test_the_message_survives_the_wire():
    message = fill_voxel_grid(new_message("panoocc/msg/VoxelGrid"), occupancy(), 3)
    store = typestore()
    back = store.deserialize_cdr(store.serialize_cdr(message, "panoocc/msg/VoxelGrid"), "panoocc/msg/VoxelGrid")
    np.testing.assert_array_equal(listed(back), listed(message))
    np.testing.assert_array_equal(back.instance_id, message.instance_id)
    assert back.origin == message.origin and back.voxel_size == message.voxel_size


def point_rows(voxels):
    field = typestore().types["sensor_msgs/msg/PointField"]
    message = fill_points(new_message("sensor_msgs/msg/PointCloud2"), voxels, T0, "base_link", field)
    codes = {2: "u1", 4: "<u2", 7: "<f4"}
    names = [f.name for f in message.fields]
    kind = np.dtype(
        {
            "names": names,
            "formats": [codes[f.datatype] for f in message.fields],
            "offsets": [f.offset for f in message.fields],
            "itemsize": message.point_step,
        }
    )
    assert message.row_step == message.width * message.point_step == len(message.data) and message.height == 1
    return np.frombuffer(message.data.tobytes(), kind)


def test_points_lie_in_the_voxels_centres_with_class_colour_instance_and_confidence():
    grid = occupancy()
    rows = point_rows(occupied_voxels(grid))
    assert len(rows) == int((grid.class_id != FREE).sum())
    for row in rows:
        centre = np.array([row["x"], row["y"], row["z"]])
        place = tuple(np.floor((centre - (-1.0, -0.5, -2.0)) / SIZE_M).astype(int))
        np.testing.assert_allclose(centre, (np.array(place) + 0.5) * SIZE_M + (-1.0, -0.5, -2.0), atol=1e-6)
        label = int(grid.class_id[place])
        packed = int(np.float32(row["rgb"]).view(np.uint32))
        assert (packed >> 16, packed >> 8 & 255, packed & 255) == OCC3D.colours[label]
        assert (row["class_id"], row["instance"]) == (label, grid.instance_id[place])
        assert row["probability"] == np.float32(grid.confidence[place]) * np.float32(1 / 255)


def test_a_turned_grid_gives_the_same_points():
    # The same world, described by a grid whose x axis points along the vehicle's y.
    plain = np.full((4, 4, 2), FREE)
    plain[3, 1, 0], plain[0, 2, 1], plain[2, 2, 0] = 4, 7, 11
    turned = np.full((4, 4, 2), FREE)
    for (x, y, z), label in np.ndenumerate(plain):
        turned[y, 3 - x, z] = label  # ego x = 4 - grid y, ego y = grid x
    straight = occupancy(plain, rigid(np.eye(3), np.zeros(3)), plain.shape, (1.0, 1.0, 1.0), instances=False)
    rotated = occupancy(turned, rigid(QUARTER, np.array([4.0, 0, 0])), plain.shape, (1.0, 1.0, 1.0), instances=False)

    def rows(grid):
        return sorted(
            tuple(np.round(v, 5) for v in r.tolist()[:3]) + (r["class_id"],) for r in point_rows(occupied_voxels(grid))
        )

    assert rows(straight) == rows(rotated) and len(rows(straight)) == 3
    message = fill_voxel_grid(new_message("panoocc/msg/VoxelGrid"), rotated, 0)
    turn = message.origin.orientation
    np.testing.assert_allclose(rotation_from_quaternion([turn.x, turn.y, turn.z, turn.w]), QUARTER, atol=1e-12)
    assert (message.origin.position.x, message.origin.position.y) == (4.0, 0.0)
    for index, label in zip(listed(message), message.class_id):  # a reader who follows the message's own words
        local = np.array([index % 4, index // 4 % 4, index // 16]) + 0.5
        ego = QUARTER @ local + (4.0, 0, 0)
        assert plain[tuple(np.floor(ego).astype(int))] == label


def test_foxglove_cells_have_the_colours_at_the_strides_they_name():
    grid = occupancy(instances=False)
    field = typestore().types["foxglove_msgs/msg/PackedElementField"]
    message = fill_foxglove_grid(
        new_message("foxglove_msgs/msg/VoxelGrid"), occupied_voxels(grid), T0, "base_link", field
    )
    assert [(f.name, f.offset, f.type) for f in message.fields] == [
        ("red", 0, 1),
        ("green", 1, 1),
        ("blue", 2, 1),
        ("alpha", 3, 1),
    ]
    for place, label in np.ndenumerate(grid.class_id.numpy()):
        x, y, z = place
        start = z * message.slice_stride + y * message.row_stride + x * message.cell_stride
        cell = tuple(message.data[start : start + 4])
        assert cell == ((0, 0, 0, 0) if label == FREE else (*OCC3D.colours[label], 255))
    assert (message.column_count, message.row_count) == SHAPE[:2] and len(message.data) == 4 * 60
    typestore().serialize_cdr(message, "foxglove_msgs/msg/VoxelGrid")


@pytest.mark.parametrize("empty", [new_message, rclpy_like])
@pytest.mark.parametrize(("labels", "free"), [(OCC3D, 17), (LIDARSEG, 255)])
def test_label_sets(empty, labels, free):
    message = fill_label_set(empty("panoocc/msg/LabelSet"), labels)
    assert (message.key, message.version, message.free_id) == (labels.key, 1, free)
    assert tuple(message.names) == labels.names and tuple(message.is_thing) == labels.is_thing
    assert tuple(np.array(message.rgb).reshape(-1, 3)[4]) == labels.colours[4]


def test_without_a_free_class_every_voxel_is_listed():
    grid = occupancy(np.zeros(SHAPE))
    assert len(occupied_voxels(grid).indices) == 60 == len(all_voxels(grid).indices)


def test_instances_beyond_the_message_are_refused():
    grid = occupancy(np.zeros(SHAPE))
    grid.instance_id[0, 0, 0] = 65536
    with pytest.raises(ValueError, match="65536"):
        occupied_voxels(grid)


def test_unknown_encodings_and_cameras_are_refused():
    with pytest.raises(ValueError, match="'packed' is neither"):
        fill_voxel_grid(new_message("panoocc/msg/VoxelGrid"), occupancy(), 0, encoding="packed")
    with pytest.raises(ValueError):
        camera_mask(("A",), ("B",))
    assert camera_mask(("C", "A"), ("A", "B", "C")) == 0b101


def test_transforms_of_a_message():
    pose = rigid(QUARTER, np.array([1.0, 2, 3]))
    ((parent, child, stamp, matrix, problem),) = transforms(tf(("odom", "base_link", T0, pose)))
    assert (parent, child, stamp, problem) == ("odom", "base_link", T0, "")
    np.testing.assert_allclose(matrix, pose, atol=1e-12)
    message = tf(("odom", "base_link", T0, pose))
    message.transforms[0].transform.rotation = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=0.0)
    ((*_, broken, problem),) = transforms(message)
    assert broken is None and problem == "has a quaternion of length 0"


def test_stamps_keep_every_nanosecond_and_may_be_negative():
    for stamp in (T0, 0, -1, 2**31 * NS_PER_S - 1):
        message = new_message("panoocc/msg/VoxelGrid")
        set_stamp(message.header.stamp, stamp)
        assert stamp_ns(message.header.stamp) == stamp and 0 <= message.header.stamp.nanosec < NS_PER_S
