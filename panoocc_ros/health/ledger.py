"""What became of the complete sets: grids out, sets lost behind the assembler, failures, resets of the memory.

Written by the worker and the executor's thread, read by the latter.
"""

import statistics
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from panoocc_core import Occupancy

from .arrivals import rate_hz

INTERVALS = 20  # between sets, of which the period is taken


@dataclass(frozen=True, slots=True)
class Accounts:
    """All counters at one moment; ages are None where there was nothing yet."""

    grids: int = 0
    drops: Counter[str] = field(default_factory=Counter)  # reason -> complete sets that gave no grid
    failures: int = 0
    first_set_age_s: float | None = None  # of the first complete set
    last_formed_age_s: float | None = (
        None  # of the last set whose images had come, whether it got its transforms or not
    )
    set_period_s: float | None = None  # usual time between these
    step_age_s: float | None = None  # since the worker began the set that it is at; None between sets
    last_grid_age_s: float | None = None
    enabled_age_s: float | None = None  # since sets are worked on again; None where that was never switched off
    grid_rate_hz: float = 0.0  # of the last ones; it falls while the next one is overdue
    unsent: Mapping[str, str] = field(default_factory=dict)  # topic -> why its last message could not be made or sent
    problem: str | None = None  # why the newest set gave no grid; None once a grid came
    problem_age_s: float | None = None
    is_failure: bool = False  # the problem was an exception, and not bad input
    history_fused: int = 0
    history_s: float = 0.0  # age of the oldest state that was fused
    states_kept: int = 0
    ego_motion: str = "none yet"  # where the rates of the newest grid came from
    resets: Counter[str] = field(default_factory=Counter)


class Ledger:
    """Counts what became of every complete set; `now_s` is the time by which ages are told.

    Args:
        grids: how many there have been before, in other ledgers of the same node.
    """

    def __init__(self, now_s: Callable[[], float], grids: int = 0) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._grids = self._failures = self._history_fused = self._states_kept = 0
        self._history_s = 0.0
        self._ego_motion = Accounts().ego_motion
        self._drops: Counter[str] = Counter()
        self._resets: Counter[str] = Counter()
        self._first_set_s: float | None = None
        self._formed, self._formed_s = 0, deque[float](maxlen=INTERVALS + 1)
        self._step_s: float | None = None
        self._sequence = grids - 1
        self._last_grid_s: float | None = None
        self._enabled_s: float | None = None
        self._grids_s = deque[float](maxlen=INTERVALS + 1)
        self._unsent: Mapping[str, str] = {}
        self._problem: tuple[float, str, bool] | None = None  # when, what, whether it was a failure

    def formed(self, sets: int) -> None:
        """So many sets of images have been formed so far; to be told often, since its time counts."""
        with self._lock:
            self._formed_s.extend([self._now_s()] * min(INTERVALS + 1, sets - self._formed))
            self._formed = sets

    def complete(self) -> None:
        """A set has its transforms, and goes to the worker."""
        with self._lock:
            if self._first_set_s is None:
                self._first_set_s = self._now_s()

    def begin(self) -> None:
        """The worker begins a set, and ends the one before."""
        with self._lock:
            self._step_s = self._now_s()

    def end(self) -> None:
        """The worker is done with its set, whatever became of it."""
        with self._lock:
            self._step_s = None

    @property
    def sequences(self) -> int:
        """How many numbers of grids have been given."""
        with self._lock:
            return self._sequence + 1

    def disable(self) -> None:
        """A complete set is not worked on, since somebody has switched that off."""
        with self._lock:
            self._drops["disabled"] += 1

    def enable(self) -> None:
        """Sets are worked on again: how late a grid is counts from now."""
        with self._lock:
            self._enabled_s = self._now_s()

    def next_sequence(self) -> int:
        """The number of a grid that is about to be sent, counted from 0."""
        with self._lock:
            self._sequence += 1
            return self._sequence

    def grid(self, occupancy: Occupancy, unsent: Mapping[str, str] | None = None) -> None:
        """A grid has been sent; `unsent`: topic -> why its last message could not be."""
        with self._lock:
            self._unsent = unsent or {}
            self._grids += 1
            self._last_grid_s, self._problem = self._now_s(), None
            self._grids_s.append(self._last_grid_s)
            self._history_fused = len(occupancy.history.ages_s)
            self._history_s = max(occupancy.history.ages_s, default=0.0)
            self._states_kept = occupancy.history.states_kept
            self._ego_motion = occupancy.history.ego_motion
            if occupancy.history.reset is not None:
                self._resets[occupancy.history.reset] += 1

    def replace(self) -> None:
        """A complete set made place for a newer one before the worker was free."""
        with self._lock:
            self._drops["busy"] += 1

    def outdate(self, text: str) -> None:
        """A complete set was too old when the worker came to it."""
        with self._lock:
            self._drops["outdated"] += 1
            self._problem = (self._now_s(), text, False)

    def refuse(self, text: str) -> None:
        """The assembler refused a set because of its images, and has counted it."""
        with self._lock:
            self._problem = (self._now_s(), text, False)

    def fail(self, text: str) -> None:
        """The step failed on a set, or its grid could not be sent."""
        with self._lock:
            self._drops["failed"] += 1
            self._failures += 1
            self._problem = (self._now_s(), text, True)

    def read(self) -> Accounts:
        """A consistent copy."""
        with self._lock:
            now_s, formed_s = self._now_s(), list(self._formed_s)
            problem_s, problem, is_failure = self._problem or (None, None, False)
            return Accounts(
                grids=self._grids,
                drops=Counter(self._drops),
                failures=self._failures,
                first_set_age_s=_age(now_s, self._first_set_s),
                last_formed_age_s=_age(now_s, formed_s[-1] if formed_s else None),
                set_period_s=statistics.median(b - a for a, b in pairwise(formed_s)) if formed_s[1:] else None,
                step_age_s=_age(now_s, self._step_s),
                last_grid_age_s=_age(now_s, self._last_grid_s),
                enabled_age_s=_age(now_s, self._enabled_s),
                grid_rate_hz=rate_hz(list(self._grids_s), now_s),
                unsent=dict(self._unsent),
                problem=problem,
                problem_age_s=_age(now_s, problem_s),
                is_failure=is_failure,
                history_fused=self._history_fused,
                history_s=self._history_s,
                states_kept=self._states_kept,
                ego_motion=self._ego_motion,
                resets=Counter(self._resets),
            )


def _age(now_s: float, since_s: float | None) -> float | None:
    return None if since_s is None else now_s - since_s
