"""Pixels out of image messages: RGB uint8 [height, width, 3], whatever the camera's driver sends.

Messages are read by attribute: rclpy's and rosbags' classes serve alike.  Sizes are checked against the bytes and the
calibration before anything is decoded or reserved, and whatever a decoder throws becomes an `ImageError`.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from panoocc_core.base.image_files import ImageFileError
from panoocc_core.base.reduction import Pixels, reduced
from panoocc_core.base.sent_image import ENCODED_BYTES, SentImage
from panoocc_core.cameras.image_bytes import (
    KNOWN_HEADS,
    MAX_NAME,
    MAX_PIXELS,
    ImageError,
    check_expected,
    check_pixels,
    one_line,
    picture_of,
)

from ..installed.other_encodings import by_cv_bridge


def decode(
    message: Any, expected_size_hw: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS, reduction: int = 1
) -> Pixels:
    """RGB uint8 [height, width, 3] of a sensor_msgs Image or CompressedImage.

    Args:
        expected_size_hw: what the image's CameraInfo says; an image that claims another size is not decoded.
        max_pixels: nor is one that claims more pixels than these.
        reduction: so many times smaller than it is sent (`base.reduction`), which is cheaper.

    Raises:
        ImageError: the encoding is unknown, or the bytes are not the image that the fields promise.
    """

    def check_claim(size_hw: tuple[int, int]) -> None:
        check_expected(size_hw, expected_size_hw)
        check_pixels(size_hw, max_pixels)

    try:
        if hasattr(message, "encoding"):
            return reduced(_decode_raw(message, check_claim), reduction)
        return _decode_compressed(message, check_claim, reduction)
    except ImageError:
        raise
    except ImageFileError as error:
        raise ImageError(str(error)) from error
    except Exception as error:  # OpenCV's is no ValueError
        what = message.encoding if hasattr(message, "encoding") else message.format
        raise ImageError(f"an image of format {what[:MAX_NAME]!r} cannot be decoded: {one_line(error)}") from error


def sent_as_it_is(message: Any, expected_size_hw: tuple[int, int] | None, reduction: int) -> SentImage | None:
    """A sensor_msgs Image in an encoding that devices decode; None: the host has to.

    Args:
        expected_size_hw, reduction: as in `decode`.

    Raises:
        ImageError: the bytes are not the image that the fields promise.
    """
    name = getattr(message, "encoding", "").lower()
    encoding = ON_DEVICE.get(name, name)
    if encoding not in ENCODED_BYTES:
        return None
    size_hw = int(message.height), int(message.width)
    check_expected(size_hw, expected_size_hw)
    check_pixels(size_hw)
    with warnings.catch_warnings():  # torch warns of bytes that may not be written to: nobody does
        warnings.simplefilter("ignore", UserWarning)
        data = torch.from_numpy(np.frombuffer(message.data, dtype=np.uint8))
    try:
        return SentImage(data, encoding, size_hw, int(message.step), reduction)
    except ValueError as error:
        raise ImageError(str(error)) from error


def glimpse(message: Any) -> Pixels:
    """What an image in an encoding of `sent_as_it_is` looks like, [height, width, channel], with nothing computed: its
    colours, its mosaic or its luma (whose black is made 0)."""
    name = message.encoding.lower()
    layout = ENCODED_BYTES[ON_DEVICE.get(name, name)]
    rows = np.frombuffer(message.data, np.uint8)[: message.height * message.step]
    if rows.size < message.height * message.step:  # the padding of the last row may be missing
        rows = np.pad(rows, (0, message.height * message.step - rows.size))
    wide = rows.reshape(message.height, message.step)[:, : message.width * layout.pixel_bytes]
    pixels = wide.reshape(message.height, message.width, layout.pixel_bytes)
    if layout.layout != "chroma_shared":
        return pixels
    return np.maximum(pixels[:, :, layout.place[0], None], 16) - np.uint8(16)


CheckClaim = Callable[[tuple[int, int]], None]


def _decode_compressed(message: Any, check_claim: CheckClaim, reduction: int) -> Pixels:
    """A JPEG, PNG or TIFF.

    The part of `format` before ";" is the encoding that the picture had before it was compressed.  Drivers often err
    in it, so that only what cannot be seen in the picture itself is believed: depth and mosaics.
    """
    said, data = message.format[:MAX_NAME], bytes(memoryview(message.data))
    encoding = message.format.split(";")[0].strip().lower()
    if encoding in DEPTH_ENCODINGS or "compresseddepth" in message.format.lower():
        raise ImageError(f"format {said!r} is depth, not colour: {_COLOUR_WANTED}")
    if not data:
        raise ImageError(f"the message (format {said!r}) has no data")
    if not data.startswith(KNOWN_HEADS):
        raise ImageError(
            f"format {said!r}: the data begin with {data[:4].hex(' ')} and are neither JPEG, PNG nor TIFF: send "
            "sensor_msgs/Image, or one of these (video is not decoded)"
        )
    mosaic = ENCODINGS.get(encoding.replace("16", "8")) if encoding.startswith("bayer_") else None
    if mosaic is None:
        return picture_of(data, check_claim, reduction)
    rgb = picture_of(data, check_claim)
    if (rgb == rgb[:, :, :1]).all():  # else somebody has made colours of it already
        rgb = np.ascontiguousarray(mosaic.to_rgb(rgb[:, :, 0]))
    return reduced(rgb, reduction)


def _decode_raw(message: Any, check_claim: CheckClaim) -> Pixels:
    """A sensor_msgs Image; row padding and byte order are honoured."""
    height, width = int(message.height), int(message.width)
    check_claim((height, width))
    name = message.encoding.lower()
    if name in DEPTH_ENCODINGS:
        raise ImageError(f"encoding {message.encoding} is depth, not colour: {_COLOUR_WANTED}")
    encoding = ENCODINGS.get(name)
    if encoding is None:
        return by_cv_bridge(message, ", ".join(sorted(ENCODINGS)))
    step, row_bytes, rows = (
        int(message.step),
        width * encoding.pixel_bytes,
        height * encoding.rows[0] // encoding.rows[1],
    )
    if height % encoding.even_hw[0] or width % encoding.even_hw[1]:
        directions = "in both directions" if encoding.even_hw[0] > 1 else "in width"
        raise ImageError(f"encoding {name}: {width}x{height} must be even {directions}")
    if step < row_bytes:
        raise ImageError(f"encoding {name}: step {step} is below {width} x {encoding.pixel_bytes} bytes")
    if step > row_bytes and not encoding.may_be_padded:
        raise ImageError(f"encoding {name}: step {step} is not {row_bytes}: how the chroma is padded is not defined")
    data = np.frombuffer(message.data, dtype=np.uint8)
    needed = step * (rows - 1) + row_bytes  # the padding of the last row may be missing
    if data.size < needed:
        raise ImageError(f"encoding {name}, {width}x{height}, step {step} needs {needed} bytes, not {data.size}")
    strided = np.lib.stride_tricks.as_strided(data, (rows, row_bytes), (step, 1), writeable=False)
    plain, channels = np.ascontiguousarray(strided), encoding.pixel_bytes
    if name.endswith("16"):
        plain, channels = plain[:, 0 if message.is_bigendian else 1 :: 2], channels // 2  # the high bytes
    pixels = plain.reshape(rows, width, channels) if channels > 1 else plain
    return np.ascontiguousarray(encoding.to_rgb(pixels))


class Encoding(NamedTuple):
    """How the bytes of a sensor_msgs/Image are laid out."""

    pixel_bytes: int  # of a row
    to_rgb: Callable[[Any], Any]
    rows: tuple[int, int] = (1, 1)  # rows of data per row of the image
    even_hw: tuple[int, int] = (1, 1)  # multiples that height and width must be
    may_be_padded: bool = True


def _colour(code: int) -> Callable[[Any], Any]:
    return lambda pixels: cv2.cvtColor(np.ascontiguousarray(pixels), code)


def _nv24_to_rgb(planes: Any) -> Any:
    """OpenCV has no code for chroma at full resolution: it is that of an NV12 image with every pixel doubled."""
    height, width = len(planes) // 3, planes.shape[1]
    luma, chroma = planes[:height], planes[height:].reshape(height, 2 * width)
    doubled = np.vstack([luma.repeat(2, axis=0).repeat(2, axis=1), chroma])
    return cv2.cvtColor(doubled, cv2.COLOR_YUV2RGB_NV12)[::2, ::2]


_EIGHT_BITS = {
    "rgb8": Encoding(3, lambda pixels: pixels.copy()),
    "bgr8": Encoding(3, _colour(cv2.COLOR_BGR2RGB)),
    "rgba8": Encoding(4, _colour(cv2.COLOR_RGBA2RGB)),
    "bgra8": Encoding(4, _colour(cv2.COLOR_BGRA2RGB)),
    "mono8": Encoding(1, _colour(cv2.COLOR_GRAY2RGB)),
    "bayer_rggb8": Encoding(1, _colour(cv2.COLOR_BayerRGGB2RGB)),
    "bayer_bggr8": Encoding(1, _colour(cv2.COLOR_BayerBGGR2RGB)),
    "bayer_gbrg8": Encoding(1, _colour(cv2.COLOR_BayerGBRG2RGB)),
    "bayer_grbg8": Encoding(1, _colour(cv2.COLOR_BayerGRBG2RGB)),
}
_UYVY = Encoding(2, _colour(cv2.COLOR_YUV2RGB_UYVY), even_hw=(1, 2))
_YUYV = Encoding(2, _colour(cv2.COLOR_YUV2RGB_YUY2), even_hw=(1, 2))
# Names in small letters, as REP 118 and sensor_msgs/image_encodings have them, and those that drivers add.
ENCODINGS = {
    **_EIGHT_BITS,
    **{
        name.replace("8", "16"): encoding._replace(pixel_bytes=2 * encoding.pixel_bytes)
        for name, encoding in _EIGHT_BITS.items()
    },
    "8uc1": _EIGHT_BITS["mono8"],
    "8uc3": _EIGHT_BITS["bgr8"],
    "8uc4": _EIGHT_BITS["bgra8"],
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": Encoding(1, _colour(cv2.COLOR_YUV2RGB_NV12), (3, 2), (2, 2)),
    "nv21": Encoding(1, _colour(cv2.COLOR_YUV2RGB_NV21), (3, 2), (2, 2)),
    "nv24": Encoding(1, _nv24_to_rgb, (3, 1), may_be_padded=False),
    "i420": Encoding(1, _colour(cv2.COLOR_YUV2RGB_I420), (3, 2), (2, 2), may_be_padded=False),
    "yv12": Encoding(1, _colour(cv2.COLOR_YUV2RGB_YV12), (3, 2), (2, 2), may_be_padded=False),
}
# Other names of encodings that devices decode.
ON_DEVICE = {"8uc1": "mono8", "8uc3": "bgr8", "8uc4": "bgra8", "yuv422": "uyvy", "yuv422_yuy2": "yuyv"}
DEPTH_ENCODINGS = ("16uc1", "16sc1", "32fc1", "64fc1")  # REP 118
_COLOUR_WANTED = "set the topic of a colour image (a grey camera of 16 bits sends mono16)"
