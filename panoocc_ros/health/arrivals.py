"""What arrives from each camera: ages and rates by the arrival, as a person at the cables would measure them."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

from ..frames.rig import Rig
from ..frames.sets import AssemblerStatus
from .verdicts import CameraReport

RATE_IMAGES = 20  # the rate is taken over this many images


class CameraWatch:
    """Arrivals of every camera's images, and publishers that cannot be heard.  Belongs to the executor's thread."""

    def __init__(self, rig: Rig, now_s: Callable[[], float] = time.monotonic) -> None:
        self._rig, self._now_s = rig, now_s
        self._arrivals_s: Mapping[str, deque[float]] = {name: deque(maxlen=RATE_IMAGES) for name in rig.names}
        self._mismatches: dict[str, str] = {}

    def on_image(self, camera: str) -> None:
        """An image has come."""
        self._arrivals_s[camera].append(self._now_s())

    def on_mismatch(self, camera: str, text: str) -> None:
        """A publisher cannot be heard; `text` names the topic and why."""
        self._mismatches[camera] = text

    def reports(self, status: AssemblerStatus) -> list[CameraReport]:
        """One report per camera of the rig."""
        return [self._report(name, status) for name in self._rig.names]

    def _report(self, name: str, status: AssemblerStatus) -> CameraReport:
        camera, arrivals_s = self._rig.camera(name), self._arrivals_s[name]
        drops: Counter[str] = Counter()
        for (reason, culprit), count in (status.image_drops + status.set_drops).items():
            if culprit == name:
                drops[reason] += count
        duration_s = arrivals_s[-1] - arrivals_s[0] if len(arrivals_s) > 1 else 0.0
        return CameraReport(
            name=name,
            topic=camera.topic,
            images=status.images[name],
            image_age_s=self._now_s() - arrivals_s[-1] if arrivals_s else None,
            rate_hz=(len(arrivals_s) - 1) / duration_s if duration_s > 0 else 0.0,
            has_calibration=name not in status.missing_info,
            info_topic=camera.info_topic,
            drops=drops,
            mismatch=self._mismatches.get(name),
        )
