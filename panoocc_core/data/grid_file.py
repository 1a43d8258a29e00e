"""A voxel grid as a file of arrays, for whoever has NumPy: `numpy.load("grid.npz")`, nothing in it is pickled.

| array | type, shape | |
|---|---|---|
| `class_id` | uint8 [X, Y, Z] | index into `class_names` |
| `confidence` | uint8 [X, Y, Z] | 255 * probability of the class |
| `instance_id` | int32 [X, Y, Z] | number of the thing, 0: none; left out where nothing told things apart |
| `instances` | text | what told them apart: "boxes", "components" or "none" |
| `visible` | bool [X, Y, Z] | whether a camera sees the voxel; left out where no class stands for free space |
| `label_set`, `label_set_version` | text, int64 | |
| `class_names`, `class_colours`, `class_is_thing` | text [C], uint8 [C, 3], bool [C] | RGB |
| `free_id` | int64 | the class of free space, -1: there is none |
| `ego_from_grid` | float64 [4, 4] | outer corner of voxel 0, 0, 0 and the axes of the grid |
| `voxel_size_m` | float64 [3] | x, y, z |
| `stamp_ns`, `oldest_image_stamp_ns`, `newest_image_stamp_ns` | int64 | |
| `box_centre_m`, `box_size_m`, `box_yaw_rad` | float32 [n, 3], [n, 3], [n] | in the ego frame; left out as above |
| `box_velocity_mps` | float32 [n, 2] | over ground, along the ego frame's x and y |
| `box_class`, `box_score`, `box_instance_id` | text, float32, int32 [n] | |
| `written_by` | text | "panoocc" |
"""

import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ..base.whole_files import whole_file
from ..geometry import check_rigid
from ..labels import BOX_CLASSES, InstanceSource, LabelSet
from ..types import GridGeometry, HistoryReport, Occupancy, ScoredBoxes
from .errors import DataError
from .files import ArrayFile

MARK = "panoocc"  # in `written_by`
_MARK_BYTES = 1024  # at most, of that array
# Limits of what is read: what lies beyond was damaged or forged.
_MAX_VOXELS, _MAX_VOXEL_M, _MAX_BOXES, _MAX_TEXT = 64_000_000, 100.0, 65_535, 200
_ADVICE = "give a file that `panoocc image --grid` or `save_grid` of this version wrote"
_SOURCES: tuple[InstanceSource, ...] = get_args(InstanceSource)
_VOLUMES = {"class_id": np.uint8, "confidence": np.uint8, "instance_id": np.int32, "visible": np.bool_}
_BOX_COLUMNS = {"centre_m": (3,), "size_m": (3,), "yaw_rad": (), "velocity_mps": (2,), "score": ()}  # float32 [n, ...]


def save_grid(path: str | Path, occupancy: Occupancy) -> None:
    """Write an occupancy as an .npz file; it gets its name when it is whole.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    with whole_file(Path(path)) as part, part.open("wb") as file:
        np.savez_compressed(file, **_arrays(occupancy))


def load_grid(path: str | Path) -> Occupancy:
    """What `save_grid` wrote, on the CPU; `planning.KnownSpace.of` takes it.  Cameras and history are not in it.

    Raises:
        DataError: no such file, none of `save_grid`, or damaged; the text names the file and the array.
    """
    with ArrayFile(Path(path), _ADVICE) as arrays:
        try:
            return _occupancy(arrays)
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{path}: {error}; {_ADVICE}") from error


def is_grid_file(path: Path) -> bool:
    """Whether `save_grid` wrote a file."""
    try:
        with zipfile.ZipFile(path) as members, members.open("written_by.npy") as member:
            return member.read(_MARK_BYTES) == _mark_bytes()
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return False


def _mark_bytes() -> bytes:
    written = io.BytesIO()
    np.save(written, np.array(MARK))
    return written.getvalue()


def _arrays(occupancy: Occupancy) -> dict[str, Any]:
    labels, geometry = occupancy.labels, occupancy.geometry
    volumes = {name: getattr(occupancy, name) for name in _VOLUMES}
    arrays = {name: values.cpu().numpy() for name, values in volumes.items() if values is not None}
    arrays |= {
        "instances": np.array(occupancy.instances),
        "label_set": np.array(labels.key),
        "label_set_version": np.int64(labels.version),
        "class_names": np.array(labels.names),
        "class_colours": np.array(labels.colours, np.uint8),
        "class_is_thing": np.array(labels.is_thing, np.bool_),
        "free_id": np.int64(-1 if labels.free_id is None else labels.free_id),
        "ego_from_grid": np.asarray(geometry.ego_from_grid, np.float64),
        "voxel_size_m": np.array(geometry.voxel_size_m, np.float64),
        "stamp_ns": np.int64(occupancy.stamp_ns),
        "oldest_image_stamp_ns": np.int64(occupancy.oldest_image_stamp_ns),
        "newest_image_stamp_ns": np.int64(occupancy.newest_image_stamp_ns),
        "written_by": np.array(MARK),
    }
    boxes = occupancy.boxes
    if boxes is not None:
        arrays |= {f"box_{name}": np.asarray(getattr(boxes, name), np.float32) for name in _BOX_COLUMNS}
        arrays["box_class"] = np.array([BOX_CLASSES[i] for i in boxes.class_id], dtype=np.str_)
        if boxes.instance_id is not None:
            arrays["box_instance_id"] = np.asarray(boxes.instance_id, np.int32)
    return arrays


def _occupancy(arrays: ArrayFile) -> Occupancy:
    shape, _ = arrays.header("class_id")
    if len(shape) != 3 or not 0 < math.prod(shape) <= _MAX_VOXELS:
        raise ValueError(f"class_id has the shape {shape}: it is no volume of up to {_MAX_VOXELS} voxels")
    volumes = {name: arrays.read(name, shape, kind) for name, kind in _VOLUMES.items() if name in arrays}
    labels = _labels(arrays)
    if volumes["class_id"].max() >= len(labels.names):
        raise ValueError(f"class_id has {volumes['class_id'].max()}: class_names has {len(labels.names)}")
    source = _text(arrays, "instances")
    instances = next((known for known in _SOURCES if known == source), None)
    if instances is None:
        raise ValueError(f"instances is {source!r}, none of {', '.join(_SOURCES)}")
    tensors = {name: torch.from_numpy(values) for name, values in volumes.items()}
    return Occupancy(
        stamp_ns=_whole(arrays, "stamp_ns"),
        oldest_image_stamp_ns=_whole(arrays, "oldest_image_stamp_ns"),
        newest_image_stamp_ns=_whole(arrays, "newest_image_stamp_ns"),
        class_id=tensors["class_id"],
        confidence=tensors.get("confidence"),
        instance_id=tensors.get("instance_id"),
        visible=tensors.get("visible"),
        geometry=_geometry(arrays, shape),
        labels=labels,
        cameras=(),
        history=HistoryReport(),
        boxes=_boxes(arrays) if "box_class" in arrays else None,
        instances=instances,
    )


def _geometry(arrays: ArrayFile, shape: tuple[int, ...]) -> GridGeometry:
    pose = check_rigid(arrays.read("ego_from_grid", (4, 4), np.float64), "ego_from_grid")
    x, y, z = arrays.read("voxel_size_m", (3,), np.float64).tolist()
    if not all(0 < edge <= _MAX_VOXEL_M for edge in (x, y, z)):
        raise ValueError(f"voxel_size_m is {(x, y, z)}, not three lengths of up to {_MAX_VOXEL_M:g} m")
    return GridGeometry((shape[0], shape[1], shape[2]), (x, y, z), pose)


def _labels(arrays: ArrayFile) -> LabelSet:
    names = _texts(arrays, "class_names", 255)
    free_id = _whole(arrays, "free_id")
    if not names or not -1 <= free_id < len(names):
        raise ValueError(f"free_id {free_id} is none of the {len(names)} class_names, nor -1")
    return LabelSet(
        key=_text(arrays, "label_set"),
        version=_whole(arrays, "label_set_version"),
        names=names,
        is_thing=tuple(arrays.read("class_is_thing", (len(names),), np.bool_).tolist()),
        colours=tuple((r, g, b) for r, g, b in arrays.read("class_colours", (len(names), 3), np.uint8).tolist()),
        free_id=None if free_id == -1 else free_id,
    )


def _boxes(arrays: ArrayFile) -> ScoredBoxes:
    names = _texts(arrays, "box_class", _MAX_BOXES)
    unknown = sorted(set(names) - set(BOX_CLASSES))
    if unknown:
        raise ValueError(f"box_class has {unknown[0]!r}, none of {', '.join(BOX_CLASSES)}")
    count, number = len(names), "box_instance_id"
    return ScoredBoxes(
        **{name: arrays.read(f"box_{name}", (count, *rest), np.float32) for name, rest in _BOX_COLUMNS.items()},
        class_id=np.array([BOX_CLASSES.index(name) for name in names], np.int64),
        instance_id=arrays.read(number, (count,), np.int32) if number in arrays else None,
    )


def _whole(arrays: ArrayFile, name: str) -> int:
    return int(arrays.read(name, (), np.int64))


def _text(arrays: ArrayFile, name: str) -> str:
    return str(_characters(arrays, name, ()))


def _texts(arrays: ArrayFile, name: str, most: int) -> tuple[str, ...]:
    shape, _ = arrays.header(name)
    if len(shape) != 1 or shape[0] > most:
        raise ValueError(f"{name} has the shape {shape}, not [n] with up to {most}")
    return tuple(_characters(arrays, name, shape).tolist())


def _characters(arrays: ArrayFile, name: str, shape: tuple[int, ...]) -> NDArray[np.str_]:
    _, kind = arrays.header(name)
    if kind.kind != "U" or kind.itemsize > 4 * _MAX_TEXT:
        raise ValueError(f"{name} is {kind}, no text of up to {_MAX_TEXT} letters")
    return arrays.read(name, shape, kind)
