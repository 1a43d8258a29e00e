"""Whether all files of a data set are there, before hours are spent on those that are."""

from collections.abc import Sequence
from pathlib import Path

from ..ground_truth import Drives
from .errors import DataError
from .nuscenes import NuScenesDrive
from .occ3d import Occ3DDrive

# First folder of a file -> what it comes with.
ARCHIVES = {
    "samples": "the archives of key frames ('file blobs') of this version of nuScenes, from nuscenes.org",
    "lidarseg": "nuScenes-lidarseg, from nuscenes.org",
    "panoptic": "Panoptic nuScenes (nuScenes-panoptic), from nuscenes.org",
    "gts": "gts of Occ3D-nuScenes, from github.com/Tsinghua-MARS-Lab/Occ3D",
}


def check_files(drives: Drives, with_sweeps: bool = False) -> None:
    """That what frames and their truth are read from is there; nothing is opened.

    Args:
        drives: those that are not of nuScenes are not looked at.
        with_sweeps: also the LiDAR's points where they have no labels.

    Raises:
        DataError: files are missing; the message has the first of each archive, how many, and where to get them.
    """
    missing: dict[str, list[Path]] = {}
    count = 0
    for drive in drives:
        if not isinstance(drive, NuScenesDrive | Occ3DDrive):
            continue
        for index in range(len(drive)):
            files = drive.files(index, with_sweeps)
            count += len(files)
            for archive, path in files:
                if not path.is_file():
                    missing.setdefault(archive, []).append(path)
    if missing:
        raise DataError("; ".join(_text(archive, paths) for archive, paths in missing.items()) + f" (of {count} files)")


def _text(archive: str, paths: Sequence[Path]) -> str:
    several = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{several}: no such file; unpack {ARCHIVES.get(archive, archive)}"
