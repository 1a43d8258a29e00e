"""Look-ups by tf2_ros.Buffer, in place of our own tree.

Our own tree stays beside it, for what tf2 does not tell: why a look-up fails, who contradicts whom, which frames lie
above one, and what has come since a clock went back.  Look-ups are tf2's.
"""

from typing import Any

import numpy as np

from panoocc_core.geometry import NS_PER_S, Matrix, quaternion_from_rotation

from ..messages.fields import pose_matrix
from ..ros.parameter_fields import SettingsError
from ..streams.edge import TransformError
from ..streams.transforms import TransformBuffer, clean_frame

REMEDY = "install ros-$ROS_DISTRO-tf2-ros-py, or set transform_source to own"
AUTHORITY = "panoocc"


class Tf2Transforms(TransformBuffer):
    """See the module; has what `TransformBuffer` has.

    Raises:
        SettingsError: tf2_ros is not installed.
    """

    def __init__(self, keep_ns: int = 10 * NS_PER_S) -> None:
        super().__init__(keep_ns)
        self._tf2 = _buffer(keep_ns)

    def set(
        self, parent: str, child: str, stamp_ns: int, parent_from_child: Matrix, static: bool = False
    ) -> str | None:
        """See `TransformBuffer.set`."""
        contradiction = super().set(parent, child, stamp_ns, parent_from_child, static)
        self._hand_over(clean_frame(parent), clean_frame(child), stamp_ns, parent_from_child, static)
        return contradiction

    def lookup(self, target: str, source: str, stamp_ns: int) -> Matrix:
        """See `TransformBuffer.lookup`."""
        from rclpy.time import Time
        from tf2_ros import TransformException

        target, source = clean_frame(target), clean_frame(source)
        try:
            found = self._tf2.lookup_transform_core(target, source, Time(nanoseconds=stamp_ns)).transform
        except TransformException as error:
            super().lookup(target, source, stamp_ns)  # says the same in our words; where it does not, tf2 counts
            raise TransformError(f"tf2: {error}") from error
        return pose_matrix(found.translation, found.rotation)

    def restart(self) -> None:
        """See `TransformBuffer.restart`: tf2 begins with what our own tree keeps."""
        super().restart()
        self._tf2 = _buffer(self.keep_ns)
        for frame in self._frames.values():
            for edge in frame.edges.values():
                for stamp_ns, matrix in zip(edge.track.stamps_ns, edge.track.samples):
                    self._hand_over(edge.parent, edge.child, stamp_ns, matrix, edge.static)

    def _hand_over(self, parent: str, child: str, stamp_ns: int, matrix: Matrix, static: bool) -> None:
        from geometry_msgs.msg import TransformStamped
        from rclpy.time import Time

        message = TransformStamped()
        message.header.stamp = Time(nanoseconds=max(stamp_ns, 0)).to_msg()
        message.header.frame_id, message.child_frame_id = parent, child
        place, turn = message.transform.translation, message.transform.rotation
        place.x, place.y, place.z = np.asarray(matrix)[:3, 3].tolist()
        turn.x, turn.y, turn.z, turn.w = quaternion_from_rotation(np.asarray(matrix)[:3, :3]).tolist()
        (self._tf2.set_transform_static if static else self._tf2.set_transform)(message, AUTHORITY)


def _buffer(keep_ns: int) -> Any:
    try:
        from rclpy.duration import Duration
        from tf2_ros import Buffer
    except ImportError as error:
        raise SettingsError(f"tf2_ros cannot be imported ({error}): {REMEDY}", "transform_source") from error
    return Buffer(cache_time=Duration(nanoseconds=keep_ns))
