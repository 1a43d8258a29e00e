"""Cameras whose stamps are of another clock than those of most cameras.

The image of another camera that comes between two of one camera has a stamp between theirs, give or take how late
images are.  So the order in which images come suffices, and neither pauses nor loops nor slow playback mislead.
"""

from dataclasses import dataclass
from statistics import median_low

from panoocc_core.geometry import NS_PER_S

OTHER_CLOCK_NS = NS_PER_S  # a camera that is only late is not so late
IN_A_ROW = 3  # images, before anything is said
ROUNDS = 4  # of images of all cameras: who sends none for so long does not count
YEAR_NS = 365 * 24 * 3600 * NS_PER_S


@dataclass(slots=True)
class _Camera:
    stamp_ns: int  # of its newest image
    number: int  # of that image among those of all cameras
    repeats: bool = False  # the stamp of the image before
    judged: int = 0  # number of the last image that was judged
    judged_ns: int = 0
    odd: int = 0  # odd images in a row
    text: str | None = None


class CameraClocks:
    """Compares each camera's stamps with those of the others; most of them are right, and of two the reference."""

    def __init__(self, reference: str, limit_ns: int) -> None:
        self._reference, self._limit_ns = reference, max(limit_ns, OTHER_CLOCK_NS)
        self._cameras: dict[str, _Camera] = {}
        self._count = 0

    def judge(self, camera: str, stamp_ns: int) -> str | None:
        """Take the stamp of an image; returns what is wrong with the camera's clock, if it is known to be wrong."""
        self._count += 1
        one = self._cameras.get(camera)
        if one is None:
            one = self._cameras[camera] = _Camera(stamp_ns, self._count)
            return None
        before_ns, one.stamp_ns, one.number = one.stamp_ns, stamp_ns, self._count
        one.repeats = stamp_ns == before_ns
        leaps = abs(stamp_ns - before_ns) > self._limit_ns
        others = self._others_since(camera, one.judged)
        if one.repeats:
            text: str | None = _still(camera, stamp_ns)
        elif others:
            text = self._other_clock(camera, stamp_ns if leaps else before_ns, stamp_ns, others)
        else:
            if stamp_ns - one.judged_ns > self._limit_ns:  # nobody is left to compare it with
                one.odd, one.text = 0, None
            return one.text
        if text is None or not leaps:  # who leaps may be the first of all
            one.judged, one.judged_ns = self._count, stamp_ns
            one.odd = 0 if text is None else one.odd + 1
            one.text = text if one.odd >= IN_A_ROW else None
        return one.text

    def repeats(self, camera: str) -> bool:
        """Whether the newest image has the stamp of the one before."""
        return self._cameras[camera].repeats

    def is_foreign(self, camera: str) -> bool:
        """Whether the camera's stamps are of another clock."""
        return camera in self._cameras and self._cameras[camera].text is not None

    def _others_since(self, camera: str, number: int) -> dict[str, int]:
        """The newest stamps of the others since an image, as soon as most of those that live have sent one."""
        living = [
            (name, other)
            for name, other in self._cameras.items()
            if name != camera and self._count - other.number <= ROUNDS * len(self._cameras)
        ]
        others = {name: other.stamp_ns for name, other in living if other.number > number}
        return others if 2 * len(others) > len(living) else {}

    def _other_clock(self, camera: str, before_ns: int, stamp_ns: int, others: dict[str, int]) -> str | None:
        first_ns, last_ns = sorted((before_ns, stamp_ns))
        apart = {n: ns for n, ns in others.items() if max(first_ns - ns, ns - last_ns) > self._limit_ns}
        if not apart:
            return None
        common_ns = median_low(apart.values())
        rivals = [name for name, ns in apart.items() if abs(ns - common_ns) <= self._limit_ns]
        if len(rivals) + 0.5 * (self._reference in rivals) <= len(others) - len(apart) + 1:
            return None
        apart_ns = stamp_ns - common_ns
        if apart_ns < -YEAR_NS and 0 <= stamp_ns < YEAR_NS:
            return (
                f"stamps of {camera} count from a start {stamp_ns / NS_PER_S:.1f} s ago, not from 1970 as those of the "
                "other cameras: its driver stamps with the time since boot"
            )
        where = "behind" if apart_ns < 0 else "ahead of"
        seconds = abs(apart_ns) / NS_PER_S
        return f"stamps of {camera} are about {seconds:.1f} s {where} those of the other cameras: another clock?"


def _still(camera: str, stamp_ns: int) -> str:
    if stamp_ns == 0:
        return f"stamps of {camera} are zero: its driver does not fill header.stamp"
    return f"stamps of {camera} stand still at {stamp_ns / NS_PER_S:.3f} s"
