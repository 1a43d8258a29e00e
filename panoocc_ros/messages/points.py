"""Voxels as sensor_msgs/PointCloud2, one point each."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .fields import fill_header, store
from .voxel_grid import VoxelList

# sensor_msgs/PointField datatypes and foxglove_msgs/PackedElementField types
_POINT_UINT8, _POINT_UINT16, _POINT_FLOAT32 = 2, 4, 7
_POINT = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("rgb", "<u4"),
        ("instance", "<u2"),
        ("label", "u1"),
        ("confidence", "u1"),
    ]
)


def fill_points(message: Any, voxels: VoxelList, stamp_ns: int, frame_id: str, field_class: Callable[..., Any]) -> Any:
    """Fill a sensor_msgs/PointCloud2 with one point per voxel; `field_class` is the class of sensor_msgs/PointField."""
    points = np.zeros(len(voxels.indices), dtype=_POINT)
    points["x"], points["y"], points["z"] = voxels.centres_m().T
    colours = voxels.colours().astype(np.uint32)
    points["rgb"] = colours[:, 0] << 16 | colours[:, 1] << 8 | colours[:, 2]
    points["label"] = voxels.class_id
    points["instance"] = 0 if voxels.instance_id is None else voxels.instance_id
    points["confidence"] = 255 if voxels.confidence is None else voxels.confidence
    kinds = {"x": _POINT_FLOAT32, "y": _POINT_FLOAT32, "z": _POINT_FLOAT32, "rgb": _POINT_FLOAT32}
    kinds |= {"instance": _POINT_UINT16, "label": _POINT_UINT8, "confidence": _POINT_UINT8}
    fill_header(message.header, stamp_ns, frame_id)
    message.fields = [
        field_class(name=name, offset=_POINT.fields[name][1], datatype=kind, count=1)  # type: ignore[index]
        for name, kind in kinds.items()
    ]
    message.height, message.width = 1, len(points)
    message.point_step, message.row_step = _POINT.itemsize, _POINT.itemsize * len(points)
    message.is_bigendian, message.is_dense = False, True
    store(message, "data", points.view(np.uint8).reshape(-1))
    return message
