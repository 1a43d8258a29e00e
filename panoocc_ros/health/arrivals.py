"""What arrives from each camera: ages and rates by the arrival, as a person at the cables would measure them."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping

RATE_IMAGES, RATE_S = 20, 2.0  # the rate is taken over so many images or so long, but over two at least


class Arrivals:
    """Arrivals of every camera's images.  Belongs to the executor's thread."""

    def __init__(self, cameras: Iterable[str], now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._arrivals_s: Mapping[str, deque[float]] = {name: deque(maxlen=RATE_IMAGES) for name in cameras}

    def on_image(self, camera: str) -> None:
        """An image has come."""
        self._arrivals_s[camera].append(self._now_s())

    def age_s(self, camera: str) -> float | None:
        """Time since the last image; None before the first one."""
        arrivals_s = self._arrivals_s[camera]
        return self._now_s() - arrivals_s[-1] if arrivals_s else None

    def rate_hz(self, camera: str) -> float:
        """Images per second, over the last ones; it falls while the next one is overdue.  0 before there are two."""
        known_s = list(self._arrivals_s[camera])
        arrivals_s = [one_s for one_s in known_s if known_s[-1] - one_s <= RATE_S]
        if len(arrivals_s) < 2:
            arrivals_s = known_s[-2:]
        periods, duration_s = len(arrivals_s) - 1, arrivals_s[-1] - arrivals_s[0] if arrivals_s else 0.0
        if periods < 1 or duration_s <= 0:
            return 0.0
        overdue_s = self._now_s() - arrivals_s[-1] - duration_s / periods
        return periods / (duration_s + max(0.0, overdue_s))
