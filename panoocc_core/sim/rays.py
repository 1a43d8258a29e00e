"""Casting rays at a scene's solids: what a camera sees, and what the sun does not reach."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import Matrix
from .rig import SimCamera
from .shapes import Floats, Ints, ShapeTable, enter

NEAR_M = 0.05
FAR_M = 160.0
_MAX_SHADOW_CELLS = 40_000_000
GROUND, SKY = -1, -2  # in place of a shape's index

_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What each pixel's ray meets first."""

    depth_m: Floats  # [height, width], along the optical axis; inf for the sky
    shape: Ints  # [height, width], index into the shape table, or GROUND or SKY
    direction: Floats  # [3, height, width], world frame, one metre deep
    origin: Floats  # [3], world frame


def corners_m(shapes: ShapeTable) -> Floats:
    """Corners [n, 8, 3] of the boxes around all shapes, in the world frame."""
    local = _CORNERS[None] * shapes.half_m[:, None]
    return np.einsum("nij,nkj->nki", shapes.world_from_shape, local) + shapes.centre_m[:, None]


def pixel_rays(camera: SimCamera, world_from_camera: Matrix) -> Floats:
    """Directions [3, height, width] through the pixels' centres, in the world frame, one metre deep."""
    k = camera.intrinsics
    y = (np.arange(camera.height) - k[1, 2]) / k[1, 1]
    x = (np.arange(camera.width)[None] - k[0, 2] - k[0, 1] * y[:, None]) / k[0, 0]
    local = np.stack((x, np.broadcast_to(y[:, None], x.shape), np.ones_like(x)))
    turned = world_from_camera[:3, :3] @ local.reshape(3, -1)
    return turned.reshape(3, camera.height, camera.width).astype(np.float32)


def cast(camera: SimCamera, world_from_camera: Matrix, shapes: ShapeTable) -> Hits:
    """First hit of every pixel's ray."""
    direction = pixel_rays(camera, world_from_camera)
    origin = world_from_camera[:3, 3].astype(np.float32)
    with np.errstate(divide="ignore"):
        depth = np.where(direction[2] < 0, -origin[2] / direction[2], np.float32(np.inf)).astype(np.float32)
    shape = np.where(np.isfinite(depth), np.int32(GROUND), np.int32(SKY))
    indices, windows, nearest = _windows(camera, world_from_camera, shapes)
    local_origins = np.einsum("nij,nj->ni", shapes.local_from_world, origin - shapes.centre_m)
    for index, (left, right, top, bottom), close in zip(indices, windows, nearest):
        region = depth[top:bottom, left:right]
        if close >= region.max():
            continue  # all of it is hidden
        rays = shapes.local_from_world[index] @ direction[:, top:bottom, left:right].reshape(3, -1)
        hit = enter(shapes.kind[index], shapes.planes[index], local_origins[index][:, None], rays).reshape(region.shape)
        closer = (hit < region) & (hit > NEAR_M)
        region[closer] = hit[closer]
        shape[top:bottom, left:right][closer] = index
    return Hits(depth, shape, direction, origin)


def _windows(
    camera: SimCamera, world_from_camera: Matrix, shapes: ShapeTable
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Shapes that may be seen, from near to far: indices [n], pixel windows [n, 4], least depths [n]."""
    corners = (corners_m(shapes) - world_from_camera[:3, 3]) @ world_from_camera[:3, :3]
    depth = corners[..., 2]
    behind = depth < NEAR_M
    projected = (corners / np.maximum(depth, NEAR_M)[..., None]) @ camera.intrinsics.T
    low = np.floor(projected[..., :2].min(axis=1))
    high = np.ceil(projected[..., :2].max(axis=1)) + 1
    # A shape that reaches behind the camera may appear anywhere on its side of the image.
    for axis, size in ((0, camera.width), (1, camera.height)):
        reach = corners[..., axis] / np.maximum(depth, NEAR_M)
        straddles = behind.any(axis=1)
        low[straddles & ((reach < 0) & behind).any(axis=1), axis] = 0
        high[straddles & ((reach > 0) & behind).any(axis=1), axis] = size
    low = np.clip(low, 0, (camera.width, camera.height))
    high = np.clip(high, 0, (camera.width, camera.height))
    seen = (depth.max(axis=1) > NEAR_M) & (depth.min(axis=1) < FAR_M) & (high > low).all(axis=1)
    nearest = np.maximum(depth.min(axis=1), 0)
    indices = np.flatnonzero(seen)
    indices = indices[np.argsort(nearest[indices], kind="stable")]
    windows = np.stack((low[:, 0], high[:, 0], low[:, 1], high[:, 1]), axis=1).astype(np.int64)
    return indices, windows[indices], nearest[indices].astype(np.float32)


class ShadowMap:
    """Height of the first solid along the sun's rays, in the plane across them.

    Coordinates are metres along two axes across the sun's direction, and "rise" towards the sun.  `cell_m` grows where
    the map would have more than 40 million cells.
    """

    def __init__(self, to_sun: Floats, low: Floats, high: Floats, cell_m: float):
        across = np.cross((0.0, 0.0, 1.0), to_sun)
        first = across / np.linalg.norm(across)
        self.axes = np.stack((first, np.cross(to_sun, first), to_sun)).astype(np.float32)  # [3, 3]
        box = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
        spread = box @ self.axes.T
        self.low = spread.min(axis=0).astype(np.float32)
        self.top = float(spread[:, 2].max()) + 1
        size_m = (spread.max(axis=0) - self.low)[:2]
        self.cell_m = max(cell_m, float(np.sqrt(size_m.prod() / _MAX_SHADOW_CELLS)))
        columns, rows = np.ceil(size_m / self.cell_m).astype(int) + 1
        self.rise_m = np.full((rows, columns), -np.inf, np.float32)

    def add(self, shapes: ShapeTable, which: NDArray[np.bool_]) -> None:
        """Let the chosen shapes [n] cast their shadows."""
        indices = np.flatnonzero(which)
        spread = corners_m(shapes)[indices] @ self.axes.T
        low = np.floor((spread.min(axis=1)[:, :2] - self.low[:2]) / self.cell_m).astype(int)
        high = np.ceil((spread.max(axis=1)[:, :2] - self.low[:2]) / self.cell_m).astype(int) + 1
        rows, columns = self.rise_m.shape
        low, high = np.maximum(low, 0), np.minimum(high, (columns, rows))
        for index, (left, top), (right, bottom) in zip(indices, low, high):
            if left >= right or top >= bottom:
                continue
            to_local = shapes.local_from_world[index]
            # Rays start at the map's cells and fall along -to_sun; both are affine in the shape's unit frame.
            step = to_local @ self.axes.T
            start = step[:, 2] * self.top - to_local @ shapes.centre_m[index]
            u = (np.arange(left, right, dtype=np.float32) + 0.5) * self.cell_m + self.low[0]
            v = (np.arange(top, bottom, dtype=np.float32) + 0.5) * self.cell_m + self.low[1]
            origin = (step[:, 0, None] * u + start[:, None])[:, None] + (step[:, 1, None] * v)[:, :, None]
            origin = origin.reshape(3, -1).astype(np.float32)
            fall = enter(int(shapes.kind[index]), shapes.planes[index], origin, -step[:, 2, None])
            region = self.rise_m[top:bottom, left:right]
            np.maximum(region, self.top - fall.reshape(region.shape), out=region)

    def around(self, point: Floats, reach_m: float) -> "ShadowMap":
        """A copy of the surroundings of a point [3], to which moving shapes can be added."""
        middle = (self.axes[:2] @ point - self.low[:2]) / self.cell_m
        first = np.floor(middle - reach_m / self.cell_m).astype(int)
        first = np.clip(first, 0, np.array(self.rise_m.shape[::-1]) - 1)
        last = np.maximum(np.ceil(middle + reach_m / self.cell_m).astype(int), first + 1)
        other = object.__new__(ShadowMap)
        rise_m = self.rise_m[first[1] : last[1], first[0] : last[0]].copy()
        low = self.low + np.append(first * self.cell_m, 0).astype(np.float32)
        other.__dict__.update(self.__dict__, rise_m=rise_m, low=low)
        return other

    def lit(self, points: Floats, bias_m: float = 0.25) -> Floats:
        """Share of sunlight 0..1 [n] that reaches points [n, 3]."""
        spread = points @ self.axes.T
        place = (spread[:, :2] - self.low[:2]) / self.cell_m - 0.5
        corner = np.floor(place).astype(np.int64)
        part = (place - corner).astype(np.float32)
        rows, columns = self.rise_m.shape
        share = np.zeros(len(points), np.float32)
        for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
            u = np.clip(corner[:, 0] + right, 0, columns - 1)
            v = np.clip(corner[:, 1] + down, 0, rows - 1)
            weight = np.abs(1 - right - part[:, 0]) * np.abs(1 - down - part[:, 1])
            share += weight * (self.rise_m[v, u] < spread[:, 2] + bias_m)
        return share
