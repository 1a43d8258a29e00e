"""From the host to a device without waiting: one page-locked buffer and one copy for many arrays."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..base.devices import with_index
from ..base.sent_image import SentImage
from ..base.tensor_trees import mapped, tensors_in

T = TypeVar("T")
ALIGNMENT = 256  # bytes: as CUDA's own allocations
BUFFERS = 3  # copies that may be on their way at once; one more waits for the first of them


def on_device(value: T, device: torch.device) -> T:
    """The same value with all its tensors on a device: those of the host go there in one copy, without waiting."""
    if device.type == "cpu":
        return value
    return _staging(with_index(device), threading.get_ident()).sent(value)


@lru_cache(maxsize=8)
def _staging(device: torch.device, thread: int) -> "Staging":
    del thread  # each has its own
    return Staging(device)


def forget_staging() -> None:
    """Give up the staging memory of all threads; who needs one makes another."""
    _staging.cache_clear()


class SideUploads:
    """Bytes of pictures to a device while it works on others; of any threads, each of which has a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._own = with_index(device), threading.local()

    def send(self, image: SentImage) -> SentImage:
        """The same image with its bytes on the device, or on their way to it."""
        if self._device.type != "cuda":
            return image
        if not hasattr(self._own, "stream"):
            self._own.stream, self._own.staging = torch.cuda.Stream(self._device), Staging(self._device)
        with torch.cuda.stream(self._own.stream):
            (data,) = self._own.staging.upload((image.data,))
            arrived = torch.cuda.Event()
            arrived.record(self._own.stream)
        return replace(image, data=data, arrived=arrived)


class Staging:
    """Uploads to one device; of one thread."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._next = device, 0
        self._buffers: list[Tensor] = [torch.empty(0, dtype=torch.uint8)] * BUFFERS
        self._copied: list[torch.cuda.Event | None] = [None] * BUFFERS

    def sent(self, value: T) -> T:
        """The same value with all its tensors on the device."""
        there = iter(self.upload([tensor for tensor in tensors_in(value) if tensor.device.type == "cpu"]))

        def placed(tensor: Tensor) -> Tensor:
            return tensor if tensor.device.type != "cpu" else next(there).view(tensor.dtype).view(tensor.shape)

        return mapped(value, placed)

    def upload(self, arrays: Sequence[NDArray[np.generic] | Tensor]) -> list[Tensor]:
        """The bytes of arrays of the host, each as uint8 [bytes] on the device: one copy on torch's current stream."""
        sources = [_bytes(array) for array in arrays]
        begins = np.cumsum([0, *(_aligned(part.numel()) for part in sources)]).tolist()
        buffer = self._free_buffer(begins[-1])
        for part, begin in zip(sources, begins):
            buffer[begin : begin + part.numel()].copy_(part)
        there = torch.empty(begins[-1], dtype=torch.uint8, device=self._device)
        there.copy_(buffer[: begins[-1]], non_blocking=True)
        if self._device.type == "cuda":
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(self._device))
            self._copied[self._next] = event
        self._next = (self._next + 1) % BUFFERS
        return [there[begin : begin + part.numel()] for part, begin in zip(sources, begins)]

    def _free_buffer(self, size: int) -> Tensor:
        event = self._copied[self._next]
        if event is not None:
            event.synchronize()  # the copy before the last but one: done long ago, unless the device lags behind
        if self._buffers[self._next].numel() < size:
            is_cuda = self._device.type == "cuda"
            self._buffers[self._next] = torch.empty(size, dtype=torch.uint8, pin_memory=is_cuda)
        return self._buffers[self._next]


def _bytes(array: NDArray[np.generic] | Tensor) -> Tensor:
    tensor = array if isinstance(array, Tensor) else torch.from_numpy(np.ascontiguousarray(array).view(np.uint8))
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
