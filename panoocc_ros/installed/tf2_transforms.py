"""Look-ups by tf2_ros.Buffer, in place of our own tree.

Our own tree stays beside it, for what tf2 does not tell: why a look-up fails, who contradicts whom, which frames lie
above one, and what has come since a clock went back.  Look-ups are tf2's, of the samples that our own tree has taken.
tf2 forgets by time alone; where our own tree forgets more, tf2 begins anew with what that keeps, before long.
"""

from contextlib import suppress
from typing import Any

import numpy as np

from panoocc_core.geometry import NS_PER_S, Matrix, quaternion_from_rotation

from ..messages.fields import pose_matrix
from ..ros.parameter_fields import SettingsError
from ..streams.edge import Edge, TransformError
from ..streams.transforms import TransformBuffer, clean_frame

REMEDY = "install ros-$ROS_DISTRO-tf2-ros-py, or set transform_source to own"
AUTHORITY = "panoocc"
MAX_SURPLUS = 2500  # frames and samples that tf2 may hold beyond those of our own tree


class Tf2Transforms(TransformBuffer):
    """See the module; has what `TransformBuffer` has.

    Raises:
        SettingsError: tf2_ros is not installed.
    """

    def __init__(self, keep_ns: int = 10 * NS_PER_S) -> None:
        super().__init__(keep_ns)
        self._begin()

    def lookup(self, target: str, source: str, stamp_ns: int) -> Matrix:
        """See `TransformBuffer.lookup`."""
        from rclpy.time import Time
        from tf2_ros import TransformException

        target, source = clean_frame(target), clean_frame(source)
        if self._is_stale:
            self._fill()
        try:
            found = self._tf2.lookup_transform_core(target, source, Time(nanoseconds=stamp_ns)).transform
        except TransformException as error:
            super().lookup(target, source, stamp_ns)  # says the same in our words; where it does not, tf2 counts
            raise TransformError(f"tf2: {error}") from error
        with suppress(TransformError):  # tf2 may have gone another way
            self._used(target, source, stamp_ns)
        return pose_matrix(found.translation, found.rotation)

    def restart(self) -> None:
        """See `TransformBuffer.restart`: tf2 begins with what our own tree keeps."""
        super().restart()
        self._is_stale = True

    def _on_taken(self, edge: Edge, stamp_ns: int, matrix: Matrix, begins_anew: bool) -> None:
        self._is_stale |= begins_anew  # tf2 would keep to the time before
        self._surplus += not edge.static and len(edge.track.samples) >= self.max_samples
        if not self._is_stale:
            self._hand_over(edge, stamp_ns, matrix)
        self._limit()

    def _on_forgotten(self, edge: Edge) -> None:
        self._surplus += 1
        self._limit()

    def _limit(self) -> None:
        if self._surplus > MAX_SURPLUS:
            self._begin()
            self._is_stale = True

    def _begin(self) -> None:
        self._tf2, self._is_stale, self._surplus = _buffer(self.keep_ns), False, 0

    def _fill(self) -> None:
        """Let tf2 begin anew with what our own tree keeps."""
        self._begin()
        for frame in self._frames.values():
            for edge in frame.edges.values():
                for stamp_ns, matrix in zip(edge.track.stamps_ns, edge.track.samples):
                    self._hand_over(edge, stamp_ns, matrix)

    def _hand_over(self, edge: Edge, stamp_ns: int, matrix: Matrix) -> None:
        from geometry_msgs.msg import TransformStamped
        from rclpy.time import Time

        message = TransformStamped()
        message.header.stamp = Time(nanoseconds=max(stamp_ns, 0)).to_msg()
        message.header.frame_id, message.child_frame_id = edge.parent, edge.child
        place, turn = message.transform.translation, message.transform.rotation
        place.x, place.y, place.z = np.asarray(matrix)[:3, 3].tolist()
        turn.x, turn.y, turn.z, turn.w = quaternion_from_rotation(np.asarray(matrix)[:3, :3]).tolist()
        (self._tf2.set_transform_static if edge.static else self._tf2.set_transform)(message, AUTHORITY)


def _buffer(keep_ns: int) -> Any:
    try:
        from rclpy.duration import Duration
        from tf2_ros import Buffer
    except ImportError as error:
        raise SettingsError(f"tf2_ros cannot be imported ({error}): {REMEDY}", "transform_source") from error
    return Buffer(cache_time=Duration(nanoseconds=keep_ns))
