"""How long things take: the latencies of every stage, and a set that hangs."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..latency import Summary
from .health import ERROR, OK, TIMING, WARN, Health

READY_TO_OUTPUT = "ready_to_output"  # stage: from a set complete with its transforms to its grid published
ARRIVAL_TO_READY = "arrival_to_ready"  # stage: from a set's last image to the set complete with its transforms
ARRIVAL_TO_OUTPUT = "arrival_to_output"  # stage: from a set's last image to its grid published ...
BESIDE_NETWORK = "beside_network"  # stage: ... less the network's own stages
WARM_UP_S = 60.0  # the first step may take so long
STEP_LATE_S, STEP_LATE_TIMES = 2.0, 5.0  # each other one so long, or a multiple of what is usual


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
