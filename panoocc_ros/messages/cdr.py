"""Messages as CDR bytes, without a Python object for every part: the OMG's plain CDR (XCDR1, little endian)."""

import struct

import numpy as np

LITTLE_ENDIAN = b"\x00\x01\x00\x00"
_SIZES = {kind: struct.calcsize(kind) for kind in "bBhHiIqQfd"}


class CdrWriter:
    """Appends primitives with the alignment of CDR; offsets count from after the four-byte header."""

    def __init__(self) -> None:
        self._buffer = bytearray(LITTLE_ENDIAN)

    def bytes(self) -> bytes:
        """Header and everything written."""
        return bytes(self._buffer)

    def pack(self, kind: str, *values: float) -> None:
        """Numbers of one struct format letter, each aligned to its size."""
        self._align(_SIZES[kind])
        self._buffer += struct.pack(f"<{len(values)}{kind}", *values)

    def string(self, text: str) -> None:
        """A string with its terminating zero."""
        data = text.encode() + b"\0"
        self.pack("I", len(data))
        self._buffer += data

    def sequence(self, count: int, values: np.ndarray | None = None) -> None:
        """The length of a sequence, and the numbers of all its elements."""
        self.pack("I", count)
        if count and values is not None:
            self._align(values.dtype.itemsize)
            self._buffer += np.ascontiguousarray(values).data.cast("B")

    def raw(self, data: memoryview, alignment: int) -> None:
        """What another writer wrote from an offset with this alignment on."""
        self._align(alignment)
        self._buffer += data

    def _align(self, size: int) -> None:
        gap = (len(LITTLE_ENDIAN) - len(self._buffer)) % size
        if gap:
            self._buffer += bytes(gap)
