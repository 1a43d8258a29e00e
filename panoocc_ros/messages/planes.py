"""What lies flat: maps as nav_msgs/OccupancyGrid, numbers of columns as sensor_msgs/Image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from panoocc_core.planning import FlatMap

from .fields import fill_header, set_stamp, store

OCCUPANCY_GRID = "nav_msgs/msg/OccupancyGrid"


def fill_occupancy_grid(message: Any, flat: FlatMap, height_m: float, stamp_ns: int, frame_id: str) -> Any:
    """Fill a nav_msgs/OccupancyGrid; `height_m` is where it lies in the frame `frame_id`."""
    fill_header(message.header, stamp_ns, frame_id)
    info = message.info
    set_stamp(info.map_load_time, stamp_ns)
    info.resolution, (info.height, info.width) = flat.resolution_m, flat.percent.shape
    (info.origin.position.x, info.origin.position.y), info.origin.position.z = flat.corner_m, height_m
    info.origin.orientation.w = 1.0
    store(message, "data", flat.percent.reshape(-1))
    return message


def fill_mono8(message: Any, pixels: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> Any:
    """Fill a sensor_msgs/Image of one byte a pixel [height, width]."""
    fill_header(message.header, stamp_ns, frame_id)
    message.height, message.width = pixels.shape
    message.encoding, message.is_bigendian, message.step = "mono8", 0, pixels.shape[1]
    store(message, "data", pixels.reshape(-1))
    return message
