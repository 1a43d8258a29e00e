"""What a band of heights holds, for each column of voxels: occupied, free or unknown, and what counts in it.

An obstacle counts wherever it is predicted, seen or not.  A column without one is free only where every free voxel of
the band is seen, down to the highest ground: what hides behind a car hides low, and the space above the car is seen.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Matrix
from ..types import GridGeometry
from .obstacles import Band, layers_in

UNKNOWN, NO_CLASS = -1, 255
OCCUPIED_PERCENT = 50  # where an obstacle is predicted, and more; elsewhere it is less
_FREE, _GROUND, _OBSTACLE, _OTHER, _OUTSIDE = range(5)  # of a voxel


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The columns [X, Y] of a grid in one band of heights.

    The voxel that counts is the likeliest obstacle of the band (of equal ones the highest); where there is none and the
    column is free, the highest ground at or below the band.
    """

    percent: NDArray[np.int8]  # probability of being occupied, 0 to 100; UNKNOWN
    layer: NDArray[np.int64]  # of the voxel that counts; -1: none
    class_id: NDArray[np.uint8]  # its class; NO_CLASS
    confidence: NDArray[np.uint8]  # 255 * probability of its class; 0


def columns(
    class_id: NDArray[np.uint8],
    confidence: NDArray[np.uint8] | None,
    visible: NDArray[np.bool_] | None,
    geometry: GridGeometry,
    band: Band,
    *,
    is_obstacle: NDArray[np.bool_],
    is_ground: NDArray[np.bool_],
    free_id: int | None,
) -> Columns:
    """The columns of a grid.

    Args:
        class_id, confidence, visible: [X, Y, Z], as in `Occupancy`; without `visible` no voxel counts as seen.
        is_obstacle, is_ground: [256], by class id.

    Raises:
        ValueError: no voxel lies in the band.
    """
    shape, pose = tuple(geometry.shape_xyz), geometry.ego_from_grid
    low, high, outside = _band(shape, tuple(geometry.voxel_size_m), pose.tobytes(), band)
    kinds = np.full(256, _OTHER, np.uint8)
    kinds[is_ground], kinds[is_obstacle] = _GROUND, _OBSTACLE
    if free_id is not None:
        kinds[free_id] = _FREE
    classes = class_id.transpose(2, 1, 0)[:high]  # [layer, Y, X]
    kind = kinds[classes]
    certain = np.full((1, 1, 1), 255, np.uint8) if confidence is None else confidence.transpose(2, 1, 0)[:high]
    in_band = kind[low:] if outside is None else np.where(outside, np.uint8(_OUTSIDE), kind[low:])
    sure = certain if confidence is None else certain[low:]
    layers = np.arange(1, high + 1, dtype=np.int16)[:, None, None]  # counted from 1: 0 is none
    of_band = layers[low:]

    is_free = in_band == _FREE
    likeliest = np.where(in_band == _OBSTACLE, (sure.astype(np.int32) + 1) << 16 | of_band, 0).max(axis=0)
    has_obstacle = likeliest > 0
    unseen = is_free if visible is None else is_free & ~visible.transpose(2, 1, 0)[low:high]
    top_unseen, top_ground = ((of_band * which).max(axis=0) for which in (unseen, in_band == _GROUND))
    is_unknown = ~has_obstacle & (top_unseen > top_ground)
    if outside is not None:
        is_unknown |= outside.all(axis=0)
    doubt = 255 - np.where(is_free, sure, np.uint8(255)).min(axis=0)
    occupied = np.maximum(_percent((likeliest >> 16) - 1), OCCUPIED_PERCENT)
    percent = np.where(has_obstacle, occupied, np.minimum(_percent(doubt), OCCUPIED_PERCENT - 1))

    is_ground_below = kind[:low] == _GROUND
    if outside is not None:  # below the band of each column
        end = (of_band * ~outside).max(axis=0)
        is_ground_below = (kind == _GROUND) & (layers < end)
    below = (layers[: len(is_ground_below)] * is_ground_below).max(axis=0, initial=0)
    ground = np.where(is_unknown, 0, np.maximum(top_ground, below))
    counts = np.where(has_obstacle, likeliest & 0xFFFF, ground).astype(np.int64) - 1
    found = np.maximum(counts, 0)[None]
    of_class = np.where(counts >= 0, np.take_along_axis(classes, found, 0)[0], NO_CLASS)
    of_confidence = np.full(counts.shape, 255) if confidence is None else np.take_along_axis(certain, found, 0)[0]
    return Columns(
        percent=np.where(is_unknown, UNKNOWN, percent).astype(np.int8).T,
        layer=counts.T,
        class_id=of_class.astype(np.uint8).T,
        confidence=np.where(counts >= 0, of_confidence, 0).astype(np.uint8).T,
    )


def _percent(of_255: NDArray[Any]) -> NDArray[Any]:
    return (of_255.astype(np.int32) * 200 + 255) // 510  # rounded


@lru_cache(maxsize=8)
def _band(
    shape: tuple[int, int, int], size_m: tuple[float, float, float], pose: bytes, band: Band
) -> tuple[int, int, NDArray[np.bool_] | None]:
    """First layer of a band, one past the last, and which voxels between lie outside, [layer, Y, X].

    None: no voxel does, as in a grid that is level.
    """
    ego_from_grid: Matrix = np.frombuffer(pose).reshape(4, 4)
    geometry = GridGeometry(shape, size_m, ego_from_grid)
    low, high = layers_in(band, geometry)
    x, y, z = ((np.arange(n) + 0.5) * size for n, size in zip(shape, size_m))
    slope = ego_from_grid[2]
    height_m = slope[0] * x + (slope[1] * y)[:, None] + (slope[2] * z[low:high] + slope[3])[:, None, None]
    outside = ~band.holds(height_m)
    return low, high, outside if outside.any() else None


def from_above(values: NDArray[Any], ego_from_grid: Matrix) -> NDArray[Any]:
    """[X, Y, ...] -> [row, column, ...] as a picture shows it: the first row is the furthest ahead of the vehicle, the
    first column the furthest to its left, as near as the axes of the grid come to that.  A view."""
    (ahead_x, ahead_y), (left_x, left_y) = ego_from_grid[:2, :2]
    if abs(ahead_x) < abs(ahead_y):  # the grid's y leads ahead
        values, ahead_x, left_y = values.swapaxes(0, 1), ahead_y, left_x
    return values[:: -1 if ahead_x > 0 else 1, :: -1 if left_y > 0 else 1]
