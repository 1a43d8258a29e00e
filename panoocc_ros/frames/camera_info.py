"""Calibration out of sensor_msgs/CameraInfo: intrinsics of the image as it was sent, and how to undistort it."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from panoocc_core.geometry import Matrix

from .images import Pixels

# Number of coefficients that each lens model takes (image_geometry's list; OpenCV's order).
FISHEYE_MODELS = ("equidistant", "fisheye")
DISTORTION_MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), **dict.fromkeys(FISHEYE_MODELS, (4,))}


class CalibrationError(ValueError):
    """A CameraInfo that cannot be used; the text names the field."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """One camera's lens, for images of one size."""

    size_hw: tuple[int, int] | None  # of the images; None where CameraInfo does not say
    intrinsics: Matrix  # [3, 3] of the rectified image
    camera_from_rectified: Matrix  # [3, 3] rotation; identity but for rectified stereo pairs
    raw_intrinsics: Matrix  # [3, 3] of the image as sent
    distortion: Matrix  # [n]; empty: nothing to undo
    is_fisheye: bool
    maps: tuple[Any, Any] | None  # for cv2.remap

    def rectify(self, image: Pixels) -> Pixels:
        """The image without lens distortion.

        Raises:
            CalibrationError: the image has another size than the calibration.
        """
        if self.size_hw is not None and image.shape[:2] != self.size_hw:
            height, width = image.shape[:2]
            raise CalibrationError(
                f"the image is {width}x{height}, its CameraInfo is for {self.size_hw[1]}x{self.size_hw[0]}: "
                "send the CameraInfo that belongs to this image"
            )
        if self.maps is None:
            return image
        return np.asarray(cv2.remap(image, *self.maps, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def calibration(info: Any, is_rectified: bool) -> Calibration:
    """The calibration in a CameraInfo message, for a raw or a rectified image.

    K holds for the full sensor; region of interest and binning are applied in the order of image_geometry.  A rectified
    image has the camera matrix P and the axes that R turns the camera's into; a raw one keeps K when it is undistorted.

    Raises:
        CalibrationError: a matrix is zero or not finite, or the lens model is unknown.
    """
    k, p, r = (_field(info, name, shape) for name, shape in (("k", (3, 3)), ("p", (3, 4)), ("r", (3, 3))))
    if not k.any():
        raise CalibrationError("K is all zero: the camera is not calibrated")
    use_p = is_rectified and p.any()
    raw = _window(k, info)
    intrinsics = _window(p[:, :3], info) if use_p else raw
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0:
        raise CalibrationError(f"the focal lengths {intrinsics[0, 0]:g} and {intrinsics[1, 1]:g} must be positive")
    rotation = r if is_rectified and r.any() else np.eye(3)
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-3:
        raise CalibrationError("R is not a rotation")
    distortion = _distortion(info)
    if is_rectified:
        distortion = np.zeros(0)
    size = _size(info)
    is_fisheye = info.distortion_model in FISHEYE_MODELS
    maps = _maps(raw, distortion, is_fisheye, size) if distortion.size else None
    return Calibration(size, intrinsics, rotation.T.copy(), raw, distortion, is_fisheye, maps)


def same_calibration(first: Any, second: Any) -> bool:
    """Whether two CameraInfo messages describe one calibration (all but the header)."""
    return _key(first) == _key(second)


def _key(info: Any) -> tuple[Any, ...]:
    roi = info.roi
    arrays = tuple(bytes(np.asarray(_raw(info, name), dtype=np.float64)) for name in ("k", "d", "r", "p"))
    numbers = (info.height, info.width, info.binning_x, info.binning_y)
    return (*arrays, *numbers, roi.x_offset, roi.y_offset, roi.height, roi.width, info.distortion_model)


def _raw(info: Any, name: str) -> Any:
    return getattr(info, name) if hasattr(info, name) else getattr(info, name.upper())  # ROS 1 bags write capitals


def _field(info: Any, name: str, shape: tuple[int, ...]) -> Matrix:
    values = np.asarray(_raw(info, name), dtype=np.float64)
    if values.size != shape[0] * shape[1]:
        raise CalibrationError(f"{name.upper()} has {values.size} entries, not {shape[0] * shape[1]}")
    if not np.isfinite(values).all():
        raise CalibrationError(f"{name.upper()} has entries that are not finite")
    return values.reshape(shape)


def _distortion(info: Any) -> Matrix:
    values = np.asarray(_raw(info, "d"), dtype=np.float64)
    if not np.isfinite(values).all():
        raise CalibrationError("D has entries that are not finite")
    if not values.any():
        # All zero is a pinhole without distortion, but a fisheye that follows r = f * theta exactly.
        return np.zeros(4) if info.distortion_model in FISHEYE_MODELS else np.zeros(0)
    lengths = DISTORTION_MODELS.get(info.distortion_model)
    if lengths is None:
        raise CalibrationError(
            f"distortion model {info.distortion_model!r} is not one of {', '.join(DISTORTION_MODELS)}: rectify the "
            "images (image_proc) and use their topic"
        )
    if values.size not in lengths:
        raise CalibrationError(f"{info.distortion_model} takes {lengths} coefficients, not {values.size}")
    return values


def _window(matrix: Matrix, info: Any) -> Matrix:
    """Camera matrix [3, 3] of the part of the sensor that is sent, binned."""
    out = matrix.copy()
    out[0, 2] -= info.roi.x_offset
    out[1, 2] -= info.roi.y_offset
    out[0] /= max(1, info.binning_x)
    out[1] /= max(1, info.binning_y)
    return out


def _size(info: Any) -> tuple[int, int] | None:
    height, width = info.roi.height or info.height, info.roi.width or info.width
    if not height or not width:
        return None
    return int(height // max(1, info.binning_y)), int(width // max(1, info.binning_x))


def _maps(raw: Matrix, distortion: Matrix, is_fisheye: bool, size: tuple[int, int] | None) -> tuple[Any, Any]:
    if size is None:
        raise CalibrationError("height and width are zero, so that the lens distortion cannot be undone")
    if size[0] * size[1] > 2**28:
        raise CalibrationError(f"size {size[1]}x{size[0]} is too large")
    initialise = cv2.fisheye.initUndistortRectifyMap if is_fisheye else cv2.initUndistortRectifyMap
    return initialise(raw, distortion, np.eye(3), raw, size[::-1], cv2.CV_16SC2)
