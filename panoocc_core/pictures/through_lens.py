"""What an overlay draws differently where its image has a lens's distortion: straight lines are bent, planes too."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry import Matrix
from ..optics import CameraView, LensModel
from .canvas import Image

_PIECES = 12  # of a line; each is drawn straight
_GRID_PX = 4  # between pixels whose rays are found; those between are interpolated


def pieces(ends_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lines [..., n, 2, 3] cut into short ones [..., n * k, 2, 3]."""
    share = np.linspace(0, 1, _PIECES + 1)[:, None]
    points = ends_m[..., :1, :] * (1 - share) + ends_m[..., 1:, :] * share  # [..., n, k + 1, 3]
    cut = np.stack((points[..., :-1, :], points[..., 1:, :]), axis=-2)
    return cut.reshape(*cut.shape[:-4], -1, 2, 3)


def layer_through_lens(
    values: NDArray[np.uint8], view: CameraView, eye: Matrix, height: int, size_hw: tuple[int, int]
) -> Image:
    """One layer of a grid [X, Y], whose upper side lies at a height, as an image [height, width] shows it; 0 elsewhere.

    Args:
        view: of points in voxels.
        eye: [3], where the camera is, in voxels.
    """
    assert view.lens is not None
    local = _rays(view.lens, tuple(view.image_from_camera.ravel().tolist()), size_hw)
    rays = local @ np.linalg.inv(view.camera_from_points[:, :3]).T.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):  # rays along the layer, and pixels without one
        far = (height - eye[2]) / rays[..., 2]
        place = np.where(far[..., None] > 0, eye[:2] + far[..., None] * rays[..., :2], -1.0)
        inside = ((place >= 0) & (place < values.shape)).all(axis=-1)
    out = np.zeros(size_hw, np.uint8)
    x, y = place[inside].astype(np.intp).T
    out[inside] = values[x, y]
    return out


@lru_cache(maxsize=16)
def _rays(lens: LensModel, image_from_camera: tuple[float, ...], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Directions [height, width, 3] that pixels look along, in the camera's axes; NaN where the lens shows nothing."""
    view = CameraView(np.reshape(image_from_camera, (3, 3)), np.eye(4)[:3], lens)
    rows, columns = (np.arange(0, side + _GRID_PX, _GRID_PX, dtype=np.float64) for side in size_hw)
    pixels = np.stack(np.meshgrid(columns, rows), axis=-1)
    coarse = view.rays(pixels.reshape(-1, 2)).reshape(pixels.shape[:2] + (3,)).astype(np.float32)
    row, column = np.indices(size_hw, dtype=np.float32) / np.float32(_GRID_PX)
    return np.asarray(cv2.remap(coarse, column, row, cv2.INTER_LINEAR), np.float32)
