"""The street as a curve with lanes, and the ground as a map of classes and colours.

Street coordinates are (s, l): metres along the centre line and metres to its left.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..labels import OCC3D
from .shapes import Floats

CELL_M = 0.1
MAX_CELLS = 120_000_000  # 1.2 square kilometres, half a gigabyte with colours
MAX_SIDE = 32_000  # OpenCV's limit for sampling
_SHIFT = 4  # fractional bits of the polygons' corners

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Profile:
    """Widths across the street in metres, the same on both sides."""

    lanes: int  # per direction
    lane_m: float = 3.5
    parking_m: float = 2.3
    pavement_m: float = 3.0
    verge_m: float = 2.5

    @property
    def kerb_m(self) -> float:
        """From the centre line to the kerb."""
        return self.lanes * self.lane_m + self.parking_m

    @property
    def pavement_end_m(self) -> float:
        """From the centre line to the outer edge of the pavement."""
        return self.kerb_m + self.pavement_m

    @property
    def lot_m(self) -> float:
        """From the centre line to where buildings may begin."""
        return self.pavement_end_m + self.verge_m


class Centreline:
    """A curve of straight parts, bends and corners from s = 0 to `length_m`, in steps of half a metre."""

    def __init__(self, generator: np.random.Generator, length_m: float):
        self.length_m = length_m
        step = 0.5
        curvature: list[float] = []
        heading = 0.0
        while len(curvature) * step < length_m:
            curvature += [0.0] * int(generator.uniform(25, 60) / step)
            is_corner = generator.random() < 0.3
            radius = generator.uniform(34, 44) if is_corner else generator.uniform(60, 140)
            angle = generator.uniform(1.0, 1.5) if is_corner else generator.uniform(0.25, 0.8)
            # Turning back when it has turned far, a street never runs into itself.
            side = float(generator.choice([-1, 1])) if abs(heading) < 0.6 else -math.copysign(1.0, heading)
            heading += side * angle
            curvature += [side / radius] * int(radius * angle / step)
        bend = np.convolve(np.pad(curvature, 20, mode="edge"), np.ones(41) / 41, mode="valid")  # 20 m of easing
        self._yaw = np.cumsum(bend[: int(length_m / step) + 1] * step)
        self._xy = np.cumsum(np.stack((np.cos(self._yaw), np.sin(self._yaw)), axis=1) * step, axis=0)
        self._s = np.arange(len(self._yaw)) * step

    def pose(self, s: ArrayLike, left: ArrayLike = 0.0) -> tuple[Points, Points, Points]:
        """x, y in metres and heading in radians at street coordinates; beyond the ends the street goes straight on."""
        s, left = np.broadcast_arrays(np.asarray(s, float), np.asarray(left, float))
        inner = np.clip(s, 0, self._s[-1])
        x, y, yaw = (np.interp(inner, self._s, values) for values in (self._xy[:, 0], self._xy[:, 1], self._yaw))
        beyond = s - inner
        x = x + beyond * np.cos(yaw) - left * np.sin(yaw)
        return x, y + beyond * np.sin(yaw) + left * np.cos(yaw), yaw

    def band(self, start: float, end: float, right: float, left: float) -> Points:
        """Outline [n, 2] of the strip between two distances from the centre line."""
        s = np.append(np.arange(start, end, 1.0), end)
        edges = [np.stack(self.pose(s, offset)[:2], axis=1) for offset in (right, left)]
        return np.concatenate((edges[0], edges[1][::-1]))

    def across(self, s: float, half_m: float, reach_m: float) -> Points:
        """Outline [4, 2] of a straight strip at right angles to the street."""
        x, y, yaw = (float(value) for value in self.pose(s))
        ahead, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
        corners = ((-half_m, -reach_m), (half_m, -reach_m), (half_m, reach_m), (-half_m, reach_m))
        return np.array([(x, y) + a * ahead + b * left for a, b in corners])


class Ground:
    """Class and colour of the plane z = 0, in cells of 0.1 m; terrain beyond the map.

    Raises:
        ValueError: the map would be unreasonably large.
    """

    def __init__(self, low_xy: Points, high_xy: Points, base_colour: tuple[int, int, int]):
        self.low_xy = np.asarray(low_xy, float)
        columns, rows = np.ceil((np.asarray(high_xy) - self.low_xy) / CELL_M).astype(int) + 1
        if columns * rows > MAX_CELLS or max(columns, rows) > MAX_SIDE:
            size = f"{columns * CELL_M:.0f} m x {rows * CELL_M:.0f} m"
            raise ValueError(
                f"the ground around the street would cover {size}, which is too much; make the drive shorter"
            )
        self.class_id = np.full((rows, columns), OCC3D.names.index("terrain"), np.uint8)
        self.colour = np.empty((rows, columns, 3), np.uint8)
        self.colour[:] = base_colour
        self.mips: list[NDArray[np.uint8]] = []  # the colours, each a quarter as fine as the one before

    def paint(self, outline: Points, colour: Sequence[int], class_name: str | None = None) -> None:
        """Fill a polygon [n, 2] (world, metres); None paints the colour only."""
        corners = np.round(((outline - self.low_xy) / CELL_M - 0.5) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(self.colour, [corners], [float(c) for c in colour], cv2.LINE_AA, _SHIFT)
        if class_name is not None:
            cv2.fillPoly(self.class_id, [corners], float(OCC3D.names.index(class_name)), cv2.LINE_8, _SHIFT)

    def finish(self) -> None:
        """Prepare the coarser copies of the colours that distant pixels read."""
        self.mips = [self.colour]
        for _ in range(2):
            half = self.mips[-1]
            smaller = cv2.resize(half, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
            self.mips.append(np.asarray(smaller, np.uint8))

    def classes(self, x: Floats, y: Floats) -> NDArray[np.uint8]:
        """Class of points."""
        column = np.floor((x - self.low_xy[0]) / CELL_M).astype(np.int64)
        row = np.floor((y - self.low_xy[1]) / CELL_M).astype(np.int64)
        rows, columns = self.class_id.shape
        known = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        found = self.class_id[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
        return np.where(known, found, np.uint8(OCC3D.names.index("terrain")))
