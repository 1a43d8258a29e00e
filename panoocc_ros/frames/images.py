"""Pixels out of image messages: RGB uint8 [height, width, 3], whatever the camera's driver sends.

Messages are read by attribute: rclpy's and rosbags' classes serve alike.  Sizes are checked against the bytes before
anything is decoded or reserved.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from panoocc_core.base.image_files import ImageFileError, check_size, jpeg_size_hw

Pixels = NDArray[np.uint8]


class ImageError(ValueError):
    """An image that cannot be decoded; the text says why and what to do."""


def decode(message: Any) -> Pixels:
    """RGB uint8 [height, width, 3] of a sensor_msgs Image or CompressedImage.

    Raises:
        ImageError: the encoding is unknown, or the bytes are not the image that the fields promise.
    """
    return decode_raw(message) if hasattr(message, "encoding") else decode_compressed(message)


def decode_compressed(message: Any) -> Pixels:
    """RGB uint8 [height, width, 3] of a JPEG or PNG; its orientation tag is ignored, as the calibration does."""
    data = np.frombuffer(message.data, dtype=np.uint8)
    if "compressedDepth" in message.format:
        raise ImageError(f"format {message.format!r} holds depth, not colour: set the topic of a colour image")
    height, width = encoded_size(data)
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None:
        raise ImageError(f"the {data.size} bytes (format {message.format!r}) are a damaged JPEG or PNG")
    if bgr.shape[:2] != (height, width):
        raise ImageError(f"the image decodes to {bgr.shape[1]}x{bgr.shape[0]}, its header says {width}x{height}")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def encoded_size(data: NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width in the header of a JPEG or PNG, and that the file has its end.

    Raises:
        ImageError: it is neither, too large, or was cut off.
    """
    if data.size == 0:
        raise ImageError("the message has no data")
    head = data[:24].tobytes()
    if head.startswith(b"\xff\xd8"):
        try:
            return jpeg_size_hw(data.tobytes())
        except ImageFileError as error:
            raise ImageError(str(error)) from error
    if not head.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ImageError(f"the data begin with {head[:4].hex(' ') or 'nothing'}: neither JPEG nor PNG")
    if len(head) < 24 or b"IEND" not in data[-64:].tobytes():
        raise ImageError(f"the PNG is cut off after {data.size} bytes")
    height, width = int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big")
    _check_size(height, width)
    return height, width


def _check_size(height: int, width: int) -> None:
    try:
        check_size(height, width)
    except ImageFileError as error:
        raise ImageError(str(error)) from error


def decode_raw(message: Any) -> Pixels:
    """RGB uint8 [height, width, 3] of a sensor_msgs Image; row padding and byte order are honoured."""
    height, width = int(message.height), int(message.width)
    _check_size(height, width)
    encoding = message.encoding.lower()
    known = ENCODINGS.get(encoding)
    if known is None:
        return _with_cv_bridge(message, sorted(ENCODINGS))
    bytes_per_pixel, planes, convert = known
    rows = height * planes[0] // planes[1]
    if planes != (1, 1) and (height % 2 or width % 2):
        raise ImageError(f"encoding {encoding}: {width}x{height} must be even in both directions")
    data, step = np.frombuffer(message.data, dtype=np.uint8), int(message.step)
    if step < width * bytes_per_pixel:
        raise ImageError(f"encoding {encoding}: step {step} is below {width} x {bytes_per_pixel} bytes")
    # The padding of the last row may be missing.
    needed = step * (rows - 1) + width * bytes_per_pixel
    if data.size < needed:
        raise ImageError(f"encoding {encoding}, {width}x{height}, step {step} needs {needed} bytes, not {data.size}")
    shape, strides = (rows, width * bytes_per_pixel), (step, 1)
    plain = np.ascontiguousarray(np.lib.stride_tricks.as_strided(data, shape, strides, writeable=False))
    if bytes_per_pixel == 2 and encoding in SIXTEEN_BITS:
        plain = plain.reshape(rows, -1, 2)[:, :, 0 if message.is_bigendian else 1]  # the high byte
        bytes_per_pixel = 1
    pixels = plain.reshape(rows, width, bytes_per_pixel) if bytes_per_pixel > 1 else plain.reshape(rows, width)
    return np.ascontiguousarray(convert(pixels))


def _colour(code: int) -> Callable[[Any], Any]:
    return lambda pixels: cv2.cvtColor(np.ascontiguousarray(pixels), code)


SIXTEEN_BITS = ("mono16", "16uc1")
_WHOLE, _WITH_CHROMA = (1, 1), (3, 2)  # rows of data per row of the image
# encoding -> bytes per pixel of a row, rows of data, to RGB
ENCODINGS: dict[str, tuple[int, tuple[int, int], Callable[[Any], Any]]] = {
    "rgb8": (3, _WHOLE, lambda pixels: pixels.copy()),
    "bgr8": (3, _WHOLE, _colour(cv2.COLOR_BGR2RGB)),
    "8uc3": (3, _WHOLE, _colour(cv2.COLOR_BGR2RGB)),
    "rgba8": (4, _WHOLE, _colour(cv2.COLOR_RGBA2RGB)),
    "bgra8": (4, _WHOLE, _colour(cv2.COLOR_BGRA2RGB)),
    "mono8": (1, _WHOLE, _colour(cv2.COLOR_GRAY2RGB)),
    "8uc1": (1, _WHOLE, _colour(cv2.COLOR_GRAY2RGB)),
    "mono16": (2, _WHOLE, _colour(cv2.COLOR_GRAY2RGB)),
    "16uc1": (2, _WHOLE, _colour(cv2.COLOR_GRAY2RGB)),
    "yuv422": (2, _WHOLE, _colour(cv2.COLOR_YUV2RGB_UYVY)),
    "uyvy": (2, _WHOLE, _colour(cv2.COLOR_YUV2RGB_UYVY)),
    "yuv422_yuy2": (2, _WHOLE, _colour(cv2.COLOR_YUV2RGB_YUY2)),
    "yuyv": (2, _WHOLE, _colour(cv2.COLOR_YUV2RGB_YUY2)),
    "nv12": (1, _WITH_CHROMA, _colour(cv2.COLOR_YUV2RGB_NV12)),
    "nv21": (1, _WITH_CHROMA, _colour(cv2.COLOR_YUV2RGB_NV21)),
    "bayer_rggb8": (1, _WHOLE, _colour(cv2.COLOR_BayerRGGB2RGB)),
    "bayer_bggr8": (1, _WHOLE, _colour(cv2.COLOR_BayerBGGR2RGB)),
    "bayer_gbrg8": (1, _WHOLE, _colour(cv2.COLOR_BayerGBRG2RGB)),
    "bayer_grbg8": (1, _WHOLE, _colour(cv2.COLOR_BayerGRBG2RGB)),
}


def _with_cv_bridge(message: Any, known: list[str]) -> Pixels:
    try:
        from cv_bridge import CvBridge  # ROS installs have it; it knows some more encodings
    except ImportError as error:
        raise ImageError(
            f"encoding {message.encoding!r} is not known; known are {', '.join(known)} "
            "(cv_bridge knows more: install it)"
        ) from error
    try:
        return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8"))
    except Exception as error:  # cv_bridge raises many kinds
        raise ImageError(f"encoding {message.encoding!r}: cv_bridge cannot convert it: {error}") from error
