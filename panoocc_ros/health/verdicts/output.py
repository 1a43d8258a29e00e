"""Whether grids come out; else what they wait for."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ...frames.sets import AssemblerStatus
from ..ledger import Accounts
from ..recent import HOLD_S
from .health import ERROR, MISSING_CAMERA, OK, OUTPUT, WARN, Health, age_text
from .timing import StepTime

NO_NEW_GRID = "no new grid"  # the message of `output` begins so where grids came and come no more
SUBSCRIBERS = "subscribers"  # its key for the number of subscriptions to the grids
IDLE, WORKING, WAITING = "idle", "working", "waiting"  # values of its key `state`

GRID_LATE_S, GRID_LATE_PERIODS = 2.0, 3.0  # a grid is late after the longer one of the two,
MAX_GRID_LATE_S = 30.0  # ... but never later than this, however seldom sets come


def output_health(
    status: AssemblerStatus,
    accounts: Accounts,
    step: StepTime,
    is_idle: bool,
    subscribers: int,
    deaf: Mapping[str, str],
    clock: Health,
    inputs: Sequence[Health],
    has_error: bool,
) -> Health:
    """OK while grids come as often as sets do, and all that is made of them; else the reason why not.

    Args:
        step: the times of the worker.
        is_idle: the worker has nothing to do.
        subscribers: of the grids.
        deaf: output -> why one of its subscribers gets nothing.
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
        "rate_hz": f"{accounts.grid_rate_hz:.1f}",
        "last_grid_age_s": age_text(accounts.last_grid_age_s),
    }
    values |= {f"drops.{reason}": str(count) for reason, count in sorted(drops.items())}
    if step.stage is not None:
        values["stage"] = step.stage[0]
    if step.is_late:
        return Health(OUTPUT, WARN, f"{_since(accounts.last_grid_age_s)}: {step.text}", values)
    if clock.level != OK:
        return Health(
            OUTPUT, clock.level, f"{NO_NEW_GRID if accounts.grids else 'no grid yet'}: {clock.message}", values
        )
    if _grids_come(accounts):
        texts = [f"~/{topic} could not be sent: {why}" for topic, why in accounts.unsent.items()]
        texts += [f"~/{topic}: {why}" for topic, why in deaf.items()]
        if texts:
            return Health(OUTPUT, ERROR if accounts.unsent else WARN, "; ".join(texts), values)
        text = f"{accounts.grids} grids from {status.sets} sets" if accounts.grids else "first set in work"
        return Health(OUTPUT, OK, text, values)
    level = ERROR if has_error or accounts.is_failure else WARN
    return Health(OUTPUT, level, _why_no_grid(status, accounts, inputs), values)


def _grids_come(accounts: Accounts) -> bool:
    """Whether the last grid is not older than it may be; neither the step in work counts, nor what was switched off.

    Before the first grid the worker must be at work.
    """
    since_s = accounts.first_set_age_s if accounts.last_grid_age_s is None else accounts.last_grid_age_s
    if since_s is None or (accounts.last_grid_age_s is None and accounts.step_age_s is None):
        return False
    if accounts.enabled_age_s is not None:
        since_s = min(since_s, accounts.enabled_age_s)
    return since_s - (accounts.step_age_s or 0.0) <= _late_s(accounts)


def _late_s(accounts: Accounts) -> float:
    """The age from which on a grid, or a set, is late."""
    return max(GRID_LATE_S, min(GRID_LATE_PERIODS * (accounts.set_period_s or 0.0), MAX_GRID_LATE_S))


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
    if formed_s <= _late_s(accounts):
        return f"{since}: sets of images come, the last one {formed_s:.1f} s ago, and none has become a grid"
    return f"{since}: the images have stopped, the last complete set came {formed_s:.1f} s ago"


def _since(age_s: float | None) -> str:
    return "no grid yet" if age_s is None else f"{NO_NEW_GRID} for {age_s:.1f} s"


def _first_of(healths: Sequence[Health]) -> str:
    others = f" (and {', '.join(health.subject for health in healths[1:])})" if len(healths) > 1 else ""
    return f"{healths[0].subject}: {healths[0].message}{others}"
