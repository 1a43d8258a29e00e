"""One edge of the tree of frames: the samples that one parent has of one child, by time."""

from dataclasses import dataclass

import numpy as np

from panoocc_core.geometry import NS_PER_S, Matrix, interpolate

from .track import LIVE_NS, SUSTAINED, Track

MAX_SHOWN = 60  # characters of a name in a text
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
    """What one child is told about one parent, fixed or moving; belongs to the buffer."""

    parent: str
    child: str
    static: bool
    track: Track[Matrix]  # parent_from_child [4, 4]; of what is fixed only the newest one
    doubt: int = 0  # that all samples are of one sender

    def file(self, stamp_ns: int, matrix: Matrix) -> str:
        """Add a sample; returns its place in time as `Track.file` does."""
        track = self.track
        if self.static:
            if track.samples:
                self._doubt(_is_apart(track.samples[-1], matrix, *MOVED))
            track.stamps_ns, track.samples = [stamp_ns], [matrix]
            return ""
        is_outside = track.is_outside(stamp_ns)
        if track.is_away and not is_outside:
            self._doubt(True)
        outcome = track.file(stamp_ns, matrix)
        if outcome == "repeated":
            if _is_apart(track.samples[track.index_of(stamp_ns)], matrix, *OFF_LINE):
                self._doubt(True)  # one sender says one thing of one time
        elif outcome in ("", "late") and not is_outside:
            self._doubt_around(track.index_of(stamp_ns))
        return outcome

    def at(self, stamp_ns: int) -> Matrix:
        """parent_from_child [4, 4] at a time.

        Raises:
            TooEarly, TooLate: see these classes.
        """
        stamps_ns, poses = self.track.stamps_ns, self.track.samples
        if self.static:
            return poses[-1]
        after = self.track.index_of(stamp_ns)
        if self.track.has(stamp_ns):
            return poses[after]
        if after == len(stamps_ns):
            text = self._gap(stamp_ns, stamps_ns[-1], "after the newest")
            raise TooLate(text, self.child, stamp_ns, stamps_ns[-1])
        if after == 0:
            raise TooEarly(self._gap(stamp_ns, stamps_ns[0], "before the oldest"))
        start_ns, end_ns = stamps_ns[after - 1 : after + 1]
        return interpolate(poses[after - 1], poses[after], (stamp_ns - start_ns) / (end_ns - start_ns))

    def serves(self, stamp_ns: int) -> bool:
        """Whether it can be counted on at a time: it is fixed, or is sent again and again around then."""
        stamps_ns = self.track.stamps_ns
        if self.static or len(stamps_ns) < SUSTAINED:
            return self.static
        return stamps_ns[0] <= stamp_ns <= stamps_ns[-1] + LIVE_NS

    def __str__(self) -> str:
        return f"{shown(self.parent)} <- {shown(self.child)}"

    def _doubt_around(self, k: int) -> None:
        """Does the sample before the newest, or one that was late, lie far off the line between its neighbours?"""
        middle = k - 1 if k == len(self.track.stamps_ns) - 1 else k
        if middle < 1:
            return
        start_ns, at_ns, end_ns = self.track.stamps_ns[middle - 1 : middle + 2]
        start, at, end = self.track.samples[middle - 1 : middle + 2]
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
