"""The images of one camera on their way into sets: those that wait, the last one that was taken, and its period."""

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .stream_time import Place, StreamTime

INTERVALS_KNOWN, INTERVALS_KEPT = 3, 16
MAX_RUN = 16  # images of a clock that may have gone back


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One image."""

    time_ns: int  # stamp less the camera's shutter offset
    stamp_ns: int
    message: Any
    period_ns: int | None  # of the camera, as far as its stamps up to this one tell
    previous_ns: int | None  # time of the image before
    arrived_ns: int


@dataclass(slots=True)
class CameraStream:
    """Belongs to the synchroniser, which decides what is taken and dropped."""

    offset_ns: int  # how much later than the reference camera this one is exposed
    period_ns: int | None  # given; None: estimated
    items: list[Item] = field(default_factory=list)  # waiting, by time
    taken: Item | None = None  # the last one that went into a set
    arrived_ns: int | None = None
    time: StreamTime = field(default_factory=StreamTime)
    _run: list[Item] = field(default_factory=list)  # images behind the newest one
    _intervals: deque[int] = field(default_factory=lambda: deque(maxlen=INTERVALS_KEPT))

    def note(self, stamp_ns: int, message: Any, arrived_ns: int) -> tuple[Place, Item]:
        """Where an image lies in the camera's time; a newer one waits from now on."""
        time_ns, newest_ns = stamp_ns - self.offset_ns, self.time.newest_ns
        place = self.time.note(time_ns)
        self.arrived_ns = arrived_ns
        if place == "newer" and newest_ns is not None:
            self._intervals.append(time_ns - newest_ns)
        item = Item(time_ns, stamp_ns, message, self._period_ns(), newest_ns, arrived_ns)
        if place == "newer":
            self._run = []
            self.items.append(item)
        elif place == "late":
            self._run = [*(self._run if self.time.behind > 1 else []), item][-MAX_RUN:]
        return place, item

    def insert(self, item: Item) -> None:
        """Let a late image wait at its place."""
        self.items.insert(bisect_right(self.items, item.time_ns, key=lambda other: other.time_ns), item)

    def restart(self) -> tuple[int, int]:
        """The clock went back: go on with what has come since; returns how many images were lost, and how many that
        seemed late wait now."""
        run, waiting = self._run, self.items
        lost = sum(item not in run for item in waiting)
        revived = sum(item not in waiting for item in run)
        self.time.restart()
        self.items, self.taken, self._run = [], None, []
        self._intervals.clear()
        for before, item in zip([None, *run], run):
            if before is not None:
                self._intervals.append(item.time_ns - before.time_ns)
            previous_ns = None if before is None else before.time_ns
            self.items.append(
                Item(item.time_ns, item.stamp_ns, item.message, self._period_ns(), previous_ns, item.arrived_ns)
            )
        return lost, revived

    def clear(self) -> int:
        """Forget images and estimates; returns how many waited."""
        lost = len(self.items)
        self.items, self.taken, self._run, self.time = [], None, [], StreamTime()
        self._intervals.clear()
        return lost

    def _period_ns(self) -> int | None:
        if self.period_ns is not None or len(self._intervals) < INTERVALS_KNOWN:
            return self.period_ns
        return sorted(self._intervals)[len(self._intervals) // 4]  # a lost image lengthens some of them
