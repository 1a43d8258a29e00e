"""Point clouds of every layout for the tests."""

import numpy as np

from panoocc_ros.messages.fields import fill_header
from panoocc_ros.messages.types import POINT_CLOUD, new_message

KINDS = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
XYZ = {"x": "f4", "y": "f4", "z": "f4"}


def cloud(values, fields=XYZ, height=1, order="<", padding=0, row_padding=0, stamp_ns=0, frame_id="lidar", gap=0):
    """A PointCloud2 of {name: [p]}; `gap` bytes between fields, paddings behind points and rows."""
    count = len(next(iter(values.values())))
    offsets, step = {}, 0
    for name, kind in fields.items():
        offsets[name] = step
        step += np.dtype(kind).itemsize + gap
    step += padding
    kinds = [order + kind for kind in fields.values()]
    layout = {"names": [*fields], "formats": kinds, "offsets": [*offsets.values()], "itemsize": step}
    points = np.zeros(count, np.dtype(layout))
    for name in fields:
        points[name] = values[name]
    rows = points.view(np.uint8).reshape(height, -1)
    message = new_message(POINT_CLOUD)
    fill_header(message.header, stamp_ns, frame_id)
    message.height, message.width = height, count // height
    message.fields = [
        new_message("sensor_msgs/msg/PointField", name=name, offset=offsets[name], datatype=KINDS[kind], count=1)
        for name, kind in fields.items()
    ]
    message.is_bigendian, message.is_dense = order == ">", True
    message.point_step, message.row_step = step, rows.shape[1] + row_padding
    message.data = np.pad(rows, ((0, 0), (0, row_padding))).ravel()
    return message


def points(message):
    """The points of a PointCloud2 as a structured array [height, width]."""
    kinds = {number: kind for kind, number in KINDS.items()}
    order = ">" if message.is_bigendian else "<"
    layout = {
        "names": [field.name for field in message.fields],
        "formats": [order + kinds[field.datatype] for field in message.fields],
        "offsets": [field.offset for field in message.fields],
        "itemsize": message.point_step,
    }
    data = np.frombuffer(bytes(np.asarray(message.data, np.uint8)), np.uint8)
    rows = data.reshape(message.height, message.row_step)[:, : message.width * message.point_step]
    return np.ascontiguousarray(rows).view(np.dtype(layout)).reshape(message.height, message.width)
