"""Images, point clouds and label arrays from files; sizes are checked before anything is decoded or reserved."""

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..base.image_files import ImageFileError, jpeg_size_hw
from .errors import DataError

MAX_FILE_BYTES = 64 << 20  # images, sweeps and labels have up to a megabyte


def bounded_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        DataError: it is missing, unreadable, empty or larger than 64 MiB.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_FILE_BYTES:
            raise DataError(f"{path}: has {size} bytes, outside 1..{MAX_FILE_BYTES}; download it again")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); unpack the archive that holds it") from error


def read_image(path: Path, size_hw: tuple[int, int]) -> Tensor:
    """RGB uint8 [height, width, 3] of a JPEG; its orientation tag is ignored, as the calibration does.

    Raises:
        DataError: missing, cut off, no JPEG, or of another size than the calibration is for.
    """
    data = bounded_bytes(path)
    try:
        found = jpeg_size_hw(data)
    except ImageFileError as error:
        raise DataError(f"{path}: {error}; download it again") from error
    if found != size_hw:
        raise DataError(
            f"{path}: is {found[1]}x{found[0]}, its table says {size_hw[1]}x{size_hw[0]}; the calibration would not "
            "fit: use the images as they were published"
        )
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None or bgr.shape[:2] != size_hw:
        raise DataError(f"{path}: is a damaged JPEG; download it again")
    return torch.from_numpy(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


def read_sweep(path: Path) -> NDArray[np.float32]:
    """Points [n, 3] in the LiDAR's frame of a `.pcd.bin`: float32 x, y, z, intensity and ring.

    Raises:
        DataError: missing, cut off, or with coordinates that are not finite.
    """
    data = bounded_bytes(path)
    if len(data) % 20:
        raise DataError(f"{path}: {len(data)} bytes are no whole number of points of 20 bytes; download it again")
    points = np.frombuffer(data, dtype="<f4").reshape(-1, 5)[:, :3]
    if not np.isfinite(points).all():
        raise DataError(f"{path}: has points that are not finite; download it again")
    return points


def read_labels(path: Path, count: int) -> NDArray[np.uint8]:
    """One class number [count] per point of a lidarseg `.bin`.

    Raises:
        DataError: missing, or for another number of points.
    """
    data = bounded_bytes(path)
    if len(data) != count:
        raise DataError(f"{path}: has {len(data)} labels for {count} points; download labels and sweeps of one version")
    return np.frombuffer(data, np.uint8)


# What reading a damaged archive raises.
_DAMAGED = (OSError, EOFError, ValueError, RuntimeError, KeyError, zipfile.BadZipFile, zlib.error, struct.error)


class ArrayFile:
    """The arrays of an `.npz`, each checked against what it should be before its data are read.

    Args:
        advice: what to do about a file that is not as it should be; ends the messages.

    Raises:
        DataError: no such file, or not an archive.
    """

    def __init__(self, path: Path, advice: str = "download it again"):
        self.path, self._advice = path, advice
        try:
            self._archive = zipfile.ZipFile(path)
        except _DAMAGED as error:
            what = "cannot be read" if path.exists() else "no such file"
            raise DataError(f"{path}: {what} ({error}); {advice}") from error

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def __contains__(self, name: str) -> bool:
        """Whether there is an array of this name."""
        return f"{name}.npy" in self._archive.namelist()

    def read(self, name: str, shape: tuple[int, ...], dtype: type[np.generic] | np.dtype[Any]) -> NDArray[Any]:
        """One array.

        Raises:
            DataError: it is missing, damaged, or of another shape or type.
        """
        wanted, size = np.dtype(dtype), math.prod(shape) * np.dtype(dtype).itemsize
        with self._member(name) as member:
            found, in_columns, kind = _header(member)
            if found != shape or kind != wanted:
                raise DataError(f"{self.path}: {name} is {kind} {found}, not {wanted} {shape}; {self._advice}")
            data = member.read(size)
            whole = len(data) == size and not member.read(1)  # ... and its checksum
        if not whole:
            raise DataError(f"{self.path}: {name} has not the length that it says; {self._advice}")
        return np.frombuffer(data, wanted).reshape(shape, order="F" if in_columns else "C").copy()

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type that an array says it has; none of its data are read.

        Raises:
            DataError: it is missing or damaged.
        """
        with self._member(name) as member:
            shape, _, kind = _header(member)
        return shape, kind

    @contextmanager
    def _member(self, name: str) -> Iterator[IO[bytes]]:
        """An array's file in the archive; what reading it raises becomes DataError."""
        if name not in self:
            has = ", ".join(self._archive.namelist()[:8]) or "nothing"
            raise DataError(f"{self.path}: has no array {name!r} (it has {has}); {self._advice}")
        try:
            with self._archive.open(f"{name}.npy") as member:
                yield member
        except DataError:
            raise
        except _DAMAGED as error:
            raise DataError(f"{self.path}: {name} is damaged ({error}); {self._advice}") from error


def _header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, column order and type of an `.npy`."""
    version = np.lib.format.read_magic(member)
    if version != (1, 0):  # what NumPy writes for plain arrays; its header has less than 64 KiB
        raise ValueError(f"an array of format {version[0]}.{version[1]}")
    try:
        return np.lib.format.read_array_header_1_0(member)
    except Exception as error:  # NumPy evaluates literals and parses types: damaged ones raise many kinds
        raise ValueError(f"its header cannot be read: {error}") from error
