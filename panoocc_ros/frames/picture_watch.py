"""Pictures that cannot be what a camera sees, although they decode: black ones, and the same one again and again."""

import threading
import zlib
from collections import Counter
from dataclasses import dataclass

import numpy as np

from panoocc_core.base.reduction import Pixels
from panoocc_core.geometry import Matrix, shift_and_turn

MANY_SETS = 10  # so often in a row is no accident
_MAX_DARK_MEAN, _MAX_FLAT_STD = 12.0, 3.0  # grey levels: a night has lamps, a covered lens has none
_MOVED_M, _MOVED_DEG = 0.5, 2.0  # a vehicle that stands may see the same, at least a simulated one
_STEP = 16  # every so many rows and columns are looked at, for the checksum every so many rows


@dataclass(frozen=True, slots=True)
class _Look:
    stamp_ns: int
    checksum: int
    flat: int  # sets in a row with a picture of one colour
    same: int  # ... with this picture
    since: Matrix  # world_from_ego [4, 4] when this picture came first
    has_moved: bool  # since then
    is_dark: bool

    @property
    def finding(self) -> tuple[str, str] | None:
        """Short name and sentence of what is wrong with the camera's pictures."""
        if self.flat >= MANY_SETS:
            colour = "black" if self.is_dark else "of one colour"
            return colour, f"the picture is {colour} since {self.flat} sets: a covered lens, or a camera that failed?"
        if self.same >= MANY_SETS and self.has_moved:
            return "frozen", f"the same picture for {self.same} sets, though the vehicle moves: is its driver frozen?"
        return None


class PictureWatch:
    """Looks at every new picture of every camera; any thread may ask and tell."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: dict[str, _Look] = {}
        self._sets: Counter[tuple[str, str]] = Counter()

    def look(self, camera: str, stamp_ns: int, image: Pixels, world_from_ego: Matrix) -> None:
        """Take the decoded picture [height, width, 3] of a camera; one that serves again counts once."""
        before = self._looks.get(camera)
        if before is not None and before.stamp_ns == stamp_ns:
            return
        few = image[::_STEP, ::_STEP]
        is_flat = float(few.std(axis=(0, 1)).max()) <= _MAX_FLAT_STD
        checksum = zlib.crc32(np.ascontiguousarray(image[::_STEP]).data)
        is_same = before is not None and before.checksum == checksum
        since = before.since if before is not None and is_same else world_from_ego
        look = _Look(
            stamp_ns,
            checksum,
            flat=(before.flat if before else 0) + 1 if is_flat else 0,
            same=before.same + 1 if before is not None and is_same else 1,
            since=since,
            has_moved=_has_moved(since, world_from_ego),
            is_dark=float(few.mean()) <= _MAX_DARK_MEAN,
        )
        with self._lock:
            self._looks[camera] = look
            if look.finding is not None:
                self._sets[look.finding[0], camera] += 1

    def findings(self) -> dict[str, str]:
        """Camera -> what is wrong with its newest pictures."""
        with self._lock:
            found = {camera: look.finding for camera, look in self._looks.items()}
        return {camera: finding[1] for camera, finding in found.items() if finding is not None}

    def sets(self) -> Counter[tuple[str, str]]:
        """(What was wrong, camera) -> in how many sets it was so, once it was no accident any more."""
        with self._lock:
            return Counter(self._sets)


def _has_moved(world_from_before: Matrix, world_from_now: Matrix) -> bool:
    shift_m, turn_deg = shift_and_turn(world_from_before, world_from_now)
    return shift_m > _MOVED_M or turn_deg > _MOVED_DEG
