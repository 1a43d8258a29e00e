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
Kinds = NDArray[np.uint8]  # of these


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
    classes = class_id.transpose(2, 1, 0)[:high]  # [layer, Y, X]
    kind = _kind_of_class(is_obstacle, is_ground, free_id)[classes]
    in_band = kind[low:] if outside is None else np.where(outside, np.uint8(_OUTSIDE), kind[low:])
    certain = None if confidence is None else confidence.transpose(2, 1, 0)[:high]
    sure = np.full((1, 1, 1), 255, np.uint8) if certain is None else certain[low:]
    seen = None if visible is None else visible.transpose(2, 1, 0)[low:high]

    obstacle, sure_of_obstacle = _likeliest_obstacle(in_band, sure, low)
    ground = _highest(in_band == _GROUND, low)
    is_unknown = (obstacle == 0) & (_highest_unseen(in_band, seen, low) > ground)
    if outside is not None:
        is_unknown |= outside.all(axis=0)
    counts = np.where(obstacle > 0, obstacle, np.where(is_unknown, 0, _ground_at_or_below(ground, kind, outside, low)))
    layer = counts.astype(np.int64) - 1
    of_class, of_confidence = _picked(classes, certain, layer)
    return Columns(
        percent=np.where(is_unknown, UNKNOWN, _occupied_percent(in_band, sure, obstacle, sure_of_obstacle)).T,
        layer=layer.T,
        class_id=of_class.T,
        confidence=of_confidence.T,
    )


def _kind_of_class(is_obstacle: NDArray[np.bool_], is_ground: NDArray[np.bool_], free_id: int | None) -> Kinds:
    """[256], by class id."""
    kinds = np.full(256, _OTHER, np.uint8)
    kinds[is_ground], kinds[is_obstacle] = _GROUND, _OBSTACLE
    if free_id is not None:
        kinds[free_id] = _FREE
    return kinds


# In what follows arrays are [layer, Y, X]; `in_band` begins at the layer `low`, `kind` at the lowest.  What is said of
# columns, [Y, X], counts layers from 1: 0 is none.


def _highest(which: NDArray[np.bool_], low: int) -> NDArray[np.int16]:
    """The highest voxel of each column in a mask that begins at the layer `low`."""
    layers = np.arange(low + 1, low + 1 + len(which), dtype=np.int16)[:, None, None]
    return np.asarray((layers * which).max(axis=0, initial=0))


def _likeliest_obstacle(in_band: Kinds, sure: NDArray[np.uint8], low: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The likeliest obstacle of each column, of equal ones the highest, and its confidence."""
    layers = np.arange(low + 1, low + 1 + len(in_band), dtype=np.int32)[:, None, None]
    # One maximum finds both: the confidence in the upper half of a number, the layer in the lower one.
    likeliest = np.where(in_band == _OBSTACLE, sure.astype(np.int32) << 16 | layers, 0).max(axis=0)
    return likeliest & 0xFFFF, likeliest >> 16


def _highest_unseen(in_band: Kinds, seen: NDArray[np.bool_] | None, low: int) -> NDArray[np.int16]:
    """The highest free voxel of each column that is not seen."""
    is_free = in_band == _FREE
    return _highest(is_free if seen is None else is_free & ~seen, low)


def _occupied_percent(
    in_band: Kinds, sure: NDArray[np.uint8], obstacle: NDArray[Any], sure_of_obstacle: NDArray[Any]
) -> NDArray[np.int8]:
    """Probability of being occupied: that of the obstacle, else what the least sure free voxel leaves."""
    doubt = 255 - np.where(in_band == _FREE, sure, np.uint8(255)).min(axis=0)
    occupied = np.maximum(_percent(sure_of_obstacle), OCCUPIED_PERCENT)
    return np.where(obstacle > 0, occupied, np.minimum(_percent(doubt), OCCUPIED_PERCENT - 1)).astype(np.int8)


def _ground_at_or_below(
    ground: NDArray[Any], kind: Kinds, outside: NDArray[np.bool_] | None, low: int
) -> NDArray[np.int16]:
    """The highest ground of each column in the band or below it."""
    is_ground = kind[:low] == _GROUND
    if outside is not None:  # where each column's own band ends
        layers = np.arange(1, len(kind) + 1, dtype=np.int16)[:, None, None]
        is_ground = (kind == _GROUND) & (layers < _highest(~outside, low))
    return np.maximum(ground, _highest(is_ground, 0))


def _picked(
    classes: NDArray[np.uint8], certain: NDArray[np.uint8] | None, layer: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Class and confidence of the voxel that counts in each column; `layer` counts from 0, -1 is none."""
    is_there, place = layer >= 0, np.maximum(layer, 0)[None]
    of_class = np.where(is_there, np.take_along_axis(classes, place, 0)[0], np.uint8(NO_CLASS))
    sure = np.uint8(255) if certain is None else np.take_along_axis(certain, place, 0)[0]
    return of_class, np.where(is_there, sure, np.uint8(0))


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
