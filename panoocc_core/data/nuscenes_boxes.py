"""Annotated boxes of nuScenes: the three tables, velocities, and the boxes of one sample in the ego frame."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..geometry import Matrix
from ..ground_truth import TrueBoxes
from ..metrics.attributes import ATTRIBUTES
from .errors import DataError
from .nuscenes_labels import BOX_CLASS, RACK
from .tables import QUATERNION_TOLERANCE, Record, records

# nuScenes' own rule: a velocity over a longer time is unknown; twice that where there are neighbours on both sides.
MAX_INTERVAL_S = 1.5
_NONE = -1
RACK_CLASS = -1  # of the boxes that are no things but racks for cycles


@dataclass(frozen=True, slots=True, eq=False)
class WorldBoxes:
    """Boxes of the detection classes that some sensor has measured, and racks for cycles: n, in the world frame."""

    centre_m: NDArray[np.float64]  # [n, 3]
    size_m: NDArray[np.float32]  # [n, 3], length, width, height
    ahead: NDArray[np.float32]  # [n, 3], the boxes' x axis
    velocity_mps: NDArray[np.float32]  # [n, 3], NaN where unknown
    class_id: NDArray[np.int64]  # [n], index into labels.BOX_CLASSES, or RACK_CLASS
    instance_id: NDArray[np.int32]  # [n], from 1
    attribute_id: NDArray[np.int64]  # [n], numbers of metrics.attributes

    def rows(self, chosen: slice | NDArray) -> "WorldBoxes":
        """Some of the boxes."""
        return WorldBoxes(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def in_ego(self, world_from_ego: Matrix) -> TrueBoxes:
        """The same boxes in the ego frame."""
        rotation = world_from_ego[:3, :3]  # a row vector times it: world -> ego
        ahead = self.ahead @ rotation
        return TrueBoxes(
            centre_m=((self.centre_m - world_from_ego[:3, 3]) @ rotation).astype(np.float32),
            size_m=self.size_m,
            yaw_rad=np.arctan2(ahead[:, 1], ahead[:, 0]).astype(np.float32),
            velocity_mps=(self.velocity_mps @ rotation)[:, :2].astype(np.float32),
            class_id=self.class_id,
            instance_id=self.instance_id,
            attribute_id=self.attribute_id,
        )


@dataclass(frozen=True, slots=True, eq=False)
class BoxTable:
    """The boxes of all samples."""

    boxes: WorldBoxes  # sample after sample
    begin: NDArray[np.int64]  # [samples + 1]

    def of(self, sample: int) -> WorldBoxes:
        """The boxes of a sample, by its place in the table of samples."""
        return self.boxes.rows(slice(int(self.begin[sample]), int(self.begin[sample + 1])))


@dataclass(slots=True)
class _Columns:
    """The annotations of detection classes as they come: growing columns, a tenth of the size of the records."""

    token: dict[str, int]
    before: list[str]
    after: list[str]
    sample: array
    instance: array
    class_id: array
    measured: array
    attribute: array
    numbers: array  # translation, size (width, length, height), rotation (w, x, y, z): 10 a box


def read_boxes(folder: Path, samples: Mapping[str, tuple[int, int]], show_progress: bool) -> BoxTable | None:
    """The table of boxes; None where a version has no annotations (v1.0-test).

    Args:
        folder: the tables.
        samples: token of a sample -> its place and its time in microseconds.

    Raises:
        DataError: a table is missing or damaged, or a record names one that is not there.
    """
    columns = _read_columns(folder, samples, show_progress)
    if columns is None:
        return None
    numbers = np.frombuffer(columns.numbers, np.float64).reshape(-1, 10)
    _check(numbers, columns, folder / "sample_annotation.json")
    sample = np.frombuffer(columns.sample, np.int64)
    instance = np.frombuffer(columns.instance, np.int64)
    times_us = np.array([time_us for _, time_us in samples.values()], np.int64)[sample]
    boxes = WorldBoxes(
        centre_m=numbers[:, :3],
        size_m=numbers[:, (4, 3, 5)].astype(np.float32),
        ahead=_x_axes(numbers[:, 6:]).astype(np.float32),
        velocity_mps=_velocities(columns, numbers[:, :3], instance, times_us, folder).astype(np.float32),
        class_id=np.frombuffer(columns.class_id, np.int64),
        instance_id=instance.astype(np.int32),
        attribute_id=np.frombuffer(columns.attribute, np.int8).astype(np.int64),
    )
    order = np.argsort(sample, kind="stable")
    order = order[np.frombuffer(columns.measured, np.int8)[order] > 0]
    begin = np.searchsorted(sample[order], np.arange(len(samples) + 1))
    return BoxTable(boxes.rows(order), begin.astype(np.int64))


def _read_columns(folder: Path, samples: Mapping[str, tuple[int, int]], show_progress: bool) -> _Columns | None:
    classes, attributes = _instance_classes(folder), _attributes(folder)
    path, empty = folder / "sample_annotation.json", True
    columns = _Columns({}, [], [], array("q"), array("q"), array("q"), array("b"), array("b"), array("d"))
    for fields in records(path, show_progress):
        empty, record = False, Record(path, fields)
        instance, sample = record.text("instance_token"), record.text("sample_token")
        if sample not in samples:
            raise record.error(f"names the sample {sample}, which sample.json does not have")
        if instance not in classes:
            raise record.error(f"names the instance {instance}, which instance.json does not have")
        number, class_id = classes[instance]
        if class_id is None:
            continue
        columns.token[record.text("token")] = len(columns.before)
        columns.before.append(record.text("prev"))
        columns.after.append(record.text("next"))
        columns.sample.append(samples[sample][0])
        columns.instance.append(number)
        columns.class_id.append(class_id)
        points = record.integer("num_lidar_pts") + record.integer("num_radar_pts")
        columns.measured.append(points > 0 or class_id == RACK_CLASS)
        columns.attribute.append(_attribute(record, attributes))
        columns.numbers.extend(_numbers(record))
    if len(columns.token) != len(columns.before):
        raise DataError(f"{path}: has tokens that are there twice; download it again")
    return None if empty else columns


def _instance_classes(folder: Path) -> dict[str, tuple[int, int | None]]:
    """Token of an instance -> its number from 1, and its detection class, RACK_CLASS or None."""
    path = folder / "category.json"
    names = {r.text("token"): r.text("name") for r in (Record(path, fields) for fields in records(path))}
    path, classes = folder / "instance.json", {}
    for number, fields in enumerate(records(path), start=1):
        record = Record(path, fields)
        category = record.text("category_token")
        if category not in names:
            raise record.error(f"names the category {category}, which category.json does not have")
        classes[record.text("token")] = number, {**BOX_CLASS, RACK: RACK_CLASS}.get(names[category])
    return classes


def _attributes(folder: Path) -> dict[str, int]:
    """Token of an attribute -> its number."""
    path, found = folder / "attribute.json", {}
    for record in (Record(path, fields) for fields in records(path)):
        if record.text("name") not in ATTRIBUTES:
            raise record.error(f"attribute {record.text('name')!r} is none of nuScenes'")
        found[record.text("token")] = ATTRIBUTES.index(record.text("name"))
    return found


def _attribute(record: Record, attributes: Mapping[str, int]) -> int:
    """The number of the one attribute that a box may have, 0 for none."""
    tokens = record.texts("attribute_tokens")
    if len(tokens) > 1:
        raise record.error(f"has {len(tokens)} attributes, of which nuScenes gives a box at most one")
    if tokens and tokens[0] not in attributes:
        raise record.error(f"names the attribute {tokens[0]}, which attribute.json does not have")
    return attributes[tokens[0]] if tokens else 0


_FIELDS = (("translation", 3), ("size", 3), ("rotation", 4))


def _numbers(record: Record) -> array:
    """The ten numbers of a box as they stand: a million records are checked together, later."""
    values = array("d")
    for name, length in _FIELDS:
        value = record.fields.get(name)
        if not isinstance(value, list) or len(value) != length:
            raise record.error(f"{name} is {value!r}, not {length} numbers")
        try:
            values.extend(value)
        except (TypeError, OverflowError) as error:
            raise record.error(f"{name} does not hold numbers") from error
    return values


def _check(numbers: Matrix, columns: _Columns, path: Path) -> None:
    """That all boxes [n, 10] are finite, with positive sizes and unit quaternions.

    Raises:
        DataError: one is not; the message names its record.
    """
    lengths = np.linalg.norm(numbers[:, 6:], axis=1)
    good = np.isfinite(numbers).all(axis=1) & (numbers[:, 3:6] > 0).all(axis=1)
    good &= np.abs(lengths - 1) <= QUATERNION_TOLERANCE
    if good.all():
        return
    row = int(np.argmin(good))
    translation, size, rotation = np.split(numbers[row], (3, 6))
    fields = {"token": list(columns.token)[row], "translation": translation, "size": size, "rotation": rotation}
    record = Record(path, fields)
    record.pose()
    raise record.error(f"size (width, length, height) is {record.array('size', (3,)).tolist()}, not positive")


def _x_axes(rotation: Matrix) -> Matrix:
    """First columns [n, 3] of the rotations of quaternions [n, 4] (w, x, y, z)."""
    w, x, y, z = (rotation / np.linalg.norm(rotation, axis=1, keepdims=True)).T
    return np.stack((1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)), axis=1)


def _velocities(
    columns: _Columns, centre_m: Matrix, instance: NDArray[np.int64], times_us: NDArray[np.int64], folder: Path
) -> Matrix:
    """[n, 3] from the neighbours in time on both sides, else from the one there is; NaN where unknown."""
    rows = np.arange(len(centre_m))
    before = _linked(columns, columns.before, instance, folder)
    after = _linked(columns, columns.after, instance, folder)
    first, last = np.where(before == _NONE, rows, before), np.where(after == _NONE, rows, after)
    seconds = (times_us[last] - times_us[first]) * 1e-6
    both = (before != _NONE) & (after != _NONE)
    known = (seconds > 0) & (seconds <= np.where(both, 2, 1) * MAX_INTERVAL_S)
    safe_s = np.where(known, seconds, np.nan)
    return (centre_m[last] - centre_m[first]) / safe_s[:, None]


def _linked(columns: _Columns, tokens: list[str], instance: NDArray[np.int64], folder: Path) -> NDArray[np.int64]:
    """Rows [n] that `prev` or `next` name, -1 for none."""
    rows = np.fromiter(
        (columns.token.get(token, len(tokens)) if token else _NONE for token in tokens), np.int64, len(tokens)
    )
    wrong = (rows == len(tokens)) | ((rows != _NONE) & (instance[rows % max(len(tokens), 1)] != instance))
    if wrong.any():
        token = tokens[int(np.argmax(wrong))]
        raise DataError(
            f"{folder / 'sample_annotation.json'}: a record names {token} as its neighbour in time, which is not there "
            "or belongs to another instance; download it again"
        )
    return rows
