"""Between ROS messages and the core's types; never builds a Python object per voxel.

Messages are read and filled by attribute, so that rclpy's and rosbags' classes share one path.  Every `fill_*` takes an
empty message and returns it.
"""

import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from panoocc_core.geometry import NS_PER_S, Matrix, quaternion_from_rotation, rigid, rotation_from_quaternion
from panoocc_core.labels import LabelSet
from panoocc_core.types import GridGeometry, Occupancy

Encoding = Literal["dense", "sparse"]
DENSE, SPARSE = 0, 1  # as in VoxelGrid.msg
NO_FREE_ID = 255

# sensor_msgs/PointField datatypes and foxglove_msgs/PackedElementField types
_POINT_UINT8, _POINT_UINT16, _POINT_FLOAT32 = 2, 4, 7
_FOXGLOVE_UINT8 = 1
_POINT = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("rgb", "<u4"),
        ("instance", "<u2"),
        ("label", "u1"),
        ("confidence", "u1"),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Voxels:
    """The voxels of a grid that are not free, ordered by index."""

    indices: NDArray[np.uint32]  # [n], (iz * ny + iy) * nx + ix, strictly increasing
    class_id: NDArray[np.uint8]  # [n]
    instance_id: NDArray[np.uint16] | None  # [n]
    confidence: NDArray[np.uint8] | None  # [n]
    geometry: GridGeometry
    labels: LabelSet

    def centres_m(self) -> Matrix:
        """Centres [n, 3] in the vehicle frame, the grid's rotation included."""
        nx, ny, _ = self.geometry.shape_xyz
        index = self.indices.astype(np.int64)
        return self.geometry.centres_m(np.stack([index % nx, index // nx % ny, index // (nx * ny)], axis=1))

    def colours(self) -> NDArray[np.uint8]:
        """RGB [n, 3] of the voxels' classes."""
        return np.array(self.labels.colours, dtype=np.uint8).reshape(-1, 3)[self.class_id]


def occupied_voxels(occupancy: Occupancy) -> Voxels:
    """The voxels of `occupancy` that are not free, as arrays on the CPU."""
    class_id, free_id = _flat(occupancy.class_id), occupancy.labels.free_id
    assert class_id is not None
    is_occupied = np.ones(class_id.shape, dtype=bool) if free_id is None else class_id != free_id
    indices = np.flatnonzero(is_occupied)
    instances, confidence = _flat(occupancy.instance_id), _flat(occupancy.confidence)
    return Voxels(
        indices=indices.astype(np.uint32),
        class_id=class_id[indices],
        instance_id=None if instances is None else _instances(instances[indices]),
        confidence=None if confidence is None else confidence[indices],
        geometry=occupancy.geometry,
        labels=occupancy.labels,
    )


def all_voxels(occupancy: Occupancy) -> Voxels:
    """Every voxel of `occupancy`, free or not, as arrays on the CPU."""
    every = np.arange(occupancy.class_id.numel(), dtype=np.uint32)
    class_id, instances = _flat(occupancy.class_id), _instances(_flat(occupancy.instance_id))
    assert class_id is not None
    return Voxels(every, class_id, instances, _flat(occupancy.confidence), occupancy.geometry, occupancy.labels)


def fill_voxel_grid(
    message: Any,
    occupancy: Occupancy,
    sequence: int,
    *,
    frame_id: str = "base_link",
    rig_cameras: Sequence[str] | None = None,
    encoding: Encoding = "sparse",
    with_confidence: bool = True,
    voxels: Voxels | None = None,
) -> Any:
    """Fill a panoocc/VoxelGrid; `voxels` saves work where the occupied ones are known already.

    Raises:
        ValueError: `encoding` is neither dense nor sparse, or a camera is not in the rig.
    """
    if encoding not in ("dense", "sparse"):
        raise ValueError(f"encoding {encoding!r} is neither 'dense' nor 'sparse'")
    sparse = encoding == "sparse"
    if not sparse:
        voxels = all_voxels(occupancy)
    elif voxels is None:
        voxels = occupied_voxels(occupancy)
    fill_header(message.header, occupancy.stamp_ns, frame_id)
    set_stamp(message.oldest_image_stamp, occupancy.oldest_image_stamp_ns)
    set_stamp(message.newest_image_stamp, occupancy.newest_image_stamp_ns)
    message.sequence = sequence
    message.history_frames = min(255, len(occupancy.history.ages_s))
    message.cameras_used = camera_mask(occupancy.cameras, rig_cameras or occupancy.cameras)
    _fill_grid_pose(message.origin, message.voxel_size, occupancy.geometry)
    message.size_x, message.size_y, message.size_z = occupancy.geometry.shape_xyz
    message.encoding = SPARSE if sparse else DENSE
    _store(message, "indices", voxels.indices if sparse else np.zeros(0, np.uint32))
    _store(message, "class_id", voxels.class_id)
    _store(message, "instance_id", _or_empty(voxels.instance_id, np.uint16))
    _store(message, "confidence", _or_empty(voxels.confidence if with_confidence else None, np.uint8))
    message.label_set, message.label_set_version = occupancy.labels.key, occupancy.labels.version
    return message


def fill_label_set(message: Any, labels: LabelSet) -> Any:
    """Fill a panoocc/LabelSet."""
    message.key, message.version = labels.key, labels.version
    message.names = list(labels.names)
    _store(message, "is_thing", np.array(labels.is_thing, dtype=bool))
    _store(message, "rgb", np.array(labels.colours, dtype=np.uint8).reshape(-1))
    message.free_id = NO_FREE_ID if labels.free_id is None else labels.free_id
    return message


def fill_points(message: Any, voxels: Voxels, stamp_ns: int, frame_id: str, field_class: Callable[..., Any]) -> Any:
    """Fill a sensor_msgs/PointCloud2 with one point per voxel; `field_class` is the class of sensor_msgs/PointField."""
    points = np.zeros(len(voxels.indices), dtype=_POINT)
    points["x"], points["y"], points["z"] = voxels.centres_m().T
    colours = voxels.colours().astype(np.uint32)
    points["rgb"] = colours[:, 0] << 16 | colours[:, 1] << 8 | colours[:, 2]
    points["label"] = voxels.class_id
    points["instance"] = 0 if voxels.instance_id is None else voxels.instance_id
    points["confidence"] = 255 if voxels.confidence is None else voxels.confidence
    kinds = {"x": _POINT_FLOAT32, "y": _POINT_FLOAT32, "z": _POINT_FLOAT32, "rgb": _POINT_FLOAT32}
    kinds |= {"instance": _POINT_UINT16, "label": _POINT_UINT8, "confidence": _POINT_UINT8}
    fill_header(message.header, stamp_ns, frame_id)
    message.fields = [
        field_class(name=name, offset=_POINT.fields[name][1], datatype=kind, count=1)  # type: ignore[index]
        for name, kind in kinds.items()
    ]
    message.height, message.width = 1, len(points)
    message.point_step, message.row_step = _POINT.itemsize, _POINT.itemsize * len(points)
    message.is_bigendian, message.is_dense = False, True
    _store(message, "data", points.view(np.uint8).reshape(-1))
    return message


def fill_foxglove_grid(
    message: Any, voxels: Voxels, stamp_ns: int, frame_id: str, field_class: Callable[..., Any]
) -> Any:
    """Fill a foxglove_msgs/VoxelGrid with one RGBA colour per voxel, transparent where `voxels` has none."""
    nx, ny, nz = voxels.geometry.shape_xyz
    cells = np.zeros((nx * ny * nz, 4), dtype=np.uint8)
    cells[voxels.indices, :3] = voxels.colours()
    cells[voxels.indices, 3] = 255
    set_stamp(message.timestamp, stamp_ns)
    message.frame_id = frame_id
    _fill_grid_pose(message.pose, message.cell_size, voxels.geometry)
    message.row_count, message.column_count = ny, nx
    message.cell_stride, message.row_stride, message.slice_stride = 4, 4 * nx, 4 * nx * ny
    names = ("red", "green", "blue", "alpha")
    message.fields = [field_class(name=name, offset=k, type=_FOXGLOVE_UINT8) for k, name in enumerate(names)]
    _store(message, "data", cells.reshape(-1))
    return message


def fill_header(header: Any, stamp_ns: int, frame_id: str) -> None:
    """Set stamp and frame of a std_msgs/Header."""
    set_stamp(header.stamp, stamp_ns)
    header.frame_id = frame_id


def set_stamp(time: Any, stamp_ns: int) -> None:
    """Set a builtin_interfaces/Time."""
    time.sec, time.nanosec = divmod(stamp_ns, NS_PER_S)


def stamp_ns(time: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time."""
    return int(time.sec) * NS_PER_S + int(time.nanosec)


def transforms(message: Any) -> Iterator[tuple[str, str, int, Matrix]]:
    """(parent, child, stamp in ns, parent_from_child [4, 4]) of a tf2_msgs/TFMessage; the parts are not checked.

    A quaternion without direction gives a matrix of NaN, which whoever stores it refuses with the frames' names.
    """
    for item in message.transforms:
        translation, turn = item.transform.translation, item.transform.rotation
        try:
            rotation = rotation_from_quaternion(np.array([turn.x, turn.y, turn.z, turn.w]))
        except ValueError:
            rotation = np.full((3, 3), np.nan)
        matrix = rigid(rotation, np.array([translation.x, translation.y, translation.z]))
        yield item.header.frame_id, item.child_frame_id, stamp_ns(item.header.stamp), matrix


def camera_mask(used: Sequence[str], rig_cameras: Sequence[str]) -> int:
    """Bit i is set where camera i of the rig was used.

    Raises:
        ValueError: a camera is not in the rig, or is beyond the 64 bits.
    """
    places = [rig_cameras.index(name) for name in used]
    if max(places, default=0) >= 64:
        raise ValueError("cameras_used has 64 bits: the rig has too many cameras")
    return sum(1 << place for place in places)


def _fill_grid_pose(pose: Any, size: Any, geometry: GridGeometry) -> None:
    matrix = geometry.ego_from_grid
    pose.position.x, pose.position.y, pose.position.z = matrix[:3, 3].tolist()
    turn = quaternion_from_rotation(matrix[:3, :3]).tolist()
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = turn
    size.x, size.y, size.z = (float(edge) for edge in geometry.voxel_size_m)


def _flat(grid: torch.Tensor | None) -> NDArray[Any] | None:
    """[X, Y, Z] as one row in the order of VoxelGrid's indices, on the CPU."""
    # NumPy turns the axes several times faster than torch does, whose threads are not worth waking for this.
    return None if grid is None else grid.cpu().numpy().transpose(2, 1, 0).ravel()


def _instances(values: Any) -> NDArray[np.uint16] | None:
    if values is None:
        return None
    if values.size and not 0 <= values.min() <= values.max() <= 0xFFFF:
        raise ValueError(f"instance ids reach from {values.min()} to {values.max()}: VoxelGrid holds 0 to 65535")
    return values.astype(np.uint16)


def _or_empty(values: Any, kind: type) -> Any:
    return np.zeros(0, kind) if values is None else values


_TYPE_CODES = {"uint8": "B", "uint16": "H", "uint32": "I"}


def _store(message: Any, name: str, values: NDArray[Any]) -> None:
    """Assign a sequence field: rclpy wants array.array (numpy is checked item by item there) or list, rosbags numpy."""
    old = getattr(message, name)
    if isinstance(old, array.array):
        stored = array.array(_TYPE_CODES[values.dtype.name])
        stored.frombytes(np.ascontiguousarray(values).data.cast("B") if values.size else b"")
        setattr(message, name, stored)
    else:
        setattr(message, name, values.tolist() if isinstance(old, list) else values)
