"""Pixels out of the bytes of a JPEG, PNG or TIFF: RGB uint8 [height, width, 3].

Sizes are checked against the bytes and by the caller before anything is decoded or reserved.
"""

import re
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import simplejpeg

from ..base.image_files import (
    JPEG_HEAD,
    PNG_HEAD,
    TIFF_HEADS,
    ImageFileError,
    check_size,
    jpeg_size_hw,
    png_size_hw,
    tiff_size_hw,
)
from ..base.reduction import Pixels, reduced, reduced_hw

MAX_PIXELS = 2**26  # of one image: eight times 4K video
MAX_NAME, MAX_TEXT = 60, 200  # characters
KNOWN_HEADS = (JPEG_HEAD, PNG_HEAD, *TIFF_HEADS)
_BEHIND_PIXELS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
MAX_BEHIND_PIXELS = 16  # bytes between the last pixel and the end marker: USB cameras leave some there


class ImageError(ValueError):
    """An image that cannot be decoded; the text says why and what to do."""


def picture_of(data: bytes, check_claim: Callable[[tuple[int, int]], None], reduction: int = 1) -> Pixels:
    """RGB uint8 [height, width, 3] of a JPEG, PNG or TIFF; its orientation tag is ignored, as calibrations do.

    Args:
        check_claim: is given height and width of the header, and raises ImageError where these pixels are not wanted.
        reduction: so many times smaller than the header says (see `reduced`), which is cheaper for a JPEG.

    Raises:
        ImageError: the bytes are none of these, damaged, cut off, or not the image that the header promises.
        ImageFileError: so are the headers.
    """
    if data.startswith(JPEG_HEAD):
        size_hw, decoded = jpeg_size_hw(data), _jpeg_pixels
    elif data.startswith(PNG_HEAD):
        size_hw, decoded = png_size_hw(data), _other_pixels
    elif data.startswith(TIFF_HEADS):
        size_hw, decoded = tiff_size_hw(data), _other_pixels
    else:
        raise ImageError(f"begins with {data[:4].hex(' ') or 'nothing'} and is neither JPEG, PNG nor TIFF")
    check_claim(size_hw)
    rgb = decoded(data, reduced_hw(size_hw, reduction))
    if rgb.shape == (*size_hw, 3):
        return reduced(rgb, reduction)
    if rgb.shape != (*reduced_hw(size_hw, reduction), 3):
        raise ImageError(
            f"the image decodes to {rgb.shape[1]}x{rgb.shape[0]}, its header says {size_hw[1]}x{size_hw[0]}"
        )
    return rgb


def check_pixels(size_hw: tuple[int, int], max_pixels: int = MAX_PIXELS) -> None:
    """Raises ImageError where an image has no pixels, or more than are decoded."""
    try:
        check_size(*size_hw)
    except ImageFileError as error:
        raise ImageError(str(error)) from error
    if size_hw[0] * size_hw[1] > max_pixels:
        raise ImageError(f"the image is {size_hw[1]}x{size_hw[0]}: more than {max_pixels} pixels are not decoded")


def check_expected(size_hw: tuple[int, int], expected_size_hw: tuple[int, int] | None) -> None:
    """Raises ImageError where an image has another size than its CameraInfo says."""
    if expected_size_hw is not None and size_hw != expected_size_hw:
        raise ImageError(
            f"the image is {size_hw[1]}x{size_hw[0]}, its CameraInfo is for {expected_size_hw[1]}x"
            f"{expected_size_hw[0]}: send the CameraInfo that belongs to this image"
        )


def one_line(error: Exception) -> str:
    """A library's words, which may have many lines, in at most MAX_TEXT characters."""
    return " ".join(str(error).split())[:MAX_TEXT] or type(error).__name__


def _jpeg_pixels(data: bytes, least_hw: tuple[int, int]) -> Pixels:
    """The smallest image of at least this size that the decoder makes: it scales by whole eighths."""
    decode = partial(simplejpeg.decode_jpeg, data, "RGB", min_height=least_hw[0], min_width=least_hw[1])
    try:
        # As fast as OpenCV's decoder and equal to it, but it does not keep to itself that data are corrupt.
        return np.asarray(decode(strict=True))
    except ValueError as error:
        behind = _BEHIND_PIXELS.search(str(error))
        if behind is not None and int(behind[1]) <= MAX_BEHIND_PIXELS:
            return np.asarray(decode(strict=False))
        raise ImageError(f"the JPEG is damaged: {one_line(error)}") from error


def _other_pixels(data: bytes, least_hw: tuple[int, int]) -> Pixels:
    del least_hw  # these are decoded whole
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None:
        raise ImageError("the PNG or TIFF is damaged, or of an unknown kind")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
