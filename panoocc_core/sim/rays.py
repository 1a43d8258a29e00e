"""Casting rays at a scene's solids: what a camera sees first in every pixel."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import Matrix
from .camera import SimCamera
from .shapes import Floats, Ints, ShapeTable
from .solids import Bundles, entries

NEAR_M = 0.05
FAR_M = 160.0
GROUND, SKY = -1, -2  # in place of a shape's index

_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
_BITS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What each pixel's ray meets first."""

    depth_m: Floats  # [height, width], along the optical axis; inf for the sky
    shape: Ints  # [height, width], index into the shape table, or GROUND or SKY
    direction: Floats  # [3, height, width], world frame, one metre deep
    origin: Floats  # [3], world frame


@dataclass(frozen=True, slots=True, eq=False)
class DeviceHits:
    """`Hits` as tensors of one device."""

    depth_m: Tensor  # float32 [height, width]
    shape: Tensor  # int64 [height, width]
    direction: Tensor  # float32 [3, height, width]
    origin: Tensor  # float32 [3]


def corners_m(shapes: ShapeTable) -> Floats:
    """Corners [n, 8, 3] of the boxes around all shapes, in the world frame."""
    half_axes = shapes.world_from_shape * shapes.half_m[:, None]
    return np.tensordot(half_axes, _CORNERS, axes=(2, 1)).transpose(0, 2, 1) + shapes.centre_m[:, None]


def pixel_rays(camera: SimCamera, world_from_camera: Matrix, device: torch.device) -> Tensor:
    """Directions [3, height, width] through the pixels' centres, in the world frame, one metre deep."""
    k, turn = camera.intrinsics, torch.from_numpy(np.ascontiguousarray(world_from_camera[:3, :3])).to(device)
    y = (torch.arange(camera.height, dtype=torch.float64, device=device)[:, None] - k[1, 2]) / k[1, 1]
    x = (torch.arange(camera.width, dtype=torch.float64, device=device) - k[0, 2] - k[0, 1] * y) / k[0, 0]
    return torch.stack([x * along[0] + (y * along[1] + along[2]) for along in turn]).float()


def cast(camera: SimCamera, world_from_camera: Matrix, shapes: ShapeTable) -> Hits:
    """First hit of every pixel's ray."""
    hits = cast_on(torch.device("cpu"), camera, world_from_camera, shapes)
    return Hits(hits.depth_m.numpy(), hits.shape.int().numpy(), hits.direction.numpy(), hits.origin.numpy())


def cast_on(device: torch.device, camera: SimCamera, world_from_camera: Matrix, shapes: ShapeTable) -> DeviceHits:
    """First hit of every pixel's ray, found on a device."""
    direction = pixel_rays(camera, world_from_camera, device)
    origin = torch.from_numpy(world_from_camera[:3, 3].astype(np.float32)).to(device)
    ground = torch.where(direction[2] < 0, -origin[2] / direction[2], torch.inf)
    bundles = _bundles(camera, world_from_camera, shapes)
    # Depth and, for equal depths, the order of the shapes in one integer, of which the least is wanted: floats of one
    # sign sort as their bits do, and the result does not depend on the order in which a GPU comes by.
    nearest = (ground.flatten().view(torch.int32).long() << _BITS).contiguous()
    for number, cell, depth in entries(shapes, bundles, camera.width, device):
        bits = torch.where(depth > NEAR_M, depth, torch.inf).view(torch.int32).long()
        nearest.scatter_reduce_(0, cell, (bits << _BITS) | (number + 1), "amin")
    depth = (nearest >> _BITS).int().view(torch.float32)
    # Number 0 is no solid: what the ray meets then is the sky or the ground.
    found = torch.from_numpy(np.append(0, bundles.shape)).to(device).index_select(0, nearest & (2**_BITS - 1))
    shape = torch.where(nearest & (2**_BITS - 1) > 0, found, torch.where(depth.isfinite(), GROUND, SKY))
    size_hw = (camera.height, camera.width)
    return DeviceHits(depth.view(size_hw), shape.view(size_hw), direction, origin)


def _bundles(camera: SimCamera, world_from_camera: Matrix, shapes: ShapeTable) -> Bundles:
    """Rays of the pixels in which each shape may be seen, the nearest shape first."""
    index, window = _windows(camera, world_from_camera, shapes)
    to_local = shapes.local_from_world[index].astype(np.float64)
    start, step = np.zeros((2, len(index), 3, 3))
    start[:, :, 2] = np.einsum("nij,nj->ni", to_local, world_from_camera[:3, 3] - shapes.centre_m[index])
    world_from_pixel = world_from_camera[:3, :3] @ np.linalg.inv(camera.intrinsics)
    step[:] = np.einsum("nij,jk->nik", to_local, world_from_pixel)
    step[:, :, 2] += step[:, :, 0] * window[:, :1] + step[:, :, 1] * window[:, 2:3]  # from the window's corner on
    return Bundles(index, window, start, step)


def _windows(
    camera: SimCamera, world_from_camera: Matrix, shapes: ShapeTable
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Shapes that may be seen, from near to far: indices [n] and pixel windows [n, 4] (left, right, top, bottom)."""
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
    indices = np.flatnonzero(seen)
    indices = indices[np.argsort(np.maximum(depth.min(axis=1), 0)[indices], kind="stable")]
    windows = np.stack((low[:, 0], high[:, 0], low[:, 1], high[:, 1]), axis=1).astype(np.int64)
    return indices, windows[indices]
