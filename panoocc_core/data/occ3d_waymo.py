"""Occ3D-Waymo's voxel labels: `training/<scene>/<frame>_04.npz` and `validation/...`, of 0.4 m voxels.

Format, classes and grid are those of the data set's own description (github.com/Tsinghua-MARS-Lab/Occ3D and CVT-Occ).
The grid lies in Waymo's vehicle frame, x ahead, y left, z up: the ego frame of everything here.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..geometry import NS_PER_S, rigid
from ..ground_truth import GroundTruth
from ..labels import OCC3D_WAYMO
from ..types import GridGeometry
from .errors import DataError
from .files import ArrayFile

GEOMETRY = GridGeometry(
    shape_xyz=(200, 200, 16),
    voxel_size_m=(0.4, 0.4, 0.4),
    ego_from_grid=rigid(np.eye(3), np.array((-40.0, -40.0, -1.0))),
)
FREE_IN_FILES = 23
PERIOD_NS = NS_PER_S // 10  # between two frames
MASKS = ("origin_voxel_state", "final_voxel_state", "infov")  # seen by the LiDAR, by a camera, within an image
_MASK_TYPES = (np.bool_, np.uint8, np.int8, np.int32, np.int64)
_ADVICE = "give a *_04.npz of Occ3D-Waymo, or download it again"
_FILE = re.compile(r"(\d{3})_04\.npz")


class WaymoLabels(Sequence[GroundTruth]):
    """The truth of one scene's frames, read one at a time; stamps count from its first frame, ten a second.

    Args:
        folder: of one scene, such as `validation/012`.

    Raises:
        DataError: no such folder, or no label file in it.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: no such folder; give that of one scene, such as validation/012")
        named = ((_FILE.fullmatch(path.name), path) for path in sorted(self.folder.iterdir()))
        self.paths = {int(name[1]): path for name, path in named if name is not None}
        if not self.paths:
            raise DataError(
                f"{self.folder}: has no labels called 000_04.npz and so on; give the folder of one scene, and "
                "unpack the labels of 0.4 m voxels"
            )
        self.frames = tuple(self.paths)  # the numbers of the frames that have labels

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> GroundTruth:  # type: ignore[override]
        """Voxels of one frame.

        Raises:
            DataError: see `read_waymo_voxels`.
            IndexError: there are fewer frames.
        """
        frame = self.frames[index]
        class_id, lidar_mask, camera_mask = read_waymo_voxels(self.paths[frame])
        return GroundTruth(
            frame * PERIOD_NS,
            GEOMETRY,
            class_id,
            lidar_mask=lidar_mask,
            camera_mask=camera_mask,
            labels=OCC3D_WAYMO,
        )


def read_waymo_voxels(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """Classes (ids of labels.OCC3D_WAYMO), LiDAR mask and camera mask of a `*_04.npz`, each [X, Y, Z].

    A camera sees a voxel where `final_voxel_state` says so and `infov` does not deny it: Waymo has no camera behind.

    Raises:
        DataError: no such file, another grid, an array that is missing or of another type, a class that does not exist.
    """
    with ArrayFile(path, _ADVICE) as file:
        _check_grid(file)
        class_id = file.read("voxel_label", GEOMETRY.shape_xyz, np.uint8)
        lidar_mask, camera_mask, in_view = (_mask(file, name) for name in MASKS)
    free, classes = OCC3D_WAYMO.free_id, len(OCC3D_WAYMO.names) - 1
    assert free == classes
    strange = np.unique(class_id[(class_id >= classes) & (class_id != FREE_IN_FILES)])
    if len(strange):
        raise DataError(
            f"{path}: voxel_label holds class {strange[0]}; Occ3D-Waymo has 0..{classes - 1} and {FREE_IN_FILES} for "
            f"free: {_ADVICE}"
        )
    return np.where(class_id == FREE_IN_FILES, np.uint8(free), class_id), lidar_mask, camera_mask & in_view


def _check_grid(file: ArrayFile) -> None:
    """Raises DataError for another grid, before anything of it is read."""
    shape, _ = file.header("voxel_label")
    if shape != GEOMETRY.shape_xyz:
        raise DataError(
            f"{file.path}: voxel_label has {'x'.join(map(str, shape))} voxels, and the grid of 0.4 m has 200x200x16 "
            f"(files without _04 have voxels of 0.1 m): {_ADVICE}"
        )


def _mask(file: ArrayFile, name: str) -> NDArray[np.bool_]:
    """A mask, however its zeros and ones are stored."""
    _, kind = file.header(name)
    if kind not in _MASK_TYPES:
        raise DataError(f"{file.path}: {name} is {kind}, not a mask of zeros and ones; {_ADVICE}")
    values = file.read(name, GEOMETRY.shape_xyz, kind.type)
    if values.min() < 0 or values.max() > 1:
        raise DataError(f"{file.path}: {name} holds {values.min()} to {values.max()}, not only 0 and 1; {_ADVICE}")
    return values.astype(np.bool_)
