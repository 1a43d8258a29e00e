"""The file of one simulated drive: an .npz without pickled objects, written whole and checked before it is read.

It holds JPEG images (as a vehicle's bag would hold them), calibrations, poses, true boxes, and either true voxels with
the cameras' view or labelled LiDAR points.
"""

import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..base.image_files import ImageFileError, jpeg_size_hw
from ..base.whole_files import whole_file
from ..geometry import NS_PER_S, Matrix, check_rigid
from ..ground_truth import GroundTruth, TrueBoxes, TruePoints
from ..sim.camera import Rig
from ..sim.capture import Capture
from ..sim.lidar import Lidar
from ..sim.scene import Scene
from ..sim.truth import MAX_VOXELS
from ..types import CameraImage, Frame, GridGeometry
from .errors import DataError
from .files import ArrayFile

MAX_BYTES = 4 << 30  # of a drive in memory: 2000 frames of 200x200x16 voxels
_MAX_CAMERAS = 64
_MAX_NAME_BYTES = 1024
_ADVICE = "delete it (where --streets or --out is its folder, it is made anew)"
_VOXEL_BITS = 8 + 16 + 1  # class, instance and mask
_POINT_BITS = 3 * 32 + 8 + 16  # position, class and instance
_BOX_FIELDS = ("centre_m", "size_m", "yaw_rad", "velocity_mps", "class_id", "instance_id")


class DriveFileError(ValueError):
    """A file is not a whole drive; the message names it and says what to do."""


def write_drive(path: Path, frames: Sequence[Mapping[str, Any]], rig: Rig, geometry: GridGeometry | None) -> None:
    """Write the `frame_columns` of a drive's frames; the file gets its name when it is whole.

    Args:
        geometry: of the true voxels; None where the frames have LiDAR points.

    Raises:
        OSError: the folder cannot be written.
    """
    of_frames = {name: [frame[name] for frame in frames] for name in frames[0]}
    boxes, points = of_frames.pop("boxes"), of_frames.pop("points", [])
    jpegs = [jpeg for images in of_frames.pop("jpegs") for jpeg in images]
    columns = {name: np.stack(values) for name, values in of_frames.items()}
    columns |= {
        "camera.name": np.array([camera.name for camera in rig]),
        "camera.intrinsics": np.stack([camera.intrinsics for camera in rig]),
        "camera.ego_from_camera": np.stack([camera.ego_from_camera for camera in rig]),
        "jpeg": np.concatenate(jpegs),
        "jpeg.size": np.array([len(jpeg) for jpeg in jpegs]),
        "boxes.count": np.array([len(b) for b in boxes]),
        **{f"boxes.{field}": np.concatenate([getattr(b, field) for b in boxes]) for field in _BOX_FIELDS},
    }
    columns |= _point_columns(points) if geometry is None else _grid_columns(geometry)
    _write_whole(path, columns)


def frame_columns(scene: Scene, rig: Rig, time_s: float, taken: Capture) -> dict[str, Any]:
    """Everything that a drive keeps of one frame that was taken at `time_s`."""
    there = taken.truth
    assert there is not None
    shutters_s = [time_s + camera.shutter_offset_s for camera in rig]
    return {
        "stamp_ns": _stamp_ns(time_s),
        "world_from_ego": scene.world_from_ego(time_s),
        "camera.stamp_ns": np.array([_stamp_ns(shutter_s) for shutter_s in shutters_s]),
        "camera.world_from_ego": np.stack([scene.world_from_ego(shutter_s) for shutter_s in shutters_s]),
        "boxes": there.boxes,
        "jpegs": taken.jpegs,
        **(_voxel_columns(there) if there.points is None else {"points": there.points}),
    }


def drive_bytes(frames: int, geometry: GridGeometry | None) -> int:
    """What the truth of a drive takes in memory at most: voxels on a grid, or points where that is None."""
    bits = Lidar().rays * _POINT_BITS if geometry is None else math.prod(geometry.shape_xyz) * _VOXEL_BITS
    return frames * bits // 8


def _voxel_columns(there: GroundTruth) -> dict[str, NDArray[Any]]:
    assert there.class_id is not None and there.instance_id is not None and there.camera_mask is not None
    return {
        "class_id": there.class_id,
        "instance_id": there.instance_id.astype(np.uint16),
        "camera_mask": np.packbits(there.camera_mask),
    }


def _point_columns(points: Sequence[TruePoints]) -> dict[str, NDArray[Any]]:
    return {
        "points.count": np.array([len(p.class_id) for p in points]),
        "points.position_m": np.concatenate([p.position_m for p in points]),
        "points.class_id": np.concatenate([p.class_id for p in points]),
        "points.instance_id": np.concatenate([p.instance_id for p in points]).astype(np.uint16),
    }


def _grid_columns(geometry: GridGeometry) -> dict[str, NDArray[Any]]:
    return {
        "grid.shape_xyz": np.array(geometry.shape_xyz),
        "grid.voxel_size_m": np.array(geometry.voxel_size_m),
        "grid.ego_from_grid": geometry.ego_from_grid,
    }


def _write_whole(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several trainings may render the same drive at the same time, on several machines that share a disk.
    own = path.with_name(f"{path.name}.{platform.node()}.{os.getpid()}.part")
    with whole_file(path, own) as part, part.open("wb") as file:
        np.savez_compressed(file, **columns)  # type: ignore[arg-type]


def remove_orphans(folder: Path) -> None:
    """Remove what processes of this machine that were killed while they wrote a drive have left in the folder."""
    name = re.compile(rf"street-.*\.npz\.{re.escape(platform.node())}\.([1-9]\d{{0,8}})\.part")
    for part in folder.glob("street-*.part"):
        found = name.fullmatch(part.name)
        if found and not _is_alive(int(found[1])):
            with suppress(OSError):  # what is another user's stays, and is in nobody's way
                part.unlink()


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _stamp_ns(time_s: float) -> int:
    return round(time_s * NS_PER_S)


class SimulatedDrive:
    """One rendered drive; see `ground_truth.Drive`.

    Raises:
        DriveFileError: the file is damaged or holds something else.
    """

    def __init__(self, path: Path):
        self.path, self.name = path, path.stem
        advice = f"not a whole simulated drive: {_ADVICE}"
        try:
            with ArrayFile(path, advice) as file:
                self._arrays = _arrays_of_drive(file)
            self._jpeg_end = _ends(self._arrays, "jpeg.size", "jpeg", at_least=1)
            self._box_end = _ends(self._arrays, "boxes.count", "boxes.class_id", at_least=0)
            self._geometry = self._point_end = None
            if "points.count" in self._arrays:
                self._point_end = _ends(self._arrays, "points.count", "points.class_id", at_least=0)
            else:
                self._geometry = _grid(self._arrays)
        except DataError as error:
            raise DriveFileError(str(error)) from error
        except ValueError as error:
            raise DriveFileError(f"{path}: {error}; {advice}") from error

    def __len__(self) -> int:
        return len(self._arrays["stamp_ns"])

    def frame(self, index: int) -> Frame:
        """Images, calibrations and poses of one frame."""
        arrays = self._arrays
        cameras = tuple(
            CameraImage(
                name=str(name),
                stamp_ns=int(arrays["camera.stamp_ns"][index, i]),
                image=self._image(index * len(arrays["camera.name"]) + i),
                intrinsics=arrays["camera.intrinsics"][i],
                ego_from_camera=arrays["camera.ego_from_camera"][i],
                world_from_ego=arrays["camera.world_from_ego"][index, i],
            )
            for i, name in enumerate(arrays["camera.name"])
        )
        return Frame(int(arrays["stamp_ns"][index]), arrays["world_from_ego"][index], cameras)

    def world_from_ego(self, index: int) -> Matrix:
        """The pose of one frame [4, 4], without its images."""
        return check_rigid(self._arrays["world_from_ego"][index], "world_from_ego")

    def _image(self, number: int) -> torch.Tensor:
        end = int(self._jpeg_end[number])
        data = self._arrays["jpeg"][end - int(self._arrays["jpeg.size"][number]) : end]
        try:
            size_hw = jpeg_size_hw(data.tobytes())
        except ImageFileError as error:
            raise DriveFileError(f"{self.path}: image {number} cannot be decoded ({error}); {_ADVICE}") from error
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None or image.shape[:2] != size_hw:
            raise DriveFileError(f"{self.path}: image {number} is damaged; {_ADVICE}")
        return torch.from_numpy(np.ascontiguousarray(image[..., ::-1]))

    def truth(self, index: int) -> GroundTruth:
        """Voxels with the cameras' view or LiDAR points, whatever the drive was made with, and the boxes of the things
        that one of the seen voxels or a point belongs to: nuScenes, too, asks for none that no sensor met."""
        arrays, end = self._arrays, int(self._box_end[index])
        rows = slice(end - int(arrays["boxes.count"][index]), end)
        stamp_ns = int(arrays["stamp_ns"][index])
        boxes = TrueBoxes(**{field: arrays[f"boxes.{field}"][rows] for field in _BOX_FIELDS})
        if self._point_end is not None:
            points = self._points(index, int(self._point_end[index]))
            assert points.instance_id is not None
            seen = boxes.select(np.isin(boxes.instance_id, points.instance_id))
            return GroundTruth(stamp_ns, boxes=seen, points=points)
        assert self._geometry is not None
        shape = self._geometry.shape_xyz
        mask = np.unpackbits(arrays["camera_mask"][index], count=int(np.prod(shape))).astype(bool).reshape(shape)
        instance_id = arrays["instance_id"][index].astype(np.int32)
        return GroundTruth(
            stamp_ns,
            geometry=self._geometry,
            class_id=arrays["class_id"][index],
            instance_id=instance_id,
            camera_mask=mask,
            boxes=boxes.select(np.isin(boxes.instance_id, instance_id[mask])),
        )

    def _points(self, index: int, end: int) -> TruePoints:
        arrays = self._arrays
        rows = slice(end - int(arrays["points.count"][index]), end)
        return TruePoints(
            position_m=arrays["points.position_m"][rows],
            class_id=arrays["points.class_id"][rows],
            instance_id=arrays["points.instance_id"][rows].astype(np.int32),
        )


def _arrays_of_drive(file: ArrayFile) -> dict[str, NDArray[Any]]:
    """All arrays of a drive by name; none is read before all of them say that they fit each other and MAX_BYTES."""
    frames, cameras = _rows(file, "stamp_ns"), _rows(file, "camera.name")
    names = file.header("camera.name")[1]
    if cameras > _MAX_CAMERAS or names.kind != "U" or names.itemsize > _MAX_NAME_BYTES:
        raise ValueError(f"camera.name has {cameras} entries of type {names}, not at most {_MAX_CAMERAS} names")
    boxes, jpeg_bytes = _rows(file, "boxes.class_id", at_least=0), _rows(file, "jpeg")
    wanted: dict[str, tuple[tuple[int, ...], Any]] = {
        "stamp_ns": ((frames,), np.int64),
        "world_from_ego": ((frames, 4, 4), np.float64),
        "camera.name": ((cameras,), names),
        "camera.intrinsics": ((cameras, 3, 3), np.float64),
        "camera.ego_from_camera": ((cameras, 4, 4), np.float64),
        "camera.stamp_ns": ((frames, cameras), np.int64),
        "camera.world_from_ego": ((frames, cameras, 4, 4), np.float64),
        "jpeg": ((jpeg_bytes,), np.uint8),
        "jpeg.size": ((frames * cameras,), np.int64),
        "boxes.count": ((frames,), np.int64),
        "boxes.centre_m": ((boxes, 3), np.float32),
        "boxes.size_m": ((boxes, 3), np.float32),
        "boxes.yaw_rad": ((boxes,), np.float32),
        "boxes.velocity_mps": ((boxes, 2), np.float32),
        "boxes.class_id": ((boxes,), np.int64),
        "boxes.instance_id": ((boxes,), np.int32),
        **(_point_arrays(file, frames) if "points.count" in file else _voxel_arrays(file, frames)),
    }
    total = sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in wanted.values())
    if total > MAX_BYTES:
        raise ValueError(f"its arrays have {total} bytes, more than {MAX_BYTES}")
    return {name: file.read(name, shape, kind) for name, (shape, kind) in wanted.items()}


def _point_arrays(file: ArrayFile, frames: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    points = _rows(file, "points.class_id", at_least=0)
    return {
        "points.count": ((frames,), np.int64),
        "points.position_m": ((points, 3), np.float32),
        "points.class_id": ((points,), np.uint8),
        "points.instance_id": ((points,), np.uint16),
    }


def _voxel_arrays(file: ArrayFile, frames: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    shape_xyz = tuple(file.read("grid.shape_xyz", (3,), np.int64).tolist())
    if min(shape_xyz) < 1 or math.prod(shape_xyz) > MAX_VOXELS:
        raise ValueError(f"a grid of {shape_xyz} voxels is empty or larger than {MAX_VOXELS} voxels")
    return {
        "class_id": ((frames, *shape_xyz), np.uint8),
        "instance_id": ((frames, *shape_xyz), np.uint16),
        "camera_mask": ((frames, -(-math.prod(shape_xyz) // 8)), np.uint8),
        "grid.shape_xyz": ((3,), np.int64),
        "grid.voxel_size_m": ((3,), np.float64),
        "grid.ego_from_grid": ((4, 4), np.float64),
    }


def _rows(file: ArrayFile, name: str, at_least: int = 1) -> int:
    """How long an array of one axis says it is."""
    shape, _ = file.header(name)
    if len(shape) != 1 or shape[0] < at_least:
        raise ValueError(f"{name} has the shape {shape}, not one axis with at least {at_least} entries")
    return shape[0]


def _grid(arrays: dict[str, NDArray[Any]]) -> GridGeometry:
    x, y, z = arrays["grid.shape_xyz"].tolist()
    size_m = arrays["grid.voxel_size_m"]
    if not (np.isfinite(size_m).all() and size_m.min() > 0):
        raise ValueError(f"grid.voxel_size_m is {size_m.tolist()}, not three lengths")
    pose = check_rigid(arrays["grid.ego_from_grid"], "grid.ego_from_grid")
    return GridGeometry((x, y, z), tuple(size_m.tolist()), pose)


def _ends(arrays: dict[str, NDArray[Any]], counts: str, values: str, at_least: int) -> NDArray[np.int64]:
    """Where each part of `values` ends, by its length in `counts`."""
    count, length = arrays[counts], len(arrays[values])
    if count.min() < at_least or count.max() > length or count.sum() != length:
        raise ValueError(f"{counts} has {count.min()} to {count.max()}, in all {count.sum()}; {values} has {length}")
    return np.cumsum(count)
