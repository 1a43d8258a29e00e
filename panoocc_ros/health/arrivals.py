"""What arrives from each camera: ages and rates by the arrival, as a person at the cables would measure them.

And what does not: stamps that are further apart than usual tell of images that were lost on the way.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median

from panoocc_core.geometry import NS_PER_S

RATE_IMAGES, RATE_S = 20, 2.0  # the rate is taken over so many images or so long, but over two at least
MIN_GAPS, MIN_HOLES = 10, 3  # between stamps, that tell what is usual; of these, such as lack images
MAX_GAP_NS = 2 * NS_PER_S  # a camera that is silent for longer is dead, and loses nothing on the way


class Arrivals:
    """Arrivals of every camera's images.  Belongs to the executor's thread.

    Args:
        period_ns: usual time between two images of one camera, where the rig says so.
    """

    def __init__(self, cameras: Iterable[str], now_s: Callable[[], float], period_ns: int | None = None) -> None:
        self._now_s, self._period_ns = now_s, period_ns
        self._arrivals_s: Mapping[str, deque[float]] = {name: deque(maxlen=RATE_IMAGES) for name in cameras}
        self._stamps_ns: Mapping[str, deque[int]] = {name: deque(maxlen=RATE_IMAGES) for name in self._arrivals_s}

    def on_image(self, camera: str, stamp_ns: int) -> None:
        """An image has come."""
        self._arrivals_s[camera].append(self._now_s())
        self._stamps_ns[camera].append(stamp_ns)

    def age_s(self, camera: str) -> float | None:
        """Time since the last image; None before the first one."""
        arrivals_s = self._arrivals_s[camera]
        return self._now_s() - arrivals_s[-1] if arrivals_s else None

    def rate_hz(self, camera: str) -> float:
        """Images per second, over the last ones; it falls while the next one is overdue.  0 before there are two."""
        known_s = list(self._arrivals_s[camera])
        arrivals_s = [one_s for one_s in known_s if known_s[-1] - one_s <= RATE_S]
        return rate_hz(known_s[-2:] if len(arrivals_s) < 2 else arrivals_s, self._now_s())

    def expected_hz(self, camera: str) -> float | None:
        """The rate by the rig's period, or else by the usual distance of its stamps; None while that is not known."""
        gaps_ns = _gaps_ns(self._stamps_ns[camera])
        period_ns = self._period_ns or (median(gaps_ns) if len(gaps_ns) >= MIN_GAPS else None)
        return NS_PER_S / period_ns if period_ns else None

    def lost_share(self, camera: str) -> float:
        """Share of its newest images that were taken but did not come, by gaps between the stamps of those that did.

        A camera that is slower than the rig's period loses nothing.
        """
        return lost_share(_gaps_ns(self._stamps_ns[camera]), self._period_ns)


def rate_hz(times_s: Sequence[float], now_s: float) -> float:
    """How often a second something happened at these times; it falls while the next time is overdue."""
    periods, duration_s = len(times_s) - 1, times_s[-1] - times_s[0] if times_s else 0.0
    if periods < 1 or duration_s <= 0:
        return 0.0
    overdue_s = now_s - times_s[-1] - duration_s / periods
    return periods / (duration_s + max(0.0, overdue_s))


def _gaps_ns(stamps_ns: Iterable[int]) -> list[int]:
    gaps_ns = (after - before for before, after in pairwise(stamps_ns))
    return [gap_ns for gap_ns in gaps_ns if 0 < gap_ns <= MAX_GAP_NS]


def lost_share(gaps_ns: Sequence[int], period_ns: int | None) -> float:
    """How many images of all are missing in gaps that are multiples of the usual one, or of a longer `period_ns`.

    One or two holes are pauses.
    """
    if len(gaps_ns) < MIN_GAPS:
        return 0.0
    usual_ns = max(period_ns or 0, median(gaps_ns))
    holes = [missing for gap_ns in gaps_ns if (missing := round(gap_ns / usual_ns) - 1) > 0]
    return sum(holes) / (sum(holes) + len(gaps_ns)) if len(holes) >= MIN_HOLES else 0.0
