"""Cameras that are mounted sideways or upside down: their pictures are turned, so that up is up in what is cropped."""

import numpy as np

from ..base.reduction import Pixels
from ..geometry import Matrix

_NEAR_DEG = 30.0  # between a camera's roll and a quarter turn
_MAX_ELEVATION_DEG = 60.0  # a camera that looks up or down has no side that is up

# One quarter turn counter-clockwise: the axes of the turned camera in those of the old one.
_OLD_FROM_TURNED = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def quarter_turns(ego_from_camera: Matrix) -> int:
    """How many quarter turns counter-clockwise (0 to 3) bring the vehicle's up to the picture's upper edge.

    Args:
        ego_from_camera: pose [4, 4] of the optical frame: x right, y down, z ahead.
    """
    right, down, ahead = ego_from_camera[2, :3]  # the vehicle's z, seen from the camera
    if abs(ahead) > np.sin(np.radians(_MAX_ELEVATION_DEG)):
        return 0
    roll_deg = np.degrees(np.arctan2(right, -down))
    turns = round(roll_deg / 90)
    return int(turns % 4) if abs(roll_deg - 90 * turns) <= _NEAR_DEG else 0


def turned(image: Pixels, turns: int) -> Pixels:
    """A picture [height, width, 3] turned by quarter turns counter-clockwise."""
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def turned_camera(
    size_hw: tuple[int, int], intrinsics: Matrix, ego_from_camera: Matrix, turns: int
) -> tuple[Matrix, Matrix]:
    """Intrinsics [3, 3] and pose [4, 4] of a picture of a size, turned with it by the same quarter turns.

    A point of the world lies on the same detail of the picture before and after.
    """
    height, width = size_hw
    for _ in range(turns):
        turned_from_old = np.array([[0.0, 1, 0], [-1, 0, width - 1], [0, 0, 1]])  # of pixels
        intrinsics = turned_from_old @ intrinsics @ _OLD_FROM_TURNED[:3, :3]
        ego_from_camera = ego_from_camera @ _OLD_FROM_TURNED
        width, height = height, width
    return intrinsics, ego_from_camera
