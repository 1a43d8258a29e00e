"""Boxes that stand or move among voxels.

Sums are written out: `include/panoocc/known_space.hpp` does the same operations on doubles in the same order and so
comes to the same answers, which a matrix product, free to fuse and to reorder, would not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import MAX_DISTANCE_M, Matrix, rotation_from_quaternion

Vector = tuple[float, float, float]
Rotation = tuple[Vector, Vector, Vector]  # rows
TOUCH_M = 1e-9  # what is nearer than this touches: no rounding may make an answer less cautious
UPRIGHT = (0.0, 0.0, 0.0, 1.0)
_UNITS: Rotation = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class OrientedBox:
    """A box by the pose of its middle in the frame of a grid's message, and its edges along its own axes.

    Raises:
        ValueError: a number is not finite or too large, an edge is not positive, or the orientation has no direction.
    """

    centre_m: Vector
    size_m: Vector  # length, width, height
    orientation: tuple[float, float, float, float] = UPRIGHT  # quaternion (x, y, z, w), of any length

    def __post_init__(self) -> None:
        object.__setattr__(self, "centre_m", checked_vector(self.centre_m, "centre_m"))
        object.__setattr__(self, "size_m", checked_vector(self.size_m, "size_m"))
        if min(self.size_m) <= 0:
            raise ValueError(f"size_m is {self.size_m}: the edges of a box are positive")
        rotation_rows(self.orientation)

    @classmethod
    def turned(cls, centre_m: Sequence[float], size_m: Sequence[float], yaw_rad: float) -> "OrientedBox":
        """A box that is turned about z alone."""
        orientation = (0.0, 0.0, math.sin(yaw_rad / 2), math.cos(yaw_rad / 2))
        return cls(checked_vector(centre_m, "centre_m"), checked_vector(size_m, "size_m"), orientation)


def checked_vector(values: Sequence[float], name: str) -> Vector:
    """Three finite numbers of at most MAX_DISTANCE_M.

    Raises:
        ValueError: they are not; the text begins with `name`.
    """
    vector = tuple(float(value) for value in values)
    if len(vector) != 3 or not all(math.isfinite(value) and abs(value) <= MAX_DISTANCE_M for value in vector):
        raise ValueError(f"{name} is {list(vector)[:4]}, not three numbers of at most {MAX_DISTANCE_M:g}")
    return vector[0], vector[1], vector[2]


def rotation_rows(quaternion: Sequence[float]) -> Rotation:
    """Rotation of a quaternion (x, y, z, w), as `geometry.rotation_from_quaternion`."""
    x, y, z = rotation_from_quaternion(np.asarray(quaternion, np.float64)).tolist()
    return tuple(x), tuple(y), tuple(z)


def dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def column(rotation: Rotation, i: int) -> Vector:
    return rotation[0][i], rotation[1][i], rotation[2][i]


@dataclass(frozen=True, slots=True)
class MovingBox:
    """A box in the axes of a grid, and the way that it goes: straight on, without turning."""

    centre_m: Vector
    half_m: Vector
    axes: Rotation  # axes[j]: the box's axis j in the grid's axes
    direction: Vector  # of length 1; 0, 0, 0 for a box that stands
    reach_m: float

    @property
    def extent_m(self) -> Vector:
        """Half the edges of the smallest box along the grid's axes around it."""
        h, a = self.half_m, self.axes
        x, y, z = (h[0] * abs(a[0][i]) + h[1] * abs(a[1][i]) + h[2] * abs(a[2][i]) for i in range(3))
        return x, y, z

    def window(self, shape_xyz: Sequence[int], voxel_size_m: Sequence[float]) -> tuple[tuple[int, int], ...]:
        """First and last voxel along x, y and z that it may touch on its way; first > last where there is none."""
        found = []
        for centre, extent, step, n, size in zip(self.centre_m, self.extent_m, self.direction, shape_xyz, voxel_size_m):
            end = centre + self.reach_m * step
            first = (min(centre, end) - extent - TOUCH_M) / size
            last = (max(centre, end) + extent + TOUCH_M) / size
            found.append((math.floor(min(max(first, 0.0), n)), math.floor(min(max(last, -1.0), n - 1))))
        return tuple(found)

    def leaves_m(self, shape_xyz: Sequence[int], voxel_size_m: Sequence[float]) -> float:
        """How far it goes until a part of it is outside the grid; inf where that is beyond its reach."""
        first = math.inf
        for centre, extent, step, n, size in zip(self.centre_m, self.extent_m, self.direction, shape_xyz, voxel_size_m):
            below, above = centre - extent - TOUCH_M, n * size - (centre + extent + TOUCH_M)  # room on both sides
            if below < 0 or above < 0:
                return 0.0
            if step != 0:
                first = min(first, above / step if step > 0 else below / -step)
        return first if first <= self.reach_m else math.inf

    def touches_m(self, centres_m: Matrix, voxel_size_m: Sequence[float]) -> NDArray[np.float64]:
        """How far it goes until it touches each voxel [n] of middles [n, 3]; inf where it does not within its reach.

        Two boxes are apart exactly where one of 15 directions parts them: the axes of both, and the products of one of
        each.  Along each of them the moving box overlaps a voxel from one distance to another; it touches the voxel
        where all these intervals overlap.
        """
        half_voxel = tuple(size / 2 for size in voxel_size_m)
        gap = tuple(centres_m[:, i] - self.centre_m[i] for i in range(3))  # of the middles
        first: NDArray[np.float64] = np.zeros(len(centres_m))
        last: NDArray[np.float64] = np.full(len(centres_m), self.reach_m)
        for line in self._parting_lines():
            along = gap[0] * line[0] + gap[1] * line[1] + gap[2] * line[2]
            speed = dot(self.direction, line)
            own = [half * abs(dot(axis, line)) for half, axis in zip(self.half_m, self.axes)]
            theirs = [half * abs(part) for half, part in zip(half_voxel, line)]
            sum_m = (own[0] + own[1] + own[2]) + (theirs[0] + theirs[1] + theirs[2]) + TOUCH_M
            if speed == 0:
                last[np.abs(along) > sum_m] = -1.0
                continue
            with np.errstate(over="ignore"):
                enter, leave = (along - sum_m) / speed, (along + sum_m) / speed
            if speed < 0:
                enter, leave = leave, enter
            first, last = np.maximum(first, enter), np.minimum(last, leave)
        return np.where(first <= last, first, math.inf)

    def _parting_lines(self) -> list[Vector]:
        crosses = [(0.0, -axis[2], axis[1]) for axis in self.axes]
        crosses += [(axis[2], 0.0, -axis[0]) for axis in self.axes]
        crosses += [(-axis[1], axis[0], 0.0) for axis in self.axes]
        return [*_UNITS, *self.axes, *crosses]
