"""What messages have in common: stamps, headers, and sequences as rclpy and rosbags want them."""

import array
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from panoocc_core.geometry import NS_PER_S, Matrix, quaternion_from_rotation, rigid, rotation_from_quaternion
from panoocc_core.types import GridGeometry

_TYPE_CODES = {"int8": "b", "uint8": "B", "uint16": "H", "uint32": "I"}


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


class StampedTransform(NamedTuple):
    """One item of a tf2_msgs/TFMessage; nothing but the quaternion was checked."""

    parent: str
    child: str
    stamp_ns: int
    parent_from_child: Matrix | None  # [4, 4]
    problem: str = ""  # why there is no matrix


def transforms(message: Any) -> Iterator[StampedTransform]:
    """The items of a tf2_msgs/TFMessage."""
    for item in message.transforms:
        matrix, problem = None, ""
        try:
            matrix = pose_matrix(item.transform.translation, item.transform.rotation)
        except ValueError as error:
            problem = str(error)
        yield StampedTransform(item.header.frame_id, item.child_frame_id, stamp_ns(item.header.stamp), matrix, problem)


def pose_matrix(place: Any, turn: Any) -> Matrix:
    """A pose [4, 4] from a geometry_msgs Point or Vector3 and a Quaternion.

    Raises:
        ValueError: the quaternion has no direction; what else is wrong was not looked for.
    """
    numbers = np.array([turn.x, turn.y, turn.z, turn.w])
    try:
        return rigid(rotation_from_quaternion(numbers), vector(place))
    except ValueError as error:
        kind = "of length 0" if np.isfinite(numbers).all() else "of NaN"
        raise ValueError(f"has a quaternion {kind}") from error


def vector(item: Any) -> Matrix:
    """The numbers [3] of a geometry_msgs Point or Vector3."""
    return np.array([item.x, item.y, item.z], dtype=np.float64)


def fill_vector(item: Any, numbers: Iterable[float]) -> None:
    """Set a geometry_msgs Point or Vector3 to numbers [3]."""
    item.x, item.y, item.z = (float(number) for number in numbers)


def fill_pose(place: Any, turn: Any, pose: Matrix) -> None:
    """Set a geometry_msgs Point or Vector3 and a Quaternion to a pose [4, 4]."""
    fill_vector(place, pose[:3, 3])
    turn.x, turn.y, turn.z, turn.w = (float(number) for number in quaternion_from_rotation(pose[:3, :3]))


def fill_grid_pose(pose: Any, size: Any, geometry: GridGeometry) -> None:
    fill_pose(pose.position, pose.orientation, geometry.ego_from_grid)
    fill_vector(size, geometry.voxel_size_m)


def fill_upright_pose(pose: Any, centre_m: Any, yaw_rad: float) -> None:
    """Set a geometry_msgs/Pose to a place [3] and a turn about z."""
    fill_vector(pose.position, centre_m)
    pose.orientation.x = pose.orientation.y = 0.0
    pose.orientation.z, pose.orientation.w = float(np.sin(yaw_rad / 2)), float(np.cos(yaw_rad / 2))


def store(message: Any, name: str, values: NDArray[Any]) -> None:
    """Assign a sequence field: rclpy wants array.array (numpy is checked item by item there) or list, rosbags numpy."""
    old = getattr(message, name)
    if isinstance(old, array.array):
        stored = array.array(_TYPE_CODES[values.dtype.name])
        stored.frombytes(np.ascontiguousarray(values).data.cast("B") if values.size else b"")
        setattr(message, name, stored)
    else:
        setattr(message, name, values.tolist() if isinstance(old, list) else values)
