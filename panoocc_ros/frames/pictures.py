"""Image messages on their way into sets, each with its pixels as soon as somebody has needed them."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakSet, ref

from panoocc_core.base.reduction import Pixels
from panoocc_core.cameras.lens import Calibration

from .images import decode


class Picture:
    """One image message; whoever needs its pixels first makes them, the others get the same."""

    def __init__(self, message: Any) -> None:
        self.message = message
        self.arrived_s = time.perf_counter()
        self._lock = threading.Lock()
        self._made: tuple[Calibration, Pixels] | None = None

    def pixels(self, calibration: Calibration) -> Pixels:
        """RGB uint8 [height, width, 3] without lens distortion; not to be written to.

        Raises:
            ImageError: the message cannot be decoded, or is of another size than the calibration.
            CalibrationError: it cannot be undistorted.
        """
        with self._lock:
            if self._made is None or self._made[0] is not calibration:
                self._made = None
                taken = decode(self.message, calibration.size_hw, reduction=calibration.reduction)
                self._made = calibration, calibration.rectify(taken)
            return self._made[1]


class DecodingAhead:
    """Makes the pixels of pictures before their sets are complete, in the threads of a pool.

    What nobody holds any more, because its set was dropped, is not decoded.  At most `limit` pictures have pixels that
    no set has used yet: those of further ones are made when their set is worked on.
    """

    def __init__(self, pool: ThreadPoolExecutor, limit: int) -> None:
        self._pool, self._limit = pool, limit
        self._unused: WeakSet[Picture] = WeakSet()

    def begin(self, picture: Picture, calibration: Callable[[], Calibration]) -> None:
        """Let a picture be decoded; `calibration` is asked in the thread that does it.  An error is told by its set."""
        if len(self._unused) < self._limit:
            self._unused.add(picture)
            self._pool.submit(_make, ref(picture), calibration)

    def used(self, picture: Picture) -> None:
        """A set has used a picture's pixels."""
        self._unused.discard(picture)


def _make(picture: "ref[Picture]", calibration: Callable[[], Calibration]) -> None:
    held = picture()
    if held is not None:
        held.pixels(calibration())
