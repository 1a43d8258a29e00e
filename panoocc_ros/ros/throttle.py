"""What may happen only so often: messages for slow readers, and lines in the log."""

import time
from collections.abc import Callable
from typing import Any

LOG_PERIOD_S = 5.0  # a problem that comes with every message is logged this often
MAX_TEXT = 1000  # characters of one text in the log or in /diagnostics, whatever a message had in it


class RateLimit:
    """Opens at most `rate_hz` times a second; with 0 always."""

    def __init__(self, rate_hz: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._period_s = 1 / rate_hz if rate_hz > 0 else 0.0
        self._now_s = now_s
        self._next_s = float("-inf")

    def open(self) -> bool:
        """Whether something may be sent now; if so, it counts as sent."""
        now_s = self._now_s()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._period_s
        return True


class ProblemLog:
    """Logs every kind of problem at most once in `period_s`, and says how often it came in between."""

    def __init__(
        self, logger: Any, period_s: float = LOG_PERIOD_S, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger, self._period_s, self._now_s = logger, period_s, now_s
        self._limits: dict[str, RateLimit] = {}
        self._held_back: dict[str, int] = {}

    def warn(self, kind: str, text: str) -> None:
        """Log a warning; problems of one `kind` stand for each other."""
        if (line := self._line(kind, text)) is not None:
            self._logger.warning(line)

    def error(self, kind: str, text: str) -> None:
        """Log an error."""
        if (line := self._line(kind, text)) is not None:
            self._logger.error(line)

    def _line(self, kind: str, text: str) -> str | None:
        limit = self._limits.setdefault(kind, RateLimit(1 / self._period_s, self._now_s))
        if not limit.open():
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return None
        more = self._held_back.pop(kind, 0)
        return bounded(text) + (f" ({more} more like it since the last such line)" if more else "")


def bounded(text: str, most: int = MAX_TEXT) -> str:
    """The text, cut where it is longer than anybody reads."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
