"""sensor_msgs/PointCloud2 of any layout: positions out of it, labels into a copy that is else the same.

Nothing of a cloud is trusted before it was held against the bytes that came.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from panoocc_core.labels import LabelSet
from panoocc_core.panoptic.labelling import PointLabels

from .fields import store
from .types import POINT_CLOUD

_FIELD = "sensor_msgs/msg/PointField"
_UINT8, _UINT16, _FLOAT32, _FLOAT64 = 2, 4, 7, 8  # of sensor_msgs/PointField
_ADDED = {"label": (_UINT8, 0), "confidence": (_UINT8, 1), "instance": (_UINT16, 2), "rgb": (_FLOAT32, 4)}  # offsets
_ADDED_BYTES, _ALIGNED = 8, 4
_UNKNOWN_RGB = 0x3C3C3C
MAX_FIELDS, MAX_STEP, MAX_BYTES = 256, 1 << 16, 1 << 30
MAX_SHOWN = 40  # characters of a field's name in a text


class CloudError(ValueError):
    """A point cloud that cannot be used; the text says which of its fields is wrong."""


def positions_m(message: Any) -> NDArray[np.float32]:
    """x, y, z [p, 3] of a PointCloud2 in its own frame and order, row after row.

    Raises:
        CloudError: a field is missing, of a wrong type, or the sizes do not fit the data.
    """
    raw = _raw(message)
    position_m = np.empty((raw.shape[0] * raw.shape[1], 3), np.float32)
    if not len(position_m):
        return position_m
    fields = {field.name: field for field in message.fields}
    missing = [name for name in "xyz" if name not in fields]
    if missing:
        there = ", ".join(name[:MAX_SHOWN] for name in list(fields)[:12]) or "none"
        raise CloudError(f"the cloud has no field {' and no field '.join(missing)}; its fields are: {there}")
    for axis, name in enumerate("xyz"):
        field = fields[name]
        if field.datatype not in (_FLOAT32, _FLOAT64) or field.count > 1:
            many = f"{field.count} of datatype {field.datatype}"
            raise CloudError(f"field {name} holds {many}, not one FLOAT32 ({_FLOAT32}) or FLOAT64 ({_FLOAT64})")
        kind = np.dtype(f"{_order(message)}f{4 if field.datatype == _FLOAT32 else 8}")
        if field.offset + kind.itemsize > raw.shape[2]:
            raise CloudError(f"field {name} at offset {field.offset} does not fit the point_step {raw.shape[2]}")
        values = raw[:, :, field.offset : field.offset + kind.itemsize]
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 does not hold is infinite, and so unknown
            position_m[:, axis] = np.ascontiguousarray(values).view(kind).ravel()
    return position_m


def labelled(message: Any, found: PointLabels, labels: LabelSet, new_message: Callable[..., Any]) -> Any:
    """A copy of a PointCloud2 with label, confidence, instance and the class's colour of every point.

    Points keep their order and all that they had; `rgb` is added only where the cloud has no colours.

    Args:
        found: of the points of `positions_m`.
        new_message: makes an empty message of a type.

    Raises:
        CloudError: as `positions_m`; or the cloud has a field that would be added.
    """
    raw = _raw(message)
    names = {field.name for field in message.fields}
    taken = [name for name in ("label", "confidence", "instance") if name in names]
    if taken:
        raise CloudError(f"the cloud has a field {taken[0]} already: give one that was not labelled yet")
    added = {name: kind for name, kind in _ADDED.items() if not (name == "rgb" and names & {"rgb", "rgba"})}
    start = -(-raw.shape[2] // _ALIGNED) * _ALIGNED
    step = start + (_ADDED_BYTES if "rgb" in added else _ADDED["rgb"][1])
    if raw.shape[0] * raw.shape[1] * step > MAX_BYTES:
        raise CloudError(f"with labels the cloud would take more than {MAX_BYTES} bytes")
    out = np.zeros((*raw.shape[:2], step), np.uint8)
    out[:, :, : raw.shape[2]] = raw
    values: dict[str, NDArray[Any]] = {
        "label": found.class_id,
        "confidence": found.confidence,
        "instance": found.instance_id,
        "rgb": _rgb(found.class_id, labels),
    }
    for name, (_, offset) in added.items():
        kind = values[name].dtype.newbyteorder(_order(message))
        packed = values[name].astype(kind).view(np.uint8).reshape(*raw.shape[:2], kind.itemsize)
        out[:, :, start + offset : start + offset + kind.itemsize] = packed
    copy = new_message(POINT_CLOUD)
    copy.header, copy.height, copy.width = message.header, message.height, message.width
    copy.fields = [*message.fields] + [
        new_message(_FIELD, name=name, offset=start + offset, datatype=kind, count=1)
        for name, (kind, offset) in added.items()
    ]
    copy.point_step, copy.row_step = step, out.shape[1] * step
    copy.is_bigendian, copy.is_dense = message.is_bigendian, message.is_dense
    store(copy, "data", out.reshape(-1))
    return copy


def _order(message: Any) -> Literal[">", "<"]:
    return ">" if message.is_bigendian else "<"


def _rgb(class_id: NDArray[np.uint8], labels: LabelSet) -> NDArray[np.uint32]:
    """Colours [p] as PCL packs them."""
    table = np.full(256, _UNKNOWN_RGB, np.uint32)
    colours = np.array(labels.colours, np.uint32).reshape(-1, 3)
    table[: len(colours)] = colours[:, 0] << 16 | colours[:, 1] << 8 | colours[:, 2]
    return table[class_id]


def _raw(message: Any) -> NDArray[np.uint8]:
    """The bytes of every point [height, width, point_step], a view; without points [0, 0, point_step]."""
    height, width, step, row = (int(getattr(message, name)) for name in ("height", "width", "point_step", "row_step"))
    if len(message.fields) > MAX_FIELDS or step > MAX_STEP:
        raise CloudError(
            f"the cloud has {len(message.fields)} fields and point_step {step}: more than {MAX_FIELDS}, or {MAX_STEP}"
        )
    if not height * width:
        return np.zeros((0, 0, step), np.uint8)
    if not step:
        raise CloudError(f"point_step is 0 for {width} x {height} points")
    row = row if height > 1 else width * step
    if row < width * step:
        raise CloudError(f"row_step {row} is less than width {width} times point_step {step}")
    needed = (height - 1) * row + width * step
    if needed > len(message.data):
        raise CloudError(f"data has {len(message.data)} bytes: {width} x {height} points of {step} need {needed}")
    data = np.frombuffer(message.data, np.uint8)
    return np.ndarray((height, width, step), np.uint8, data, strides=(row, step, 1))
