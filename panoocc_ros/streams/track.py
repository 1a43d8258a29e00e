"""Samples of one sender by time, newest ones only: late ones are filed, stamps that are wrong take no good one away."""

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from panoocc_core.geometry import NS_PER_S

from .stream_time import StreamTime

T = TypeVar("T")

SUSTAINED = 3  # so often in a row is sent what is no mistake
LIVE_NS = 3 * NS_PER_S  # a sender without a sample for so long is gone
MAX_RUN = 2000  # samples of a clock that may have gone back


@dataclass(slots=True)
class Track(Generic[T]):
    """The samples of the last `keep_ns` nanoseconds, at most `max_samples`.

    The track's time is the oldest of the last three stamps, so that it takes three messages to move it: a stamp further
    than `keep_ns` from it is a mistake, unless three such stamps come in a row and rise.
    """

    keep_ns: int
    max_samples: int
    stamps_ns: list[int] = field(default_factory=list)  # ascending
    samples: list[T] = field(default_factory=list)
    is_away: bool = False  # the newest one lay outside of the time that is kept
    _time: StreamTime = field(default_factory=StreamTime)
    _recent_ns: deque[int] = field(default_factory=lambda: deque(maxlen=SUSTAINED))  # stamps as they came
    _kept_from_ns: int = 0
    _run: deque[tuple[int, T]] = field(default_factory=lambda: deque(maxlen=MAX_RUN))  # behind the newest, or away
    _back_ns: int | None = None  # where the time began to which the track went back by itself

    def file(self, stamp_ns: int, sample: T) -> str:
        """Add a sample; returns its place in time, "" for the ordinary one.

        Only "" and "late" ones were taken; "too_old", "too_far_ahead", "repeated" and "clock_back" ones were not.
        """
        if self.is_outside(stamp_ns):
            return self._file_outside(stamp_ns, sample)
        if self.is_away:
            self.is_away = False
            self._run.clear()
        place = self._time.note(stamp_ns)
        if place == "straggler":
            return "clock_back"
        if place == "newer" or (place == "late" and self._time.behind == 1):
            self._run.clear()
        if place == "late":
            self._run.append((stamp_ns, sample))
        if self.has(stamp_ns):
            return "repeated"
        k = self.index_of(stamp_ns)
        self.stamps_ns.insert(k, stamp_ns)
        self.samples.insert(k, sample)
        self._recent_ns.append(stamp_ns)
        self._kept_from_ns = max(self._kept_from_ns, min(self._recent_ns) - self.keep_ns)
        self._forget()
        return "late" if place == "late" else ""

    def restart(self) -> None:
        """The clock went back: keep what has come since."""
        has_gone_back = self._back_ns is not None and self.stamps_ns[-1] - self._back_ns <= LIVE_NS
        self._back_ns = None
        if self._run or not has_gone_back:
            self._go_on_with_run()

    def index_of(self, stamp_ns: int) -> int:
        """The place of the first sample that is not older."""
        return bisect_left(self.stamps_ns, stamp_ns)

    def has(self, stamp_ns: int) -> bool:
        """Whether there is a sample of exactly this stamp."""
        k = self.index_of(stamp_ns)
        return k < len(self.stamps_ns) and self.stamps_ns[k] == stamp_ns

    def is_outside(self, stamp_ns: int) -> bool:
        """Whether a stamp lies outside of the time that is kept: wrong, or of another time that begins."""
        if not self.stamps_ns or self._kept_from_ns <= stamp_ns <= self.stamps_ns[-1] + self.keep_ns:
            return False
        return not self._time.is_straggler(stamp_ns)

    def _file_outside(self, stamp_ns: int, sample: T) -> str:
        """A stamp that is wrong, or begins another time; the third one in a row tells."""
        if not self.is_away or stamp_ns <= self._run[-1][0]:
            self._run.clear()
        self.is_away = True
        self._run.append((stamp_ns, sample))
        is_old = stamp_ns < self._kept_from_ns
        if len(self._run) < SUSTAINED:
            return "too_old" if is_old else "too_far_ahead"
        self._back_ns = self._run[0][0] if is_old else None
        self._go_on_with_run()
        return ""

    def _go_on_with_run(self) -> None:
        self.stamps_ns = [stamp_ns for stamp_ns, _ in self._run]
        self.samples = [sample for _, sample in self._run]
        self._run.clear()
        self.is_away = False
        self._time.restart()
        self._time.newest_ns = self.stamps_ns[-1] if self.stamps_ns else None
        self._recent_ns = deque(self.stamps_ns[-SUSTAINED:], maxlen=SUSTAINED)
        self._kept_from_ns = self.stamps_ns[-1] - self.keep_ns if self.stamps_ns else 0
        self._forget()

    def _forget(self) -> None:
        count = max(self.index_of(self._kept_from_ns), len(self.stamps_ns) - self.max_samples)
        del self.stamps_ns[:count], self.samples[:count]
