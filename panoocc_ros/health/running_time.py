"""The time by which ages are told."""

import threading
import time
from collections.abc import Callable

MAX_STEP_S = 10.0  # between two looks at the clock; more is a jump,
MAX_RATE = 2.0  # ... unless the machine's own clock has gone on nearly as far since the last look


class RunningTime:
    """Seconds for ages and time limits, from the node's clock: they stand while it stands (playback that is paused).

    A step back (a bag that begins again) or far ahead (a seek) takes no time.  Safe to use from two threads.
    """

    def __init__(self, now_ns: Callable[[], int], wall_s: Callable[[], float] = time.monotonic) -> None:
        self._now_ns, self._wall_s = now_ns, wall_s
        self._lock = threading.Lock()
        self._clock_ns, self._running_s, self._moved_s = now_ns(), 0.0, wall_s()
        self._read_s = self._moved_s

    def __call__(self) -> float:
        """Seconds since this was made."""
        with self._lock:
            self._read()
            return self._running_s

    @property
    def has_begun(self) -> bool:
        """Whether the clock has a time at all: simulated time is 0 until something comes on /clock."""
        with self._lock:
            return self._read() > 0

    @property
    def standing_s(self) -> float:
        """How long the clock has stood, in seconds of the machine's own clock."""
        with self._lock:
            self._read()
            return self._wall_s() - self._moved_s

    def _read(self) -> int:
        clock_ns, wall_s = self._now_ns(), self._wall_s()
        if clock_ns != self._clock_ns:
            step_s = (clock_ns - self._clock_ns) * 1e-9
            most_s = max(MAX_STEP_S, MAX_RATE * (wall_s - self._read_s))
            self._running_s += step_s if self._clock_ns and 0 < step_s < most_s else 0.0
            self._clock_ns, self._moved_s = clock_ns, wall_s
        self._read_s = wall_s
        return clock_ns
