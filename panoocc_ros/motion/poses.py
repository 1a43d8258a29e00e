"""Where the vehicle was at a time: the seam behind which transforms and odometry are alike.

Poses are interpolated between samples, linear in translation and spherical in rotation, and never extrapolated.
"""

from typing import Protocol

from panoocc_core.geometry import Matrix

from ..streams.edge import TooLate, TransformError, shown
from ..streams.transforms import MAX_KNOWN, TransformBuffer, UnknownFrame

FIXED_FRAMES = ("odom", "map", "world")  # REP-105: odom does not jump


class Poses(Protocol):
    """A source of the vehicle's poses [4, 4]; every look-up raises TransformError, with what to do, where it fails."""

    fixed_frame: str | None  # that poses are given in; None: not known yet

    def fixed(self, stamp_ns: int, may_guess: bool) -> str:
        """The fixed frame; `may_guess`: any moving frame above the vehicle's will do."""

    def of_vehicle(self, stamp_ns: int) -> Matrix:
        """fixed_from_ego, once `fixed` has been told."""

    def of_vehicle_in(self, frame: str, stamp_ns: int) -> Matrix:
        """frame_from_ego in any frame, such as a map's."""

    def of_frame(self, frame: str, stamp_ns: int) -> Matrix:
        """fixed_from_frame of any frame, such as a sensor's."""

    def remedy(self, error: TransformError) -> str:
        """The end of a sentence: what to do about a pose that is missing; empty if that is not known."""

    def restart(self) -> None:
        """The clock went back."""


class TransformPoses:
    """Poses of the tree of transforms: `base_frame` in the named fixed frame, or in the usual one above it."""

    def __init__(self, buffer: TransformBuffer, base_frame: str, fixed_frame: str | None, topic: str) -> None:
        self._buffer, self._base_frame, self._named, self._topic = buffer, base_frame, fixed_frame, topic
        self.fixed_frame = fixed_frame

    def fixed(self, stamp_ns: int, may_guess: bool) -> str:
        """See `Poses`; without a name waits for a usual one before it takes just any."""
        if self.fixed_frame is None:
            above = self._buffer.ancestors(self._base_frame, stamp_ns)
            usual = [frame for frame in FIXED_FRAMES if frame in above]
            moved_in = [frame for frame, is_moving in above.items() if is_moving]
            if not usual and not (moved_in and may_guess):
                raise TransformError(self._no_fixed_frame([*above], stamp_ns))
            self.fixed_frame = usual[0] if usual else moved_in[0]
        return self.fixed_frame

    def of_vehicle(self, stamp_ns: int) -> Matrix:
        """See `Poses`."""
        return self.of_frame(self._base_frame, stamp_ns)

    def of_vehicle_in(self, frame: str, stamp_ns: int) -> Matrix:
        """See `Poses`."""
        return self._buffer.lookup(frame, self._base_frame, stamp_ns)

    def of_frame(self, frame: str, stamp_ns: int) -> Matrix:
        """See `Poses`."""
        assert self.fixed_frame is not None
        return self._buffer.lookup(self.fixed_frame, frame, stamp_ns)

    def remedy(self, error: TransformError) -> str:
        """See `Poses`."""
        if isinstance(error, TooLate) and error.is_stale:
            return f": is its sender on {self._topic} alive?"
        if isinstance(error, UnknownFrame) and error.frame == self.fixed_frame:
            return "; choose the one that does not move with fixed_frame (--fixed-frame)"
        return ""

    def restart(self) -> None:
        """See `Poses`; the buffer is its owner's to restart."""
        self.fixed_frame = self._named

    def _no_fixed_frame(self, above: list[str], stamp_ns: int) -> str:
        base = self._base_frame
        others = f"only {', '.join(map(shown, above[:MAX_KNOWN]))}" if above else "nor any other frame"
        remedy = f"send the vehicle's pose on {self._topic}, or set fixed_frame"
        below = next((frame for frame in FIXED_FRAMES if self._hangs_below(frame, base, stamp_ns)), None)
        if below is not None:
            remedy = f"{below} hangs below {shown(base)}: is the vehicle's pose sent inverted?"
        refused = self._buffer.why_refused(base, *above)
        return f"above {shown(base)!r} there is none of {', '.join(FIXED_FRAMES)}, {others}{refused}: {remedy}"

    def _hangs_below(self, frame: str, base: str, stamp_ns: int) -> bool:
        try:
            return base in self._buffer.ancestors(frame, stamp_ns)
        except UnknownFrame:
            return False
