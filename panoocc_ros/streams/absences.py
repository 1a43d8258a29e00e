"""The sets that did without a camera's image: was it lost, too far away, or only late, and how late?"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from panoocc_core.geometry import NS_PER_S

FAR_IN_A_ROW = 3  # sets: fewer are images that were lost
KEPT = 32  # sets a camera


class Absences:
    """What each camera did not bring in time."""

    def __init__(self, cameras: Iterable[str]) -> None:
        # Times of the sets, and when it was decided that they do without the camera.
        self._given_up: dict[str, deque[tuple[int, int]]] = {name: deque(maxlen=KEPT) for name in cameras}
        self._far_in_a_row = dict.fromkeys(self._given_up, 0)

    def note(self, time_ns: int, nearest_ns: Mapping[str, int | None], now_ns: int) -> Iterator[tuple[str, int]]:
        """Take a set; yields the cameras whose images keep being too far away, with the distance.

        Args:
            nearest_ns: the cameras that the set does without, each with the distance of its nearest image (None:
                there is none).
        """
        for name, given_up in self._given_up.items():
            distance_ns = nearest_ns.get(name)
            self._far_in_a_row[name] = 0 if distance_ns is None else self._far_in_a_row[name] + 1
            if name in nearest_ns:
                given_up.append((time_ns, now_ns))
            if distance_ns is not None and self._far_in_a_row[name] >= FAR_IN_A_ROW:
                yield name, distance_ns

    def how_late(self, camera: str, time_ns: int, reach_ns: int, now_ns: int) -> str | None:
        """A sentence about an image that a set within `reach_ns` did without; None if there was none."""
        for set_ns, decided_ns in self._given_up[camera]:
            if abs(time_ns - set_ns) <= reach_ns:
                seconds = (now_ns - decided_ns) / NS_PER_S
                return f"camera {camera}: its image came {seconds:.2f} s after the set was given up"
        return None

    def clear(self) -> None:
        """The clock went back: none of these images is awaited any more."""
        for given_up in self._given_up.values():
            given_up.clear()
