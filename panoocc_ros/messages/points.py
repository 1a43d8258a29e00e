"""Voxels as sensor_msgs/PointCloud2: one point each, or one for each column of a grid."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fields import fill_header, store
from .voxel_grid import VoxelList

_DATATYPES = {"u1": 2, "u2": 4, "u4": 7, "f4": 7}  # of sensor_msgs/PointField; u4 is an rgb in the bits of a FLOAT32
_PLACE = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
_OBSTACLE = np.dtype([*_PLACE, ("probability", "<f4"), ("class_id", "u1"), ("pad", "V3")])
_POINT = np.dtype(
    [*_PLACE, ("rgb", "<u4"), ("probability", "<f4"), ("instance", "<u2"), ("class_id", "u1"), ("pad", "V1")]
)


def fill_points(message: Any, voxels: VoxelList, stamp_ns: int, frame_id: str, field_class: Callable[..., Any]) -> Any:
    """Fill a sensor_msgs/PointCloud2 with one point per voxel; `field_class` is the class of sensor_msgs/PointField."""
    points = _of_voxels(voxels, _POINT)
    colours = voxels.colours().astype(np.uint32)
    points["rgb"] = colours[:, 0] << 16 | colours[:, 1] << 8 | colours[:, 2]
    points["instance"] = 0 if voxels.instance_id is None else voxels.instance_id
    return _fill(message, points[None], stamp_ns, frame_id, field_class)


def fill_obstacles(
    message: Any, voxels: VoxelList, stamp_ns: int, frame_id: str, field_class: Callable[..., Any]
) -> Any:
    """The same without colours and instances."""
    return _fill(message, _of_voxels(voxels, _OBSTACLE)[None], stamp_ns, frame_id, field_class)


def fill_organised(
    message: Any, places_m: NDArray[np.float32], stamp_ns: int, frame_id: str, field_class: Callable[..., Any]
) -> Any:
    """Fill a sensor_msgs/PointCloud2 with places [height, width, 3]; NaN: there is none."""
    points = np.ascontiguousarray(places_m, "<f4").view(np.dtype(_PLACE))[..., 0]
    return _fill(message, points, stamp_ns, frame_id, field_class, is_dense=False)


def _of_voxels(voxels: VoxelList, kind: np.dtype) -> NDArray[Any]:
    points = np.zeros(len(voxels.indices), dtype=kind)
    points["x"], points["y"], points["z"] = voxels.centres_m().T
    points["class_id"] = voxels.class_id
    points["probability"] = 1.0 if voxels.confidence is None else voxels.confidence * np.float32(1 / 255)
    return points


def _fill(
    message: Any,
    points: NDArray[Any],
    stamp_ns: int,
    frame_id: str,
    field_class: Callable[..., Any],
    is_dense: bool = True,
) -> Any:
    """Points [height, width] of a structured type."""
    fill_header(message.header, stamp_ns, frame_id)
    message.fields = [
        field_class(name=name, offset=place[1], datatype=_DATATYPES[place[0].str[1:]], count=1)
        for name, place in points.dtype.fields.items()  # type: ignore[union-attr]
        if name != "pad"
    ]
    message.height, message.width = points.shape
    message.point_step, message.row_step = points.itemsize, points.itemsize * points.shape[1]
    message.is_bigendian, message.is_dense = False, is_dense
    store(message, "data", points.reshape(-1).view(np.uint8))
    return message
