"""Camera images with what is known of the ground and the grid without any network: is the calibration right?

Lines lie on the vehicle's plane z = 0, with their distances; beside them are the grid's edges, an arrow along which the
vehicle drives, and, dashed, the horizon.
Each camera is drawn from its own pose: the vehicle's motion plays no part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from ..base.reduction import scaled_from_pixels
from ..geometry import BOX_EDGES
from ..labels import Colour
from ..optics import CameraView
from ..preprocess import view_of
from ..types import CameraImage, GridGeometry
from .canvas import TEXT, WARNING, Image, blank, letterbox, put_camera, put_text
from .overlay import resized, segments, sixteenths
from .render import camera_mosaic

SPACING_M, REACH_M = 5.0, 40.0  # of the lines on the ground, and how far they reach
_LABELLED_M, _DIRECTIONS = (5, 10, 20, 30), [pair for pair in product((1, 0, -1), repeat=2) if any(pair)]
_GROUND, _AHEAD, _GRID, _HORIZON = (235, 235, 235), (255, 70, 60), (70, 190, 255), (255, 210, 80)
_ARROW_M, _HEAD_M = 10.0, 1.2
_PIECES = 24  # of a long line: its far end may lie behind the camera
_LABEL_PX = (60, 13)  # width and height of a label
_FAR_M = 1e6  # the horizon


def rig_view(camera: CameraImage, geometry: GridGeometry, size_hw: tuple[int, int], note: str = "") -> Image:
    """One camera's image, of a given size, with ground, grid, driving direction and horizon: [height, width, 3].

    Args:
        note: stands behind the camera's name, in the colour of warnings.
    """
    height, width = camera.size_hw
    resized_from_pixels = scaled_from_pixels(size_hw[0] / height, size_hw[1] / width)
    view = view_of(camera)
    view = replace(view, image_from_camera=resized_from_pixels @ view.image_from_camera)
    picture = resized(camera.rgb().cpu().numpy(), size_hw)
    _draw(picture, _ground_lines(), view, _GROUND, 0.55)
    _draw(picture, _cut(_grid_edges(geometry)), view, _GRID, 0.9)
    _draw(picture, _horizon(camera.ego_from_camera[:3, 3]), view, _HORIZON, 1.0)
    _draw(picture, _cut(_arrow()), view, _AHEAD, 1.0, thickness=2)
    _label(picture, view)
    put_camera(picture, camera.name, note, WARNING if note else TEXT)
    return picture


def rig_montage(
    cameras: Sequence[CameraImage],
    geometry: GridGeometry,
    names: Sequence[str],
    notes: Mapping[str, str],
    width_px: int = 1600,
) -> Image:
    """All cameras of a rig in one picture, those that look ahead above: [height, width_px, 3].

    Args:
        names: of all cameras; those without an image are dark and say so.
        notes: camera -> what is written beside its name.
    """
    there = {camera.name: camera for camera in cameras}

    def drawn(name: str, size_hw: tuple[int, int]) -> Image:
        if name not in there:
            picture = blank(*size_hw)
            put_camera(picture, name, notes.get(name) or "no picture", WARNING)
            return picture
        height, width = there[name].size_hw
        scale = min(size_hw[0] / height, size_hw[1] / width)
        fitted = max(1, round(height * scale)), max(1, round(width * scale))
        return letterbox(rig_view(there[name], geometry, fitted, notes.get(name, "")), *size_hw)

    first = next((camera.size_hw for camera in cameras), (9, 16))
    return camera_mosaic(tuple(names), first, width_px, drawn)


def _ground_lines() -> NDArray[np.float64]:
    """Lines [n, 2, 3] along and across the vehicle, in pieces."""
    at = np.arange(-REACH_M, REACH_M + SPACING_M / 2, SPACING_M)
    lines = np.zeros((2, len(at), 2, 3))
    for axis in (0, 1):
        lines[axis, :, 0, axis], lines[axis, :, 1, axis], lines[axis, ..., 1 - axis] = -REACH_M, REACH_M, at[:, None]
    return _cut(lines.reshape(-1, 2, 3))


def _grid_edges(geometry: GridGeometry) -> NDArray[np.float64]:
    """The twelve edges [12, 2, 3] of the grid."""
    size_m = np.array(geometry.shape_xyz) * geometry.voxel_size_m
    corners = np.array([(x, y, z) for z in (0, 1) for x, y in ((1, 1), (1, 0), (0, 0), (0, 1))]) * size_m
    pose = geometry.ego_from_grid
    return np.asarray((corners @ pose[:3, :3].T + pose[:3, 3])[BOX_EDGES])


def _arrow() -> NDArray[np.float64]:
    """From the vehicle's origin straight ahead, on the ground: [3, 2, 3]."""
    tip = np.array([_ARROW_M, 0.0, 0.0])
    sides = [tip - (_HEAD_M, sign * _HEAD_M / 2, 0.0) for sign in (-1, 1)]
    return np.array([(np.zeros(3), tip), *((tip, side) for side in sides)])


def _cut(lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same lines [n, 2, 3] in pieces [m, 2, 3]."""
    share = np.linspace(0, 1, _PIECES + 1)[:, None, None]
    points = lines[None, :, 0] * (1 - share) + lines[None, :, 1] * share  # [pieces + 1, n, 3]
    return np.stack((points[:-1], points[1:]), axis=2).reshape(-1, 2, 3)


def _draw(
    picture: Image, lines: NDArray[np.float64], view: CameraView, colour: Colour, share: float, thickness: int = 1
) -> None:
    pixels, is_seen = segments(lines, view)
    layer = picture.copy()
    cv2.polylines(layer, list(sixteenths(pixels[is_seen])), False, colour, thickness, cv2.LINE_AA, 4)
    cv2.addWeighted(layer, share, picture, 1 - share, 0, dst=picture)


def _horizon(camera_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the plane z = 0 ends, far away all around a place [3], as dashes [n, 2, 3]."""
    azimuth = np.radians(np.arange(360.0)).reshape(-1, 2)
    return camera_m + _FAR_M * np.stack((np.cos(azimuth), np.sin(azimuth), np.zeros_like(azimuth)), axis=-1)


def _label(picture: Image, view: CameraView) -> None:
    """Places on the ground, metres ahead and to the left, in eight directions from the vehicle; no two on one spot."""
    height, width = picture.shape[:2]
    taken: list[tuple[float, float]] = []
    for distance_m, (ahead, left) in product(_LABELLED_M, _DIRECTIONS):
        (u, v), is_before = view.pixels(np.array([distance_m * ahead, distance_m * left, 0.0]))
        if not is_before:
            continue
        is_free = not any(abs(u - x) < _LABEL_PX[0] and abs(v - y) < _LABEL_PX[1] for x, y in taken)
        if is_free and 0 < u < width - _LABEL_PX[0] and _LABEL_PX[1] < v < height:
            taken.append((u, v))
            text = f"{distance_m * ahead}, {distance_m * left} m"
            put_text(picture, text, (u + 3, v - 3), 0.36, TEXT, halo=True)
