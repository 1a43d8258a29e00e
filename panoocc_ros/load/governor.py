"""Which optional work on a set is left out, so that every set takes no longer than a budget.  Pure; no ROS here.

What has to be made (the network's classes, the main grid) is never left out.  Of the rest, the most important is taken
first, as long as what it usually costs fits into what is left of the budget; what does not fit is dropped.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

WINDOW = 9  # sets, of whose times the median counts: one slow set drops nothing
MARGIN = 0.1  # share of the budget that must be left over before something comes back
HOLD_S, MAX_HOLD_S = 2.0, 60.0  # dropped for so long at least; doubled where it came back too early
TRIAL_S, MAX_TRIAL_S = 10.0, 300.0  # then it is made once though it seems too dear; doubled where it still is
STEADY_S = 10.0  # what is dropped again so soon came back too early


@dataclass(frozen=True, slots=True)
class Spending:
    """What a set takes of its budget, and what is not made therefore."""

    budget_ms: float  # 0: there is none
    must_ms: float | None = None  # of what is always made, the usual time; None: no set yet
    set_ms: float | None = None  # of all that is made
    dropped: Mapping[str, float] = field(default_factory=dict)  # name -> for how long (s), the least important first
    counts: Mapping[str, int] = field(default_factory=dict)  # name -> how often it was not made so far
    last_drop_age_s: float | None = None

    @property
    def can_hold(self) -> bool:
        """Whether the budget holds what is always made."""
        return not self.budget_ms or self.must_ms is None or self.must_ms <= self.budget_ms


class _Optional:
    """One thing that may be left out: what it costs, since when it is dropped, and when it is tried again."""

    def __init__(self) -> None:
        self.costs_ms: deque[float] = deque(maxlen=WINDOW)
        self.count = 0
        self.forget()

    def forget(self) -> None:
        """It is made, and nothing is known against it."""
        self.since_s: float | None = None  # when it was dropped; None: it is made
        self._turned_s = self._back_s = float("-inf")  # when it was dropped, or tried in vain; when it came back
        self._hold_s, self._trial_s, self._is_tried = HOLD_S, TRIAL_S, False

    @property
    def cost_ms(self) -> float:
        """What it usually costs; what nobody has measured costs nothing."""
        return median(self.costs_ms) if self.costs_ms else 0.0

    def is_made(self, left_ms: float, margin_ms: float, now_s: float) -> bool:
        """Whether it is made of a set for which so much of the budget is left."""
        cost_ms = self.cost_ms
        if self.since_s is None:
            if cost_ms <= left_ms:
                return True
            came_back_too_early = now_s - self._back_s < STEADY_S
            self._hold_s = min(2 * self._hold_s, MAX_HOLD_S) if came_back_too_early else HOLD_S
            self._trial_s = min(2 * self._trial_s, MAX_TRIAL_S) if came_back_too_early else TRIAL_S
            self.drop(now_s)
            return False
        if self._is_tried:
            self._is_tried = False
            if cost_ms <= left_ms:
                self._come_back(cost_ms, now_s)
                return True
            self._trial_s, self._turned_s = min(2 * self._trial_s, MAX_TRIAL_S), now_s
            return False
        waited_s = now_s - self._turned_s
        if waited_s >= self._hold_s and cost_ms <= left_ms - margin_ms:
            self._come_back(cost_ms, now_s)
            return True
        if waited_s >= max(self._hold_s, self._trial_s) and left_ms > 0:  # nobody knows what it costs by now
            self._is_tried = True
            self.costs_ms.clear()
            return True
        return False

    def drop(self, now_s: float) -> None:
        """It is not made from now on."""
        if self.since_s is None:
            self.since_s = self._turned_s = now_s

    def _come_back(self, cost_ms: float, now_s: float) -> None:
        self.since_s, self._back_s = None, now_s
        self.costs_ms = deque([cost_ms], WINDOW)  # what it costs now counts soon


class Governor:
    """Decides for every set what is left out.  Safe to use from two threads.

    Args:
        order: names of what is optional, the least important first.
        needs: name -> more important ones that it cannot be made without, where they are asked for at all.
        budget_ms: the longest time that a set may take; 0: nothing is left out.
    """

    def __init__(
        self,
        order: Sequence[str],
        needs: Mapping[str, Collection[str]],
        budget_ms: float = 0.0,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._needs, self._now_s, self._budget_ms = needs, now_s, budget_ms
        self._optional = {name: _Optional() for name in order}
        self._must_ms, self._set_ms = deque[float](maxlen=WINDOW), deque[float](maxlen=WINDOW)
        self._last_drop_s: float | None = None
        self._lock = threading.Lock()

    def take_budget(self, budget_ms: float) -> None:
        """Hold another budget from the next set on; nothing that was dropped before waits."""
        with self._lock:
            if budget_ms != self._budget_ms:
                self._budget_ms = budget_ms
                self._forget(self._optional)

    def left_out(self, asked: Collection[str], due: Collection[str]) -> frozenset[str]:
        """What is not made of the next set.

        Args:
            asked: what somebody wants at all; the rest is forgotten.
            due: what is wanted of this set.
        """
        with self._lock:
            self._forget(self._optional.keys() - set(asked))
            if not self._budget_ms:
                return frozenset()
            now_s, dropped = self._now_s(), set[str]()
            left_ms = self._budget_ms - (median(self._must_ms) if self._must_ms else 0.0)
            for name, one in reversed(self._optional.items()):
                if name not in due:
                    continue
                if dropped.intersection(self._needs.get(name, ())):
                    one.drop(now_s)
                elif one.is_made(left_ms, MARGIN * self._budget_ms, now_s):
                    left_ms -= one.cost_ms
                    continue
                one.count += 1
                dropped.add(name)
                self._last_drop_s = now_s
            return frozenset(dropped)

    def record(self, set_ms: float, costs_ms: Mapping[str, float]) -> None:
        """What a set took, and what of it was for single things; those that are not optional always have to be made."""
        costs_ms = {name: cost_ms for name, cost_ms in costs_ms.items() if name in self._optional}
        with self._lock:
            for name, cost_ms in costs_ms.items():
                self._optional[name].costs_ms.append(cost_ms)
            self._set_ms.append(set_ms)
            self._must_ms.append(max(0.0, set_ms - sum(costs_ms.values())))

    def spending(self) -> Spending:
        """How it stands."""
        with self._lock:
            now_s = self._now_s()
            return Spending(
                self._budget_ms,
                median(self._must_ms) if self._must_ms else None,
                median(self._set_ms) if self._set_ms else None,
                {name: now_s - one.since_s for name, one in self._optional.items() if one.since_s is not None},
                {name: one.count for name, one in self._optional.items() if one.count},
                None if self._last_drop_s is None else now_s - self._last_drop_s,
            )

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._optional[name].forget()
