"""One edge of the tree of frames: the samples that one parent has of one child, by time."""

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from panoocc_core.geometry import NS_PER_S, Matrix, interpolate

from .stream_time import StreamTime

MAX_SHOWN = 60  # characters of a name in a text
LIVE_NS = 3 * NS_PER_S  # a moving edge without a sample for so long is stale
MAX_RUN = 2000  # samples of a clock that may have gone back
MOVED = 0.01  # metres, or entries of a rotation: a fixed edge that was sent anew is another one
# What speaks for two senders adds, what speaks against it takes away; beyond the limit there are two.
DOUBT, RELIEF, CONTRADICTION, MAX_DOUBT = 4, 1, 20, 64


class TransformError(LookupError):
    """A transform that cannot be had; the text names frames and times."""


class TooEarly(TransformError):
    """The time lies before the oldest sample of an edge: waiting does not help."""


class TooLate(TransformError):
    """The time lies after the newest sample of an edge: the sample may still arrive."""

    def __init__(self, text: str, child: str, stamp_ns: int) -> None:
        super().__init__(text)
        self.child, self.stamp_ns = child, stamp_ns


@dataclass(slots=True)
class Edge:
    """What one child is told about one parent, fixed or moving; belongs to the buffer."""

    parent: str
    child: str
    static: bool
    count: int = 0  # messages
    stamps_ns: list[int] = field(default_factory=list)  # ascending
    parent_from_child: list[Matrix] = field(default_factory=list)  # [4, 4] each
    time: StreamTime = field(default_factory=StreamTime)
    run: deque[tuple[int, Matrix]] = field(default_factory=lambda: deque(maxlen=MAX_RUN))  # behind the newest
    doubt: int = 0  # that all samples are of one sender

    def file(self, stamp_ns: int, matrix: Matrix, keep_ns: int, max_samples: int) -> str:
        """Add a sample; returns its place in time, "" for the ordinary one."""
        self.count += 1
        if self.static:
            if self.stamps_ns:
                self._doubt(bool(np.abs(matrix - self.parent_from_child[-1]).max() > MOVED))
            self.stamps_ns, self.parent_from_child = [stamp_ns], [matrix]
            return ""
        place = self.time.note(stamp_ns)
        if place == "straggler":
            return "clock_back"
        if place == "newer" or (place == "late" and self.time.behind == 1):
            self.run.clear()
        if place == "late":
            self.run.append((stamp_ns, matrix))
        if self.time.newest_ns is not None and stamp_ns < self.time.newest_ns - keep_ns:
            return "too_old"
        k = bisect_left(self.stamps_ns, stamp_ns)
        if k < len(self.stamps_ns) and self.stamps_ns[k] == stamp_ns:
            return "repeated"
        self.stamps_ns.insert(k, stamp_ns)
        self.parent_from_child.insert(k, matrix)
        self._doubt_around(k)
        self._forget_before(self.stamps_ns[-1] - keep_ns, max_samples)
        return "late" if place == "late" else ""

    def restart(self) -> None:
        """The clock went back: keep what has come since."""
        self.time.restart()
        self.stamps_ns = [stamp_ns for stamp_ns, _ in self.run]
        self.parent_from_child = [matrix for _, matrix in self.run]
        self.run.clear()

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
            raise TooLate(text, self.child, stamp_ns)
        if after == 0:
            raise TooEarly(self._gap(stamp_ns, self.stamps_ns[0], "before the oldest"))
        start_ns, end_ns = self.stamps_ns[after - 1 : after + 1]
        ratio = (stamp_ns - start_ns) / (end_ns - start_ns)
        return interpolate(self.parent_from_child[after - 1], self.parent_from_child[after], ratio)

    def is_stale(self, stamp_ns: int) -> bool:
        """Whether its sender has fallen silent."""
        return not self.static and (not self.stamps_ns or stamp_ns - self.stamps_ns[-1] > LIVE_NS)

    def __str__(self) -> str:
        return f"{shown(self.parent)} <- {shown(self.child)}"

    def _forget_before(self, stamp_ns: int, most: int) -> None:
        count = max(bisect_left(self.stamps_ns, stamp_ns), len(self.stamps_ns) - most)
        del self.stamps_ns[:count], self.parent_from_child[:count]

    def _doubt_around(self, k: int) -> None:
        """Does the sample before the newest, or one that was late, lie far off the line between its neighbours?"""
        middle = k - 1 if k == len(self.stamps_ns) - 1 else k
        if middle < 1:
            return
        start_ns, at_ns, end_ns = self.stamps_ns[middle - 1 : middle + 2]
        start, at, end = (matrix[:3, 3] for matrix in self.parent_from_child[middle - 1 : middle + 2])
        between = start + (at_ns - start_ns) / (end_ns - start_ns) * (end - start)
        limit_m = 1.0 + 10.0 * ((end_ns - start_ns) / NS_PER_S) ** 2  # no vehicle accelerates so hard
        self._doubt(bool(np.abs(at - between).max() > limit_m))

    def _doubt(self, is_odd: bool) -> None:
        self.doubt = doubted(self.doubt, is_odd)

    def _gap(self, stamp_ns: int, sample_ns: int, where: str) -> str:
        seconds = abs(stamp_ns - sample_ns) / NS_PER_S
        return f"transform {self}: {stamp_ns} ns is {seconds:.3f} s {where} sample ({sample_ns} ns)"


def shown(name: str) -> str:
    """A name for a text, cut where it is endless."""
    return name if len(name) <= MAX_SHOWN else f"{name[: MAX_SHOWN - 3]}..."


def doubted(doubt: int, is_odd: bool) -> int:
    """The doubt after one more sample; from CONTRADICTION on there are two senders."""
    return min(doubt + DOUBT, MAX_DOUBT) if is_odd else max(doubt - RELIEF, 0)
