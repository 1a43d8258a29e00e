"""A data set by the path of its folder."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..ground_truth import Drives
from .errors import DataError
from .nuscenes import NuScenes
from .occ3d import Occ3D
from .simulated import SimulatedStreets
from .splits import split_scenes

KINDS = ("nuscenes", "occ3d", "simulated")
_SHOWN = 8  # entries of a folder that is not understood


def open_dataset(
    path: Path | str,
    kind: str | None = None,
    *,
    version: str | None = None,
    split: str | Path | None = None,
    gts: Path | str | None = None,
    network_frame: str | None = None,
    with_points: bool = True,
    show_progress: bool = False,
) -> Drives:
    """The drives of a data set.

    Args:
        path: nuScenes' root, or a folder of simulated drives.
        kind: "nuscenes", "occ3d" (nuScenes with voxel labels) or "simulated"; None: guessed from what is in the folder.
        version: the folder of tables; None: the only one there is.
        split: one of nuScenes' splits by its name, or a file with names of scenes; None: all.
        gts: Occ3D's folder of labels; None: `<path>/gts`.
        network_frame: see `NuScenes`.
        with_points: whether truth has labelled LiDAR points, where there are any.
        show_progress: bars for the large tables.

    Raises:
        DataError: the folder is not understood, or something in it is not what it should be.
    """
    return open_splits(
        path,
        (split,),
        kind,
        version=version,
        gts=gts,
        network_frame=network_frame,
        with_points=with_points,
        show_progress=show_progress,
    )[0]


def open_splits(
    path: Path | str,
    splits: Sequence[str | Path | None],
    kind: str | None = None,
    *,
    version: str | None = None,
    gts: Path | str | None = None,
    network_frame: str | None = None,
    with_points: bool = True,
    show_progress: bool = False,
) -> tuple[Drives, ...]:
    """The drives of several splits of a data set, whose tables are read once; arguments as in `open_dataset`.

    Raises:
        DataError: see `open_dataset`.
    """
    root = Path(path)
    if kind is None:
        kind = guessed_kind(root, has_gts=gts is not None)
    if kind not in KINDS:
        raise DataError(f"kind {kind!r} is not known; known are {', '.join(KINDS)}")
    if kind == "simulated":
        if any(split is not None for split in splits) or version is not None or gts is not None:
            raise DataError(f"{root}: simulated drives have no split, version or gts; leave them out")
        return tuple(_simulated(root) for _ in splits)
    scenes = [None if split is None else split_scenes(split) for split in splits]
    version = only_version(root) if version is None else version
    nuscenes = NuScenes(
        root, version, network_frame=network_frame, with_points=with_points, show_progress=show_progress
    )
    labelled = nuscenes if kind == "nuscenes" else Occ3D(nuscenes, gts)
    return tuple(labelled.drives(names) for names in scenes)


def guessed_kind(root: Path, has_gts: bool = False) -> str:
    """What a folder is: "occ3d" for nuScenes with labels in `gts`, "nuscenes" without, "simulated" for drives' files.

    Raises:
        DataError: it is none of them; the message says what it looks like and what was looked for.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    if _versions(root):
        return "occ3d" if has_gts or (root / "gts").is_dir() else "nuscenes"
    if _simulated_files(root):
        return "simulated"
    if (root / "scene.json").is_file():
        raise DataError(f"{root}: is a folder of tables; give the folder above it, {root.resolve().parent}")
    if (root / "gts").is_dir() or any(root.glob("scene-*/*/labels.npz")):
        raise DataError(
            f"{root}: has Occ3D's voxel labels, which belong to nuScenes' images: give nuScenes' root as path and this "
            "folder's labels as gts"
        )
    found = _some(path.name + "/" * path.is_dir() for path in root.iterdir())
    raise DataError(
        f"{root}: is no data set that can be read; looked for nuScenes' tables (v1.0-*/scene.json), with gts/ beside "
        f"them for Occ3D, and for simulated drives (street-*.npz); it has {found}"
    )


def _simulated(root: Path) -> SimulatedStreets:
    files = _simulated_files(root)
    if not files:
        raise DataError(f"{root}: has no simulated drives (street-*.npz); give the folder that they were rendered into")
    return SimulatedStreets(files)


def _simulated_files(root: Path) -> tuple[Path, ...]:
    return tuple(sorted(root.glob("street-*.npz")))


def _versions(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob("v1.0-*/scene.json"))


def only_version(root: Path) -> str:
    """The one folder of nuScenes' tables.

    Raises:
        DataError: there is none, or several.
    """
    versions = _versions(root)
    if len(versions) != 1:
        found = ", ".join(versions) or "no folder v1.0-* with tables"
        raise DataError(f"{root}: has {found}; " + ("name the version to read" if versions else "unpack the metadata"))
    return versions[0]


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return (", ".join(listed[:_SHOWN]) + (" ..." if len(listed) > _SHOWN else "")) or "nothing"
