"""How long a warning lasts: while its cause does, and a short hold after it."""

import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

HOLD_S = 5.0  # a warning is shown for so long after its cause has ended, so that a person or a tool can see it

Key = TypeVar("Key", bound=Hashable)


class Recent(Generic[Key]):
    """Which of some counters, which only rise, have risen within the last `hold_s` seconds, and by how much."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic, hold_s: float = HOLD_S) -> None:
        self._now_s, self._hold_s = now_s, hold_s
        self._known: Counter[Key] = Counter()
        self._rises: deque[tuple[float, Counter[Key]]] = deque()  # (when they were seen, by how much), oldest first

    def rises(self, counts: Mapping[Key, int]) -> Counter[Key]:
        """Take the counters as they are now; returns those that have risen lately."""
        now_s, rise = self._now_s(), Counter(counts) - self._known
        self._known.update(rise)
        if rise:
            self._rises.append((now_s, rise))
        while self._rises and now_s - self._rises[0][0] > self._hold_s:
            self._rises.popleft()
        return sum((rise for _, rise in self._rises), Counter())
