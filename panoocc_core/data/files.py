"""Images, point clouds and label arrays from files; sizes are checked before anything is decoded or reserved."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..types import MAX_IMAGE_SIDE
from .errors import DataError

MAX_FILE_BYTES = 64 << 20  # images, sweeps and labels have up to a megabyte
_END_WITHIN = 4096  # some writers pad behind a JPEG's end marker


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
    found = _jpeg_size(data, path)
    if b"\xff\xd9" not in data[-_END_WITHIN:]:  # decoders fill what is missing with grey and say nothing
        raise DataError(f"{path}: the JPEG is cut off after {len(data)} bytes; download it again")
    if not 0 < min(found) <= max(found) <= MAX_IMAGE_SIDE:
        raise DataError(f"{path}: image size {found[1]}x{found[0]} is outside 1..{MAX_IMAGE_SIDE}; download it again")
    if found != size_hw:
        raise DataError(
            f"{path}: is {found[1]}x{found[0]}, its table says {size_hw[1]}x{size_hw[0]}; the calibration would not "
            "fit: use the images as they were published"
        )
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None or bgr.shape[:2] != size_hw:
        raise DataError(f"{path}: is a damaged JPEG; download it again")
    return torch.from_numpy(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


def _jpeg_size(data: bytes, path: Path) -> tuple[int, int]:
    """Height and width in the frame header (ITU-T T.81, B.2.2): the segments before it are skipped by their lengths."""
    if not data.startswith(b"\xff\xd8"):
        raise DataError(f"{path}: begins with {data[:4].hex(' ')} and is no JPEG; download it again")
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[place + 5 : place + 7], "big"), int.from_bytes(
                data[place + 7 : place + 9], "big"
            )
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    raise DataError(f"{path}: the JPEG has no frame header: it is cut off or damaged; download it again")


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


class ArrayFile:
    """The arrays of an `.npz`, each checked against what it should be before its data are read.

    Raises:
        DataError: no such file, or not an archive.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            what = "cannot be read" if path.exists() else "no such file"
            raise DataError(f"{path}: {what} ({error}); unpack the archive that holds it again") from error

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def read(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        """One array.

        Raises:
            DataError: it is missing, damaged, or of another shape or type.
        """
        wanted = np.dtype(dtype)
        try:
            with self._archive.open(f"{name}.npy") as member:
                found, in_columns, kind = _header(member)
                if found != shape or kind != wanted:
                    raise DataError(f"{self.path}: {name} is {kind} {found}, not {wanted} {shape}; download it again")
                data = member.read(int(np.prod(shape)) * wanted.itemsize)
                whole = len(data) == np.prod(shape) * wanted.itemsize and not member.read(1)  # ... and its checksum
        except KeyError as error:
            has = ", ".join(self._archive.namelist()[:8]) or "nothing"
            raise DataError(f"{self.path}: has no array {name!r} (it has {has}); download it again") from error
        except DataError:
            raise
        except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{self.path}: {name} is damaged ({error}); download it again") from error
        if not whole:
            raise DataError(f"{self.path}: {name} has not the length that it says; download it again")
        return np.frombuffer(data, wanted).reshape(shape, order="F" if in_columns else "C").copy()


def _header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, column order and type of an `.npy`."""
    version = np.lib.format.read_magic(member)
    if version != (1, 0):  # what NumPy writes for plain arrays; its header has less than 64 KiB
        raise ValueError(f"an array of format {version[0]}.{version[1]}")
    return np.lib.format.read_array_header_1_0(member)
