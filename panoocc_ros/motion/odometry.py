"""The vehicle's poses from nav_msgs/Odometry: `header.frame_id` is the fixed frame, `child_frame_id` rides along.

Covariances are ignored: a pose counts as it stands.
"""

from collections import Counter
from typing import Any

from panoocc_core.geometry import NS_PER_S, Matrix, check_rigid

from ..messages.fields import pose_matrix, stamp_ns
from ..streams.edge import CONTRADICTION, Edge, TooLate, TransformError, shown
from ..streams.track import Track
from ..streams.transforms import NotConnected, TransformBuffer, clean_frame

KEEP_NS, MAX_SAMPLES = 10 * NS_PER_S, 20_000


def pose_of(message: Any) -> Matrix:
    """header_from_child [4, 4] of a nav_msgs/Odometry.

    Raises:
        ValueError: it is none.
    """
    try:
        matrix = pose_matrix(message.pose.pose.position, message.pose.pose.orientation)
    except ValueError as error:
        raise ValueError(f"its pose {error}") from error
    return check_rigid(matrix, "its pose")


class NoOdometry(TransformError):
    """No message has come yet."""


class OdometryPoses:
    """Poses of the messages of one topic; `counts` tells how many were refused, "late" (and filed) and so on.

    Args:
        buffer: where the fixed transform from `child_frame_id` to `base_frame` is, if these are two frames.
        fixed_frame: what the messages' frame must be called; None: as it is.
    """

    def __init__(self, buffer: TransformBuffer, base_frame: str, fixed_frame: str | None, topic: str) -> None:
        self._buffer, self._base_frame, self._named, self._topic = buffer, base_frame, fixed_frame, topic
        self.fixed_frame: str | None = None
        self.counts: Counter[str] = Counter()
        self._edge: Edge | None = None
        self._problem = f"nothing has come on {topic}"

    def take(self, message: Any) -> str | None:
        """File a message; returns what is odd about its sender, if anything is.

        Raises:
            ValueError: it was refused, and counted.
        """
        try:
            edge = self._edge_of(clean_frame(message.header.frame_id), clean_frame(message.child_frame_id))
            pose = pose_of(message)
        except ValueError as error:
            self.counts["refused"] += 1
            if self._edge is None:
                self._problem = f"a message on {self._topic} was refused: {error}"
            raise
        self._edge, self.fixed_frame = edge, edge.parent
        outcome = edge.file(stamp_ns(message.header.stamp), pose)
        if outcome:
            self.counts[outcome] += 1
        if edge.doubt >= CONTRADICTION:
            return f"the poses on {self._topic} jump to and fro: two senders contradict each other; stop one"
        return None

    def fixed(self, stamp_ns: int, may_guess: bool) -> str:
        """See `Poses`; there is nothing to guess."""
        if self.fixed_frame is None:
            raise NoOdometry(self._problem)
        return self.fixed_frame

    def of_vehicle(self, stamp_ns: int) -> Matrix:
        """See `Poses`."""
        edge = self._edge
        if edge is None or not edge.track.stamps_ns:
            raise NoOdometry(self._problem if edge is None else f"nothing has come on {self._topic} since")
        return edge.at(stamp_ns) @ self._child_from_base(edge.child)

    def of_vehicle_in(self, frame: str, stamp_ns: int) -> Matrix:
        """See `Poses`; a frame that TF does not join with the vehicle's may be joined with the odometry's."""
        if frame == self.fixed_frame:
            return self.of_vehicle(stamp_ns)
        try:
            return self._buffer.lookup(frame, self._base_frame, stamp_ns)
        except TransformError as error:
            if isinstance(error, TooLate) or self.fixed_frame is None:
                raise
        return self._buffer.lookup(frame, self.fixed_frame, stamp_ns) @ self.of_vehicle(stamp_ns)

    def of_frame(self, frame: str, stamp_ns: int) -> Matrix:
        """See `Poses`."""
        if frame == self._base_frame:
            return self.of_vehicle(stamp_ns)
        return self.of_vehicle(stamp_ns) @ self._buffer.lookup(self._base_frame, frame, stamp_ns)

    def remedy(self, error: TransformError) -> str:
        """See `Poses`."""
        is_gone = isinstance(error, TooLate) and self._edge is not None and error.child == self._edge.child
        return f": is the sender of {self._topic} alive?" if is_gone or isinstance(error, NoOdometry) else ""

    def restart(self) -> None:
        """See `Poses`."""
        if self._edge is not None:
            self._edge.track.restart()

    def _edge_of(self, parent: str, child: str) -> Edge:
        """The edge that a message tells about.

        Raises:
            ValueError: its frames cannot be used.
        """
        for name, key in ((parent, "header.frame_id"), (child, "child_frame_id")):
            if not name:
                raise ValueError(f"its {key} is empty: name the frame there")
        if parent == child:
            raise ValueError(f"header.frame_id and child_frame_id are both {shown(parent)!r}")
        if self._named is not None and parent != self._named:
            raise ValueError(
                f"its header.frame_id is {shown(parent)!r}, fixed_frame is {shown(self._named)!r}: choose the "
                "odometry's with fixed_frame (--fixed-frame), or none"
            )
        known = self._edge
        if known is None:
            return Edge(parent, child, False, Track(KEEP_NS, MAX_SAMPLES))
        if (parent, child) != (known.parent, known.child):
            raise ValueError(
                f"its frames are {shown(parent)} <- {shown(child)}, those of the messages before it were {known}: are "
                "there two senders?"
            )
        return known

    def _child_from_base(self, child: str) -> Matrix:
        try:
            return self._buffer.fixed(child, self._base_frame)
        except TransformError as error:
            text = (
                f"the odometry on {self._topic} tells where {shown(child)!r} is, and no fixed transform joins it with "
                f"{shown(self._base_frame)!r} ({error}): send one, or choose the vehicle's frame with base_frame "
                "(--base-frame)"
            )
            raise NotConnected(text) from error
