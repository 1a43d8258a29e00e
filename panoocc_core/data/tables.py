"""Tables of nuScenes: JSON lists of flat records, read one record at a time.

The largest ones have millions of records of which a reader needs a tenth: none is ever in memory as a whole.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..geometry import Matrix, rigid, rotation_from_quaternion
from .errors import DataError

CHUNK_CHARS = 1 << 22
MAX_RECORD_CHARS = 1 << 20  # the longest genuine one has some kilobytes
BIG_BYTES = 32 << 20  # from here on reading takes long enough to show a bar
QUATERNION_TOLERANCE = 1e-3
_BEGIN = re.compile(r"\s*\[\s*(\])?")
_NEXT = re.compile(r"\s*(?:(,)\s*|(\]))")
_BLANK = re.compile(r"\s*\Z")


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a table; every field that is asked for is checked."""

    path: Path
    fields: dict[str, Any]

    def error(self, text: str) -> DataError:
        """What is wrong with this record."""
        return DataError(f"{self.path}: record {self.fields.get('token', '(no token)')}: {text}; download it again")

    def _field(self, name: str) -> Any:
        if name not in self.fields:
            raise self.error(f"has no field {name!r}")
        return self.fields[name]

    def text(self, name: str) -> str:
        value = self._field(name)
        if not isinstance(value, str):
            raise self.error(f"{name} is {value!r}, not a text")
        return value

    def texts(self, name: str) -> list[str]:
        value = self._field(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(f"{name} is {value!r}, not a list of texts")
        return value

    def integer(self, name: str) -> int:
        value = self._field(name)
        if type(value) is not int or not 0 <= value < 1 << 53:
            raise self.error(f"{name} is {value!r}, not a whole number from 0")
        return value

    def flag(self, name: str) -> bool:
        value = self._field(name)
        if not isinstance(value, bool):
            raise self.error(f"{name} is {value!r}, neither true nor false")
        return value

    def array(self, name: str, shape: tuple[int, ...]) -> Matrix:
        """Finite numbers of the given shape, float64."""
        value = self._field(name)
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise self.error(f"{name} does not hold numbers") from error
        if array.shape != shape:
            raise self.error(f"{name} has the shape {array.shape}, not {shape}")
        if not np.isfinite(array).all():
            raise self.error(f"{name} has entries that are not finite: {array.tolist()}")
        return array

    def rotation(self) -> Matrix:
        """[3, 3], from the quaternion `rotation` (w, x, y, z)."""
        w, x, y, z = self.array("rotation", (4,))
        norm = float(np.linalg.norm((w, x, y, z)))
        if abs(norm - 1) > QUATERNION_TOLERANCE:
            raise self.error(f"rotation (w, x, y, z) has the length {norm:.6g}, not 1")
        return rotation_from_quaternion(np.array((x, y, z, w)))

    def pose(self) -> Matrix:
        """[4, 4], from `translation` (metres) and `rotation`."""
        return rigid(self.rotation(), self.array("translation", (3,)))


def records(path: Path, show_progress: bool = False) -> Iterator[dict[str, Any]]:
    """The records of a table, in order.

    Raises:
        DataError: no such file, not a JSON list of objects, or cut off.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such table; unpack the metadata archive of this version into {path.parent.parent}")
    try:
        with path.open(encoding="utf-8") as file:
            size = path.stat().st_size
            with tqdm(
                total=size, desc=path.name, unit="B", unit_scale=True, disable=not show_progress or size < BIG_BYTES
            ) as bar:
                yield from _objects(_Text(file, bar), path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); download it again") from error


class _Text:
    """A window of a text file that moves on."""

    def __init__(self, file: Any, bar: tqdm):
        self._file, self._bar = file, bar
        self.window, self.place, self.ended = "", 0, False
        self.grow()

    def grow(self) -> None:
        """Read on, and drop what was read before `place`."""
        chunk = self._file.read(CHUNK_CHARS)
        self.ended = not chunk
        self._bar.update(len(chunk))
        self.window, self.place = self.window[self.place :] + chunk, 0

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What the pattern finds at `place`, with enough text behind it to be sure."""
        while (found := pattern.match(self.window, self.place)) is None or found.end() == len(self.window):
            if self.ended or len(self.window) - self.place >= MAX_RECORD_CHARS:
                break
            self.grow()
        if found is not None:
            self.place = found.end()
        return found


def _objects(text: _Text, path: Path) -> Iterator[dict[str, Any]]:
    decode = json.JSONDecoder().raw_decode
    begin = text.match(_BEGIN)
    if begin is None:
        raise DataError(f"{path}: is not a JSON list; download it again")
    at_end, count = begin.group(1) is not None, 0
    while not at_end:
        try:
            value, text.place = decode(text.window, text.place)
        except (ValueError, RecursionError) as error:
            if not text.ended and len(text.window) - text.place < MAX_RECORD_CHARS:
                text.grow()
                continue
            what = "is cut off or damaged" if text.ended else "is no readable JSON"
            raise DataError(f"{path}: {what} after {count} records; download it again") from error
        if not isinstance(value, dict):
            raise DataError(f"{path}: entry {count} is not a record; download it again")
        yield value
        count += 1
        following = text.match(_NEXT)
        if following is None:
            raise DataError(f"{path}: is cut off or damaged after {count} records; download it again")
        at_end = following.group(2) is not None
    if text.match(_BLANK) is None:
        raise DataError(f"{path}: goes on after the end of its list; download it again")
