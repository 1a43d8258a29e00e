"""Calibration of a lens: intrinsics of the image as it was sent, and how to undistort it or to project through it.

Calibrations are read by attribute, under the names of sensor_msgs/CameraInfo: ROS messages and `LensInfo` serve alike.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np

from ..base.reduction import Fit, Pixels, reduced_from_pixels, reduced_hw, scaled_from_pixels
from ..base.sent_image import UndistortingMaps
from ..geometry import Matrix
from ..optics import CameraView, LensModel
from .image_bytes import MAX_NAME, MAX_PIXELS, ImageError, check_expected, check_pixels, one_line

# Names of sensor_msgs/distortion_models and of image_geometry; numbers of coefficients in OpenCV's order.
FISHEYE_MODELS = ("equidistant", "fisheye")
DISTORTION_MODELS = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (4, 5, 8, 12, 14),
    **dict.fromkeys(FISHEYE_MODELS, (4,)),
}
# Per longer side of the image: a view of 168 degrees, and one of half a degree.
MIN_FOCAL, MAX_FOCAL = 0.05, 100.0
MAX_OFF_CENTRE = 10.0  # sides of the image between its corner and the principal point
MIN_USABLE = 0.5  # share of the undistorted picture
MIN_SEEN = 0.2  # share of a picture that is projected into: a fisheye's may be a circle in a wide sensor

# What becomes of a lens's distortion: the picture is undistorted, or stays, and voxels are projected through the lens.
LensUse = Literal["undistort", "project"]


class CalibrationError(ValueError):
    """A CameraInfo that cannot be used; the text names the field."""


class Region(NamedTuple):
    """The part of the sensor that is sent; all zero: the whole."""

    x_offset: int = 0
    y_offset: int = 0
    height: int = 0
    width: int = 0


class LensInfo(NamedTuple):
    """The calibration of a lens, in the fields of sensor_msgs/CameraInfo."""

    height: int
    width: int
    distortion_model: str
    d: Matrix  # [n]
    k: Matrix  # [9]
    r: Matrix  # [9]
    p: Matrix  # [12]
    binning_x: int = 0
    binning_y: int = 0
    roi: Region = Region()


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """One camera's lens, for images of one size."""

    size_hw: tuple[int, int] | None  # of the images as they are sent; None where CameraInfo does not say
    intrinsics: Matrix  # [3, 3] of the rectified image
    camera_from_rectified: Matrix  # [3, 3] rotation; identity but for rectified stereo pairs
    maps: UndistortingMaps | None  # of the reduced image; None: no distortion to undo
    reduction: int = 1  # times that images are smaller than they are sent when they are rectified (`base.reduction`)
    lens: LensModel | None = None  # whose distortion the image keeps
    cut_off: float = 0.0  # share of the image as it was sent that the undistorted one does not show

    def rectify(self, image: Pixels) -> Pixels:
        """The reduced image without lens distortion, but for that of `lens`; it may become smaller.

        Raises:
            CalibrationError: the image has another size than the calibration, or OpenCV cannot undistort it.
        """
        try:
            expected = None if self.size_hw is None else reduced_hw(self.size_hw, self.reduction)
            check_expected((image.shape[0], image.shape[1]), expected)
            if self.maps is None:
                return image
            return np.asarray(cv2.remap(image, self.maps.xy, self.maps.part, cv2.INTER_LINEAR), dtype=np.uint8)
        except (ImageError, cv2.error) as error:
            raise CalibrationError(one_line(error)) from error


def calibration(
    info: Any,
    is_rectified: bool,
    fit: Callable[[tuple[int, int]], Fit] = lambda size_hw: Fit(),
    use: LensUse = "undistort",
) -> Calibration:
    """The calibration in a CameraInfo message, for a raw or a rectified image.

    K holds for the full sensor; region of interest and binning are applied in the order of image_geometry.  A rectified
    image has the camera matrix P and the axes that R turns the camera's into; a raw one keeps K when it is undistorted.

    Args:
        fit: how much smaller images of some size are made; where the size is not known, they are left as they are.
            Undistorting and resizing are one step.
        use: what becomes of the distortion of a raw image.

    Raises:
        CalibrationError: a matrix is no camera's, the size is not possible, or the lens model is unknown or absurd.
    """
    k, p, r = (_field(info, name, shape) for name, shape in (("k", (3, 3)), ("p", (3, 4)), ("r", (3, 3))))
    if not k.any():
        raise CalibrationError("K is all zero: the camera is not calibrated")
    size = _size(info)
    use_p = is_rectified and p.any()
    raw = _camera_matrix("K", k, info, size)
    intrinsics = _camera_matrix("P", p[:, :3], info, size) if use_p else raw
    rotation = r if is_rectified and r.any() else np.eye(3)
    if np.abs(rotation).max() > 2 or np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-3:
        raise CalibrationError("R is not a rotation")
    distortion = np.zeros(0) if is_rectified else _distortion(info.distortion_model, info.d)
    fitted, is_fisheye = Fit() if size is None else fit(size), info.distortion_model in FISHEYE_MODELS
    intrinsics, maps, lens = reduced_from_pixels(fitted.reduction) @ intrinsics, None, None
    if distortion.size and use == "project":
        lens = lens_model(info.distortion_model, distortion)
        _check_field(raw, lens, size)
    elif distortion.size:
        intrinsics, maps = _undistorting(raw, distortion, is_fisheye, size, fitted)
    cut_off = 0.0 if maps is None or size is None else _cut_off(raw, lens_model(info.distortion_model, info.d), size)
    return Calibration(size, intrinsics, rotation.T.copy(), maps, fitted.reduction, lens, cut_off)


def same_calibration(first: Any, second: Any) -> bool:
    """Whether two CameraInfo messages describe one calibration (all but the header)."""
    return _key(first) == _key(second)


def _key(info: Any) -> tuple[Any, ...]:
    roi = info.roi
    arrays = tuple(bytes(np.asarray(values, dtype=np.float64)) for values in (info.k, info.d, info.r, info.p))
    numbers = (info.height, info.width, info.binning_x, info.binning_y)
    return (*arrays, *numbers, roi.x_offset, roi.y_offset, roi.height, roi.width, info.distortion_model)


def _field(info: Any, name: str, shape: tuple[int, ...]) -> Matrix:
    values = np.asarray(getattr(info, name), dtype=np.float64)
    if values.size != shape[0] * shape[1]:
        raise CalibrationError(f"{name.upper()} has {values.size} entries, not {shape[0] * shape[1]}")
    if not np.isfinite(values).all():
        raise CalibrationError(f"{name.upper()} has entries that are not finite")
    return values.reshape(shape)


def _camera_matrix(name: str, matrix: Matrix, info: Any, size_hw: tuple[int, int] | None) -> Matrix:
    """Camera matrix [3, 3] of the part of the sensor that is sent, binned."""
    if np.abs(matrix[2] - (0, 0, 1)).max() > 1e-6 or abs(matrix[1, 0]) > 1e-6:
        raise CalibrationError(
            f"{name} is no camera matrix: its rows must be (fx, s, cx), (0, fy, cy) and (0, 0, 1), not "
            f"{'; '.join(' '.join(f'{entry:g}' for entry in row) for row in matrix)}"
        )
    out = matrix.copy()
    out[0, 2] -= info.roi.x_offset
    out[1, 2] -= info.roi.y_offset
    out[0] /= max(1, info.binning_x)
    out[1] /= max(1, info.binning_y)
    side = max(size_hw or (1, 1))
    lowest, highest = (MIN_FOCAL * side, MAX_FOCAL * side) if size_hw else (0.0, MAX_FOCAL * MAX_PIXELS)
    for focal in (out[0, 0], out[1, 1]):
        if not lowest < focal <= highest:
            raise CalibrationError(
                f"{name} has the focal lengths {out[0, 0]:g} and {out[1, 1]:g}: they must be above {lowest:g} and at "
                f"most {highest:g} pixels"
            )
    furthest = MAX_OFF_CENTRE * (side if size_hw else MAX_PIXELS)
    if np.abs(out[:2, 2]).max() > furthest or abs(out[0, 1]) > highest:
        raise CalibrationError(
            f"{name} has the principal point {out[0, 2]:g}, {out[1, 2]:g} and the skew {out[0, 1]:g}: nowhere near an "
            f"image{f' of {size_hw[1]}x{size_hw[0]}' if size_hw else ''}"
        )
    return out


def lens_model(model: str, coefficients: Any) -> LensModel | None:
    """The lens of a distortion_model and D of sensor_msgs/CameraInfo; None where it distorts nothing.

    Raises:
        CalibrationError: the model is unknown, or its coefficients are not finite or of another number.
    """
    distortion = _distortion(model, coefficients)
    if not distortion.size:
        return None
    return LensModel("equidistant" if model in FISHEYE_MODELS else "perspective", tuple(distortion.tolist()))


def distortion_of(lens: LensModel | None) -> tuple[str, Matrix]:
    """distortion_model and D [n] of sensor_msgs/CameraInfo of a lens; None: without distortion."""
    if lens is None:
        return "plumb_bob", np.zeros(5)
    wide = "plumb_bob" if len(lens.coefficients) <= DISTORTION_MODELS["plumb_bob"][-1] else "rational_polynomial"
    return "equidistant" if lens.kind == "equidistant" else wide, np.array(lens.coefficients)


def _distortion(model: str, coefficients: Any) -> Matrix:
    """The lens model's coefficients, of a number that OpenCV takes; empty where there is nothing to undo."""
    values = np.asarray(coefficients, dtype=np.float64).reshape(-1)
    if not np.isfinite(values).all():
        raise CalibrationError("D has entries that are not finite")
    is_fisheye = model in FISHEYE_MODELS
    # All zero is a pinhole without distortion, but a fisheye that follows r = f * theta exactly.
    if not values.any():
        return np.zeros(4 if is_fisheye else 0)
    counts = DISTORTION_MODELS.get(model)
    if counts is None:
        raise CalibrationError(
            f"distortion_model {model[:MAX_NAME]!r} is not one of {', '.join(DISTORTION_MODELS)}: rectify the images "
            "(image_proc) and use their topic"
        )
    used = int(np.flatnonzero(values)[-1]) + 1  # some drivers fill up with zeros, which change nothing
    takes = f"{model} takes {' or '.join(map(str, counts))} coefficients"
    if values.size < counts[0]:
        raise CalibrationError(f"{takes}, not {values.size}")
    if used > counts[-1]:
        hint = ": that is rational_polynomial, say so in distortion_model" if model == "plumb_bob" and used > 5 else ""
        raise CalibrationError(f"{takes}, D has {values.size} that are not all zero behind these{hint}")
    count = next(count for count in counts if count >= used)
    return np.pad(values, (0, max(0, count - values.size)))[:count]


def _size(info: Any) -> tuple[int, int] | None:
    """Height and width of the images: the region of interest, or the whole sensor, binned."""
    roi = info.roi
    if (info.width and roi.x_offset + roi.width > info.width) or (
        info.height and roi.y_offset + roi.height > info.height
    ):
        raise CalibrationError(
            f"roi {roi.width}x{roi.height} at {roi.x_offset}, {roi.y_offset} is not inside the sensor of "
            f"{info.width}x{info.height}"
        )
    height, width = roi.height or info.height, roi.width or info.width
    if not height or not width:
        return None
    size = int(height // max(1, info.binning_y)), int(width // max(1, info.binning_x))
    try:
        check_pixels(size)
    except ImageError as error:
        raise CalibrationError(f"width, height, roi and binning: {error}") from error
    return size


def _undistorting(
    raw: Matrix, distortion: Matrix, is_fisheye: bool, size: tuple[int, int] | None, fitted: Fit
) -> tuple[Matrix, UndistortingMaps]:
    """Camera matrix [3, 3] of the undistorted image, and the maps that make it of the reduced one."""
    if size is None:
        raise CalibrationError("height and width are zero, so that the lens distortion cannot be undone")
    initialise = cv2.fisheye.initUndistortRectifyMap if is_fisheye else cv2.initUndistortRectifyMap
    height, width = fitted.undistorted_hw or reduced_hw(size, fitted.reduction)
    scale = 1 / fitted.reduction
    scales = (scale, scale) if fitted.undistorted_hw is None else (height / size[0], width / size[1])
    undistorted, taken = scaled_from_pixels(*scales) @ raw, reduced_from_pixels(fitted.reduction) @ raw
    try:
        share = _usable_share(initialise, raw, distortion, size)
        if share < MIN_USABLE:
            raise CalibrationError(
                f"D leaves {100 * share:.0f} % of the undistorted picture usable (the rest is black or folded over): "
                "are the coefficients those of this lens, in the order of distortion_model? If they are, the lens sees "
                "too much for a flat picture: set lens: project, which leaves the picture as it is"
            )
        xy, part = initialise(taken, distortion, np.eye(3), undistorted, (width, height), cv2.CV_16SC2)
        return undistorted, UndistortingMaps(np.ascontiguousarray(xy), np.ascontiguousarray(part))
    except cv2.error as error:
        raise CalibrationError(f"the lens distortion cannot be undone: {one_line(error)}") from error


def _check_field(raw: Matrix, lens: LensModel | None, size: tuple[int, int] | None) -> None:
    if size is not None:
        share = float(np.isfinite(_rays(raw, lens, size)).all(axis=1).mean())
        if share < MIN_SEEN:
            raise CalibrationError(
                f"D leaves {100 * share:.0f} % of the picture usable (what is further from its centre, the lens model "
                "cannot tell): are the coefficients those of this lens, in the order of distortion_model?"
            )


def _cut_off(raw: Matrix, lens: LensModel | None, size: tuple[int, int]) -> float:
    """Share of what a lens shows in an image that an undistorted one of the same camera matrix and size does not."""
    rays = _rays(raw, lens, size)
    rays = rays[np.isfinite(rays).all(axis=1)]
    pixels, is_ahead = CameraView(raw, np.eye(4)[:3]).pixels(rays)
    inside = is_ahead & ((pixels >= -0.5) & (pixels <= (size[1] - 0.5, size[0] - 0.5))).all(axis=1)
    return 1 - float(inside.mean()) if len(inside) else 0.0


def _rays(raw: Matrix, lens: LensModel | None, size: tuple[int, int]) -> Matrix:
    """Directions [n, 3] that pixels all over an image look along; NaN where a lens shows nothing."""
    rows, columns = 24, 32
    pixels = np.stack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5), axis=-1).reshape(-1, 2)
    pixels *= (size[1] / columns, size[0] / rows)
    return CameraView(raw, np.eye(4)[:3], lens).rays(pixels - 0.5)


def _usable_share(initialise: Any, raw: Matrix, distortion: Matrix, size: tuple[int, int]) -> float:
    """Share of the undistorted picture that shows a part of the image, and shows it the right way round."""
    rows, columns = 48, 64
    coarse = np.diag((columns / size[1], rows / size[0], 1.0)) @ raw
    x, y = (
        np.asarray(part, dtype=np.float64)
        for part in initialise(raw, distortion, np.eye(3), coarse, (columns, rows), cv2.CV_32FC1)
    )
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is not usable
        (x_down, x_right), (y_down, y_right) = np.gradient(x), np.gradient(y)
        is_upright = x_right * y_down - x_down * y_right > 0
    is_inside = (x >= 0) & (x <= size[1] - 1) & (y >= 0) & (y <= size[0] - 1)
    # A lens may mirror a part of the view only on paper: there its polynomial no longer holds.
    return float((is_inside & is_upright).mean())
