"""The voxels that are not free, as a list, made where the volume is: the host gets the list and not the volume.

Written over an array module `xp`, NumPy or CuPy; no shape depends on what is in the volume, so that nothing waits for
the device until the list is asked for.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from torch import Tensor

from ..base.devices import with_index
from ..types import ListedVoxels
from .kernels import has_cupy, import_cupy

RECORD = np.dtype([("confidence", "u1"), ("class_id", "u1"), ("index", "<u4"), ("unused", "<u2")])  # of a voxel
HEAD_BYTES = 16  # how many voxels are listed, and whether the network's output is finite: int64 each
SPARE = 1.25  # so many times the voxels of the last list are fetched with the next one at once
LEAST_VOXELS = 4096  # ... and no fewer than these


def listed(
    xp: Any, class_id: Any, confidence: Any, free_id: int | None, visible: Any | None, is_finite: Any | None
) -> Any:
    """Everything in one row of bytes: HEAD_BYTES, the bits of `visible`, filled up to 8 bytes, and a RECORD for every
    voxel that is not free; what lies behind these is undefined.

    Args:
        xp: numpy or cupy, of which the volumes [X, Y, Z] are arrays.
        free_id: class of free voxels; None: all are listed.
        visible: bool [X, Y, Z], or None.
        is_finite: bool [], or None: it is.
    """
    count = class_id.size
    flat = class_id.transpose(2, 1, 0).ravel()
    is_listed = xp.ones(count, bool) if free_id is None else flat != free_id
    place = xp.cumsum(is_listed, dtype=xp.int32)  # in the list, counted from 1
    bits = (
        xp.zeros(0, xp.uint8) if visible is None else xp.packbits(visible.transpose(2, 1, 0).ravel(), bitorder="little")
    )
    first = HEAD_BYTES // 8 + bits_words(count if visible is not None else 0)
    words, length = xp.empty(first + count, xp.uint64), place[-1].copy()
    record = xp.arange(count, dtype=xp.uint64)  # in place: a word of every voxel is the largest array there is
    for byte in (flat, confidence.transpose(2, 1, 0).ravel()):
        record <<= 8
        record |= byte
    place *= is_listed
    words[first - 1 :][place] = record  # those that are not listed fall before the list, which is written after them
    words[0] = length
    words[1] = 1 if is_finite is None else is_finite
    words[2:first] = 0
    words[2:first].view(xp.uint8)[: bits.size] = bits
    return words.view(xp.uint8)


def bits_words(count: int) -> int:
    """Words of 8 bytes for a bit of every voxel."""
    return -(-count // 64)


def compaction_on(device: torch.device) -> "Compaction | None":
    """The calling thread's lists on a device; None on a CPU, and where there is no CuPy, which `front_end` tells."""
    if device.type != "cuda" or not has_cupy():
        return None
    return _compaction(with_index(device), threading.get_ident())


@lru_cache(maxsize=8)
def _compaction(device: torch.device, thread: int) -> "Compaction":
    del thread  # each has its own
    return Compaction(device)


def forget_compactions() -> None:
    """Give up the lists of all threads; who needs one makes another."""
    _compaction.cache_clear()


class Compaction:
    """Lists the voxels of volumes on a device; of one thread.

    Raises:
        CudaError: the device is CUDA and there is no CuPy.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = with_index(device)
        self._xp: Any = import_cupy() if device.type == "cuda" else np
        self._likely = LEAST_VOXELS  # voxels that the next list has at most, if all goes as before

    def begin(
        self,
        class_id: Tensor,
        confidence: Tensor,
        free_id: int | None,
        visible: Tensor | None = None,
        is_finite: Tensor | None = None,
    ) -> "PendingList":
        """Order the list of volumes [X, Y, Z] after what has been given to torch's current stream; waits for nothing.

        Args:
            class_id, confidence: uint8.
            free_id: class of free voxels; None: all are listed.
            visible: bool, or None: nobody asked.
            is_finite: bool [], or None: it is.
        """
        seen, finite = (None if tensor is None else self._array(tensor) for tensor in (visible, is_finite))
        with self._on_stream():
            made = listed(self._xp, self._array(class_id), self._array(confidence), free_id, seen, finite)
            row: Tensor = torch.utils.dlpack.from_dlpack(made)
        first = HEAD_BYTES + 8 * bits_words(class_id.numel() if visible is not None else 0)
        likely = min(self._likely, class_id.numel())
        return PendingList(row, first, -(-class_id.numel() // 8) if visible is not None else None, likely, self)

    def expect(self, count: int) -> None:
        """The last list had so many voxels."""
        self._likely = max(LEAST_VOXELS, int(SPARE * count))

    def _array(self, tensor: Tensor) -> Any:
        tensor = tensor.detach().contiguous()
        return tensor.numpy() if self._xp is np else self._xp.from_dlpack(tensor)

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        if self._device.type != "cuda":
            yield
            return
        stream = torch.cuda.current_stream(self._device)
        of, number = self._xp.cuda, self._device.index
        with of.Device(number), of.ExternalStream(stream.cuda_stream, number):
            yield


class PendingList:
    """A list on its way to the host."""

    def __init__(self, row: Tensor, first: int, visible_bytes: int | None, likely: int, of: Compaction) -> None:
        self._row, self._first, self._visible_bytes, self._of = row, first, visible_bytes, of
        self._host, self._arrived = _fetched(row[: first + likely * RECORD.itemsize])

    def wait(self) -> tuple[ListedVoxels, bool]:
        """The list and whether all is finite, as soon as the device has them; a list that is much longer than the last
        one takes a second copy.
        """
        _wait(self._arrived)
        count, is_finite = self._host[:HEAD_BYTES].view(torch.int64).tolist()
        end, here = self._first + count * RECORD.itemsize, self._host
        if end > here.numel():
            rest, arrived = _fetched(self._row[here.numel() : end])
            _wait(arrived)
            here = torch.cat((here, rest))
        self._of.expect(count)
        records = here[self._first : end].numpy().view(RECORD)
        bits = self._visible_bytes
        visible = None if bits is None else here[HEAD_BYTES : HEAD_BYTES + bits].numpy().copy()
        index, class_id, confidence = (
            np.ascontiguousarray(records[name]) for name in ("index", "class_id", "confidence")
        )
        return ListedVoxels(index, class_id, confidence, visible), bool(is_finite)


def _fetched(row: Tensor) -> tuple[Tensor, "torch.cuda.Event | None"]:
    """Bytes on their way to page-locked memory of the host, and the event of their arrival; None: they are there."""
    if row.device.type != "cuda":
        return row, None
    host = torch.empty(row.shape, dtype=row.dtype, pin_memory=True)
    host.copy_(row, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(row.device))
    return host, arrived


def _wait(arrived: "torch.cuda.Event | None") -> None:
    if arrived is not None:
        arrived.synchronize()
