"""What the node says about itself: one status per subject, in words that name the cause.  Pure; no ROS here.

A warning lasts while its cause does, and `HOLD_S` longer.  Totals are values of a status and never its level.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..frames.rig import RigCamera
from ..frames.sets import AssemblerStatus
from ..streams.notices import Notice, NoticeKind
from .arrivals import Arrivals
from .latency import Summary
from .ledger import Accounts, Refusals
from .recent import HOLD_S, Recent
from .running_time import RunningTime

OK, WARN, ERROR = 0, 1, 2  # the levels of diagnostic_msgs/DiagnosticStatus

OUTPUT = "output"  # the status that says whether grids come out, and why not
TIMING = "timing"  # the status with the latencies of every stage
NO_NEW_GRID = "no new grid"  # the message of `output` begins so where grids came and come no more
SUBSCRIBERS = "subscribers"  # its key for the number of subscriptions to the grids
IDLE, WORKING, WAITING = "idle", "working", "waiting"  # values of its key `state`

READY_TO_OUTPUT = "ready_to_output"  # stage: from a set complete with its transforms to its grid published

GRID_LATE_S, GRID_LATE_PERIODS = 2.0, 3.0  # a grid is late after the longer one of the two,
MAX_GRID_LATE_S = 30.0  # ... but never later than this, however seldom sets come
WARM_UP_S = 60.0  # the first step may take so long
STEP_LATE_S, STEP_LATE_TIMES = 2.0, 5.0  # each other one so long, or a multiple of what is usual
CLOCK_STANDS_S = 5.0
CAMERA_NOTICES: tuple[NoticeKind, ...] = ("clock", "apart", "late", "calibration")
TRANSFORM_NOTICES: tuple[NoticeKind, ...] = (
    *("refused", "contradiction", "late_transform"),
    *("network_frame", "grid_frame"),
)
MAX_NOTICES = 3  # in one message
MISSING_CAMERA = "missing_camera"  # reason of sets that lacked an image of a camera


@dataclass(frozen=True, slots=True)
class Health:
    """One diagnostic status: a level, a sentence, and numbers."""

    subject: str
    level: int
    message: str
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepTime:
    """For how long the worker has been at its set, and what is usual, by the machine's own clock."""

    busy_s: float | None = None  # None between sets
    usual_s: float | None = None  # p95 from complete set to grid so far; None before the first grid

    @property
    def is_late(self) -> bool:
        """Whether it seems to hang."""
        limit_s = WARM_UP_S if self.usual_s is None else max(STEP_LATE_S, STEP_LATE_TIMES * self.usual_s)
        return self.busy_s is not None and self.busy_s > limit_s


class Lately:
    """What has happened within the last `HOLD_S` seconds, from counters that only rise."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._sets: Recent[tuple[str, str]] = Recent(now_s)
        self._incomplete: Recent[str] = Recent(now_s)
        self._callbacks: Recent[str] = Recent(now_s)
        self.lost_sets: Counter[tuple[str, str]] = Counter()  # by (reason, camera)
        self.incomplete_sets: Counter[str] = Counter()  # by camera: sets with an older image of it, or none
        self.failed_callbacks = 0
        self._now_s, self._error_s = now_s, float("-inf")

    def look(self, status: AssemblerStatus, callback_errors: int) -> None:
        """Take the counters as they are now."""
        self.lost_sets = self._sets.rises(status.set_drops)
        self.incomplete_sets = self._incomplete.rises(status.reused + status.blank)
        self.failed_callbacks = self._callbacks.rises({"callbacks": callback_errors}).total()

    def has_error(self, inputs: Sequence[Health]) -> bool:
        """Whether an input is in ERROR, or was so lately: take them as they are now."""
        now_s = self._now_s()
        if any(health.level == ERROR for health in inputs):
            self._error_s = now_s
        return now_s - self._error_s <= HOLD_S


def of_now(status: AssemblerStatus, *kinds: NoticeKind) -> list[Notice]:
    """The notices of some kinds that still hold, or did so within the last `HOLD_S` seconds."""
    return [notice for notice in status.of_kind(*kinds) if notice.age_s <= HOLD_S]


def clock_health(time: RunningTime) -> Health:
    """ERROR before anything has come on /clock, WARN while it stands: no deadline passes then, and no age grows."""
    if not time.has_begun:
        return Health("clock", ERROR, "use_sim_time is set, but nothing has come on /clock: play with --clock")
    if time.standing_s > CLOCK_STANDS_S:
        text = f"the time on /clock has stood for {time.standing_s:.0f} s: playback is paused, or over"
        return Health("clock", WARN, text)
    return Health("clock", OK, "time goes on")


def camera_health(
    camera: RigCamera,
    arrivals: Arrivals,
    status: AssemblerStatus,
    lost_sets: Mapping[tuple[str, str], int],
    problems: Sequence[str],
    waited_s: float,
    timeout_s: float,
    refusals: Refusals | None = None,
) -> Health:
    """ERROR while no image of a camera comes, or none that can be used; WARN while some cannot.

    Args:
        lost_sets: those lost lately, by (reason, camera).
        problems: what is wrong with the publishers of its two topics.
        waited_s: how long the node has been there, for a camera that has sent nothing yet.
        timeout_s: a camera without an image for so long is dead; one whose images are refused for so long is no better.
        refusals: those of its images since the last grid.
    """
    age_s, rate = arrivals.age_s(camera.name), f"{arrivals.rate_hz(camera.name):.1f} Hz"
    drops: Counter[str] = Counter()
    for (reason, culprit), count in (status.image_drops + status.set_drops).items():
        drops[reason] += count if culprit == camera.name else 0
    values = {"topic": camera.topic, "images": str(status.images[camera.name])}
    values |= {"rate_hz": f"{arrivals.rate_hz(camera.name):.2f}", "last_image_age_s": _age(age_s)}
    values |= {f"drops.{reason}": str(count) for reason, count in sorted(drops.items()) if count}

    notices = [one for one in of_now(status, *CAMERA_NOTICES) if one.subject == camera.name]
    lost = Counter({reason: count for (reason, culprit), count in lost_sets.items() if culprit == camera.name})
    warnings = [*(notice.text for notice in notices), *problems]
    if camera.name in status.pictures:
        warnings.append(status.pictures[camera.name])
    if lost:
        warnings.append(f"sets lost in the last {HOLD_S:.0f} s: {_counts(lost)}")
    level, message = _unusable(camera, age_s, camera.name in status.missing_info, waited_s, timeout_s) or (OK, rate)
    if level == OK and any(notice.kind == "clock" for notice in notices):
        level = ERROR  # no set can be made of its images
    if level == OK and refusals is not None and refusals.lasting_s >= timeout_s and refusals.age_s <= HOLD_S:
        level, message = ERROR, f"{rate}, and none that can be used for {refusals.lasting_s:.1f} s: {refusals.text}"
    return Health(
        f"camera {camera.name}", max(level, WARN if warnings else OK), "; ".join([message, *warnings]), values
    )


def _unusable(
    camera: RigCamera, age_s: float | None, lacks_info: bool, waited_s: float, timeout_s: float
) -> tuple[int, str] | None:
    if age_s is None:
        text = f"no image yet on {camera.topic}; is the camera running, is the topic of the rig right?"
        return (ERROR if waited_s > timeout_s else WARN), text
    if age_s > timeout_s:
        return ERROR, f"dead: the last image on {camera.topic} came {age_s:.1f} s ago"
    if lacks_info:
        return ERROR, f"no CameraInfo yet on {camera.info_topic}; images cannot be used without it"
    return None


def transforms_health(
    status: AssemblerStatus, lost_sets: Mapping[tuple[str, str], int], problems: Sequence[str]
) -> Health:
    """ERROR while sets are lost for the lack of a transform; WARN about transforms that are refused or not heard.

    Args:
        lost_sets: those lost lately, by (reason, camera).
        problems: what is wrong with the publishers of the transforms.
    """
    lost, lost_lately = (
        sum(count for (reason, _), count in counts.items() if reason.startswith("tf_"))
        for counts in (status.set_drops, lost_sets)
    )
    values = {"fixed_frame": status.fixed_frame or "not known yet", "network_frame": status.network_frame}
    values |= {"sets_lost": str(lost)}
    values |= {f"transforms.{reason}": str(count) for reason, count in sorted(status.transform_drops.items())}
    notices = [one.text for one in of_now(status, *TRANSFORM_NOTICES)]
    warnings = [*notices[:MAX_NOTICES], *problems]
    if status.tf_missing is not None and lost_lately:
        return Health("transforms", ERROR, "; ".join([status.tf_missing, *warnings]), values)
    if warnings:
        return Health("transforms", WARN, "; ".join(warnings), values)
    if not status.ready:
        return Health("transforms", WARN, "no set of images has had its transforms yet", values)
    if status.fixed_frame is None:
        return Health("transforms", WARN, "no set of images has had its transforms since the stamps went back", values)
    return Health("transforms", OK, f"history is fused through {values['fixed_frame']}", values)


def sets_health(
    status: AssemblerStatus, lost_sets: Mapping[tuple[str, str], int], incomplete: Mapping[str, int]
) -> Health:
    """WARN while sets of images are lost, or lack an image.

    Args:
        lost_sets: those lost lately, by (reason, camera).
        incomplete: those lately in which an older image of a camera stands in, or none, by camera.
    """
    values = {"formed": str(status.sets), "with_transforms": str(status.ready), "waiting": str(status.waiting)}
    if status.waiting_for:
        values["waiting_for"] = status.waiting_for
    for name, counts in (
        ("incomplete", without_image(status.set_drops)),
        ("reused", status.reused),
        ("blank", status.blank),
    ):
        values |= {f"{name}.{camera}": str(count) for camera, count in sorted(counts.items())}
    texts = []
    if dropped := without_image(lost_sets):
        texts.append(f"dropped for want of an image of {_counts(dropped)}")
    if incomplete:
        texts.append(f"with an older image, or none, of {_counts(incomplete)}")
    if others := sum(lost_sets.values()) - sum(dropped.values()):
        texts.append(f"lost {others}, the last one since {status.last_drop}")
    if texts:
        return Health("sets", WARN, f"in the last {HOLD_S:.0f} s: {'; '.join(texts)}", values)
    return Health("sets", OK, f"{status.sets} sets", values)


def without_image(set_drops: Mapping[tuple[str, str], int]) -> Counter[str]:
    """Camera -> sets that were dropped because its image was missing."""
    return Counter({camera: count for (reason, camera), count in set_drops.items() if reason == MISSING_CAMERA})


def geometry_health(status: AssemblerStatus) -> Health:
    """WARN about mounts and intrinsics that cannot be true, as the first grids show them."""
    if status.geometry is None:
        return Health("geometry", OK, "not judged yet: no set of images has been decoded")
    if status.geometry:
        return Health("geometry", WARN, "; ".join(status.geometry))
    return Health("geometry", OK, "mounts and intrinsics are plausible")


def model_health(facts: Mapping[str, str], is_seeded: bool, accounts: Accounts) -> Health:
    """WARN while the weights are seeded (the voxels mean nothing), ERROR while the last step failed.

    Args:
        facts: what does not change while the node runs, at least `model` and `device`.
    """
    values = dict(facts)
    values |= {"history_fused": str(accounts.history_fused), "states_kept": str(accounts.states_kept)}
    values["failures"] = str(accounts.failures)
    values |= {f"resets.{reason}": str(count) for reason, count in sorted(accounts.resets.items())}
    if accounts.is_failure:
        return Health("model", ERROR, f"the last step failed: {accounts.problem}", values)
    if is_seeded:
        return Health("model", WARN, "weights are seeded, not trained: the voxels mean nothing", values)
    return Health("model", OK, f"{facts['model']} on {facts['device']}", values)


def callbacks_health(errors: int, lately: int, last_error: str) -> Health:
    """WARN while callbacks of the node fail: each time a message is lost through a fault of ours."""
    values = {"callback_errors": str(errors)}
    if lately:
        return Health("callbacks", WARN, f"{lately} failed in the last {HOLD_S:.0f} s: {last_error}", values)
    return Health("callbacks", OK, "no callback fails", values)


def timing_health(summary: Summary, warn_ms: float, error_ms: float) -> Health:
    """Percentiles per stage; limits apply to the p95 from complete set to grid (0: no limit)."""
    values = {f"{stage}.{key}": f"{number:g}" for stage, numbers in summary.items() for key, number in numbers.items()}
    if READY_TO_OUTPUT not in summary:
        return Health(TIMING, OK, "no grid yet", values)
    p95_ms = summary[READY_TO_OUTPUT]["p95_ms"]
    message = f"{p95_ms:.0f} ms from complete set to grid (p95)"
    for level, limit_ms in ((ERROR, error_ms), (WARN, warn_ms)):
        if limit_ms and p95_ms > limit_ms:
            return Health(TIMING, level, f"{message}, more than the limit of {limit_ms:g} ms", values)
    return Health(TIMING, OK, message, values)


def summary_from_values(values: Mapping[str, str]) -> Summary:
    """The summary back from the values of a timing status."""
    summary: Summary = {}
    for name, number in values.items():
        stage, _, key = name.rpartition(".")
        summary.setdefault(stage, {})[key] = int(number) if key == "count" else float(number)
    return summary


def output_health(
    status: AssemblerStatus,
    accounts: Accounts,
    step: StepTime,
    is_idle: bool,
    subscribers: int,
    clock: Health,
    inputs: Sequence[Health],
    has_error: bool,
) -> Health:
    """OK while grids come as often as sets do, and all that is made of them; else the reason why not.

    Args:
        step: the times of the worker.
        is_idle: the worker has nothing to do.
        subscribers: of the grids.
        clock: its status: while it stands, no age tells anything.
        inputs: the statuses of all else that a grid needs.
        has_error: one of these is in ERROR, or was so lately.
    """
    drops = Counter(accounts.drops)
    for (reason, _), count in status.set_drops.items():
        if reason != MISSING_CAMERA:
            drops[reason] += count
    state = WAITING if status.waiting or status.collecting else IDLE
    values = {
        "state": state if is_idle else WORKING,
        SUBSCRIBERS: str(subscribers),
        "sets_in": str(status.sets),
        "grids_out": str(accounts.grids),
        "sets_dropped": str(sum(drops.values())),
        "last_grid_age_s": _age(accounts.last_grid_age_s),
    }
    values |= {f"drops.{reason}": str(count) for reason, count in sorted(drops.items())}
    if step.is_late:
        text = f"{_since(accounts.last_grid_age_s)}: the network has been at one set for {step.busy_s or 0.0:.0f} s"
        return Health(OUTPUT, WARN, text, values)
    if clock.level != OK:
        return Health(
            OUTPUT, clock.level, f"{NO_NEW_GRID if accounts.grids else 'no grid yet'}: {clock.message}", values
        )
    if _grids_come(accounts):
        if accounts.unsent:
            texts = [f"~/{topic} could not be sent: {why}" for topic, why in accounts.unsent.items()]
            return Health(OUTPUT, ERROR, "; ".join(texts), values)
        text = f"{accounts.grids} grids from {status.sets} sets" if accounts.grids else "first set in work"
        return Health(OUTPUT, OK, text, values)
    level = ERROR if has_error or accounts.is_failure else WARN
    return Health(OUTPUT, level, _why_no_grid(status, accounts, inputs), values)


def _grids_come(accounts: Accounts) -> bool:
    """Whether the last grid is not older than it may be; the time of the step in work does not count.

    Before the first grid the worker must be at work.
    """
    since_s = accounts.first_set_age_s if accounts.last_grid_age_s is None else accounts.last_grid_age_s
    if since_s is None or (accounts.last_grid_age_s is None and accounts.step_age_s is None):
        return False
    limit_s = max(GRID_LATE_S, min(GRID_LATE_PERIODS * (accounts.set_period_s or 0.0), MAX_GRID_LATE_S))
    return since_s - (accounts.step_age_s or 0.0) <= limit_s


def _why_no_grid(status: AssemblerStatus, accounts: Accounts, inputs: Sequence[Health]) -> str:
    """What the newest set was lost for, else what is missing at the inputs."""
    errors, warnings = ([health for health in inputs if health.level == level] for level in (ERROR, WARN))
    is_fresh = accounts.problem_age_s is not None and accounts.problem_age_s <= HOLD_S
    if accounts.problem and (is_fresh or not errors):
        age_s = accounts.last_grid_age_s
        since = "" if age_s is None else f" and none for {age_s:.1f} s"
        return f"no grid from the last set{since}: {accounts.problem}"
    since = _since(accounts.last_grid_age_s)
    if errors:
        return f"{since}: {_first_of(errors)}"
    if status.waiting_for:
        return f"{since}: the oldest set waits, since {status.waiting_for}"
    if warnings:
        return f"{since}: {_first_of(warnings)}"
    formed_s = accounts.last_formed_age_s
    if formed_s is None:
        return f"{since}: no complete set of images has come"
    return f"{since}: the images have stopped, the last complete set came {formed_s:.1f} s ago"


def _since(age_s: float | None) -> str:
    return "no grid yet" if age_s is None else f"{NO_NEW_GRID} for {age_s:.1f} s"


def _first_of(healths: Sequence[Health]) -> str:
    others = f" (and {', '.join(health.subject for health in healths[1:])})" if len(healths) > 1 else ""
    return f"{healths[0].subject}: {healths[0].message}{others}"


def _age(age_s: float | None) -> str:
    return "never" if age_s is None else f"{age_s:.2f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in Counter(counts).most_common())
