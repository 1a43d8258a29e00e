"""The images of one camera on their way into sets: those that wait, the last one that was taken, and its period."""

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .stream_time import Place, StreamTime

INTERVALS_KNOWN, INTERVALS_KEPT = 3, 16
MAX_RUN = 16  # images of a clock that may have gone back
NEAR, FAR = 0.5, 0.6  # of a period: surely the nearest; the furthest that is taken
FAR_OF_GAP = 0.35  # of the gaps around an image, while the period is unknown: an image lost doubles the gap
NEVER_NS = -(2**63)


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
    silent_ns: int  # without an image for so long it is dead, or pauses
    items: list[Item] = field(default_factory=list)  # waiting, by time
    taken: Item | None = None  # the last one that went into a set
    arrived_ns: int | None = None
    first: Item | None = None  # since the start, a restart or a pause
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
        item = Item(time_ns, stamp_ns, message, self.known_period_ns, newest_ns, arrived_ns)
        if place == "newer":
            self._run = []
            self.items.append(item)
            if newest_ns is None or time_ns - newest_ns > self.silent_ns:
                self.first = item
        elif place == "late":
            self._run = [*(self._run if self.time.behind > 1 else []), item][-MAX_RUN:]
        return place, item

    def insert(self, item: Item) -> None:
        """Let a late image wait at its place."""
        self.items.insert(self._place(item.time_ns), item)

    def nearest(
        self, reference: Item, following_ns: int | None, spread_ns: int, final: bool
    ) -> tuple[bool, Item | None]:
        """Whether the stamps suffice to say which image belongs to a reference image, and which (None: none does).

        Args:
            following_ns: time of the reference camera's next image.
            final: no further image is awaited.
        """
        place = self._place(reference.time_ns)
        before = self.items[place - 1] if place > 0 else None
        after = self.items[place] if place < len(self.items) else None
        if before is not None:
            period_ns = _shorter(before.period_ns, reference.period_ns)
            if period_ns and reference.time_ns - before.time_ns <= min(spread_ns, NEAR * period_ns):
                return True, before
        if after is None and not final:
            return False, None
        distances = [(abs(item.time_ns - reference.time_ns), item) for item in (before, after) if item is not None]
        if not distances:
            return True, None
        distance_ns, nearest = min(distances, key=lambda pair: pair[0])
        period_ns = _shorter(nearest.period_ns, reference.period_ns)
        if period_ns:
            return True, nearest if distance_ns <= min(spread_ns, FAR * period_ns) else None
        if following_ns is None and not final:
            return False, None
        gaps = [FAR_OF_GAP * gap for gap in _gaps(reference, following_ns, after)]
        return True, nearest if distance_ns <= min([spread_ns, *gaps]) else None

    def take(self, item: Item) -> None:
        """An image goes into a set: no restart brings it back."""
        self.taken = item
        self._run = [one for one in self._run if one is not item]

    def last_before(self, time_ns: int, age_ns: int) -> Item | None:
        """The last image before a time, taken or not, if it is not older than `age_ns`."""
        place = self._place(time_ns)
        last = self.items[place - 1] if place > 0 else self.taken
        return last if last is not None and 0 <= time_ns - last.time_ns <= age_ns else None

    def distance_ns(self, time_ns: int) -> int | None:
        """How far the nearest image that waits lies from a time."""
        return min((abs(item.time_ns - time_ns) for item in self.items), default=None)

    def is_dead(self, opener: "CameraStream", time_ns: int) -> bool:
        """Whether the camera that opens sets has gone on for `silent_ns` without an image of this one."""
        begin_ns = time_ns if opener.first is None else opener.first.time_ns
        newest_ns = begin_ns if self.time.newest_ns is None else self.time.newest_ns
        return time_ns - max(begin_ns, newest_ns) > self.silent_ns

    def forget_before(self, time_ns: int) -> int:
        """Drop the images that no later set can take: those in sets, and those before the newest one at `time_ns`.

        Returns how many of them had been in no set.
        """
        place = self._place(time_ns) - 1  # the newest may still serve
        kept = [item for k, item in enumerate(self.items) if item.time_ns > self.taken_ns and k >= place]
        unmatched = len(self.items) - len(kept) - (self.taken in self.items)
        self.items = kept
        return unmatched

    @property
    def taken_ns(self) -> int:
        """Time of the last image that went into a set."""
        return NEVER_NS if self.taken is None else self.taken.time_ns

    @property
    def due_ns(self) -> int | None:
        """When the next image should arrive; None while its period is not known."""
        period_ns = self.known_period_ns
        return None if self.arrived_ns is None or period_ns is None else self.arrived_ns + period_ns

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
                Item(item.time_ns, item.stamp_ns, item.message, self.known_period_ns, previous_ns, item.arrived_ns)
            )
        self.first = self.items[0] if self.items else None
        return lost, revived

    def clear(self) -> int:
        """Forget images and estimates; returns how many waited."""
        lost = len(self.items)
        self.items, self.taken, self.first, self._run, self.time = [], None, None, [], StreamTime()
        self._intervals.clear()
        return lost

    def _place(self, time_ns: int) -> int:
        return bisect_right(self.items, time_ns, key=lambda item: item.time_ns)

    @property
    def known_period_ns(self) -> int | None:
        """From one image to the next: given, or estimated as soon as enough images have come."""
        if self.period_ns is not None or len(self._intervals) < INTERVALS_KNOWN:
            return self.period_ns
        return sorted(self._intervals)[len(self._intervals) // 4]  # a lost image lengthens some of them


def _gaps(reference: Item, following_ns: int | None, after: Item | None) -> list[int]:
    """Times between the images around a reference image, of its own camera and of another."""
    pairs = [(reference.previous_ns, reference.time_ns), (reference.time_ns, following_ns)]
    if after is not None:
        pairs.append((after.previous_ns, after.time_ns))
    return [end - start for start, end in pairs if start is not None and end is not None]


def _shorter(first_ns: int | None, second_ns: int | None) -> int | None:
    return None if first_ns is None or second_ns is None else min(first_ns, second_ns)
