"""The stamps of one stream: what is newer, what is late, and what speaks for a clock that went back.

A late message is followed by newer ones; after a restart all that follows stays behind what was the newest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from panoocc_core.geometry import NS_PER_S

Place = Literal["newer", "late", "repeated", "straggler"]
Gone = Literal["all", "one", "none"]

LEAP_NS = 3 * NS_PER_S // 2  # a stream's stamps do not leap so far right after a restart
STRAGGLE_NS = 2 * NS_PER_S  # what is on its way at a restart is not longer on it
MAX_STRAGGLERS = 100
IN_ORDER = 3  # messages in a row: one sender, and not two in turn
BEHIND, BEHIND_ALONE, BEHIND_ONE = 2, 3, 5  # messages in a row: of most streams, of the only one, of one of many
BACK_PERIODS, BACK_NS = 3, NS_PER_S // 2  # further behind than both is no message that was late


@dataclass(slots=True)
class StreamTime:
    """The newest stamp of a stream, and how many messages in a row have not come up to it."""

    newest_ns: int | None = None
    behind: int = 0  # messages in a row behind the newest one, with rising stamps
    risen: int = 0  # messages in a row, each newer than the one before, up to the newest
    _last_ns: int = 0
    _left_ns: int | None = None  # where the time before the last restart ended
    _stragglers: int = 0  # that may still come

    def note(self, stamp_ns: int) -> Place:
        """Where the next message lies; one that straggles in from the time before a restart changes nothing."""
        if self.is_straggler(stamp_ns):
            self._stragglers -= 1
            return "straggler"
        if self.newest_ns is None or stamp_ns > self.newest_ns:
            self.risen = 1 if self.behind else self.risen + 1
            self.newest_ns, self._last_ns, self.behind = stamp_ns, stamp_ns, 0
            return "newer"
        if stamp_ns == (self._last_ns if self.behind else self.newest_ns):
            return "repeated"
        self.behind = self.behind + 1 if self.behind and stamp_ns > self._last_ns else 1
        self._last_ns = stamp_ns
        return "late"

    @property
    def back_ns(self) -> int:
        """How far the newest message lies behind an earlier one."""
        return self.newest_ns - self._last_ns if self.behind and self.newest_ns is not None else 0

    def went_back(self, period_ns: int) -> bool:
        """Whether messages that came in order go on so far behind that lateness does not explain it."""
        return self.risen >= IN_ORDER and self.back_ns > max(BACK_NS, BACK_PERIODS * period_ns)

    def restart(self) -> None:
        """The clock went back: what was behind is the new time; if nothing was, it begins with the next message."""
        self._left_ns, self._stragglers = self.newest_ns, MAX_STRAGGLERS
        self.newest_ns = self._last_ns if self.behind else None
        self.risen, self.behind = self.behind, 0

    def is_left(self, stamp_ns: int) -> bool:
        """Whether a message that came in before the last restart belongs to the time that it ended."""
        return self.newest_ns is None or stamp_ns > self.newest_ns

    def is_straggler(self, stamp_ns: int) -> bool:
        """Whether a message comes from the time before the last restart."""
        if not self._stragglers or self._left_ns is None or not 0 < stamp_ns - self._left_ns <= STRAGGLE_NS:
            return False
        return self.newest_ns is None or stamp_ns - self.newest_ns > LEAP_NS


def gone_back(living: Mapping[str, StreamTime], periods_ns: Mapping[str, int], name: str) -> Gone:
    """Whose clock went back, after a late message of one of several streams: that of most, and so of all, or its own.

    Args:
        living: those that send, of one clock.
        periods_ns: from one message to the next.
        name: of the stream with the late message.
    """
    behind = [one for key, one in living.items() if one.behind >= BEHIND or one.went_back(periods_ns[key])]
    is_alone, in_a_row = len(living) == 1, living[name].behind
    if len(behind) > len(living) / 2 and (not is_alone or in_a_row >= BEHIND_ALONE):
        return "all"
    return "one" if not is_alone and in_a_row >= BEHIND_ONE else "none"
