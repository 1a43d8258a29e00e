"""Latencies by stage, over a window of the newest sets: what diagnostics, reports and tables show."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

Summary = dict[str, dict[str, float]]  # stage -> {p50_ms, p95_ms, p99_ms, mean_ms, count}

WINDOW = 1000  # sets


@dataclass(frozen=True, slots=True)
class Excess:
    """The newest run of sets each of which took longer than a limit."""

    limit_ms: float
    last_ms: float  # of its last set
    lasting_s: float  # from the beginning of its first set to the end of its last one
    age_s: float  # since that end; 0 where no set has been within the limit since


class StageTimes:
    """The newest times of every stage, in the order in which stages first came.  Safe to use from two threads."""

    def __init__(self, window: int = WINDOW, now_s: Callable[[], float] = time.monotonic) -> None:
        self._window, self._now_s = window, now_s
        self._times: dict[str, deque[tuple[float, float]]] = {}  # stage -> when a set was done (s), its time (ms)
        self._lock = threading.Lock()

    def add(self, times_ms: Mapping[str, float]) -> None:
        """One set's wall times, stage -> milliseconds."""
        with self._lock:
            for stage, time_ms in times_ms.items():
                self._times.setdefault(stage, deque(maxlen=self._window)).append((self._now_s(), float(time_ms)))

    def summary(self) -> Summary:
        """Percentiles, mean and number of samples of every stage."""
        return {stage: summarise(time_ms for _, time_ms in self._samples(stage)) for stage in list(self._times)}

    def excess(self, stage: str, limit_ms: float, consecutive_s: float) -> Excess | None:
        """The newest run of sets beyond a limit that lasted for `consecutive_s` at least; None where there is none."""
        begin_s: float | None = None
        found: tuple[float, float, float] | None = None
        for end_s, time_ms in self._samples(stage):
            if time_ms <= limit_ms:
                begin_s = None
                continue
            begin_s = end_s - time_ms * 1e-3 if begin_s is None else begin_s
            if end_s - begin_s >= consecutive_s:
                found = time_ms, end_s - begin_s, end_s
        if found is None:
            return None
        last_ms, lasting_s, end_s = found
        return Excess(limit_ms, last_ms, lasting_s, 0.0 if begin_s is not None else self._now_s() - end_s)

    def _samples(self, stage: str) -> list[tuple[float, float]]:
        with self._lock:
            return list(self._times.get(stage, ()))


def summarise(times_ms: Iterable[float]) -> dict[str, float]:
    """p50, p95, p99 and mean of at least one time, in milliseconds, and their number."""
    times = np.fromiter(times_ms, dtype=np.float64)
    p50, p95, p99 = (round(float(value), 3) for value in np.percentile(times, (50, 95, 99)))
    return {
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "mean_ms": round(float(times.mean()), 3),
        "count": int(times.size),
    }


def latency_table(summary: Summary) -> str:
    """A plain text table of a summary; an empty summary says that nothing came out."""
    if not summary:
        return "no set came through, so there are no times"
    width = max(len(stage) for stage in (*summary, "stage"))
    lines = [f"{'stage':<{width}}  {'p50 ms':>10}  {'p95 ms':>10}  {'p99 ms':>10}  {'sets':>6}"]
    for stage, values in summary.items():
        numbers = "  ".join(f"{values[key]:>10.2f}" for key in ("p50_ms", "p95_ms", "p99_ms"))
        lines.append(f"{stage:<{width}}  {numbers}  {int(values['count']):>6}")
    return "\n".join(lines)
