"""A voxel grid as a file of arrays, for whoever has NumPy: `numpy.load("grid.npz")`, nothing in it is pickled.

| array | type, shape | |
|---|---|---|
| `class_id` | uint8 [X, Y, Z] | index into `class_names` |
| `confidence` | uint8 [X, Y, Z] | 255 * probability of the class |
| `instance_id` | int32 [X, Y, Z] | number of the thing, 0: none; left out where nothing told things apart |
| `visible` | bool [X, Y, Z] | whether a camera sees the voxel; left out where no class stands for free space |
| `class_names`, `class_colours` | text [C], uint8 [C, 3] | RGB |
| `free_id` | int64 | the class of free space, -1: there is none |
| `ego_from_grid` | float64 [4, 4] | outer corner of voxel 0, 0, 0 and the axes of the grid |
| `voxel_size_m` | float64 [3] | x, y, z |
| `stamp_ns` | int64 | |
| `box_centre_m`, `box_size_m`, `box_yaw_rad` | float32 [n, 3], [n, 3], [n] | in the ego frame; left out as above |
| `box_class`, `box_score`, `box_instance_id` | text, float32, int32 [n] | |
| `written_by` | text | "panoocc" |
"""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..base.whole_files import whole_file
from ..labels import BOX_CLASSES
from ..types import Occupancy

MARK = "panoocc"  # in `written_by`
_MARK_BYTES = 1024  # at most, of that array


def save_grid(path: str | Path, occupancy: Occupancy) -> None:
    """Write an occupancy as an .npz file; it gets its name when it is whole.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    with whole_file(Path(path)) as part, part.open("wb") as file:
        np.savez_compressed(file, **_arrays(occupancy))


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
    volumes = {name: getattr(occupancy, name) for name in ("class_id", "confidence", "instance_id", "visible")}
    arrays = {name: values.cpu().numpy() for name, values in volumes.items() if values is not None}
    arrays |= {
        "class_names": np.array(labels.names),
        "class_colours": np.array(labels.colours, np.uint8),
        "free_id": np.int64(-1 if labels.free_id is None else labels.free_id),
        "ego_from_grid": geometry.ego_from_grid,
        "voxel_size_m": np.array(geometry.voxel_size_m, np.float64),
        "stamp_ns": np.int64(occupancy.stamp_ns),
        "written_by": np.array(MARK),
    }
    boxes = occupancy.boxes
    if boxes is not None:
        arrays |= {f"box_{name}": getattr(boxes, name) for name in ("centre_m", "size_m", "yaw_rad", "score")}
        arrays["box_class"] = np.array([BOX_CLASSES[i] for i in boxes.class_id], dtype=np.str_)
        if boxes.instance_id is not None:
            arrays["box_instance_id"] = boxes.instance_id
    return arrays
