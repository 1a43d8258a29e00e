"""What becomes bad, in the log: each cause once while it lasts, and once when all is well again."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from ..ros.throttle import RateLimit, bounded
from .recent import HOLD_S
from .verdicts import ERROR, OK, WARN, Health

SAME_S = 30.0  # a cause that comes and goes is told this often
LINE_S = HOLD_S  # between two lines about one subject at one level: whatever comes in between is still there then
START_S = 5.0  # in which the inputs may still be starting; a warning holds longer than its cause
NUMBER = re.compile(r"(?<![\w/])\d+(\.\d+)?")  # an age, a rate or a count, and not part of a name


@dataclass(slots=True)
class _Told:
    limits: dict[int, RateLimit]  # by level
    causes_s: dict[tuple[int, str], float] = field(default_factory=dict)  # (level, cause) -> when it held last
    is_bad: bool = False


class HealthLog:
    """Writes into a ROS logger."""

    def __init__(self, logger: Any, now_s: Callable[[], float] = monotonic) -> None:
        self._logger, self._now_s = logger, now_s
        self._told: dict[str, _Told] = {}

    def look(self, health: Health, running_s: float) -> None:
        """Take a status as it is now; `running_s` is how long that has been there which it tells of."""
        now_s = self._now_s()
        limits = {level: RateLimit(1 / LINE_S, self._now_s) for level in (WARN, ERROR)}
        told = self._told.setdefault(health.subject, _Told(limits))
        if health.level == OK:
            if told.is_bad:
                self._logger.info(f"{health.subject}: well again")
            told.is_bad = False
            return
        if running_s < START_S + (HOLD_S if health.level == WARN else 0.0):
            return
        told.causes_s = {cause: seen_s for cause, seen_s in told.causes_s.items() if now_s - seen_s < SAME_S}
        parts = NUMBER.sub("#", health.message).split("; ")
        causes = {(level, part) for part in parts for level in range(WARN, health.level + 1)}
        if causes - told.causes_s.keys():
            if not told.limits[health.level].open():
                return
            self._write(health.level, bounded(f"{health.subject}: {health.message}"))
            told.is_bad = True
        if told.is_bad:
            told.causes_s.update(dict.fromkeys(causes, now_s))

    def _write(self, level: int, line: str) -> None:
        if level == ERROR:
            self._logger.error(line)
        else:
            self._logger.warning(line)
