"""Rigid transforms as float64 [4, 4] matrices; `dst_from_src @ point_in_src` is the point in dst.

Neighbouring frame names must match when matrices are multiplied: `a_from_b @ b_from_c`.  Frames and axes follow
REP-103 and REP-105; camera frames are optical frames (z ahead, x right, y down).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

MAX_DISTANCE_M = 1e8  # twice around the earth; products of poses stay finite
NS_PER_S = 1_000_000_000
_STEEPEST = 0.5  # cosine of 60 degrees
# Corners of a box: four around the lower face, then those above them; edges join two of them, the lower face's first.
_AROUND = ((1, 1), (1, -1), (-1, -1), (-1, 1))
_BOX_CORNERS = np.array([(x, y, z) for z in (-1, 1) for x, y in _AROUND]) / 2
_FACE = np.array([(0, 1), (1, 2), (2, 3), (3, 0)])
BOX_EDGES = np.concatenate((_FACE, _FACE + 4, [(i, i + 4) for i in range(4)]))


def rigid(rotation: Matrix, translation: Matrix) -> Matrix:
    """A [4, 4] transform from a rotation [3, 3] and a translation [3] in metres."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = translation
    return matrix


def invert(dst_from_src: Matrix) -> Matrix:
    """`src_from_dst` of a rigid transform [4, 4]."""
    rotation = dst_from_src[:3, :3]
    return rigid(rotation.T, -rotation.T @ dst_from_src[:3, 3])


def points_up(pose: Matrix) -> bool:
    """Whether the z axis of a frame, by its pose [4, 4] in another one, is within 60 degrees of that one's."""
    return bool(pose[2, 2] >= _STEEPEST)


def box_corners_m(centre_m: NDArray[Any], size_m: NDArray[Any], yaw_rad: NDArray[Any]) -> NDArray[np.float64]:
    """Corners [n, 8, 3] of upright boxes by their middles [n, 3], sizes [n, 3], headings [n]; BOX_EDGES joins them."""
    cosine, sine = np.cos(yaw_rad.astype(float))[:, None], np.sin(yaw_rad.astype(float))[:, None]
    local = _BOX_CORNERS * size_m[:, None].astype(float)
    x = cosine * local[..., 0] - sine * local[..., 1]
    y = sine * local[..., 0] + cosine * local[..., 1]
    return np.stack((x, y, local[..., 2]), axis=2) + centre_m[:, None]


def check_rigid(matrix: Matrix, name: str, tolerance: float = 1e-3) -> Matrix:
    """`matrix` as a float64 [4, 4] array.

    Raises:
        ValueError: it is not a finite rigid transform within MAX_DISTANCE_M; the message begins with `name`.
    """
    array = np.asarray(matrix, dtype=np.float64)
    if array.shape != (4, 4):
        raise ValueError(f"{name} must be a 4x4 matrix, not {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has entries that are not finite")
    if np.abs(array).max() > MAX_DISTANCE_M:
        raise ValueError(
            f"{name} has entries up to {np.abs(array).max():g}: more than {MAX_DISTANCE_M:g} m is no place"
        )
    rotation = array[:3, :3]
    orthonormal = np.abs(rotation.T @ rotation - np.eye(3)).max() <= tolerance and np.linalg.det(rotation) > 0
    if not orthonormal or np.abs(array[3] - (0, 0, 0, 1)).max() > tolerance:
        raise ValueError(f"{name} is not a rigid transform")
    return array


def quaternion_from_rotation(rotation: Matrix) -> Matrix:
    """Unit quaternion [x, y, z, w] (ROS order) with w >= 0 of a rotation [3, 3]."""
    m = rotation
    # The largest of the four squared components is the divisor, so that it is never near zero.
    squares = np.array(
        [
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
            1 + m[0, 0] + m[1, 1] + m[2, 2],
        ]
    )
    k = int(np.argmax(squares))
    columns = (
        (squares[0], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]),
        (m[0, 1] + m[1, 0], squares[1], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]),
        (m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[2], m[1, 0] - m[0, 1]),
        (m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], squares[3]),
    )
    quaternion = np.array(columns[k])
    quaternion /= np.linalg.norm(quaternion)
    return -quaternion if quaternion[3] < 0 else quaternion


def rotation_from_quaternion(quaternion: Matrix) -> Matrix:
    """Rotation [3, 3] of a quaternion [x, y, z, w], which need not be of unit length.

    Raises:
        ValueError: the quaternion is zero or not finite.
    """
    x, y, z, w = np.asarray(quaternion, dtype=np.float64).tolist()
    # Summed in this order, as readers in other languages do (include/panoocc): the same rotation to the last bit.
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    if not math.isfinite(norm) or norm < 1e-9:
        raise ValueError(f"quaternion {[x, y, z, w]} (x, y, z, w) has no direction")
    x, y, z, w = x / norm, y / norm, z / norm, w / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def slerp(start: Matrix, end: Matrix, ratio: float) -> Matrix:
    """Spherical interpolation of unit quaternions [x, y, z, w] along the shorter arc; ratio 0 gives `start`."""
    cosine = float(np.dot(start, end))
    if cosine < 0:
        end, cosine = -end, -cosine
    if cosine > 1 - 1e-10:
        blend = start + ratio * (end - start)
        return blend / np.linalg.norm(blend)
    angle = math.acos(cosine)
    return (math.sin((1 - ratio) * angle) * start + math.sin(ratio * angle) * end) / math.sin(angle)


def interpolate(start: Matrix, end: Matrix, ratio: float) -> Matrix:
    """Pose [4, 4] between two poses: linear in translation, spherical in rotation (as tf2 does)."""
    if ratio <= 0:
        return start
    if ratio >= 1:
        return end
    turn = slerp(quaternion_from_rotation(start[:3, :3]), quaternion_from_rotation(end[:3, :3]), ratio)
    return rigid(rotation_from_quaternion(turn), (1 - ratio) * start[:3, 3] + ratio * end[:3, 3])


def yaw_rad(world_from_ego: Matrix) -> float:
    """Heading of the x axis in the world's x-y plane, in [0, 2 pi)."""
    return math.atan2(world_from_ego[1, 0], world_from_ego[0, 0]) % (2 * math.pi)


def shift_and_turn(a: Matrix, b: Matrix) -> tuple[float, float]:
    """Distance in metres and angle in degrees between two poses [4, 4] in one frame."""
    angle_rad = rotation_angle_rad(a[:3, :3].T @ b[:3, :3])
    return float(np.linalg.norm(a[:3, 3] - b[:3, 3])), math.degrees(angle_rad)


def rotation_angle_rad(rotation: Matrix) -> float:
    """Angle of a rotation [3, 3], in [0, pi]."""
    return math.acos(float(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
