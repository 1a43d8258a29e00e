"""One camera's view in NumPy: pixels of points, and the rays that pixels look along."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..geometry import Matrix
from .lens_model import NEAR_M, LensModel, imaged
from .projections import LensedImage, lens_groups

_STEPS, _TURN_RAD, _CLOSE = 12, 1e-6, 1e-9  # of Newton's method; the last one in distances from the picture's centre


@dataclass(frozen=True, slots=True, eq=False)
class CameraView:
    """Where points lie in an image."""

    image_from_camera: Matrix  # [3, 3], the camera matrix
    camera_from_points: Matrix  # [3, 4]
    lens: LensModel | None = None  # None: a pinhole

    def pixels(self, points_m: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Pixels [..., 2] of points [..., 3], anywhere outside the image too, and which [...] lie before the camera
        and in the field of its lens; computed in the type of the points, float32 or float64."""
        if self.lens is None:
            projection = (self.image_from_camera @ self.camera_from_points).astype(points_m.dtype)
            local = points_m @ projection[:, :3].T + projection[:, 3]
            return local[..., :2] / np.maximum(local[..., 2:], NEAR_M), local[..., 2] > NEAR_M
        points = torch.from_numpy(np.ascontiguousarray(points_m)).reshape(-1, 3)
        image = LensedImage(self.lens, self.image_from_camera, self.camera_from_points)
        (group,) = lens_groups([(0, image)], points.dtype, points.device)
        pixels, seen = group.pixels(points)
        return pixels.numpy().reshape(*points_m.shape[:-1], 2), seen.numpy().reshape(points_m.shape[:-1])

    def rays(self, pixels: Matrix) -> Matrix:
        """Unit directions [n, 3], in the frame of the points, that pixels [n, 2] look along; NaN where the lens shows
        nothing."""
        places = np.linalg.inv(self.image_from_camera)[:2] @ np.append(pixels, np.ones((len(pixels), 1)), axis=1).T
        if self.lens is None:
            rays = np.append(places, np.ones((1, len(pixels))), axis=0).T
            rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        else:
            rotation = self.lens.calibrated_from_camera
            rays = _rays(self.lens, places.T @ rotation[:2, :2].T) @ rotation
        return np.asarray(rays @ self.camera_from_points[:, :3])


def _rays(lens: LensModel, places: Matrix) -> Matrix:
    """Unit directions [n, 3] that a lens images at places [n, 2], in the axes of its calibration; NaN where none is."""
    coefficients = torch.tensor(lens.coefficients, dtype=torch.float64)
    field_rad = torch.tensor(lens.field_rad, dtype=torch.float64)

    def placed(turns: Matrix) -> Matrix:
        return imaged(lens.kind, coefficients, field_rad, torch.from_numpy(_directions(turns)))[0].numpy()

    # A direction is a turn away from the axis: its angle and its azimuth as the length and direction of a vector [2].
    angles = np.linspace(0, lens.field_rad, 513)
    along = placed(np.stack((angles, np.zeros_like(angles)), axis=1))[:, 0]
    away = np.linalg.norm(places, axis=1, keepdims=True)
    turns = np.interp(away, along - along[0], angles) / np.maximum(away, 1e-12) * places
    left = np.arange(len(turns))  # those that are not there yet
    for _ in range(_STEPS):
        at, here = turns[left], placed(turns[left])
        error = here - places[left]
        is_off = np.linalg.norm(error, axis=1) > _CLOSE * (1 + away[left, 0])
        left, at, here, error = left[is_off], at[is_off], here[is_off], error[is_off]
        inwards = np.where(at > 0, -_TURN_RAD, _TURN_RAD)  # beyond the field nothing changes
        across, down = ((placed(at + inwards * axis) - here) / (inwards @ axis)[:, None] for axis in np.eye(2))
        determinant = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]
        determinant = np.where(np.abs(determinant) < 1e-9, np.inf, determinant)  # at the field's edge: no step
        at[:, 0] -= (error[:, 0] * down[:, 1] - error[:, 1] * down[:, 0]) / determinant
        at[:, 1] -= (error[:, 1] * across[:, 0] - error[:, 0] * across[:, 1]) / determinant
        length = np.linalg.norm(at, axis=1, keepdims=True)
        turns[left] = at * np.minimum(1, lens.field_rad / np.maximum(length, 1e-12))
    directions = _directions(turns)
    directions[left] = np.nan
    return directions


def _directions(turns: Matrix) -> Matrix:
    angle = np.linalg.norm(turns, axis=1, keepdims=True)
    return np.concatenate((turns * np.sinc(angle / np.pi), np.cos(angle)), axis=1)
