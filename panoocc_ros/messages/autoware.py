"""Boxes of things as autoware_perception_msgs/DetectedObjects, which Autoware's tracker takes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from panoocc_core.labels import BOX_CLASSES
from panoocc_core.types import ScoredBoxes

from .fields import fill_header, fill_upright_pose

DETECTED_OBJECTS = "autoware_perception_msgs/msg/DetectedObjects"

# Field names, types and order are those of autoware_perception_msgs 1; https://github.com/autowarefoundation/autoware_msgs
DEFINITIONS = {
    "autoware_perception_msgs/msg/ObjectClassification": """\
uint8 UNKNOWN=0
uint8 CAR=1
uint8 TRUCK=2
uint8 BUS=3
uint8 TRAILER=4
uint8 MOTORCYCLE=5
uint8 BICYCLE=6
uint8 PEDESTRIAN=7
uint8 ANIMAL=8
uint8 HAZARD=9
uint8 OVER_DRIVABLE=10
uint8 UNDER_DRIVABLE=11
uint8 label
float32 probability
""",
    "autoware_perception_msgs/msg/DetectedObjectKinematics": """\
uint8 UNAVAILABLE=0
uint8 SIGN_UNKNOWN=1                # the heading may be the other way round
uint8 AVAILABLE=2
geometry_msgs/PoseWithCovariance pose_with_covariance
bool has_position_covariance
uint8 orientation_availability
geometry_msgs/TwistWithCovariance twist_with_covariance
bool has_twist
bool has_twist_covariance
""",
    "autoware_perception_msgs/msg/Shape": """\
uint8 BOUNDING_BOX=0
uint8 CYLINDER=1
uint8 POLYGON=2
uint8 type
geometry_msgs/Polygon footprint
geometry_msgs/Vector3 dimensions    # of a box: length, width, height, metres
""",
    "autoware_perception_msgs/msg/DetectedObject": """\
float32 existence_probability
autoware_perception_msgs/ObjectClassification[] classification
autoware_perception_msgs/DetectedObjectKinematics kinematics
autoware_perception_msgs/Shape shape
""",
    DETECTED_OBJECTS: """\
std_msgs/Header header
autoware_perception_msgs/DetectedObject[] objects
""",
}

UNKNOWN, _SIGN_UNKNOWN, _AVAILABLE, _BOUNDING_BOX = 0, 1, 2, 0
# Barriers and cones are none of Autoware's classes: unknown objects are obstacles there.
LABELS = {
    "car": 1,
    "truck": 2,
    "construction_vehicle": 2,
    "bus": 3,
    "trailer": 4,
    "motorcycle": 5,
    "bicycle": 6,
    "pedestrian": 7,
}


def fill_detected_objects(
    message: Any,
    boxes: ScoredBoxes,
    stamp_ns: int,
    frame_id: str,
    new_message: Callable[..., Any],
    *,
    detected: bool = True,
) -> Any:
    """Fill an autoware_perception_msgs/DetectedObjects with boxes in the frame `frame_id`.

    The pose is that of the middle, turned about z; the twist is over ground, in the axes of the object.  Covariances
    are said to be missing.

    Args:
        detected: False for boxes around connected voxels, which know neither front from back nor a velocity.
    """
    fill_header(message.header, stamp_ns, frame_id)
    message.objects = [_object(boxes, row, new_message, detected) for row in range(len(boxes))]
    return message


def _object(boxes: ScoredBoxes, row: int, new_message: Callable[..., Any], detected: bool) -> Any:
    score, yaw_rad = float(boxes.score[row]), float(boxes.yaw_rad[row])
    found = new_message("autoware_perception_msgs/msg/DetectedObject")
    found.existence_probability = score
    label = LABELS.get(BOX_CLASSES[boxes.class_id[row]], UNKNOWN)
    found.classification = [
        new_message("autoware_perception_msgs/msg/ObjectClassification", label=label, probability=score)
    ]
    kinematics = found.kinematics
    fill_upright_pose(kinematics.pose_with_covariance.pose, boxes.centre_m[row], yaw_rad)
    kinematics.orientation_availability = _AVAILABLE if detected else _SIGN_UNKNOWN
    kinematics.has_position_covariance = kinematics.has_twist_covariance = False
    kinematics.has_twist = detected
    if detected:
        ahead, left = boxes.velocity_mps[row].astype(float).tolist()
        cosine, sine = np.cos(yaw_rad), np.sin(yaw_rad)
        linear = kinematics.twist_with_covariance.twist.linear
        linear.x, linear.y = float(cosine * ahead + sine * left), float(cosine * left - sine * ahead)
    found.shape.type = _BOUNDING_BOX
    size = found.shape.dimensions
    size.x, size.y, size.z = boxes.size_m[row].astype(float).tolist()
    return found
