"""Data sets as users have them, as drives of frames and truth (`ground_truth.Drive`); nothing read here is ever run."""

from .completeness import check_files
from .errors import DataError
from .folder import open_dataset, open_splits
from .nuscenes import NuScenes, NuScenesDrive
from .occ3d import Occ3D, Occ3DDrive
from .occ3d_waymo import WaymoLabels, read_waymo_voxels
from .splits import split_scenes

__all__ = [
    "DataError",
    "NuScenes",
    "NuScenesDrive",
    "Occ3D",
    "Occ3DDrive",
    "WaymoLabels",
    "check_files",
    "open_dataset",
    "open_splits",
    "read_waymo_voxels",
    "split_scenes",
]
