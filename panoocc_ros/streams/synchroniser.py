"""Sets of images of one instant, decided by the stamps alone.

Every image of the reference camera opens a set, which takes from each other camera the image nearest to it.  When
exactly is that image known?  Stamps of one camera rise, so it is known as soon as one image after the reference has
come, or one so little before the reference (half a period) that the next cannot be nearer.  Sets are decided in
order and on nothing but stamps, so the order in which the cameras' messages happen to arrive does not change them.

An image further than `FAR` periods from the reference belongs to another instant and is never taken, however wide the
allowed spread (at 30 Hz a dropped image would otherwise be replaced by its neighbour).  The period is given, or
estimated from the camera's own stamps; until it is known the gaps around the image must serve, a period later.

Where the image that should open a set does not come within the deadline, another camera opens it, and the next ones,
until the reference camera is back.  (Where no clock ends the waiting: from when the reference camera counts as dead.)

An image whose stamp lies behind an earlier one's is late: it serves if its set is still open.  If most cameras send
such images, further behind than lateness explains or again and again, their clock went back, and everything begins anew
with them.  A camera whose clock is another one than that of most counts as absent, the reference camera too.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from panoocc_core.geometry import NS_PER_S

from .absences import Absences
from .camera_clocks import CameraClocks
from .camera_stream import FAR, NEAR, NEVER_NS, CameraStream, Item
from .missing import MissingPolicy
from .notices import Notices
from .stream_time import gone_back

AT_ONCE_NS = 2**63  # a set that is decided with what is there, however new


@dataclass(frozen=True, slots=True, eq=False)
class MessageSet:
    """One message per camera; stamps are the messages' own."""

    stamp_ns: int  # of the reference camera
    stamps_ns: Mapping[str, int]
    messages: Mapping[str, Any]
    reused: tuple[str, ...] = ()  # cameras whose last image stands in for a missing one
    blank: tuple[str, ...] = ()  # cameras without an image

    def without(self, cameras: Collection[str]) -> "MessageSet":
        """The same set where nobody has an image of some cameras."""
        kept = [name for name in self.messages if name not in cameras]
        return MessageSet(
            self.stamp_ns,
            {name: self.stamps_ns[name] for name in kept},
            {name: self.messages[name] for name in kept},
            tuple(name for name in self.reused if name in kept),
            (*self.blank, *(name for name in self.messages if name in cameras)),
        )

    @property
    def spread_ns(self) -> int:
        """Time from the oldest to the newest image, but for those of earlier sets; 0 where it has no others."""
        own_ns = [stamp_ns for name, stamp_ns in self.stamps_ns.items() if name not in self.reused]
        return max(own_ns, default=0) - min(own_ns, default=0)


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
        self.last_texts: dict[str, str] = {}  # ... by a camera that was missing
        self._streams = {name: CameraStream((offsets_ns or {}).get(name, 0), period_ns, silent_ns) for name in cameras}
        self._notices, self._clocks = notices or Notices(), CameraClocks(reference, silent_ns)
        self._now_ns = NEVER_NS
        self._decided_ns = NEVER_NS  # time of the last set
        self._acting = reference  # the camera that opens sets
        self._absences = Absences(cameras)

    def add(self, camera: str, stamp_ns: int, message: Any, now_ns: int) -> list[MessageSet]:
        """Take one image and return the sets that it completes, oldest first (nearly always none or one).

        `now_ns` is any clock that does not go back; it is compared with itself only, never with stamps.
        """
        self._now_ns = now_ns
        self._judge_clock(camera, stamp_ns)
        if self._clocks.is_foreign(camera):
            self._set_aside(camera)
        else:
            self._take(camera, stamp_ns, message)
        return self._decide(final_before_ns=None)

    def expire(self, now_ns: int) -> list[MessageSet]:
        """Decide the sets that have waited for longer than the deadline, with the images that are there.

        As long as a camera has not been heard since the start or a pause, sets wait for `silent_ns` after the first
        image.
        """
        self._now_ns = now_ns
        self._stand_in(now_ns - self.deadline_ns)
        return self._decide(final_before_ns=now_ns - self.deadline_ns)

    def flush(self) -> list[MessageSet]:
        """Decide every waiting set: no more images will come, and what is left belongs to no set."""
        sets = self._decide(final_before_ns=AT_ONCE_NS)
        for name, stream in self._streams.items():
            self._lose("unmatched", name, len(stream.items))
            stream.items.clear()
        return sets

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
        earliest_ns = waiting[0].time_ns - self._reach_ns(waiting[0])
        newest_ns = {name: stream.time.newest_ns for name, stream in self._streams.items()}
        return [name for name, time_ns in newest_ns.items() if time_ns is None or time_ns < earliest_ns]

    @property
    def waiting(self) -> dict[str, int]:
        """Camera -> images that wait."""
        return {name: len(stream.items) for name, stream in self._streams.items()}

    def _take(self, camera: str, stamp_ns: int, message: Any) -> None:
        stream = self._streams[camera]
        place, item = stream.note(stamp_ns, message, self._now_ns)
        if place == "repeated":
            self._lose("duplicate", camera, 1)
        elif place == "straggler":
            self._lose("clock_back", camera, 1)
        elif place == "late":
            self._take_late(camera, stream, item)
        else:
            self._say_how_late(camera, item)
            if self._is_lost(self._acting, stream):
                self._act(camera)

    def _take_late(self, camera: str, stream: CameraStream, item: Item) -> None:
        """Take an image that lies behind an earlier one: late, or the first of a clock that went back."""
        is_open = item.time_ns > max(stream.taken_ns, self._decided_ns)
        if is_open and all(item.time_ns != other.time_ns for other in stream.items):
            stream.insert(item)
        else:
            self._lose("late", camera, 1)
            self._say_how_late(camera, item)
        alive = {name: one for name, one in self._streams.items() if self._is_alive(name)}
        periods_ns = {name: one.known_period_ns or self.spread_ns for name, one in alive.items()}
        gone = gone_back({name: one.time for name, one in alive.items()}, periods_ns, camera)
        if gone == "all":
            self._restart()
        elif gone == "one":
            self._restart_one(camera)

    def _set_aside(self, camera: str) -> None:
        """Do without a camera whose clock is another one."""
        self._lose("duplicate" if self._clocks.repeats(camera) else "other_clock", camera, 1)
        self._lose("other_clock", camera, self._streams[camera].clear())
        if camera == self._acting:
            self._decided_ns = NEVER_NS

    def _decide(self, final_before_ns: int | None) -> list[MessageSet]:
        done: list[MessageSet] = []
        while waiting := self._opening():
            is_full = any(len(stream.items) > self.depth for stream in self._streams.values())
            following_ns = waiting[1].time_ns if len(waiting) > 1 else None
            chosen = self._choose_all(waiting[0], following_ns, AT_ONCE_NS if is_full else final_before_ns)
            if chosen is None:
                break
            reference = waiting.pop(0)
            self._decided_ns = reference.time_ns
            message_set = self._complete(reference, chosen)
            if message_set is not None:
                done.append(message_set)
            for name, stream in self._streams.items():
                if name != self._acting:
                    self._lose("unmatched", name, stream.forget_before(reference.time_ns))
        for name, stream in self._streams.items():
            if len(stream.items) > self.depth:
                del stream.items[0]
                self._lose("queue_full", name, 1)
        return done

    def _opening(self) -> list[Item]:
        """The images that open the next sets: the reference camera's, after those of the time without it."""
        waiting = self._streams[self._acting].items
        if self._acting != self.reference:
            items = self._streams[self.reference].items
            back = next((item for item in items if item.time_ns > self._decided_ns + self._reach_ns(item)), None)
            if back is not None and not (waiting and waiting[0].time_ns < back.time_ns - self._reach_ns(back)):
                self._act(self.reference)
                return items
        return waiting

    def _choose_all(
        self, reference: Item, following_ns: int | None, final_before_ns: int | None
    ) -> dict[str, Item | None] | None:
        """The image of every other camera (None: it has none for this instant); None while one is undecided."""
        opener = self._streams[self._acting]
        others = {name: stream for name, stream in self._streams.items() if name != self._acting}
        if final_before_ns != AT_ONCE_NS and self._is_stranger(opener, reference, others):
            return None
        chosen: dict[str, Item | None] = {}
        for name, stream in others.items():
            final = (
                self._clocks.is_foreign(name)
                or stream.is_dead(opener, reference.time_ns)
                or self._is_final(stream, opener, reference, final_before_ns)
            )
            decided, chosen[name] = stream.nearest(reference, following_ns, self.spread_ns, final)
            if not decided:
                return None
        return chosen

    def _is_stranger(self, opener: CameraStream, reference: Item, others: Mapping[str, CameraStream]) -> bool:
        """Whether an image is alone in its time, and may turn out to be of another clock."""
        newest_ns = [one.time.newest_ns for one in others.values() if one.time.newest_ns is not None]
        return (
            opener.first is not None
            and self._now_ns - opener.first.arrived_ns < self.silent_ns
            and all(abs(ns - reference.time_ns) > self.silent_ns for ns in newest_ns)
            and bool(newest_ns)
        )

    def _is_final(self, stream: CameraStream, opener: CameraStream, reference: Item, before_ns: int | None) -> bool:
        """Whether a set waits for this camera no longer."""
        if before_ns is None:
            return False
        since_ns, first, newest_ns = reference.arrived_ns, opener.first, stream.time.newest_ns
        if first is not None and (newest_ns is None or newest_ns < first.time_ns - self.silent_ns):
            since_ns = max(since_ns, first.arrived_ns + self.silent_ns - self.deadline_ns)
        return since_ns <= before_ns

    def _is_alive(self, camera: str) -> bool:
        arrived_ns = self._streams[camera].arrived_ns
        is_silent = arrived_ns is None or self._now_ns - arrived_ns >= self.silent_ns
        return not is_silent and not self._clocks.is_foreign(camera)

    def _is_lost(self, camera: str, other: CameraStream) -> bool:
        """Whether another camera shall open the sets; a dead one is dead by the clock, too: a stamp may be wrong."""
        if self._clocks.is_foreign(camera):
            return True
        if other.first is None or other.time.newest_ns is None or self._is_alive(camera):
            return False
        if self._streams[camera].time.newest_ns is None and len(other.items) > self.depth:
            return True  # never heard, and there is no room to wait on
        is_over = self._now_ns - other.first.arrived_ns >= self.silent_ns
        return is_over and self._streams[camera].is_dead(other, other.time.newest_ns)

    def _stand_in(self, before_ns: int) -> None:
        """Let another camera open the sets where the image that should is overdue and one of the others has waited."""
        opener = self._streams[self._acting]
        if opener.items or opener.due_ns is None or opener.due_ns > before_ns:
            return
        waiting = [
            (item.arrived_ns, name)
            for name, stream in self._streams.items()
            for item in stream.items
            if item.arrived_ns <= before_ns and item.time_ns > self._decided_ns + self._reach_ns(item)
        ]
        if waiting:
            self._act(min(waiting)[1])

    def _act(self, camera: str) -> None:
        """From now on this camera opens the sets of the instants that have had none."""
        if camera != self._acting:
            self._acting, stream = camera, self._streams[camera]
            had = [item for item in stream.items if item.time_ns <= self._decided_ns + self._reach_ns(item)]
            del stream.items[: len(had)]
            self._lose("unmatched", camera, sum(item is not stream.taken for item in had))

    def _reach_ns(self, item: Item) -> int:
        """What lies so near to an image is of its instant."""
        return int(min(self.spread_ns, NEAR * (item.period_ns or self.spread_ns)))

    def _complete(self, reference: Item, chosen: dict[str, Item | None]) -> MessageSet | None:
        items = {self._acting: reference} | {name: item for name, item in chosen.items() if item is not None}
        absent = [name for name in chosen if name not in items]
        nearest_ns = {name: self._streams[name].distance_ns(reference.time_ns) for name in absent}
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
            self.last_drop = f"no image of {', '.join(texts)} for the set at {reference.stamp_ns / NS_PER_S:.3f} s"
            self.last_texts |= dict.fromkeys(absent, self.last_drop)
            return None
        if self.missing == "reuse_last":
            last = {name: self._streams[name].last_before(reference.time_ns, self.reuse_age_ns) for name in absent}
            reused = {name: item for name, item in last.items() if item is not None}
            absent = [name for name in absent if name not in reused]
        items |= reused
        for name, item in items.items():
            self._streams[name].take(item)
        ordered = [name for name in self._streams if name in items]
        stamps_ns = {name: items[name].stamp_ns for name in ordered}
        messages = {name: items[name].message for name in ordered}
        return MessageSet(reference.stamp_ns, stamps_ns, messages, tuple(reused), tuple(absent))

    def _restart(self) -> None:
        """The cameras' clock went back: go on with what has come since."""
        for name in self._streams:
            self._restart_one(name)
        self._decided_ns, self._acting = NEVER_NS, self.reference
        self._absences.clear()
        self.restarts += 1

    def _restart_one(self, camera: str) -> None:
        lost, revived = self._streams[camera].restart()
        self._lose("clock_back", camera, lost)
        self.images_dropped -= Counter({("late", camera): revived})

    def _lose(self, reason: str, camera: str, count: int) -> None:
        if count:
            self.images_dropped[reason, camera] += count

    def _judge_clock(self, camera: str, stamp_ns: int) -> None:
        text = self._clocks.judge(camera, stamp_ns)
        if text is None:
            self._notices.clear("clock", camera)
        else:
            self._notices.note("clock", camera, text, self._now_ns)

    def _say_how_late(self, camera: str, item: Item) -> None:
        reach_ns = int(min(self.spread_ns, FAR * (item.period_ns or self.spread_ns)))
        text = self._absences.how_late(camera, item.time_ns, reach_ns, self._now_ns)
        if text is not None:
            self._notices.note("late", camera, text, self._now_ns)
            if self.missing == "drop":
                self.last_drop = text
