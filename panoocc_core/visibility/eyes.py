"""Cameras as the voxels of a grid meet them: where they stand, and which columns of voxels their images show.

Places are in voxels of the grid: voxel i fills i to i + 1.  All of this follows from the calibration and the vehicle's
motion alone, and is done in NumPy for all cameras at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..config import ImageConfig
from ..geometry import Matrix, invert
from ..optics import CameraView
from ..preprocess import camera_from_ego, crop_window, pixels_from_ego
from ..types import Frame, GridGeometry

NEAREST_M = 0.05  # what is nearer to a camera, along its axis, is in no image
_BORDER = 16  # places along each side of an image whose directions say how wide it is


@dataclass(frozen=True, slots=True, eq=False)
class Eyes:
    """The cameras of a frame, each at its own shutter, e of them."""

    position: Matrix  # [e, 3], in voxels
    # [e, 3, 4]: (u * depth, v * depth, depth in metres) of a place in voxels; not where there is a lens
    pixels_from_grid: Matrix
    window: Matrix  # [e, 4], left, top, right, bottom of what the network is given, pixels
    lensed: Mapping[int, CameraView] = field(default_factory=dict)  # eye -> its view of places, where there is a lens


@dataclass(frozen=True, slots=True, eq=False)
class ViewedColumns:
    """The columns of voxels in which images show something, p of them, camera after camera."""

    eye: NDArray[np.int64]  # [p]
    place: NDArray[np.int64]  # [p, 2], x and y of the column
    layers: NDArray[np.int64]  # [p, 2], the first layer whose middle is in the image, and one past the last
    # Eye -> which layers [own columns, Z] are in its image, where there is a lens; elsewhere: all of the run.
    shown: Mapping[int, NDArray[np.bool_]] = field(default_factory=dict)


def eyes_of(frame: Frame, geometry: GridGeometry, images: ImageConfig) -> Eyes:
    """The cameras of a frame that are not blank, seen from a grid that lies in the ego frame at the frame's stamp."""
    ego_from_voxels = geometry.ego_from_grid @ np.diag((*geometry.voxel_size_m, 1.0))
    voxels_from_ego, ego_from_world = np.linalg.inv(ego_from_voxels), invert(frame.world_from_ego)
    positions, pixels, windows, lensed = [], [], [], {}
    for eye, camera in enumerate(camera for camera in frame.cameras if not camera.is_blank):
        ego_from_camera = ego_from_world @ camera.world_from_ego @ camera.ego_from_camera
        top, left, rows, columns = crop_window(camera.size_hw, images)
        positions.append((voxels_from_ego @ ego_from_camera[:, 3])[:3])
        pixels.append(pixels_from_ego(camera, frame) @ ego_from_voxels)
        if camera.lens is not None:
            lensed[eye] = CameraView(camera.intrinsics, camera_from_ego(camera, frame) @ ego_from_voxels, camera.lens)
        windows.append((left - 0.5, top - 0.5, left + columns - 0.5, top + rows - 0.5))
    count = len(positions)
    return Eyes(
        np.reshape(positions, (count, 3)), np.reshape(pixels, (count, 3, 4)), np.reshape(windows, (count, 4)), lensed
    )


def columns_in_view(eyes: Eyes, shape_xyz: tuple[int, int, int]) -> ViewedColumns:
    """Which voxels' middles the images show.

    A place is in the image of a pinhole where five sums are positive that change evenly with its height: so it is a run
    of layers.  Through a lens, every voxel is looked at.
    """
    pinholes = _pinhole_columns(eyes, shape_xyz)
    if not eyes.lensed:
        return pinholes
    keep = ~np.isin(pinholes.eye, list(eyes.lensed))
    parts = [ViewedColumns(pinholes.eye[keep], pinholes.place[keep], pinholes.layers[keep])]
    parts += [_lensed_columns(eyes, eye, shape_xyz) for eye in eyes.lensed]
    eye, place, layers = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("eye", "place", "layers")
    )
    order = np.argsort(eye, kind="stable")
    shown = {eye: mask for part in parts for eye, mask in part.shown.items()}
    return ViewedColumns(eye[order], place[order], layers[order], shown)


def _lensed_columns(eyes: Eyes, eye: int, shape_xyz: tuple[int, int, int]) -> ViewedColumns:
    left, top, right, bottom = eyes.window[eye].astype(np.float32)
    pixels, shown = eyes.lensed[eye].pixels(_middles(shape_xyz))
    u, v = pixels[..., 0], pixels[..., 1]
    shown = shown & (u > left) & (u < right) & (v > top) & (v < bottom)  # [X, Y, Z]
    column, row = np.nonzero(shown.any(axis=2))
    shown = shown[column, row]
    layers = np.stack((shown.argmax(axis=1), shape_xyz[2] - shown[:, ::-1].argmax(axis=1)), axis=1)
    return ViewedColumns(np.full(len(shown), eye), np.stack((column, row), axis=1), layers, {eye: shown})


@lru_cache(maxsize=2)
def _middles(shape_xyz: tuple[int, int, int]) -> NDArray[np.float32]:
    axes = (np.arange(n, dtype=np.float32) + np.float32(0.5) for n in shape_xyz)
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def _pinhole_columns(eyes: Eyes, shape_xyz: tuple[int, int, int]) -> ViewedColumns:
    u, v, depth = eyes.pixels_from_grid.astype(np.float32).transpose(1, 0, 2)  # [e, 4] each
    left, top, right, bottom = eyes.window.astype(np.float32).T[..., None]
    near = depth - np.array([0, 0, 0, NEAREST_M], np.float32)
    sides = np.stack((near, u - left * depth, right * depth - u, v - top * depth, bottom * depth - v), axis=1)
    x, y = (np.arange(n, dtype=np.float32) + np.float32(0.5) for n in shape_xyz[:2])
    in_plane = sides[:, :, 0, None] * x  # [e, 5, X]
    at_zero = in_plane[..., None] + (sides[:, :, 1, None] * y + sides[:, :, 3, None])[:, :, None]  # [e, 5, X, Y]
    slope = np.where(np.abs(sides[:, :, 2]) < 1e-9, np.float32(1e-9), sides[:, :, 2])[..., None, None]
    crossing = at_zero / -slope  # the height at which each sum is 0
    low = np.where(slope > 0, crossing, np.float32(-np.inf)).max(axis=1)  # [e, X, Y]
    high = np.where(slope < 0, crossing, np.float32(np.inf)).min(axis=1)
    first = np.ceil(np.clip(low - 0.5, 0, shape_xyz[2])).astype(np.int64)
    end = np.floor(np.clip(high - 0.5, -1, shape_xyz[2] - 1)).astype(np.int64) + 1
    eye, column, row = np.nonzero(first < end)
    layers = np.stack((first[eye, column, row], end[eye, column, row]), axis=1)
    return ViewedColumns(eye, np.stack((column, row), axis=1), layers)


def azimuths_rad(eyes: Eyes, columns: ViewedColumns, metres: Matrix) -> tuple[Matrix, Matrix]:
    """First and last direction [e], in the plane of the grid, in which each image shows something.

    Args:
        columns: those in view.
        metres: [3], the edges of a voxel.
    """
    begin, end = _pinhole_azimuths_rad(eyes, metres)
    for eye in eyes.lensed:
        away_m = (columns.place[columns.eye == eye] + 0.5 - eyes.position[eye, :2]) * metres[:2]
        if len(away_m):
            ahead = (away_m / np.linalg.norm(away_m, axis=1, keepdims=True)).mean(axis=0)
            middle = np.arctan2(ahead[1], ahead[0])
            aside = (np.arctan2(away_m[:, 1], away_m[:, 0]) - middle + np.pi) % (2 * np.pi) - np.pi
            begin[eye], end[eye] = middle + aside.min(), middle + aside.max()
        else:
            begin[eye] = end[eye] = 0.0
    return begin, end


def _pinhole_azimuths_rad(eyes: Eyes, metres: Matrix) -> tuple[Matrix, Matrix]:
    left, top, right, bottom = eyes.window.T[..., None]
    share, zero = np.linspace(0, 1, _BORDER), np.zeros(_BORDER)
    across, down = left + (right - left) * share, top + (bottom - top) * share
    u = np.concatenate((across, across, left + zero, right + zero), axis=1)
    v = np.concatenate((top + zero, bottom + zero, down, down), axis=1)
    pixels = np.stack((u, v, np.ones_like(u)), axis=1)  # [e, 3, n]
    rays = np.linalg.inv(eyes.pixels_from_grid[:, :, :3]) @ pixels * metres[:, None]
    ahead = rays.mean(axis=2)
    middle = np.arctan2(ahead[:, 1], ahead[:, 0])
    aside = (np.arctan2(rays[:, 1], rays[:, 0]) - middle[:, None] + np.pi) % (2 * np.pi) - np.pi
    begin, end = middle + aside.min(axis=1), middle + aside.max(axis=1)
    u_up, v_up, depth_up = eyes.pixels_from_grid[:, :, 2].T  # where what is straight above, or below, is shown
    u_up, v_up = u_up / np.where(depth_up == 0, 1e-9, depth_up), v_up / np.where(depth_up == 0, 1e-9, depth_up)
    left, top, right, bottom = eyes.window.T
    all_around = (left <= u_up) & (u_up <= right) & (top <= v_up) & (v_up <= bottom)
    return np.where(all_around, -np.pi, begin), np.where(all_around, np.pi, end)
