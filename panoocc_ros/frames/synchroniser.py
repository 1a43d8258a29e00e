"""Sets of images of one instant, decided by the stamps alone.

Every image of the reference camera opens a set, which takes from each other camera the image nearest to it.  When
exactly is that image known?  Stamps of one camera only rise, so it is known as soon as one image after the reference
has come, or one so little before the reference (half a period) that the next cannot be nearer.  Sets are decided in
order and on nothing but stamps, so the order in which the cameras' messages happen to arrive does not change them.

An image further than `FAR` periods from the reference belongs to another instant and is never taken, however wide the
allowed spread (at 30 Hz a dropped image would otherwise be replaced by its neighbour).  The period is given, or
estimated from the camera's own stamps; until it is known the gaps around the image must serve, a period later.
"""

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from panoocc_core.geometry import NS_PER_S

MissingPolicy = Literal["drop", "reuse_last", "blank"]
MISSING_POLICIES = ("reuse_last", "blank", "drop")

NEAR, FAR = 0.5, 0.6  # of a period: surely the nearest; the furthest that is taken
FAR_OF_GAP = 0.35  # of the gaps around an image, while the period is unknown: an image lost doubles the gap
INTERVALS_KNOWN, INTERVALS_KEPT = 3, 16


@dataclass(frozen=True, slots=True, eq=False)
class MessageSet:
    """One message per camera; stamps are the messages' own."""

    stamp_ns: int  # of the reference camera
    stamps_ns: Mapping[str, int]
    messages: Mapping[str, Any]
    reused: tuple[str, ...] = ()  # cameras whose last image stands in for a missing one
    blank: tuple[str, ...] = ()  # cameras without an image

    @property
    def spread_ns(self) -> int:
        """Time from the oldest to the newest image."""
        return max(self.stamps_ns.values()) - min(self.stamps_ns.values())


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    time_ns: int  # stamp less the camera's shutter offset
    stamp_ns: int
    message: Any
    period_ns: int | None  # of the camera, as far as its stamps up to this one tell
    previous_ns: int | None  # time of the image before
    arrived_ns: int


@dataclass(slots=True)
class _Stream:
    offset_ns: int
    items: list[_Item] = field(default_factory=list)  # waiting, by time
    taken: _Item | None = None  # the last one that went into a set
    last_ns: int | None = None
    arrived_ns: int | None = None
    intervals: deque[int] = field(default_factory=lambda: deque(maxlen=INTERVALS_KEPT))

    def restart(self) -> None:
        self.items, self.taken, self.last_ns = [], None, None
        self.intervals.clear()

    def append(self, stamp_ns: int, message: Any, arrived_ns: int, period_ns: int | None) -> None:
        time_ns = stamp_ns - self.offset_ns
        if self.last_ns is not None:
            self.intervals.append(time_ns - self.last_ns)
        if period_ns is None and len(self.intervals) >= INTERVALS_KNOWN:
            period_ns = sorted(self.intervals)[len(self.intervals) // 4]  # a lost image lengthens some of them
        self.items.append(_Item(time_ns, stamp_ns, message, period_ns, self.last_ns, arrived_ns))
        self.last_ns, self.arrived_ns = time_ns, arrived_ns


class Synchroniser:
    """Forms sets of the newest images; bounded, and every image and set that is dropped is counted with its reason."""

    def __init__(
        self,
        cameras: Sequence[str],
        reference: str,
        spread_ns: int,
        *,
        period_ns: int | None = None,  # between two images of one camera; None: estimated
        offsets_ns: Mapping[str, int] | None = None,  # how much later than the reference a camera is exposed
        missing: MissingPolicy = "drop",
        deadline_ns: int = NS_PER_S // 4,  # a set waits this long for its images
        silent_ns: int = NS_PER_S,  # a camera without images for so long is not waited for
        reuse_age_ns: int = NS_PER_S,  # the oldest image that `reuse_last` takes
        depth: int = 16,  # images per camera
    ) -> None:
        if reference not in cameras:
            raise ValueError(f"reference camera {reference!r} is none of {', '.join(cameras)}")
        self.reference, self.spread_ns, self.period_ns = reference, spread_ns, period_ns
        self.missing, self.deadline_ns, self.silent_ns = missing, deadline_ns, silent_ns
        self.reuse_age_ns, self.depth = reuse_age_ns, depth
        self.epoch = 0  # +1 whenever the stamps went back and everything was cleared
        self.images_dropped: Counter[tuple[str, str]] = Counter()  # (reason, camera)
        self.sets_dropped: Counter[str] = Counter()  # by a camera that was missing
        self._streams = {name: _Stream((offsets_ns or {}).get(name, 0)) for name in cameras}
        self._started_ns: int | None = None
        self._first_ns: int | None = None  # time of the first image since the last jump
        self._acting = reference  # the camera that opens sets
        self._cleared = False

    def add(self, camera: str, stamp_ns: int, message: Any, now_ns: int) -> list[MessageSet]:
        """Take one image and return the sets that it completes, oldest first (nearly always none or one).

        `now_ns` is any clock that does not go back; it is compared with itself only, never with stamps.
        """
        if self._started_ns is None:
            self._started_ns = now_ns
        stream = self._streams[camera]
        time_ns = stamp_ns - stream.offset_ns
        if stream.last_ns is not None and time_ns <= stream.last_ns:
            if time_ns == stream.last_ns:
                self.images_dropped["duplicate", camera] += 1
                return []
            self._went_back(camera)
        stream.append(stamp_ns, message, now_ns, self.period_ns)
        if self._first_ns is None:
            self._first_ns = time_ns
        self._replace_dead_reference(camera, time_ns)
        if len(stream.items) > self.depth:
            del stream.items[0]
            self.images_dropped["queue_full", camera] += 1
        return self._decide(final_before_ns=None)

    def expire(self, now_ns: int) -> list[MessageSet]:
        """Decide the sets that have waited for longer than the deadline, with the images that are there."""
        return self._decide(final_before_ns=now_ns - self.deadline_ns)

    def flush(self) -> list[MessageSet]:
        """Decide every waiting set: no more images will come."""
        return self._decide(final_before_ns=2**63)

    def clear(self) -> None:
        """Forget all waiting images and estimates."""
        self._cleared, self._first_ns, self._acting = True, None, self.reference
        for name, stream in self._streams.items():
            if stream.items:
                self.images_dropped["clock_back", name] += len(stream.items)
            stream.restart()

    def silent(self, now_ns: int) -> dict[str, int | None]:
        """Cameras without an image for `silent_ns` or more, with the age of the last one (None: there was none)."""
        ages: dict[str, int | None] = {}
        for name, stream in self._streams.items():
            since = self._started_ns if stream.arrived_ns is None else stream.arrived_ns
            if since is not None and now_ns - since >= self.silent_ns:
                ages[name] = None if stream.arrived_ns is None else now_ns - stream.arrived_ns
        return ages

    def _went_back(self, camera: str) -> None:
        stream = self._streams[camera]
        if stream.taken is None and self._cleared:
            # Nothing of this camera was used since the last jump: a straggler of the old time had come in between.
            if stream.items:
                self.images_dropped["clock_back", camera] += len(stream.items)
            stream.restart()
            return
        self.clear()
        self.epoch += 1

    @property
    def undecided(self) -> int:
        """How many images of the reference camera wait for those of the others."""
        return len(self._streams[self._acting].items)

    @property
    def waiting(self) -> dict[str, int]:
        """Camera -> images that wait."""
        return {name: len(stream.items) for name, stream in self._streams.items()}

    def _decide(self, final_before_ns: int | None) -> list[MessageSet]:
        done: list[MessageSet] = []
        waiting = self._streams[self._acting].items
        while waiting:
            final = final_before_ns is not None and waiting[0].arrived_ns <= final_before_ns
            following_ns = waiting[1].time_ns if len(waiting) > 1 else None
            chosen = self._choose_all(waiting[0], following_ns, final)
            if chosen is None:
                break
            reference = waiting.pop(0)
            message_set = self._complete(reference, chosen)
            if message_set is not None:
                done.append(message_set)
            self._forget_before(reference.time_ns)
        return done

    def _choose_all(self, reference: _Item, following_ns: int | None, final: bool) -> dict[str, _Item | None] | None:
        """The image of every other camera (None: it has none for this instant); None while one is undecided."""
        chosen: dict[str, _Item | None] = {}
        for name, stream in self._streams.items():
            if name != self._acting:
                final_here = final or self._is_dead(stream, reference.time_ns)
                decided, chosen[name] = self._choose(stream, reference, following_ns, final_here)
                if not decided:
                    return None
        return chosen

    def _choose(
        self, stream: _Stream, reference: _Item, following_ns: int | None, final: bool
    ) -> tuple[bool, _Item | None]:
        """Whether the stamps suffice for a decision, and the image (None: the camera has none for this instant)."""
        place = bisect_right(stream.items, reference.time_ns, key=lambda item: item.time_ns)
        before = stream.items[place - 1] if place > 0 else None
        after = stream.items[place] if place < len(stream.items) else None
        if before is not None:
            period_ns = _shorter(before.period_ns, reference.period_ns)
            if period_ns and reference.time_ns - before.time_ns <= min(self.spread_ns, NEAR * period_ns):
                return True, before
        if after is None and not final:
            return False, None
        distances = [(abs(item.time_ns - reference.time_ns), item) for item in (before, after) if item is not None]
        if not distances:
            return True, None
        distance_ns, nearest = min(distances, key=lambda pair: pair[0])
        period_ns = _shorter(nearest.period_ns, reference.period_ns)
        if period_ns:
            return True, nearest if distance_ns <= min(self.spread_ns, FAR * period_ns) else None
        if following_ns is None and not final:
            return False, None
        gaps = [FAR_OF_GAP * gap for gap in _gaps(reference, following_ns, after)]
        return True, nearest if distance_ns <= min([self.spread_ns, *gaps]) else None

    def _is_dead(self, stream: _Stream, time_ns: int) -> bool:
        since_ns = self._first_ns if stream.last_ns is None else stream.last_ns
        return since_ns is not None and time_ns - since_ns > self.silent_ns

    def _replace_dead_reference(self, camera: str, time_ns: int) -> None:
        """Let another camera open the sets while the reference is dead, where sets may lack an image."""
        if camera == self.reference:
            self._acting = camera
        elif self.missing != "drop" and self._is_dead(self._streams[self._acting], time_ns):
            self._acting = camera
            late = self._streams[camera].items[:-1]  # only what comes from now on is worth a set
            if late:
                self.images_dropped["unmatched", camera] += len(late)
                self._streams[camera].items = self._streams[camera].items[-1:]

    def _complete(self, reference: _Item, chosen: dict[str, _Item | None]) -> MessageSet | None:
        items = {self._acting: reference} | {name: item for name, item in chosen.items() if item is not None}
        absent = [name for name in chosen if name not in items]
        reused: dict[str, _Item] = {}
        if self.missing == "reuse_last":
            last = {name: self._last_before(self._streams[name], reference.time_ns) for name in absent}
            reused = {name: item for name, item in last.items() if item is not None}
            absent = [name for name in absent if name not in reused]
        if absent and self.missing != "blank":
            self.sets_dropped.update(absent)
            return None
        items |= reused
        for name, item in items.items():
            self._streams[name].taken = item
        ordered = [name for name in self._streams if name in items]
        stamps_ns = {name: items[name].stamp_ns for name in ordered}
        messages = {name: items[name].message for name in ordered}
        return MessageSet(reference.stamp_ns, stamps_ns, messages, tuple(reused), tuple(absent))

    def _last_before(self, stream: _Stream, time_ns: int) -> _Item | None:
        place = bisect_right(stream.items, time_ns, key=lambda item: item.time_ns)
        last = stream.items[place - 1] if place > 0 else stream.taken
        return last if last is not None and 0 <= time_ns - last.time_ns <= self.reuse_age_ns else None

    def _forget_before(self, time_ns: int) -> None:
        """Drop the images that no later set can take: those in sets, and those before the newest one at `time_ns`."""
        for name, stream in self._streams.items():
            if name == self._acting:
                continue
            place = bisect_right(stream.items, time_ns, key=lambda item: item.time_ns) - 1  # the newest may still serve
            taken_ns = -(2**63) if stream.taken is None else stream.taken.time_ns
            kept = [item for k, item in enumerate(stream.items) if item.time_ns > taken_ns and k >= place]
            unmatched = len(stream.items) - len(kept) - (stream.taken in stream.items)
            if unmatched:
                self.images_dropped["unmatched", name] += unmatched
            stream.items = kept


def _gaps(reference: _Item, following_ns: int | None, after: _Item | None) -> list[int]:
    """Times between the images around a reference image, of its own camera and of another."""
    pairs = [(reference.previous_ns, reference.time_ns), (reference.time_ns, following_ns)]
    if after is not None:
        pairs.append((after.previous_ns, after.time_ns))
    return [end - start for start, end in pairs if start is not None and end is not None]


def _shorter(first_ns: int | None, second_ns: int | None) -> int | None:
    return None if first_ns is None or second_ns is None else min(first_ns, second_ns)
