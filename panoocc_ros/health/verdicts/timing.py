"""How long things take: the latencies of every stage, and a set that hangs."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..latency import Excess, Summary
from ..recent import HOLD_S
from ..stages import READY_TO_OUTPUT
from .health import ERROR, OK, TIMING, WARN, Health

WARM_UP_S = 60.0  # the first step may take so long
STEP_LATE_S, STEP_LATE_TIMES = 2.0, 5.0  # each other one so long, or a multiple of what is usual


@dataclass(frozen=True, slots=True)
class StepTime:
    """For how long the worker has been at its set, and what is usual, by the machine's own clock."""

    busy_s: float | None = None  # None between sets
    usual_s: float | None = None  # p95 from complete set to grid so far; None before the first grid
    stage: tuple[str, float] | None = None  # the one that it is at, and for how long (s); see `Progress`

    @property
    def is_late(self) -> bool:
        """Whether it seems to hang."""
        limit_s = WARM_UP_S if self.usual_s is None else max(STEP_LATE_S, STEP_LATE_TIMES * self.usual_s)
        return self.busy_s is not None and self.busy_s > limit_s

    @property
    def text(self) -> str:
        """For how long it has been at what."""
        stage, stage_s = self.stage or ("unknown", 0.0)
        return f"the worker has been at one set for {self.busy_s or 0.0:.0f} s, {stage_s:.0f} s of it in stage {stage}"


def timing_health(summary: Summary, exceeded: Mapping[int, Excess | None]) -> Health:
    """Percentiles per stage; WARN or ERROR while set after set takes longer than a limit from complete set to grid.

    Args:
        exceeded: level -> the newest run of sets beyond its limit, if there is one.
    """
    values = {f"{stage}.{key}": f"{number:g}" for stage, numbers in summary.items() for key, number in numbers.items()}
    if READY_TO_OUTPUT not in summary:
        return Health(TIMING, OK, "no grid yet", values)
    p95_ms = summary[READY_TO_OUTPUT]["p95_ms"]
    message = f"{p95_ms:.0f} ms from complete set to grid (p95)"
    for level in (ERROR, WARN):
        excess = exceeded.get(level)
        if excess is not None and excess.age_s <= HOLD_S:
            why = f"every set for {excess.lasting_s:.1f} s took longer than the limit of {excess.limit_ms:g} ms"
            return Health(TIMING, level, f"{message}; {why}, the last one {excess.last_ms:.0f} ms", values)
    return Health(TIMING, OK, message, values)


def summary_from_values(values: Mapping[str, str]) -> Summary:
    """The summary back from the values of a timing status."""
    summary: Summary = {}
    for name, number in values.items():
        stage, _, key = name.rpartition(".")
        summary.setdefault(stage, {})[key] = int(number) if key == "count" else float(number)
    return summary
