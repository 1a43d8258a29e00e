"""What arrives from each camera: ages and rates by the arrival, as a person at the cables would measure them."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping

RATE_IMAGES = 20  # the rate is taken over this many images


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
        arrivals_s = self._arrivals_s[camera]
        periods, duration_s = len(arrivals_s) - 1, arrivals_s[-1] - arrivals_s[0] if arrivals_s else 0.0
        if periods < 1 or duration_s <= 0:
            return 0.0
        overdue_s = self._now_s() - arrivals_s[-1] - duration_s / periods
        return periods / (duration_s + max(0.0, overdue_s))
