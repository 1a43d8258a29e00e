"""One edge of the tree of frames: the samples that one parent has of one child, by time."""

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from panoocc_core.geometry import NS_PER_S, Matrix, interpolate

from .stream_time import StreamTime

MAX_SHOWN = 60  # characters of a name in a text
SUSTAINED = 3  # so often in a row is sent what is no mistake
LIVE_NS = 3 * NS_PER_S  # a moving edge without a sample for so long is stale
MAX_RUN = 2000  # samples of a clock that may have gone back
# In metres and in entries of a rotation: beyond `MOVED` a fixed edge that was sent anew is another one; a sample may
# lie so far off the line between its neighbours, and so much more after a second: nothing accelerates so.
MOVED = (0.01, 0.01)
OFF_LINE, OFF_LINE_PER_S2 = (1.0, 0.2), (10.0, 5.0)
# What speaks for two senders adds, what speaks against it takes away; beyond the limit there are two.
DOUBT, RELIEF, CONTRADICTION, MAX_DOUBT = 4, 1, 20, 64


class TransformError(LookupError):
    """A transform that cannot be had; the text names frames and times."""


class TooEarly(TransformError):
    """The time lies before the oldest sample of an edge: waiting does not help."""


class TooLate(TransformError):
    """The time lies after the newest sample of an edge: the sample may still arrive."""

    def __init__(self, text: str, child: str, stamp_ns: int, newest_ns: int) -> None:
        super().__init__(text)
        self.child, self.stamp_ns = child, stamp_ns
        self.is_stale = stamp_ns - newest_ns > LIVE_NS  # its sender seems to be gone


@dataclass(slots=True)
class Edge:
    """What one child is told about one parent, fixed or moving; belongs to the buffer.

    The edge's time is the oldest of the last three stamps, so that it takes three messages to move it: a stamp further
    than `keep_ns` from it is a mistake, unless three such stamps come in a row and rise.
    """

    parent: str
    child: str
    static: bool
    keep_ns: int
    max_samples: int
    stamps_ns: list[int] = field(default_factory=list)  # ascending
    parent_from_child: list[Matrix] = field(default_factory=list)  # [4, 4] each
    doubt: int = 0  # that all samples are of one sender
    _time: StreamTime = field(default_factory=StreamTime)
    _recent_ns: deque[int] = field(default_factory=lambda: deque(maxlen=SUSTAINED))  # stamps as they came
    _kept_from_ns: int = 0
    _run: deque[tuple[int, Matrix]] = field(default_factory=lambda: deque(maxlen=MAX_RUN))  # behind the newest, or away
    _is_away: bool = False  # the run lies outside of the time that is kept
    _back_ns: int | None = None  # where the time began to which the edge went back by itself

    def file(self, stamp_ns: int, matrix: Matrix) -> str:
        """Add a sample; returns its place in time, "" for the ordinary one.

        Only "" and "late" ones were taken; "too_old", "too_far_ahead", "repeated" and "clock_back" ones were not.
        """
        if self.static:
            if self.stamps_ns:
                self._doubt(_is_apart(self.parent_from_child[-1], matrix, *MOVED))
            self.stamps_ns, self.parent_from_child = [stamp_ns], [matrix]
            return ""
        if self._is_outside(stamp_ns) and not self._time.is_straggler(stamp_ns):
            return self._file_outside(stamp_ns, matrix)
        if self._is_away:
            self._is_away = False
            self._run.clear()
            self._doubt(True)
        place = self._time.note(stamp_ns)
        if place == "straggler":
            return "clock_back"
        if place == "newer" or (place == "late" and self._time.behind == 1):
            self._run.clear()
        if place == "late":
            self._run.append((stamp_ns, matrix))
        k = bisect_left(self.stamps_ns, stamp_ns)
        if k < len(self.stamps_ns) and self.stamps_ns[k] == stamp_ns:
            if _is_apart(self.parent_from_child[k], matrix, *OFF_LINE):  # one sender says one thing of one time
                self._doubt(True)
            return "repeated"
        self.stamps_ns.insert(k, stamp_ns)
        self.parent_from_child.insert(k, matrix)
        self._doubt_around(k)
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

    def at(self, stamp_ns: int) -> Matrix:
        """parent_from_child [4, 4] at a time.

        Raises:
            TooEarly, TooLate: see these classes.
        """
        if self.static:
            return self.parent_from_child[-1]
        after = bisect_left(self.stamps_ns, stamp_ns)
        if after < len(self.stamps_ns) and self.stamps_ns[after] == stamp_ns:
            return self.parent_from_child[after]
        if after == len(self.stamps_ns):
            text = self._gap(stamp_ns, self.stamps_ns[-1], "after the newest")
            raise TooLate(text, self.child, stamp_ns, self.stamps_ns[-1])
        if after == 0:
            raise TooEarly(self._gap(stamp_ns, self.stamps_ns[0], "before the oldest"))
        start_ns, end_ns = self.stamps_ns[after - 1 : after + 1]
        ratio = (stamp_ns - start_ns) / (end_ns - start_ns)
        return interpolate(self.parent_from_child[after - 1], self.parent_from_child[after], ratio)

    def serves(self, stamp_ns: int) -> bool:
        """Whether it can be counted on at a time: it is fixed, or is sent again and again around then."""
        if self.static or len(self.stamps_ns) < SUSTAINED:
            return self.static
        return self.stamps_ns[0] <= stamp_ns <= self.stamps_ns[-1] + LIVE_NS

    def __str__(self) -> str:
        return f"{shown(self.parent)} <- {shown(self.child)}"

    def _is_outside(self, stamp_ns: int) -> bool:
        return bool(self.stamps_ns) and not self._kept_from_ns <= stamp_ns <= self.stamps_ns[-1] + self.keep_ns

    def _file_outside(self, stamp_ns: int, matrix: Matrix) -> str:
        """A stamp that is wrong, or begins another time; the third one in a row tells."""
        if not self._is_away or stamp_ns <= self._run[-1][0]:
            self._run.clear()
        self._is_away = True
        self._run.append((stamp_ns, matrix))
        is_old = stamp_ns < self._kept_from_ns
        if len(self._run) < SUSTAINED:
            return "too_old" if is_old else "too_far_ahead"
        self._back_ns = self._run[0][0] if is_old else None
        self._go_on_with_run()
        return ""

    def _go_on_with_run(self) -> None:
        self.stamps_ns = [stamp_ns for stamp_ns, _ in self._run]
        self.parent_from_child = [matrix for _, matrix in self._run]
        self._run.clear()
        self._is_away = False
        self._time.restart()
        self._time.newest_ns = self.stamps_ns[-1] if self.stamps_ns else None
        self._recent_ns = deque(self.stamps_ns[-SUSTAINED:], maxlen=SUSTAINED)
        self._kept_from_ns = self.stamps_ns[-1] - self.keep_ns if self.stamps_ns else 0
        self._forget()

    def _forget(self) -> None:
        count = max(bisect_left(self.stamps_ns, self._kept_from_ns), len(self.stamps_ns) - self.max_samples)
        del self.stamps_ns[:count], self.parent_from_child[:count]

    def _doubt_around(self, k: int) -> None:
        """Does the sample before the newest, or one that was late, lie far off the line between its neighbours?"""
        middle = k - 1 if k == len(self.stamps_ns) - 1 else k
        if middle < 1:
            return
        start_ns, at_ns, end_ns = self.stamps_ns[middle - 1 : middle + 2]
        start, at, end = self.parent_from_child[middle - 1 : middle + 2]
        ratio = (at_ns - start_ns) / (end_ns - start_ns)
        seconds2 = ((end_ns - start_ns) / NS_PER_S) ** 2
        limits = (limit + seconds2 * more for limit, more in zip(OFF_LINE, OFF_LINE_PER_S2))
        self._doubt(_is_apart((1 - ratio) * start + ratio * end, at, *limits))

    def _doubt(self, is_odd: bool) -> None:
        self.doubt = doubted(self.doubt, is_odd)

    def _gap(self, stamp_ns: int, sample_ns: int, where: str) -> str:
        seconds = abs(stamp_ns - sample_ns) / NS_PER_S
        return f"transform {self}: the time {stamp_ns / NS_PER_S:.3f} s is {seconds:.3f} s {where} sample"


def _is_apart(one: Matrix, other: Matrix, limit_m: float, limit: float) -> bool:
    off = np.abs(one - other)
    return bool(off[:3, 3].max() > limit_m or off[:3, :3].max() > limit)


def shown(name: str) -> str:
    """A name for a text, cut where it is endless."""
    return name if len(name) <= MAX_SHOWN else f"{name[: MAX_SHOWN - 3]}..."


def doubted(doubt: int, is_odd: bool) -> int:
    """The doubt after one more sample; from CONTRADICTION on there are two senders."""
    return min(doubt + DOUBT, MAX_DOUBT) if is_odd else max(doubt - RELIEF, 0)
