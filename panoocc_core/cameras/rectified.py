"""From a picture as it was taken to the image that networks take: upright, without distortion or with its lens."""

from dataclasses import replace

import numpy as np
import torch

from ..base.reduction import Pixels
from ..base.sent_image import SentImage
from ..geometry import Matrix
from ..types import CameraImage
from .lens import Calibration
from .upright import quarter_turns, turned, turned_camera


def rectified_image(
    name: str, taken: Pixels, calibration: Calibration, ego_from_camera: Matrix, stamp_ns: int, world_from_ego: Matrix
) -> tuple[CameraImage, int]:
    """The image of a camera, and the quarter turns counter-clockwise that brought it upright.

    Args:
        taken: RGB uint8 [height, width, 3].
        ego_from_camera: the mount [4, 4] of the optical frame.
        world_from_ego: pose [4, 4] of the vehicle at `stamp_ns`.

    Raises:
        CalibrationError: the picture has another size than the calibration, or cannot be undistorted.
        ValueError: the calibration or a pose is not usable; the message names the camera.
    """
    return upright_image(name, calibration.rectify(taken), calibration, ego_from_camera, stamp_ns, world_from_ego)


def upright_image(
    name: str,
    rectified: Pixels | SentImage,
    calibration: Calibration,
    ego_from_camera: Matrix,
    stamp_ns: int,
    world_from_ego: Matrix,
) -> tuple[CameraImage, int]:
    """The same of a picture that `Calibration.rectify` has given, or that a device is to decode and rectify."""
    turn = np.eye(4)
    turn[:3, :3] = calibration.camera_from_rectified
    mount = ego_from_camera @ turn
    turns = quarter_turns(mount)
    image: torch.Tensor | SentImage
    if isinstance(rectified, SentImage):
        image, size_hw = replace(rectified, turns=turns), rectified.size_hw
    else:
        image, size_hw = torch.from_numpy(turned(rectified, turns)), (rectified.shape[0], rectified.shape[1])
    intrinsics, mount = turned_camera(size_hw, calibration.intrinsics, mount, turns)
    lens = None if calibration.lens is None else calibration.lens.turned(turns)
    return CameraImage(
        name, stamp_ns, image, intrinsics, mount, world_from_ego, lens=lens, cut_off=calibration.cut_off
    ), turns
