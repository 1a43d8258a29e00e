"""A picture as its camera sent it, for devices that decode, undistort and turn it by themselves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .reduction import reduced_hw

Layout = Literal["interleaved", "chroma_shared", "bayer"]
LEAST_BAYER = 3  # rows and columns: every colour needs neighbours


class Bytes(NamedTuple):
    """Where the bytes of a pixel lie."""

    layout: Layout
    pixel_bytes: int = 1  # from one pixel to the next
    # interleaved: of R, G, B in a pixel; chroma_shared: where Y, U, V begin in a row, -1 and -2: in a plane below.
    place: tuple[int, int, int] = (0, 0, 0)
    # chroma_shared: rows that have one row of chroma, and bytes from one U to the next; bayer: row and column of red.
    shared: tuple[int, int] = (1, 1)


# Names of sensor_msgs/image_encodings, of what a device decodes.
ENCODED_BYTES = {
    "rgb8": Bytes("interleaved", 3, (0, 1, 2)),
    "bgr8": Bytes("interleaved", 3, (2, 1, 0)),
    "rgba8": Bytes("interleaved", 4, (0, 1, 2)),
    "bgra8": Bytes("interleaved", 4, (2, 1, 0)),
    "mono8": Bytes("interleaved", 1, (0, 0, 0)),
    "uyvy": Bytes("chroma_shared", 2, (1, 0, 2), (1, 4)),
    "yuyv": Bytes("chroma_shared", 2, (0, 1, 3), (1, 4)),
    "nv12": Bytes("chroma_shared", 1, (0, -1, -2), (2, 2)),
    "nv21": Bytes("chroma_shared", 1, (0, -2, -1), (2, 2)),
    "bayer_rggb8": Bytes("bayer", shared=(0, 0)),
    "bayer_grbg8": Bytes("bayer", shared=(0, 1)),
    "bayer_gbrg8": Bytes("bayer", shared=(1, 0)),
    "bayer_bggr8": Bytes("bayer", shared=(1, 1)),
}


@dataclass(frozen=True, slots=True, eq=False)
class UndistortingMaps:
    """Where the pixels of an undistorted picture lie in the one that was taken, as cv2.remap has it with CV_16SC2."""

    xy: NDArray[np.int16]  # [height, width, 2], whole pixels
    part: NDArray[np.uint16]  # [height, width], 32 * y + x in parts of 32

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the undistorted picture."""
        return self.xy.shape[0], self.xy.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class SentImage:
    """Bytes, and what is to be done with them: decoded, reduced, undistorted, turned upright, in this order.

    Raises:
        ValueError: the encoding is none of ENCODED_BYTES, or there are too few bytes for it.
    """

    data: Tensor  # uint8 [bytes], on any device
    encoding: str
    sent_hw: tuple[int, int]
    step: int  # bytes from row to row
    reduction: int = 1  # as in `base.reduction`
    maps: UndistortingMaps | None = None  # of the reduced picture
    turns: int = 0  # quarter turns counter-clockwise
    on_host: Callable[[int], Tensor] | None = None  # RGB uint8 [height, width, 3] by the host, of so many turns
    arrived: torch.cuda.Event | None = None  # when the bytes are on their device; None: they are

    def __post_init__(self) -> None:
        found = ENCODED_BYTES.get(self.encoding)
        if found is None:
            raise ValueError(f"encoding {self.encoding!r} is none that a device decodes: {', '.join(ENCODED_BYTES)}")
        (height, width), in_rows = self.sent_hw, 1 if found.layout != "chroma_shared" else found.shared[0]
        rows = height + (height // 2 if in_rows == 2 else 0)
        if height % in_rows or (found.layout == "chroma_shared" and width % 2):
            raise ValueError(f"an image of encoding {self.encoding} must be even, not {width}x{height}")
        if found.layout == "bayer" and min(height, width) < LEAST_BAYER:
            raise ValueError(f"a mosaic of {width}x{height} pixels is too small: {LEAST_BAYER} are the least")
        if self.step < width * found.pixel_bytes:
            raise ValueError(f"encoding {self.encoding}: step {self.step} is below {width} x {found.pixel_bytes} bytes")
        needed = self.step * (rows - 1) + width * found.pixel_bytes
        if self.data.dtype != torch.uint8 or self.data.dim() != 1 or self.data.numel() < needed:
            raise ValueError(
                f"encoding {self.encoding}, {width}x{height}, step {self.step} needs uint8 [{needed}], not "
                f"{self.data.dtype} {tuple(self.data.shape)}"
            )

    @property
    def rectified_hw(self) -> tuple[int, int]:
        """Height and width without distortion, before it is turned."""
        return reduced_hw(self.sent_hw, self.reduction) if self.maps is None else self.maps.size_hw

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        height, width = self.rectified_hw
        return (width, height) if self.turns % 2 else (height, width)

    @property
    def bytes(self) -> Bytes:
        """Where the bytes of a pixel lie; those of planes below counted from the first byte."""
        found = ENCODED_BYTES[self.encoding]
        below = self.step * self.sent_hw[0]
        first, second, third = (place if place >= 0 else below - place - 1 for place in found.place)
        return found._replace(place=(first, second, third))

    def rgb(self) -> Tensor:
        """RGB uint8 [height, width, 3] of the upright image, made by the host.

        Raises:
            ValueError: whoever sent it has not said how.
        """
        if self.on_host is None:
            raise ValueError("this image was sent to the device alone: the host has no pixels of it")
        return self.on_host(self.turns)


def sent_rgb(image: Tensor) -> SentImage:
    """An upright image, RGB uint8 [height, width, 3], as it is."""
    height, width = image.shape[0], image.shape[1]
    return SentImage(
        image.contiguous().reshape(-1),
        "rgb8",
        (height, width),
        3 * width,
        on_host=lambda turns: torch.rot90(image, turns),
    )
