"""What a thread is at, for whoever watches from outside."""

import threading
import time
from collections.abc import Callable


class Progress:
    """What a thread is at, and since when.  That thread writes, any may read."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._begun: tuple[str, float] | None = None  # replaced as a whole, so that readers need no lock
        self.thread_id: int | None = None

    def begin(self, what: str) -> tuple[str, float] | None:
        """Something begins, and ends what was before, which is returned."""
        before, self._begun = self._begun, (what, self._now_s())
        self.thread_id = threading.get_ident()
        return before

    def end(self, before: tuple[str, float] | None = None) -> None:
        """The thread is at nothing, or goes on with what was before."""
        self._begun = before

    @property
    def now(self) -> tuple[str, float] | None:
        """What it is at, and for how long (s); None: nothing."""
        begun = self._begun
        return None if begun is None else (begun[0], self._now_s() - begun[1])
