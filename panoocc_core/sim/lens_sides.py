"""Pictures through lenses: of pinhole pictures of all sides that a lens sees, put together along its rays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry import rigid
from ..optics import CameraView, LensModel
from .camera import SimCamera, pinhole
from .shapes import Floats

_SIDE_DEG = 92.0  # of a side's picture: a little more than a quarter, so that pixels at its edge have neighbours
_MOST_PIXELS = 4096  # along each side
# Rotations [3, 3] of the sides of a cube into the camera's axes: ahead, right, left, down, up, behind.
_AHEAD = np.eye(3)
_RIGHT = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
_DOWN = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
_TURNS = (_AHEAD, _RIGHT, _RIGHT.T, _DOWN, _DOWN.T, _RIGHT @ _RIGHT)


@dataclass(frozen=True, slots=True, eq=False)
class LensSides:
    """How the picture of a lens is put together; s sides have a part in it."""

    sides: tuple[int, ...]  # [s], indices of _TURNS
    pixels: int  # along each side's picture
    where: NDArray[np.int8]  # [height, width]: which of the s sides shows the pixel; -1: the lens shows nothing there
    place: Floats  # [height, width, 2], its pixel there
    stretch: Floats  # [height, width], metres along the ray for one metre of the side's depth

    def cameras(self, camera: SimCamera) -> list[SimCamera]:
        """The pinhole cameras [s] that take the sides of a camera with the lens."""
        k = pinhole(self.pixels, self.pixels, _SIDE_DEG)
        mounts = [camera.ego_from_camera @ rigid(_TURNS[side], np.zeros(3)) for side in self.sides]
        return [
            SimCamera(f"{camera.name}.{side}", self.pixels, self.pixels, k, mount, camera.shutter_offset_s)
            for side, mount in zip(self.sides, mounts)
        ]

    def through(self, images: Sequence[NDArray[Any]], fill: float, smooth: bool = False) -> NDArray[Any]:
        """The image [height, width, ...] of the lens from those of the sides [s, pixels, pixels, ...].

        Args:
            fill: where the lens shows nothing.
            smooth: interpolate; else the nearest pixel is taken.
        """
        out = np.full((*self.where.shape, *images[0].shape[2:]), fill, images[0].dtype)
        nearest = np.rint(self.place).astype(np.intp)
        for number, image in enumerate(images):
            here = self.where == number
            if smooth:
                out[here] = cv2.remap(image, self.place[..., 0], self.place[..., 1], cv2.INTER_LINEAR)[here]
            else:
                column, row = nearest[here].T
                out[here] = image[row, column]
        return out


def lens_sides(camera: SimCamera) -> LensSides:
    """How the picture of a camera with a lens is put together."""
    assert camera.lens is not None
    return _sides(camera.lens, tuple(camera.intrinsics.ravel().tolist()), camera.height, camera.width)


@lru_cache(maxsize=16)
def _sides(lens: LensModel, intrinsics: tuple[float, ...], height: int, width: int) -> LensSides:
    k = np.reshape(intrinsics, (3, 3))
    places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2).astype(np.float64)
    rays = CameraView(k, np.eye(4)[:3], lens).rays(places)  # [n, 3]
    axes = np.stack([turn[:, 2] for turn in _TURNS])
    along = np.nan_to_num(rays @ axes.T, nan=-1.0)  # [n, 6]
    nearest = np.where(np.isnan(rays[:, 0]), -1, along.argmax(axis=1))
    sides = tuple(int(side) for side in np.unique(nearest) if side >= 0)
    pixels = min(_MOST_PIXELS, max(8, round(2 * max(k[0, 0], k[1, 1]))))  # as fine as the lens along its axis
    where, place = np.full(len(rays), -1, np.int8), np.zeros((len(rays), 2), np.float32)
    for number, side in enumerate(sides):
        here = nearest == side
        local = rays[here] @ _TURNS[side]
        where[here] = number
        place[here] = local[:, :2] / local[:, 2:] * pinhole(pixels, pixels, _SIDE_DEG)[0, 0] + (pixels - 1) / 2
    stretch = (1 / np.maximum(along.max(axis=1), 0.5)).astype(np.float32)
    size = (height, width)
    return LensSides(sides, pixels, where.reshape(size), place.reshape(*size, 2), stretch.reshape(size))
