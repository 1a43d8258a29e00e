"""Poses as transforms on a topic."""

from collections.abc import Iterable
from typing import Any

from panoocc_core.geometry import Matrix

from ..messages.fields import fill_header, fill_pose
from ..messages.types import TRANSFORMS, new_message


def tf_message(stamp_ns: int, items: Iterable[tuple[str, str, Matrix]]) -> Any:
    """A tf2_msgs/TFMessage of (parent, child, parent_from_child [4, 4])."""
    message = new_message(TRANSFORMS)
    for parent, child, parent_from_child in items:
        one = new_message("geometry_msgs/msg/TransformStamped", child_frame_id=child)
        fill_header(one.header, stamp_ns, parent)
        fill_pose(one.transform.translation, one.transform.rotation, parent_from_child)
        message.transforms.append(one)
    return message
