"""Latencies by stage, over a window of the newest sets: what diagnostics, reports and tables show."""

import threading
from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np

Summary = dict[str, dict[str, float]]  # stage -> {p50_ms, p95_ms, p99_ms, mean_ms, count}

WINDOW = 1000  # sets


class StageTimes:
    """The newest times of every stage, in the order in which stages first came.  Safe to use from two threads."""

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._times_ms: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def add(self, times_ms: Mapping[str, float]) -> None:
        """One set's wall times, stage -> milliseconds."""
        with self._lock:
            for stage, time_ms in times_ms.items():
                self._times_ms.setdefault(stage, deque(maxlen=self._window)).append(float(time_ms))

    def summary(self) -> Summary:
        """Percentiles, mean and number of samples of every stage."""
        with self._lock:
            copies = {stage: list(times) for stage, times in self._times_ms.items()}
        return {stage: summarise(times) for stage, times in copies.items()}


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
