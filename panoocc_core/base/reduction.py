"""Images made smaller by whole numbers: one pixel for each square of them."""

from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # [height, width, 3]
REDUCTIONS = (1, 2, 4, 8)  # times that decoders of JPEGs make an image smaller


Way = Literal["crop", "bilinear", "antialiased", "eight_bits"]  # the last one: as cv2.warpAffine


class Cut(NamedTuple):
    """What of an image a network gets, and how that is resized."""

    window: tuple[int, int, int, int]  # rows and columns that are used: top, left, height, width
    way: Way
    reduction: int = 1  # eight_bits: times that the image is made smaller before
    image_from_input: NDArray[np.float64] = np.eye(3)  # eight_bits: [3, 3], pixels of that image from the input's


class Fit(NamedTuple):
    """How much smaller images of one size are made on their way to a network."""

    reduction: int = 1  # times, when they are decoded
    undistorted_hw: tuple[int, int] | None = None  # height and width of the image without distortion; None: as before


def reduced_hw(size_hw: tuple[int, int], reduction: int) -> tuple[int, int]:
    """Height and width of a reduced image: what is left over at the right and the bottom makes a pixel, too."""
    return -(-size_hw[0] // reduction), -(-size_hw[1] // reduction)


def reduced(rgb: Pixels, reduction: int) -> Pixels:
    """An image [height, width, 3] with one pixel, the mean, for each square of `reduction` times `reduction` of them.

    Decoders of JPEGs do nearly the same with the frequencies of their blocks (1, 2, 4 or 8 times).
    """
    if reduction == 1:
        return rgb
    height, width = reduced_hw((rgb.shape[0], rgb.shape[1]), reduction)
    below, beside = height * reduction - rgb.shape[0], width * reduction - rgb.shape[1]
    if below or beside:
        rgb = np.asarray(cv2.copyMakeBorder(rgb, 0, below, 0, beside, cv2.BORDER_REPLICATE), dtype=np.uint8)
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def reduced_from_pixels(reduction: int) -> NDArray[np.float64]:
    """[3, 3] map of homogeneous pixels of an image to those of the reduced one; whole numbers are centres."""
    return scaled_from_pixels(1 / reduction, 1 / reduction)


def scaled_from_pixels(scale_y: float, scale_x: float) -> NDArray[np.float64]:
    """[3, 3] map of homogeneous pixels of an image to those of one of another size; whole numbers are centres."""
    return np.array([[scale_x, 0, (scale_x - 1) / 2], [0, scale_y, (scale_y - 1) / 2], [0, 0, 1.0]])
