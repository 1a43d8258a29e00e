"""Sets of images of one instant, decided by the stamps alone.

Every image of the reference camera opens a set, which takes from each other camera the image nearest to it.  When
exactly is that image known?  Stamps of one camera rise, so it is known as soon as one image after the reference has
come, or one so little before the reference (half a period) that the next cannot be nearer.  Sets are decided in
order and on nothing but stamps, so the order in which the cameras' messages happen to arrive does not change them.

An image further than `FAR` periods from the reference belongs to another instant and is never taken, however wide the
allowed spread (at 30 Hz a dropped image would otherwise be replaced by its neighbour).  The period is given, or
estimated from the camera's own stamps; until it is known the gaps around the image must serve, a period later.

An image whose stamp lies behind an earlier one's is late: it serves if its set is still open.  If most cameras send
such images again and again, their clock went back, and everything begins anew with them.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from panoocc_core.geometry import NS_PER_S

from .absences import Absences
from .camera_clocks import CameraClocks
from .camera_stream import CameraStream, Item
from .missing import MissingPolicy
from .notices import Notices

NEAR, FAR = 0.5, 0.6  # of a period: surely the nearest; the furthest that is taken
FAR_OF_GAP = 0.35  # of the gaps around an image, while the period is unknown: an image lost doubles the gap
BEHIND, BEHIND_ALONE, BEHIND_ONE = 2, 3, 5  # images in a row: of most cameras, of the only one, of one of many


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
        notices: Notices | None = None,
    ) -> None:
        if reference not in cameras:
            raise ValueError(f"reference camera {reference!r} is none of {', '.join(cameras)}")
        self.reference, self.spread_ns, self.missing = reference, spread_ns, missing
        self.deadline_ns, self.silent_ns, self.reuse_age_ns, self.depth = deadline_ns, silent_ns, reuse_age_ns, depth
        self.restarts = 0  # how often the cameras' clock went back
        self.images_dropped: Counter[tuple[str, str]] = Counter()  # (reason, camera)
        self.sets_dropped: Counter[str] = Counter()  # by a camera that was missing
        self.last_drop: str | None = None  # why the last set was dropped
        self._streams = {name: CameraStream((offsets_ns or {}).get(name, 0), period_ns) for name in cameras}
        self._notices, self._clocks = notices or Notices(), CameraClocks(reference)
        self._now_ns = -(2**62)
        self._started_ns: int | None = None
        self._first_ns: int | None = None  # time of the first image since the last restart
        self._decided_ns: int | None = None  # time of the last set
        self._acting = reference  # the camera that opens sets
        self._absences = Absences(cameras)

    def add(self, camera: str, stamp_ns: int, message: Any, now_ns: int) -> list[MessageSet]:
        """Take one image and return the sets that it completes, oldest first (nearly always none or one).

        `now_ns` is any clock that does not go back; it is compared with itself only, never with stamps, but for the
        texts about clocks.
        """
        self._now_ns = now_ns
        if self._started_ns is None:
            self._started_ns = now_ns
        stream = self._streams[camera]
        place, item = stream.note(stamp_ns, message, now_ns)
        self._judge_clock(camera, stamp_ns, place == "repeated")
        if place == "repeated":
            self.images_dropped["duplicate", camera] += 1
        elif place == "straggler":
            self.images_dropped["clock_back", camera] += 1
        elif place == "late":
            self._add_late(camera, stream, item)
        else:
            self._say_how_late(camera, item)
            if self._first_ns is None:
                self._first_ns = item.time_ns
            self._replace_dead_reference(camera, item.time_ns)
        if len(stream.items) > self.depth:
            del stream.items[0]
            self.images_dropped["queue_full", camera] += 1
        return self._decide(final_before_ns=None)

    def expire(self, now_ns: int) -> list[MessageSet]:
        """Decide the sets that have waited for longer than the deadline, with the images that are there.

        As long as a camera has not been heard at all, sets wait for `silent_ns` after the first image.
        """
        self._now_ns = now_ns
        return self._decide(final_before_ns=now_ns - self.deadline_ns)

    def flush(self) -> list[MessageSet]:
        """Decide every waiting set: no more images will come."""
        return self._decide(final_before_ns=2**63)

    def clear(self) -> None:
        """Forget all waiting images and estimates."""
        for name, stream in self._streams.items():
            self._lose(name, stream.clear())
        self._begin_anew(None)

    def silent(self, now_ns: int) -> dict[str, int | None]:
        """Cameras without an image for `silent_ns` or more, with the age of the last one (None: there was none)."""
        return {
            name: None if stream.arrived_ns is None else now_ns - stream.arrived_ns
            for name, stream in self._streams.items()
            if self._is_silent(stream, now_ns)
        }

    @property
    def undecided(self) -> int:
        """How many images of the reference camera wait for those of the others."""
        return len(self._streams[self._acting].items)

    @property
    def awaited(self) -> list[str]:
        """The cameras whose images the oldest undecided set still lacks."""
        waiting = self._streams[self._acting].items
        if not waiting:
            return []
        earliest_ns = waiting[0].time_ns - int(min(self.spread_ns, NEAR * (waiting[0].period_ns or self.spread_ns)))
        newest_ns = {name: stream.time.newest_ns for name, stream in self._streams.items()}
        return [name for name, time_ns in newest_ns.items() if time_ns is None or time_ns < earliest_ns]

    @property
    def waiting(self) -> dict[str, int]:
        """Camera -> images that wait."""
        return {name: len(stream.items) for name, stream in self._streams.items()}

    def _decide(self, final_before_ns: int | None) -> list[MessageSet]:
        done: list[MessageSet] = []
        waiting = self._streams[self._acting].items
        while waiting:
            following_ns = waiting[1].time_ns if len(waiting) > 1 else None
            chosen = self._choose_all(waiting[0], following_ns, final_before_ns)
            if chosen is None:
                break
            reference = waiting.pop(0)
            self._decided_ns = reference.time_ns
            message_set = self._complete(reference, chosen)
            if message_set is not None:
                done.append(message_set)
            self._forget_before(reference.time_ns)
        return done

    def _choose_all(
        self, reference: Item, following_ns: int | None, final_before_ns: int | None
    ) -> dict[str, Item | None] | None:
        """The image of every other camera (None: it has none for this instant); None while one is undecided."""
        chosen: dict[str, Item | None] = {}
        for name, stream in self._streams.items():
            if name != self._acting:
                final = self._is_final(stream, reference, final_before_ns) or self._is_dead(stream, reference.time_ns)
                decided, chosen[name] = self._choose(stream, reference, following_ns, final)
                if not decided:
                    return None
        return chosen

    def _is_final(self, stream: CameraStream, reference: Item, before_ns: int | None) -> bool:
        """Whether a set waits for this camera no longer."""
        if before_ns is None:
            return False
        since_ns = reference.arrived_ns
        if stream.arrived_ns is None and self._started_ns is not None:
            since_ns = max(since_ns, self._started_ns + self.silent_ns - self.deadline_ns)
        return since_ns <= before_ns

    def _choose(
        self, stream: CameraStream, reference: Item, following_ns: int | None, final: bool
    ) -> tuple[bool, Item | None]:
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

    def _is_dead(self, stream: CameraStream, time_ns: int) -> bool:
        since_ns = self._first_ns if stream.time.newest_ns is None else stream.time.newest_ns
        return since_ns is not None and time_ns - since_ns > self.silent_ns

    def _is_lost(self, stream: CameraStream, time_ns: int) -> bool:
        """Dead by the clock, too: stamps alone would believe a camera whose clock is ahead."""
        return self._is_dead(stream, time_ns) and self._is_silent(stream, self._now_ns)

    def _replace_dead_reference(self, camera: str, time_ns: int) -> None:
        """Let another camera open the sets while the reference is dead, where sets may lack an image."""
        if camera == self.reference:
            self._acting = camera
        elif self.missing != "drop" and self._is_lost(self._streams[self._acting], time_ns):
            self._acting = camera
            late = self._streams[camera].items[:-1]  # only what comes from now on is worth a set
            if late:
                self.images_dropped["unmatched", camera] += len(late)
                self._streams[camera].items = self._streams[camera].items[-1:]

    def _complete(self, reference: Item, chosen: dict[str, Item | None]) -> MessageSet | None:
        items = {self._acting: reference} | {name: item for name, item in chosen.items() if item is not None}
        absent = [name for name in chosen if name not in items]
        nearest_ns = {name: self._nearest_ns(name, reference.time_ns) for name in absent}
        for name, distance_ns in self._absences.note(reference.time_ns, nearest_ns, self._now_ns):
            text = (
                f"camera {name}: its image nearest to the reference camera's is {distance_ns / 1e6:.0f} ms away; a set "
                f"takes it within {self.spread_ns / 1e6:g} ms (spread_ms) and {FAR:g} of a period"
            )
            self._notices.note("apart", name, text, self._now_ns)
        reused: dict[str, Item] = {}
        if self.missing == "drop" and absent:
            self.sets_dropped.update(absent)
            texts = [
                name if ns is None else f"{name} (the nearest is {ns / NS_PER_S:.3f} s away)"
                for name, ns in nearest_ns.items()
            ]
            self.last_drop = f"no image of {', '.join(texts)} for the set at {reference.stamp_ns} ns"
            return None
        if self.missing == "reuse_last":
            last = {name: self._last_before(self._streams[name], reference.time_ns) for name in absent}
            reused = {name: item for name, item in last.items() if item is not None}
            absent = [name for name in absent if name not in reused]
        items |= reused
        for name, item in items.items():
            self._streams[name].taken = item
        ordered = [name for name in self._streams if name in items]
        stamps_ns = {name: items[name].stamp_ns for name in ordered}
        messages = {name: items[name].message for name in ordered}
        return MessageSet(reference.stamp_ns, stamps_ns, messages, tuple(reused), tuple(absent))

    def _last_before(self, stream: CameraStream, time_ns: int) -> Item | None:
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

    def _add_late(self, camera: str, stream: CameraStream, item: Item) -> None:
        """Take an image that lies behind an earlier one: late, or the first of a clock that went back."""
        taken_ns = -(2**63) if stream.taken is None else stream.taken.time_ns
        is_open = item.time_ns > max(taken_ns, -(2**63) if self._decided_ns is None else self._decided_ns)
        if is_open and all(item.time_ns != other.time_ns for other in stream.items):
            stream.insert(item)
        else:
            self.images_dropped["late", camera] += 1
            self._say_how_late(camera, item)
        alive = [one for one in self._streams.values() if not self._is_silent(one, self._now_ns)]
        behind = [one for one in alive if one.time.behind >= BEHIND]
        if len(behind) > len(alive) / 2 and (len(alive) > 1 or stream.time.behind >= BEHIND_ALONE):
            self._restart()
        elif len(alive) > 1 and stream.time.behind >= BEHIND_ONE:
            self._restart_one(camera)

    def _restart(self) -> None:
        """The cameras' clock went back: go on with what has come since."""
        for name in self._streams:
            self._restart_one(name)
        self._begin_anew(min(stream.items[0].time_ns for stream in self._streams.values() if stream.items))
        self.restarts += 1

    def _restart_one(self, camera: str) -> None:
        lost, revived = self._streams[camera].restart()
        self._lose(camera, lost)
        self.images_dropped -= Counter({("late", camera): revived})

    def _begin_anew(self, first_ns: int | None) -> None:
        self._first_ns, self._decided_ns, self._acting = first_ns, None, self.reference
        self._absences.clear()

    def _lose(self, camera: str, count: int) -> None:
        if count:
            self.images_dropped["clock_back", camera] += count

    def _is_silent(self, stream: CameraStream, now_ns: int) -> bool:
        since_ns = self._started_ns if stream.arrived_ns is None else stream.arrived_ns
        return since_ns is not None and now_ns - since_ns >= self.silent_ns

    def _judge_clock(self, camera: str, stamp_ns: int, repeated: bool) -> None:
        text = self._clocks.judge(camera, stamp_ns, self._now_ns, repeated)
        if text is None:
            self._notices.clear("clock", camera)
        else:
            self._notices.note("clock", camera, text, self._now_ns)

    def _nearest_ns(self, camera: str, time_ns: int) -> int | None:
        """How far the nearest image that waits lies from a time."""
        return min((abs(item.time_ns - time_ns) for item in self._streams[camera].items), default=None)

    def _say_how_late(self, camera: str, item: Item) -> None:
        reach_ns = int(min(self.spread_ns, FAR * (item.period_ns or self.spread_ns)))
        text = self._absences.how_late(camera, item.time_ns, reach_ns, self._now_ns)
        if text is not None:
            self._notices.note("late", camera, text, self._now_ns)
            if self.missing == "drop":
                self.last_drop = text


def _gaps(reference: Item, following_ns: int | None, after: Item | None) -> list[int]:
    """Times between the images around a reference image, of its own camera and of another."""
    pairs = [(reference.previous_ns, reference.time_ns), (reference.time_ns, following_ns)]
    if after is not None:
        pairs.append((after.previous_ns, after.time_ns))
    return [end - start for start, end in pairs if start is not None and end is not None]


def _shorter(first_ns: int | None, second_ns: int | None) -> int | None:
    return None if first_ns is None or second_ns is None else min(first_ns, second_ns)
