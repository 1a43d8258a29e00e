"""Occ3D-nuScenes: `gts/<scene>/<sample token>/labels.npz` beside nuScenes, whose frames it labels.

The grid lies in the ego frame at the time of the LiDAR sweep, axes x, y, z: the reference frame of a NuScenesDrive.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..geometry import Matrix, rigid
from ..ground_truth import GroundTruth
from ..labels import OCC3D
from ..types import Frame, GridGeometry
from .errors import DataError
from .files import ArrayFile
from .nuscenes import NuScenes, NuScenesDrive

GEOMETRY = GridGeometry(
    shape_xyz=(200, 200, 16),
    voxel_size_m=(0.4, 0.4, 0.4),
    ego_from_grid=rigid(np.eye(3), np.array((-40.0, -40.0, -1.0))),
)


class Occ3D:
    """The voxel labels of nuScenes' scenes.

    Args:
        nuscenes: the images, poses and boxes.
        gts: the folder `gts`; None: the one in nuScenes' root.

    Raises:
        DataError: no such folder.
    """

    def __init__(self, nuscenes: NuScenes, gts: Path | str | None = None):
        self.nuscenes, self.gts = nuscenes, nuscenes.root / "gts" if gts is None else Path(gts)
        if not self.gts.is_dir():
            raise DataError(f"{self.gts}: no such folder; unpack Occ3D-nuScenes' gts there, or give the folder's path")

    def drives(self, scenes: Iterable[str] | None = None) -> list["Occ3DDrive"]:
        """One drive a scene, in the order in which they are named; all of nuScenes' for None.

        Raises:
            DataError: a scene is not in nuScenes or has no labels here.
        """
        drives = [Occ3DDrive(drive, self.gts / drive.name) for drive in self.nuscenes.drives(scenes)]
        bare = [drive.name for drive in drives if not drive.folder.is_dir()]
        if bare:
            raise DataError(
                f"{self.gts}: has no folder {bare[0]} ({len(bare)} of {len(drives)} scenes have no labels); unpack all "
                "of Occ3D's gts, or name the scenes to use (a split)"
            )
        return drives


class Occ3DDrive:
    """One scene with voxel labels."""

    def __init__(self, drive: NuScenesDrive, folder: Path):
        self._drive, self.folder = drive, folder

    @property
    def name(self) -> str:
        """The scene's name."""
        return self._drive.name

    def __len__(self) -> int:
        return len(self._drive)

    def frame(self, index: int) -> Frame:
        """The images of a key frame (see NuScenesDrive.frame)."""
        return self._drive.frame(index)

    def world_from_ego(self, index: int) -> Matrix:
        """The pose of a key frame (see NuScenesDrive.world_from_ego)."""
        return self._drive.world_from_ego(index)

    def files(self, index: int, with_sweep: bool = False) -> list[tuple[str, Path]]:
        """What a key frame and its truth are read from (see NuScenesDrive.files)."""
        return [*self._drive.files(index, with_sweep), ("gts", self._labels(index))]

    def _labels(self, index: int) -> Path:
        return self.folder / self._drive.sample_token(index) / "labels.npz"

    def truth(self, index: int) -> GroundTruth:
        """What nuScenes has, and voxels.

        Raises:
            DataError: a file is missing or not what it should be.
            IndexError: there are fewer key frames.
        """
        class_id, lidar_mask, camera_mask = read_voxels(self._labels(index))
        return replace(
            self._drive.truth(index),
            geometry=GEOMETRY,
            class_id=class_id,
            lidar_mask=lidar_mask,
            camera_mask=camera_mask,
        )


def read_voxels(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """Classes, LiDAR mask and camera mask of a `labels.npz`, each [X, Y, Z].

    Raises:
        DataError: no such file, an array of another shape or type, a class that does not exist.
    """
    with ArrayFile(path, "unpack the gts of Occ3D-nuScenes again; the labels of other data sets do not fit") as file:
        class_id, *masks = (
            file.read(name, GEOMETRY.shape_xyz, np.uint8) for name in ("semantics", "mask_lidar", "mask_camera")
        )
    if class_id.max() >= len(OCC3D.names):
        raise DataError(
            f"{path}: semantics holds class {class_id.max()}; Occ3D has 0..{len(OCC3D.names) - 1}: download it again"
        )
    for name, mask in zip(("mask_lidar", "mask_camera"), masks):
        if mask.max() > 1:
            raise DataError(f"{path}: {name} holds {mask.max()}, not only 0 and 1; download it again")
    lidar_mask, camera_mask = (mask.astype(np.bool_) for mask in masks)
    return class_id, lidar_mask, camera_mask
