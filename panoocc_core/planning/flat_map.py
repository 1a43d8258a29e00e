"""Columns of voxels as square cells in another frame: a map that lies flat in the world."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Matrix, points_up
from ..types import GridGeometry
from .columns import OCCUPIED_PERCENT, UNKNOWN
from .obstacles import Band

MAX_CELLS = 4_000_000


@dataclass(frozen=True, slots=True, eq=False)
class FlatMap:
    """Square cells [y, x] along the axes of a frame."""

    percent: NDArray[np.int8]  # [y, x], as in Columns
    resolution_m: float
    corner_m: tuple[float, float]  # x and y of the outer corner of cell 0, 0


def cell_m(geometry: GridGeometry, resolution_m: float) -> float:
    """Edge of a cell; a resolution of 0 is that of the voxels, the smaller of their two edges."""
    return resolution_m or float(min(geometry.voxel_size_m[:2]))


def size_in_cells(geometry: GridGeometry, resolution_m: float) -> int:
    """Edge of the square that holds a grid however it is turned.

    Raises:
        ValueError: it has more than MAX_CELLS cells.
    """
    cell = cell_m(geometry, resolution_m)
    across_m = math.hypot(*(n * size for n, size in zip(geometry.shape_xyz[:2], geometry.voxel_size_m)))
    count = math.ceil(across_m / cell - 1e-6) + 1
    if count * count > MAX_CELLS:
        raise ValueError(f"cells of {cell:g} m make a map of {count} x {count}: at most {MAX_CELLS} are taken")
    return count


def flat_map(
    percent: NDArray[np.int8],
    geometry: GridGeometry,
    band: Band,
    frame_from_ego: Matrix | None = None,
    resolution_m: float = 0.0,
) -> FlatMap:
    """The columns of a grid in cells along the axes of a frame.

    In the vehicle's own frame the map begins at the grid's corner.  In another one it is a square of constant size
    around the grid, whose corner is a multiple of the resolution, so that cells stay where they are while the vehicle
    moves.  Of all columns that a cell touches the occupied ones count first, then the unknown ones; what lies beyond
    the grid is unknown.  Cells look at places so near to each other that no column is missed.

    Args:
        percent: [X, Y], as in Columns.
        frame_from_ego: [4, 4] at the grid's time; None: the vehicle's own frame.
        resolution_m: edge of a cell; 0: as `cell_m`.

    Raises:
        ValueError: the frame's z axis does not point up, or the map has too many cells.
    """
    cell, side = cell_m(geometry, resolution_m), size_in_cells(geometry, resolution_m)
    frame_from_columns, offset_m = _in_plane(geometry, band, frame_from_ego)
    nx, ny, _ = geometry.shape_xyz
    if frame_from_ego is None:
        corners_m = (np.array([(0, 0), (nx, 0), (0, ny), (nx, ny)]) @ frame_from_columns.T) + offset_m
        corner_m = corners_m.min(axis=0)
        counts = np.ceil((corners_m.max(axis=0) - corner_m) / cell - 1e-6).astype(int)
    else:
        centre_m = frame_from_columns @ (nx / 2, ny / 2) + offset_m
        corner_m = np.floor((centre_m - (side - 1) * cell / 2) / cell) * cell
        counts = np.array((side, side))
    found = _touched(percent, geometry, frame_from_columns, corner_m - offset_m, counts, cell)
    highest, lowest = found.max(axis=(1, 3)), found.min(axis=(1, 3))
    combined = np.where((highest < OCCUPIED_PERCENT) & (lowest == UNKNOWN), np.int8(UNKNOWN), highest)
    return FlatMap(combined, cell, (float(corner_m[0]), float(corner_m[1])))


def _touched(
    percent: NDArray[np.int8],
    geometry: GridGeometry,
    frame_from_columns: Matrix,
    corner_m: NDArray[Any],
    counts: NDArray[Any],
    cell: float,
) -> NDArray[np.int8]:
    """What the columns have at places in each cell, [y, place, x, place]; `corner_m` counts from column 0, 0."""
    nx, ny, _ = geometry.shape_xyz
    # Places along a cell: every column has one of them in it, however it is turned.
    is_aligned = np.abs(frame_from_columns[(0, 1), (1, 0)]).max() < 1e-9
    parts = math.ceil((1 if is_aligned else math.sqrt(2)) * cell / min(geometry.voxel_size_m[:2]) - 1e-6)
    x, y = (corner + (np.arange(count * parts) + 0.5) * (cell / parts) for corner, count in zip(corner_m, counts))
    columns_from_frame = np.linalg.inv(frame_from_columns)
    # One column more on each side: beyond the grid.
    column, row = (
        np.clip(np.floor((a * x).astype(np.float32) + (b * y).astype(np.float32)[:, None]) + 1, 0, n + 1)
        for (a, b), n in zip(columns_from_frame, (nx, ny))
    )
    place = (column * (ny + 2) + row).astype(np.int32)
    around = np.pad(percent, 1, constant_values=UNKNOWN)
    return around.ravel()[place].reshape(counts[1], parts, counts[0], parts)


def _in_plane(geometry: GridGeometry, band: Band, frame_from_ego: Matrix | None) -> tuple[Matrix, NDArray[Any]]:
    """Where a column lies in a frame, seen from above: [2, 2] and [2], of its place in voxels, at the band's middle."""
    nx, ny, _ = geometry.shape_xyz
    ego_from_voxels = geometry.ego_from_grid @ np.diag((*geometry.voxel_size_m, 1.0))
    slope = ego_from_voxels[2]
    layer = ((band.min_m + band.max_m) / 2 - slope[3] - slope[0] * nx / 2 - slope[1] * ny / 2) / slope[2]
    frame_from_grid = geometry.ego_from_grid if frame_from_ego is None else frame_from_ego @ geometry.ego_from_grid
    matrix = ego_from_voxels if frame_from_ego is None else frame_from_ego @ ego_from_voxels
    if not points_up(frame_from_grid):
        raise ValueError("the z axis of the map's frame does not point up")
    return matrix[:2, :2], matrix[:2, 2] * layer + matrix[:2, 3]
