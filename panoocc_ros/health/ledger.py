"""The node's own books, beside the assembler's: grids out, sets lost behind the assembler, failures, resets.

Written by the worker and the executor's thread, read by the latter.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from panoocc_core import Occupancy


@dataclass(frozen=True, slots=True)
class Accounts:
    """A copy of the books at one moment."""

    grids: int = 0
    drops: Counter[str] = field(default_factory=Counter)  # reason -> complete sets that gave no grid
    failures: int = 0
    last_grid_age_s: float | None = None
    problem: str | None = None  # why the newest set gave no grid; None once a grid came
    failure: str | None = None  # the same, where it was an exception and not bad input
    history_fused: int = 0
    states_kept: int = 0
    resets: Counter[str] = field(default_factory=Counter)


class Ledger:
    """Counts what became of every set."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._grids = self._failures = self._history_fused = self._states_kept = 0
        self._drops: Counter[str] = Counter()
        self._resets: Counter[str] = Counter()
        self._last_grid_s: float | None = None
        self._problem: str | None = None
        self._failure: str | None = None

    def grid(self, occupancy: Occupancy) -> int:
        """A grid is about to go out; returns its sequence number, counted from 0."""
        with self._lock:
            sequence = self._grids
            self._grids += 1
            self._last_grid_s = self._now_s()
            self._problem = self._failure = None
            self._history_fused = len(occupancy.history.ages_s)
            self._states_kept = occupancy.history.states_kept
            if occupancy.history.reset is not None:
                self._resets[occupancy.history.reset] += 1
            return sequence

    def drop(self, reason: str, text: str) -> None:
        """A complete set was lost."""
        with self._lock:
            self._drops[reason] += 1
            self._problem = text

    def refuse(self, text: str) -> None:
        """The assembler refused a set because of one image, and has counted it."""
        with self._lock:
            self._problem = text

    def fail(self, text: str) -> None:
        """The network failed on a set, or its grid could not be sent."""
        with self._lock:
            self._drops["failed"] += 1
            self._failures += 1
            self._problem = self._failure = text

    def read(self) -> Accounts:
        """A consistent copy."""
        with self._lock:
            return Accounts(
                grids=self._grids,
                drops=Counter(self._drops),
                failures=self._failures,
                last_grid_age_s=None if self._last_grid_s is None else self._now_s() - self._last_grid_s,
                problem=self._problem,
                failure=self._failure,
                history_fused=self._history_fused,
                states_kept=self._states_kept,
                resets=Counter(self._resets),
            )
