"""Boxes of things as vision_msgs/Detection3DArray, and the names of classes as vision_msgs/LabelInfo."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from panoocc_core.labels import BOX_CLASSES, LabelSet, box_class
from panoocc_core.types import ScoredBoxes

from .fields import fill_header, fill_upright_pose

DETECTIONS, LABEL_INFO = "vision_msgs/msg/Detection3DArray", "vision_msgs/msg/LabelInfo"
_CLASS = "vision_msgs/msg/VisionClass"
MAX_NAME = 60  # characters of a class that a text shows

# Field names, types and order are those of vision_msgs 4; https://github.com/ros-perception/vision_msgs
DEFINITIONS = {
    "vision_msgs/msg/ObjectHypothesis": """\
string class_id                     # name of the class
float64 score
""",
    "vision_msgs/msg/ObjectHypothesisWithPose": """\
vision_msgs/ObjectHypothesis hypothesis
geometry_msgs/PoseWithCovariance pose
""",
    "vision_msgs/msg/BoundingBox3D": """\
geometry_msgs/Pose center
geometry_msgs/Vector3 size          # whole edges, metres
""",
    "vision_msgs/msg/Detection3D": """\
std_msgs/Header header
vision_msgs/ObjectHypothesisWithPose[] results
vision_msgs/BoundingBox3D bbox
string id                           # the same for one thing in all messages
""",
    DETECTIONS: """\
std_msgs/Header header
vision_msgs/Detection3D[] detections
""",
    _CLASS: """\
uint16 class_id
string class_name
""",
    LABEL_INFO: """\
std_msgs/Header header
vision_msgs/VisionClass[] class_map
float32 threshold                   # confidence below which a class is not told: none is held back
""",
}


def fill_detections(
    message: Any, boxes: ScoredBoxes, stamp_ns: int, frame_id: str, new_message: Callable[..., Any]
) -> Any:
    """Fill a vision_msgs/Detection3DArray with boxes in the frame `frame_id`.

    The class is a name, the id the number of the track, the pose that of the middle, turned about z.  Covariances are
    zero, which stands for unknown.
    """
    fill_header(message.header, stamp_ns, frame_id)
    message.detections = [_detection(boxes, row, stamp_ns, frame_id, new_message) for row in range(len(boxes))]
    return message


def fill_label_info(message: Any, labels: LabelSet, frame_id: str, new_message: Callable[..., Any]) -> Any:
    """Fill a vision_msgs/LabelInfo with all classes but free space, which no pixel has."""
    message.header.frame_id = frame_id
    message.class_map = [
        new_message(_CLASS, class_id=number, class_name=name)
        for number, name in enumerate(labels.names)
        if number != labels.free_id
    ]
    return message


def _detection(boxes: ScoredBoxes, row: int, stamp_ns: int, frame_id: str, new_message: Callable[..., Any]) -> Any:
    result = new_message("vision_msgs/msg/ObjectHypothesisWithPose")
    result.hypothesis.class_id = BOX_CLASSES[boxes.class_id[row]]
    result.hypothesis.score = float(boxes.score[row])
    fill_upright_pose(result.pose.pose, boxes.centre_m[row], boxes.yaw_rad[row])
    found = new_message("vision_msgs/msg/Detection3D")
    fill_header(found.header, stamp_ns, frame_id)
    found.results = [result]
    fill_upright_pose(found.bbox.center, boxes.centre_m[row], boxes.yaw_rad[row])
    found.bbox.size.x, found.bbox.size.y, found.bbox.size.z = boxes.size_m[row].astype(float).tolist()
    found.id = "" if boxes.instance_id is None else str(boxes.instance_id[row])
    return found


def boxes_from_message(message: Any) -> ScoredBoxes:
    """The boxes in a vision_msgs/Detection3DArray: velocities are 0, and so are the numbers of ids that are none.

    Raises:
        ValueError: a class is unknown, a size is not positive, or a number is not finite.
    """
    found = message.detections
    poses, sizes = [one.bbox.center for one in found], [one.bbox.size for one in found]
    best = [one.results[0].hypothesis if one.results else None for one in found]
    return ScoredBoxes(
        centre_m=np.array([(p.position.x, p.position.y, p.position.z) for p in poses], np.float32).reshape(-1, 3),
        size_m=np.array([(size.x, size.y, size.z) for size in sizes], np.float32).reshape(-1, 3),
        yaw_rad=np.array([2 * math.atan2(p.orientation.z, p.orientation.w) for p in poses], np.float32),
        velocity_mps=np.zeros((len(found), 2), np.float32),
        class_id=np.array([_class(one) for one in best], np.int64),
        score=np.array([one.score if one else 0 for one in best], np.float32),
        instance_id=np.array([_number(one.id) for one in found], np.int32),
    )


def _class(hypothesis: Any) -> int:
    name = hypothesis.class_id if hypothesis else ""
    try:
        return box_class(name)
    except ValueError as error:
        raise ValueError(f"class {name[:MAX_NAME]!r} is none of {', '.join(BOX_CLASSES)}") from error


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
