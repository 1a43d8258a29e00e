"""A simulated drive in real time: what is rendered when, and which messages are due.  Pure; no ROS here.

Sets are rendered ahead.  Where that is too slow there are two honest ways on, and both are told: on the system's clock,
sets are left out, so that those that come bear true stamps; with a clock of its own the drive waits for the renderer,
and time passes more slowly for everybody who listens to that clock.

One street follows another as a jump of the pose in `odom`, while stamps go on: users of the poses see a teleport, as
after a reset of a vehicle's odometry.  No image falls into the time around it.  True ids go on, too: things of other
streets have other ones.
"""

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from panoocc_core.geometry import NS_PER_S
from panoocc_core.ground_truth import GroundTruth
from panoocc_core.sim.drive_renderer import LEAD_S, Drive, RenderedSet, RenderSetup

from ..health.verdicts import OK, WARN, Health
from .faults import Event, Faults
from .messages import first_events, motion_events, set_events
from .true_motion import TrueMotion

AHEAD_S = 3.0  # how far ahead is rendered
AHEAD_SETS = 40  # ... at most
START_SETS = 2  # rendered before the drive begins
RATE_SETS = 20  # the rate is taken over this many sets
SLOW = 0.9  # a lower share of the wanted rate is worth a warning
MIN_WAIT_S, MAX_WAIT_S = 0.002, 0.05
IDS_OF_A_STREET = 1000  # more than a street of a minute has things
MAX_ID = 0xFFFF  # of VoxelGrid.instance_id
_NEWEST = 0.2  # weight of the newest set in the mean rendering time
_SPARE = 1.25  # a set is left out unless it is ready in time even when it takes so much longer than the others


class Renders(Protocol):
    """Who renders: `drive_renderer.RenderPool`, or a test's stand-in."""

    @property
    def workers(self) -> int: ...
    def rendered(self, drive: Drive, number: int) -> "Future[RenderedSet]": ...
    def poses(self, drive: Drive) -> "Future[Any]": ...


@dataclass(slots=True)
class _Street:
    drive: Drive
    number: int  # from 0
    zero_s: float  # its scene's time 0; all times here are seconds of the whole drive
    times_s: list[float]  # of the poses
    poses: "Future[Any]"
    told: int = 0  # poses that were given out
    motion: TrueMotion | None = None  # once there are poses


@dataclass(frozen=True, slots=True)
class _Slot:
    """One instant that can be rendered."""

    street: _Street
    number: int
    due_s: float  # the first shutter


@dataclass(slots=True)
class LiveCounts:
    """What happened so far."""

    sets: int = 0
    left_out: int = 0  # the renderer had no time for them
    late: int = 0  # rendered after their time, and given out then
    streets: int = 0
    work_s: float = 0.0  # mean rendering time of a set
    set_times_s: deque[float] = field(default_factory=lambda: deque(maxlen=RATE_SETS))  # wall clock

    def rate_hz(self, wall_s: float) -> float:
        """Sets per second of the wall clock lately."""
        if len(self.set_times_s) < 2:
            return 0.0
        span_s = self.set_times_s[-1] - self.set_times_s[0]
        period_s = span_s / (len(self.set_times_s) - 1)
        # Where sets stay away, the pause counts as the last period.
        pause_s = wall_s - self.set_times_s[-1]
        rate = 1 / period_s if period_s > 0 else math.inf
        return rate if pause_s <= 2 * period_s else len(self.set_times_s) / (span_s + pause_s)


class RenderError(RuntimeError):
    """The renderer failed; the text says with what."""


def _result_of(future: "Future[Any]") -> Any:
    try:
        return future.result()
    except BrokenExecutor:
        raise
    except Exception as error:
        raise RenderError(f"the renderer failed: {error!r}") from error


class LiveDrive:
    """The messages of a drive that goes on while somebody asks for them.

    Args:
        next_drive: street number n of the whole drive, or None after the last one.
        zero_ns: stamp of the beginning; None takes the caller's clock when the first sets are ready.
        waits: the drive waits for the renderer; else sets are left out where it is too slow.
    """

    def __init__(
        self,
        setup: RenderSetup,
        pool: Renders,
        faults: Faults,
        next_drive: Callable[[int], Drive | None],
        *,
        zero_ns: int | None = None,
        waits: bool = False,
    ):
        self._setup, self._pool, self._faults, self._next_drive = setup, pool, faults, next_drive
        self._zero_ns, self._waits = zero_ns, waits
        self._streets: deque[_Street] = deque()
        self._slot: _Slot | None = None  # the next to be rendered
        self._jobs: deque[tuple[_Slot, Future[RenderedSet]]] = deque()
        self._ready: deque[tuple[_Slot, RenderedSet]] = deque()
        self._now_s = 0.0  # what is due by then was given out
        self._wall_s: float | None = None  # of the last step since the beginning
        self.counts = LiveCounts()
        self._open_street(0.0)

    @property
    def has_begun(self) -> bool:
        """Whether the first sets were ready."""
        return self._wall_s is not None

    @property
    def is_over(self) -> bool:
        """Whether the last message was given out."""
        return not (self._streets or self._slot or self._jobs or self._ready or self._faults.waiting)

    @property
    def queued(self) -> tuple[int, int]:
        """Sets that are being rendered, and sets that wait for their time."""
        return len(self._jobs), len(self._ready)

    @property
    def seed(self) -> int | None:
        """Of the street that is driven through."""
        return self._streets[0].drive.seed if self._streets else None

    @property
    def clock_ns(self) -> int:
        """The drive's time as a stamp, with what is wrong with the clock."""
        stamp_ns = self._stamp_ns(self._now_s)
        return stamp_ns + self._faults.offset_ns(stamp_ns)

    def step(self, wall_s: float, system_ns: int) -> list[Event]:
        """The messages that have become due.

        Args:
            wall_s: a clock that never jumps.
            system_ns: the system's clock.

        Raises:
            RenderError: the renderer failed.
            BrokenExecutor: one of its processes was killed.
        """
        self._collect()
        self._plan()
        if self._wall_s is None and not self._begin(system_ns):
            return []
        self._now_s += 0.0 if self._wall_s is None else wall_s - self._wall_s
        self._wall_s = wall_s
        if self._waits:
            self._now_s = min(self._now_s, self._barrier_s())
        self._give_poses()
        self._give_sets(wall_s)
        return self._faults.pop_until(self._stamp_ns(self._now_s))

    def wait_s(self) -> float:
        """How long nothing becomes due, as far as that is known."""
        if not self.has_begun:
            return MAX_WAIT_S
        due_s = [street.times_s[street.told] for street in self._streets]
        due_s += [slot.due_s for slot, _ in self._ready]
        return min(max(min(due_s, default=math.inf) - self._now_s, MIN_WAIT_S), MAX_WAIT_S)

    def _begin(self, system_ns: int) -> bool:
        street = self._streets[0]
        if len(self._ready) < min(START_SETS, street.drive.sets) or not street.poses.done():
            return False
        self._now_s = street.times_s[0]
        if self._zero_ns is None:
            self._zero_ns = system_ns - round(self._now_s * NS_PER_S)
        for event in first_events(self._setup, self._stamp_ns(self._now_s)):
            self._faults.push(event)
        return True

    def _plan(self) -> None:
        """Let the renderer begin with the sets that it can finish in time."""
        max_jobs = 2 * self._pool.workers if self.has_begun else START_SETS
        while (slot := self._slot) is not None and len(self._jobs) < max_jobs:
            if slot.due_s > self._now_s + AHEAD_S or len(self._jobs) + len(self._ready) >= AHEAD_SETS:
                return
            if not self.has_begun and len(self._jobs) + len(self._ready) >= START_SETS:
                return
            turns = len(self._jobs) // self._pool.workers + 1
            if self.has_begun and not self._waits and slot.due_s < self._now_s + turns * _SPARE * self.counts.work_s:
                self.counts.left_out += 1
            else:
                self._jobs.append((slot, self._pool.rendered(slot.street.drive, slot.number)))
            self._to_next_slot(slot)

    def _collect(self) -> None:
        while self._jobs and self._jobs[0][1].done():
            slot, future = self._jobs.popleft()
            rendered = _result_of(future)
            mean_s = self.counts.work_s
            self.counts.work_s = mean_s + _NEWEST * (rendered.work_s - mean_s) if mean_s else rendered.work_s
            self.counts.late += self.has_begun and slot.due_s < self._now_s
            self._ready.append((slot, rendered))

    def _barrier_s(self) -> float:
        """When the first thing is due that is not there yet."""
        due_s = [self._jobs[0][0].due_s] if self._jobs else [self._slot.due_s] if self._slot else []
        due_s += [street.times_s[street.told] for street in self._streets if not street.poses.done()]
        return min(due_s, default=math.inf)

    def _give_poses(self) -> None:
        while self._streets and self._streets[0].poses.done():
            street = self._streets[0]
            if street.motion is None:
                street.motion = TrueMotion(_result_of(street.poses), np.array(street.times_s))
            while street.told < len(street.times_s) and street.times_s[street.told] <= self._now_s:
                stamp_ns = self._stamp_ns(street.times_s[street.told])
                for event in motion_events(street.motion, street.told, stamp_ns):
                    self._faults.push(event)
                street.told += 1
            if street.told < len(street.times_s):
                return
            self._streets.popleft()

    def _give_sets(self, wall_s: float) -> None:
        while self._ready and self._ready[0][0].due_s <= self._now_s:
            slot, rendered = self._ready.popleft()
            zero_ns = self._stamp_ns(slot.street.zero_s)
            if rendered.truth is not None:
                rendered = replace(rendered, truth=_with_ids_of_street(rendered.truth, slot.street.number))
            for event in set_events(rendered, self._setup, slot.street.drive, slot.number, zero_ns, self.counts.sets):
                self._faults.push(event)
            self.counts.sets += 1
            self.counts.set_times_s.append(wall_s)

    def _open_street(self, zero_s: float) -> None:
        drive = self._next_drive(self.counts.streets)
        if drive is None:
            self._slot = None
            return
        times_s = [zero_s + time_s for time_s in self._setup.pose_times_s(drive).tolist()]
        street = _Street(drive, self.counts.streets, zero_s, times_s, self._pool.poses(drive))
        self._streets.append(street)
        self.counts.streets += 1
        self._slot = self._slot_of(street, 0)

    def _to_next_slot(self, slot: _Slot) -> None:
        drive = slot.street.drive
        if slot.number + 1 < drive.sets:
            self._slot = self._slot_of(slot.street, slot.number + 1)
        else:
            self._open_street(slot.street.zero_s + drive.time_s(drive.sets) + LEAD_S)

    def _slot_of(self, street: _Street, number: int) -> _Slot:
        offset_s = min(camera.shutter_offset_s for camera in self._setup.rig)
        return _Slot(street, number, street.zero_s + street.drive.time_s(number) + offset_s)

    def _stamp_ns(self, time_s: float) -> int:
        return (self._zero_ns or 0) + round(time_s * NS_PER_S)


def _with_ids_of_street(truth: GroundTruth, number: int) -> GroundTruth:
    """Ids that streets before it have not had; after 65 streets they begin again."""
    shift = number * IDS_OF_A_STREET

    def shifted(ids: np.ndarray) -> np.ndarray:
        return np.where(ids > 0, (ids.astype(np.int64) - 1 + shift) % MAX_ID + 1, 0).astype(np.int32)

    instance_id = None if truth.instance_id is None else shifted(truth.instance_id)
    boxes = None if truth.boxes is None else replace(truth.boxes, instance_id=shifted(truth.boxes.instance_id))
    return replace(truth, instance_id=instance_id, boxes=boxes)


def live_healths(live: LiveDrive, faults: Faults, rate_hz: float, workers: int, wall_s: float) -> list[Health]:
    """One status each of the drive, the renderer and the faults."""
    return [_drive_health(live), _renderer_health(live, rate_hz, workers, wall_s), _faults_health(faults)]


def _drive_health(live: LiveDrive) -> Health:
    counts = live.counts
    values = {"streets": str(counts.streets), "seed": str(live.seed), "sets": str(counts.sets)}
    if not live.has_begun:
        return Health("drive", WARN, "the first images are being rendered", values)
    return Health("drive", OK, "over" if live.is_over else f"{counts.sets} sets of images", values)


def _renderer_health(live: LiveDrive, rate_hz: float, workers: int, wall_s: float) -> Health:
    counts, (jobs, ready) = live.counts, live.queued
    rate = counts.rate_hz(wall_s)
    values = {
        "rate_hz": f"{rate:.2f}",
        "wanted_hz": f"{rate_hz:g}",
        "in_work": str(jobs),
        "ready": str(ready),
        "left_out": str(counts.left_out),
        "late": str(counts.late),
        "set_ms": f"{1e3 * counts.work_s:.0f}",
        "workers": str(workers),
    }
    if len(counts.set_times_s) < 2 or live.is_over or rate >= SLOW * rate_hz:
        return Health("renderer", OK, f"{rate:.1f} Hz", values)
    text = (
        f"{rate:.1f} Hz instead of {rate_hz:g}: a set takes {counts.work_s:.2f} s, with {workers} worker(s); lower "
        "rate_hz or scale, or give it more workers"
    )
    return Health("renderer", WARN, text, values)


def _faults_health(faults: Faults) -> Health:
    values = {label: str(count) for label, count in sorted(faults.injected.items())}
    if not values:
        return Health("faults", OK, f"none yet, of {len(faults.faults)}" if faults.faults else "none", values)
    spoilt = ", ".join(f"{count} {label}" for label, count in faults.injected.most_common())
    return Health("faults", WARN, f"messages spoilt on purpose: {spoilt}", values)
