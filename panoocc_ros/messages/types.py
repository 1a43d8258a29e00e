"""The types of messages without ROS (package `rosbags`): ours, ROS 2 Jazzy's, and some that ROS 2 may lack."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from panoocc_core.base.resources import folder

from .autoware import DEFINITIONS as AUTOWARE_DEFINITIONS
from .foxglove import DEFINITIONS as FOXGLOVE_DEFINITIONS
from .planes import OCCUPANCY_GRID
from .vision import DEFINITIONS as VISION_DEFINITIONS
from .vision import LABEL_INFO

IMAGE, COMPRESSED_IMAGE = IMAGE_TYPES = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
TRANSFORMS = "tf2_msgs/msg/TFMessage"
ODOMETRY, IMU = "nav_msgs/msg/Odometry", "sensor_msgs/msg/Imu"
VOXEL_GRID, LABEL_SET = "panoocc/msg/VoxelGrid", "panoocc/msg/LabelSet"
LATCHED_TYPES = (LABEL_SET, LABEL_INFO, OCCUPANCY_GRID)  # whoever comes late gets the last one


@cache
def typestore() -> Typestore:
    """The message types of ROS 2 Jazzy, our own (`msg/`), and every module's `DEFINITIONS`."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for path in sorted(folder("msg").glob("*.msg")):
        store.register(get_types_from_msg(path.read_text(), f"panoocc/msg/{path.stem}"))
    for name, definition in (FOXGLOVE_DEFINITIONS | VISION_DEFINITIONS | AUTOWARE_DEFINITIONS).items():
        store.register(get_types_from_msg(definition, name))
    return store


def new_message(type_name: str, **fields: Any) -> Any:
    """A message of a type such as "panoocc/msg/VoxelGrid": zeros, empty strings and sequences, but for `fields`."""
    kind, empty = _fields(type_name)
    for name, make in empty:
        if name not in fields:
            fields[name] = make()
    return kind(**fields)


@cache
def _fields(type_name: str) -> tuple[Any, tuple[tuple[str, Callable[[], Any]], ...]]:
    """The class of a type, and what makes an empty value of each field."""
    store = typestore()
    return store.types[type_name], tuple((name, _empty(*one)) for name, one in store.fielddefs[type_name][1])


def _empty(kind: int, detail: Any) -> Callable[[], Any]:
    base, name, fixed = 1, 2, 3  # rosbags.interfaces.Nodetype
    if kind == name:
        return partial(new_message, detail)
    if kind == base:
        value = {"string": "", "bool": False, "float32": 0.0, "float64": 0.0}.get(detail[0], 0)
        return lambda: value
    (item_kind, item), length = detail
    if item_kind == base and item[0] != "string":
        return partial(np.zeros, length if kind == fixed else 0, item[0])
    one = _empty(item_kind, item)
    return lambda: [one() for _ in range(length)] if kind == fixed else []
