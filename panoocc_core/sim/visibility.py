"""Which voxels the cameras of a rig can see, from the depths that their rays find."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import Matrix, invert
from ..optics import CameraView
from ..types import GridGeometry
from .lens_sides import lens_sides
from .rays import cast
from .rig import Rig, SimCamera
from .scene import Scene
from .shapes import Floats, ShapeTable
from .truth import Truth

_MIN_DEPTH_M = 0.05
_BLOCK = 1 << 18  # voxels at a time, so that a fine grid needs no copy of all centres


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one camera measured from where."""

    camera: SimCamera
    world_from_camera: Matrix  # [4, 4]
    depth_m: Floats  # [height, width], along the optical axis, through a lens along the ray; inf for the sky


def camera_mask(scene: Scene, rig: Rig, truth: Truth, time_s: float) -> NDArray[np.bool_]:
    """Whether a camera sees each voxel [X, Y, Z] of a truth; every camera at its own shutter time."""
    views = []
    for camera in rig:
        shutter_s = time_s + camera.shutter_offset_s
        world_from_ego, shapes = scene.world_from_ego(shutter_s), scene.shapes_at(shutter_s)
        views.append(View(camera, world_from_ego @ camera.ego_from_camera, _depth_m(camera, world_from_ego, shapes)))
    return mask_from_views(views, truth.geometry, truth.world_from_ego)


def _depth_m(camera: SimCamera, world_from_ego: Matrix, shapes: ShapeTable) -> Floats:
    if camera.lens is None:
        return cast(camera, world_from_ego @ camera.ego_from_camera, shapes).depth_m
    sides = lens_sides(camera)
    taken = [_depth_m(side, world_from_ego, shapes) for side in sides.cameras(camera)]
    return np.asarray(sides.through(taken, np.inf) * sides.stretch)


def mask_from_views(views: Sequence[View], geometry: GridGeometry, world_from_ego: Matrix) -> NDArray[np.bool_]:
    """Voxels [X, Y, Z] that at least one view sees: those whose middle lies in front of the first surface on its ray,
    or behind it by no more than half a voxel, measured along the ray."""
    world_from_grid = world_from_ego @ geometry.ego_from_grid
    voxel_size_m = np.asarray(geometry.voxel_size_m)
    seen = np.zeros(math.prod(geometry.shape_xyz), bool)
    for low in range(0, len(seen), _BLOCK):
        block = seen[low : low + _BLOCK]
        places = np.unravel_index(np.arange(low, low + len(block)), geometry.shape_xyz)
        centres = (np.stack(places, axis=1) + 0.5) * voxel_size_m
        for view in views:
            block |= _sees(view, centres, world_from_grid, voxel_size_m)
    return seen.reshape(geometry.shape_xyz)


def _sees(view: View, centres: Matrix, world_from_grid: Matrix, voxel_size_m: Matrix) -> NDArray[np.bool_]:
    """Whether a view sees points [n, 3] of the grid's frame."""
    camera_from_grid = invert(view.world_from_camera) @ world_from_grid
    points = centres @ camera_from_grid[:3, :3].T + camera_from_grid[:3, 3]
    lens = view.camera.lens
    depth = points[:, 2] if lens is None else np.linalg.norm(points, axis=1)
    pixels, in_field = CameraView(view.camera.intrinsics, np.eye(4)[:3], lens).pixels(points)
    rows, columns = view.depth_m.shape
    inside = in_field & (depth > _MIN_DEPTH_M) & ((pixels >= 0) & (pixels <= (columns - 1, rows - 1))).all(axis=1)
    found = np.zeros(len(points), bool)
    along = points[inside] / depth[inside, None]  # one metre
    half_voxel = np.abs(along @ camera_from_grid[:3, :3]) @ voxel_size_m / 2 / (along**2).sum(axis=1)
    found[inside] = depth[inside] <= _surface_depth(view.depth_m, pixels[inside]) + half_voxel
    return found


def _surface_depth(depth_m: Floats, pixels: Matrix) -> Matrix:
    """Depth [n] between pixels [n, 2] (u, v): inverse depth is linear on a plane, so there its mean is exact."""
    inverse = 1 / depth_m  # 0 for the sky
    corner = np.minimum(np.floor(pixels).astype(int), np.array(depth_m.shape[::-1]) - 2)
    corner = np.maximum(corner, 0)
    u, v = (pixels - corner).T
    left, top = corner.T
    right, below = np.minimum(left + 1, depth_m.shape[1] - 1), np.minimum(top + 1, depth_m.shape[0] - 1)
    upper = inverse[top, left] * (1 - u) + inverse[top, right] * u
    lower = inverse[below, left] * (1 - u) + inverse[below, right] * u
    mixed = upper * (1 - v) + lower * v
    with np.errstate(divide="ignore"):
        return np.asarray(1 / mixed)
