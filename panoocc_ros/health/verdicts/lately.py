"""What has happened within the last seconds, from what only adds up."""

from collections import Counter
from collections.abc import Callable, Sequence

from ...frames.sets import REFUSED, AssemblerStatus
from ...streams.notices import Notice, NoticeKind
from ..recent import HOLD_S, Recent
from .health import ERROR, Health


class Lately:
    """What has happened within the last `HOLD_S` seconds, from counters that only rise."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._sets: Recent[tuple[str, str]] = Recent(now_s)
        self._images: Recent[tuple[str, str]] = Recent(now_s)
        self._incomplete: Recent[str] = Recent(now_s)
        self._callbacks: Recent[str] = Recent(now_s)
        self.lost_sets: Counter[tuple[str, str]] = Counter()  # by (reason, camera)
        self.refused_images: Counter[str] = Counter()  # by camera
        self.incomplete_sets: Counter[str] = Counter()  # by camera: sets with an older image of it, or none
        self.failed_callbacks = 0
        self._now_s, self._error_s = now_s, float("-inf")

    def look(self, status: AssemblerStatus, callback_errors: int) -> None:
        """Take the counters as they are now."""
        self.lost_sets = self._sets.rises(status.set_drops)
        dropped = self._images.rises(status.image_drops)
        self.refused_images = Counter({camera: n for (reason, camera), n in dropped.items() if reason == REFUSED})
        self.incomplete_sets = self._incomplete.rises(status.reused + status.blank)
        self.failed_callbacks = self._callbacks.rises({"callbacks": callback_errors}).total()

    def has_error(self, inputs: Sequence[Health]) -> bool:
        """Whether an input is in ERROR, or was so lately: take them as they are now."""
        now_s = self._now_s()
        if any(health.level == ERROR for health in inputs):
            self._error_s = now_s
        return now_s - self._error_s <= HOLD_S


def of_now(status: AssemblerStatus, *kinds: NoticeKind) -> list[Notice]:
    """The notices of some kinds that still hold, or did so within the last `HOLD_S` seconds."""
    return [notice for notice in status.of_kind(*kinds) if notice.age_s <= HOLD_S]
