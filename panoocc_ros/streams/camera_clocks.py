"""Cameras whose stamps are of another clock than those of the others, judged by when their images arrive."""

from statistics import median_low

from panoocc_core.geometry import NS_PER_S

OTHER_CLOCK_NS = NS_PER_S  # a camera that is only late is not so late
IN_A_ROW = 3  # images, before anything is said: at a restart the cameras do not change at the same moment
YEAR_NS = 365 * 24 * 3600 * NS_PER_S


class CameraClocks:
    """Compares how far each camera's stamps lie ahead of their arrival."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._ahead_ns: dict[str, int] = {}
        self._odd: dict[str, int] = {}  # camera -> odd images in a row

    def judge(self, camera: str, stamp_ns: int, arrived_ns: int, repeated: bool) -> str | None:
        """What is wrong with a camera's clock, as a sentence; None: nothing, or not known yet."""
        self._ahead_ns[camera] = stamp_ns - arrived_ns
        text = self._still(camera, stamp_ns) if repeated else self._other_clock(camera, stamp_ns)
        self._odd[camera] = 0 if text is None else self._odd.get(camera, 0) + 1
        return text if self._odd[camera] >= IN_A_ROW else None

    def _still(self, camera: str, stamp_ns: int) -> str:
        if stamp_ns == 0:
            return f"stamps of {camera} are zero: its driver does not fill header.stamp"
        return f"stamps of {camera} stand still at {stamp_ns / NS_PER_S:.3f} s"

    def _other_clock(self, camera: str, stamp_ns: int) -> str | None:
        others = [ahead_ns for name, ahead_ns in self._ahead_ns.items() if name != camera]
        if not others or (len(others) == 1 and camera == self._reference):
            return None
        apart_ns = self._ahead_ns[camera] - median_low(others)
        if abs(apart_ns) < OTHER_CLOCK_NS:
            return None
        if apart_ns < -YEAR_NS and 0 <= stamp_ns < YEAR_NS:
            return (
                f"stamps of {camera} count from a start {stamp_ns / NS_PER_S:.1f} s ago, not from 1970 as those of the "
                "other cameras: its driver stamps with the time since boot"
            )
        where = "behind" if apart_ns < 0 else "ahead of"
        seconds = abs(apart_ns) / NS_PER_S
        return f"stamps of {camera} are {seconds:.1f} s {where} those of the other cameras: another clock?"
