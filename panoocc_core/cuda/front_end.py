"""The images of all cameras, as they were sent, to the input of a network: one launch of `front_end.cu`."""

import logging
import threading
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..base.devices import with_index
from ..base.reduction import Cut
from ..base.sent_image import SentImage, UndistortingMaps
from ..config import ImageConfig
from .kernels import INSTALL, Kernels, address, has_cupy, kernels_on
from .staging import SideUploads, Staging

SOURCE = "front_end.cu"
BLOCK = (32, 8, 1)
KINDS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
ENCODINGS = {"interleaved": 0, "chroma_shared": 1, "bayer": 2}
WAYS = {"crop": 0, "bilinear": 1, "antialiased": 2, "eight_bits": 3}

# The records of the kernel, field by field.
_INT, _FLOAT, _DOUBLE, _POINTER = np.int32, np.float32, np.float64, np.uint64
LAYOUT = np.dtype(
    [
        *((name, _INT) for name in ("height", "width", "resized_height", "resized_width", "kind", "is_bgr")),
        ("mean", _FLOAT, 3),
        ("deviation", _FLOAT, 3),
    ],
    align=True,
)
CAMERA = np.dtype(
    [
        *((name, _POINTER) for name in ("data", "map_xy", "map_part")),
        ("warp", _DOUBLE, 6),
        *((name, _INT) for name in ("encoding", "height", "width", "step")),
        ("place", _INT, 3),
        *((name, _INT) for name in ("pixel_bytes", "chroma_rows", "chroma_bytes", "reduction")),
        *((name, _INT) for name in ("rectified_height", "rectified_width", "turns", "again")),
        *((name, _INT) for name in ("top", "left", "rows", "columns", "resize")),
    ],
    align=True,
)


def front_end_on(device: torch.device) -> "FrontEnd | None":
    """The calling thread's front end on a device; None on a CPU, and, which is told once, where there is no CuPy.

    Raises:
        CudaError: CuPy is there, but cannot be used.
    """
    if device.type != "cuda" or not _is_wanted():
        return None
    return _front_end(with_index(device), threading.get_ident())


def uploads_to(device: torch.device) -> SideUploads | None:
    """For whoever gets pictures for a device one by one; None where `front_end_on` is: there the host prepares them.

    Raises:
        CudaError: as `front_end_on`.
    """
    return None if front_end_on(device) is None else SideUploads(device)


@lru_cache
def _is_wanted() -> bool:
    if not has_cupy():
        text = "images are prepared by torch's operators, several for each camera, as CuPy is not installed; %s"
        logging.getLogger(__name__).warning(text, INSTALL)
    return has_cupy()


@lru_cache(maxsize=8)
def _front_end(device: torch.device, thread: int) -> "FrontEnd":
    del thread  # each has its own
    return FrontEnd(device)


def forget_front_ends() -> None:
    """Give up the front ends, with the maps of their cameras of all threads; who needs one makes another."""
    _front_end.cache_clear()


class FrontEnd:
    """Prepares images on one device; of one thread.  What it keeps: staging memory, and the maps of the cameras.

    Args:
        kernels: those of `front_end.cu`; None: compiled for the device by CuPy.

    Raises:
        CudaError: there is no CuPy, or it cannot be used.
    """

    def __init__(self, device: torch.device, kernels: Kernels | None = None) -> None:
        self.device = device = with_index(device)
        self._kernels = kernels_on(device, SOURCE) if kernels is None else kernels
        self._images, self._table = Staging(device), Staging(device)
        self._maps: dict[int, tuple[UndistortingMaps, list[Tensor]]] = {}  # by place of the camera

    def prepare(
        self,
        images: Sequence[SentImage],
        cuts: Sequence[Cut],
        config: ImageConfig,
        dtype: torch.dtype = torch.float32,
        out: Tensor | None = None,
    ) -> Tensor:
        """Images [camera, 3, row, column], normalised and padded, channels last in memory.

        Args:
            cuts: what of every upright image is used, and how it is resized.
            out: where they are written; None: new memory.

        Raises:
            ValueError: `out` is not as it should be.
        """
        height, width = config.padded_hw
        shape = (len(images), 3, height, width)
        if out is None:
            out = torch.empty(shape, dtype=dtype, device=self.device, memory_format=torch.channels_last)
        if out.shape != shape or out.dtype != dtype or not out.is_contiguous(memory_format=torch.channels_last):
            raise ValueError(f"out must be {dtype} {shape}, channels last, not {out.dtype} {tuple(out.shape)}")
        layout, cameras = self._table.upload(
            (layout_record(config, dtype), camera_records(images, cuts, self._pixels(images), self._maps_of(images)))
        )
        grid = (-(-width // BLOCK[0]), -(-height // BLOCK[1]), len(images))
        self._kernels.launch("prepare_images", grid, BLOCK, (layout, cameras, out.permute(0, 2, 3, 1)))
        return out

    def _pixels(self, images: Sequence[SentImage]) -> list[Tensor]:
        """The bytes of the images on the device; those of the host are copied there."""
        for image in images:
            if image.arrived is not None:  # by another stream
                stream = torch.cuda.current_stream(self.device)
                stream.wait_event(image.arrived)
                image.data.record_stream(stream)
        on_host = [image.data for image in images if image.data.device != self.device]
        uploaded = iter(self._images.upload(on_host) if on_host else ())
        return [image.data if image.data.device == self.device else next(uploaded) for image in images]

    def _maps_of(self, images: Sequence[SentImage]) -> list[list[Tensor]]:
        """Of every camera the two maps on the device, or nothing; they are copied there when they are new."""
        for place, maps in enumerate(image.maps for image in images):
            known = self._maps.get(place)
            if maps is None:
                self._maps.pop(place, None)
            elif known is None or known[0] is not maps:
                self._maps[place] = maps, self._images.upload((maps.xy, maps.part))
        return [self._maps[place][1] if place in self._maps else [] for place in range(len(images))]


def layout_record(config: ImageConfig, dtype: torch.dtype) -> NDArray[np.void]:
    """LAYOUT [1] of a network's input."""
    is_bgr = config.channel_order == "BGR"
    row = (*config.padded_hw, config.height, config.width, KINDS[dtype], is_bgr, config.mean, config.std)
    return np.array([row], dtype=LAYOUT)


def camera_records(
    images: Sequence[SentImage], cuts: Sequence[Cut], pixels: Sequence[Tensor], maps: Sequence[Sequence[Tensor]]
) -> NDArray[np.void]:
    """CAMERA [camera].

    Args:
        pixels, maps: of every image on the device: its bytes, and both maps if it has some.
    """
    table = np.zeros(len(images), dtype=CAMERA)
    for row, image, cut, data, both in zip(table, images, cuts, pixels, maps, strict=True):
        row["data"] = address(data)
        if both:
            row["map_xy"], row["map_part"] = map(address, both)
        where = image.bytes
        row["encoding"], row["pixel_bytes"], row["place"] = ENCODINGS[where.layout], where.pixel_bytes, where.place
        row["chroma_rows"], row["chroma_bytes"] = where.shared
        (row["height"], row["width"]), row["step"], row["reduction"] = image.sent_hw, image.step, image.reduction
        (row["rectified_height"], row["rectified_width"]), row["turns"] = image.rectified_hw, image.turns % 4
        row["top"], row["left"], row["rows"], row["columns"] = cut.window
        row["resize"], row["again"], row["warp"] = WAYS[cut.way], cut.reduction, cut.image_from_input[:2].ravel()
    return table
