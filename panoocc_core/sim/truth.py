"""The true semantic voxels of a scene, on any grid.

A voxel is occupied when a solid reaches into it at all, as if a perfect sensor had measured every surface: whatever a
camera of the simulator sees lies in an occupied voxel.  Solids are filled.  Where several meet in one voxel the
smallest wins, the ground last; the ground fills the layer of voxels through which the plane z = 0 passes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import Matrix
from ..labels import OCC3D
from ..types import GridGeometry
from .rays import corners_m
from .scene import Scene
from .shapes import Floats, Kind, ShapeTable, inside

MAX_VOXELS = 64_000_000
_BELOW_M = 1e-4  # ground on a face between two layers belongs to the lower one


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What really is where at one time."""

    class_id: NDArray[np.uint8]  # [X, Y, Z], ids of labels.OCC3D
    instance_id: NDArray[np.int32]  # [X, Y, Z], 0 = stuff and free
    geometry: GridGeometry
    world_from_ego: Matrix  # [4, 4]


def truth(scene: Scene, geometry: GridGeometry, time_s: float) -> Truth:
    """Classes and instances of every voxel at `time_s`.

    Raises:
        ValueError: the grid has more than 64 million voxels, or none.
    """
    if not 0 < np.prod(geometry.shape_xyz, dtype=float) <= MAX_VOXELS:
        raise ValueError(f"a grid of {geometry.shape_xyz} voxels is empty or larger than {MAX_VOXELS} voxels")
    class_id = np.full(geometry.shape_xyz, OCC3D.names.index("free"), np.uint8)
    instance_id = np.zeros(geometry.shape_xyz, np.int32)
    world_from_ego = scene.world_from_ego(time_s)
    world_from_grid = world_from_ego @ geometry.ego_from_grid
    _fill_ground(scene, geometry, world_from_grid, class_id)
    shapes = scene.shapes_at(time_s)
    first, last = _windows(shapes, geometry, world_from_grid)
    present = np.flatnonzero((last > first).all(axis=1))
    volume = shapes.half_m.prod(axis=1)
    for index in present[np.argsort(-volume[present], kind="stable")]:
        window = tuple(slice(a, b) for a, b in zip(first[index], last[index]))
        filled = _reached(shapes, int(index), geometry, world_from_grid, first[index], last[index])
        class_id[window][filled] = shapes.class_id[index]
        instance_id[window][filled] = shapes.instance_id[index]
    return Truth(class_id, instance_id, geometry, world_from_ego)


def _centres(
    geometry: GridGeometry, world_from_grid: Matrix, first: NDArray[np.int64], last: NDArray[np.int64]
) -> Floats:
    """Voxel centres [3, n] in the world frame of a window of the grid, in the order of its ravelled voxels."""
    steps = world_from_grid[:3, :3] * np.asarray(geometry.voxel_size_m)
    x, y, z = (steps[:, i, None] * (np.arange(first[i], last[i]) + 0.5) for i in range(3))
    total = x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :] + world_from_grid[:3, 3, None, None, None]
    return total.reshape(3, -1)


def _fill_ground(scene: Scene, geometry: GridGeometry, world_from_grid: Matrix, class_id: NDArray[np.uint8]) -> None:
    shape = np.array(geometry.shape_xyz)
    reach = np.abs(world_from_grid[2, :3]) @ np.asarray(geometry.voxel_size_m) / 2
    for low in range(0, shape[0], 32):  # in slabs, so that a fine grid needs no copy of all centres
        high = min(low + 32, int(shape[0]))
        x, y, z = _centres(geometry, world_from_grid, np.array([low, 0, 0]), np.array([high, *shape[1:]]))
        hit = np.abs(z + _BELOW_M) <= reach
        slab = class_id[low:high].reshape(-1)
        slab[hit] = scene.ground.classes(x[hit], y[hit])
        class_id[low:high] = slab.reshape(high - low, *shape[1:])


def _windows(
    shapes: ShapeTable, geometry: GridGeometry, world_from_grid: Matrix
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and one past the last voxel [n, 3] of the box around each shape, clipped to the grid."""
    local = (corners_m(shapes) - world_from_grid[:3, 3]) @ world_from_grid[:3, :3] / np.asarray(geometry.voxel_size_m)
    first = np.clip(np.floor(local.min(axis=1)), 0, geometry.shape_xyz).astype(np.int64)
    last = np.clip(np.ceil(local.max(axis=1)), 0, geometry.shape_xyz).astype(np.int64)
    return first, last


def _reached(
    shapes: ShapeTable,
    index: int,
    geometry: GridGeometry,
    world_from_grid: Matrix,
    first: NDArray[np.int64],
    last: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which voxels of a window the shape reaches into.

    A turned voxel is replaced by the box around it along the shape's axes, which is generous by less than half a voxel.
    """
    rotation = shapes.world_from_shape[index].T @ world_from_grid[:3, :3]
    growth = np.abs(rotation) @ np.asarray(geometry.voxel_size_m) / 2
    local = _centres(geometry, world_from_grid, first, last) - shapes.centre_m[index][:, None]
    local = (shapes.world_from_shape[index].T @ local) / shapes.half_m[index][:, None]
    planes = shapes.planes[index].copy()
    relative = growth / shapes.half_m[index]
    if shapes.kind[index] == Kind.HULL:
        planes[:, 3] += np.abs(planes[:, :3]) @ relative
    else:
        local = np.maximum(np.abs(local) - relative[:, None], 0)  # the voxel's nearest point to the middle
    return inside(int(shapes.kind[index]), planes, local).reshape(tuple(last - first))
