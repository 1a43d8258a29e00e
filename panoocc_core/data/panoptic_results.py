"""A folder of results for nuScenes' panoptic challenge, as its devkit reads it.

    FOLDER/panoptic/<split>/<token of the LiDAR's sample_data>_panoptic.npz    uint16 `data`: class * 1000 + instance
    FOLDER/<split>/submission.json                                           what was used

Classes are the 16 of the challenge, 0 is noise; instances of a class count from 1 in every scene, and stuff has 0.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..base.whole_files import whole_file, write_json
from ..ground_truth import Drive
from ..labels import LIDARSEG
from ..metrics.panoptic import LABEL_DIVISOR, panoptic_labels
from .errors import DataError
from .nuscenes import NuScenesDrive

_IS_THING = np.array(LIDARSEG.is_thing)


class SceneNumbers:
    """Numbers from 1 to 999 for the instances of each class, the same for one instance through a scene.

    A class with more instances than that gives the number of the one that was out of sight longest once more.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, dict[int, int]] = {}  # class -> instance -> number; the one seen last comes last

    def of_frame(self, class_id: NDArray[np.integer], instance_id: NDArray[np.integer]) -> NDArray[np.int64]:
        """Numbers [p] of points with classes [p] and instances [p] (whole numbers from 0; 0: none); stuff has 0.

        Raises:
            ValueError: a frame has more than 999 instances of one class.
        """
        numbers = np.zeros(len(class_id), np.int64)
        own = _IS_THING[class_id] & (instance_id > 0)
        for kind in np.unique(class_id[own]):
            of_kind = own & (class_id == kind)
            instances, index = np.unique(instance_id[of_kind], return_inverse=True)
            numbers[of_kind] = self._of_class(int(kind), instances.tolist())[index]
        return numbers

    def _of_class(self, kind: int, instances: list[int]) -> NDArray[np.int64]:
        if len(instances) >= LABEL_DIVISOR:
            raise ValueError(f"{len(instances)} instances of one class in a frame; nuScenes has numbers for 999")
        known = self._numbers.setdefault(kind, {})
        for instance in instances:
            if instance in known:
                known[instance] = known.pop(instance)
        for instance in instances:
            if instance not in known:
                free = len(known) + 1
                known[instance] = free if free < LABEL_DIVISOR else known.pop(next(iter(known)))
        return np.array([known[instance] for instance in instances], np.int64)


class PanopticResults:
    """Writes one file a key frame, and the description when all are there.

    Args:
        folder: where; made if it is not there.
        split: the part of nuScenes, which names the folders.

    Raises:
        DataError: results are there already, or the split is no name of a folder.
        OSError: the folders cannot be made.
    """

    def __init__(self, folder: Path, split: str):
        if not split or Path(split).name != split:
            raise DataError(f"split {split!r}: names a folder of the results; give a split by its name")
        self._labels, self._description = folder / "panoptic" / split, folder / split / "submission.json"
        for path in (self._labels, self._description.parent):
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise DataError(f"{path}: is there already; give a new folder for the results, or remove it")
        for path in (self._labels, self._description.parent):
            path.mkdir(parents=True, exist_ok=True)
        self._scene, self._numbers = "", SceneNumbers()

    def points_m(self, drive: Drive, index: int) -> NDArray[np.float32]:
        """The points [p, 3] of a key frame that are to be labelled, in the ego frame.

        Raises:
            DataError: the drive is not of nuScenes, or the sweep cannot be read.
        """
        return _of_nuscenes(drive).points_m(index)

    def add(self, drive: Drive, index: int, class_id: NDArray[np.integer], instance_id: NDArray[np.integer]) -> None:
        """Write the labels of a key frame: classes [p] of labels.LIDARSEG, instances [p] from 1, or 0 for none.

        Frames of a scene come one after the other, so that an instance keeps its number.

        Raises:
            DataError: the drive is not of nuScenes.
            ValueError: a class does not fit the format, or one has more than 999 instances.
            OSError: the file cannot be written.
        """
        if drive.name != self._scene:
            self._scene, self._numbers = drive.name, SceneNumbers()
        self.write(_of_nuscenes(drive).sweep_token(index), class_id, self._numbers.of_frame(class_id, instance_id))

    def write(self, token: str, class_id: NDArray[np.integer], number: NDArray[np.integer]) -> None:
        """Write the labels of one sweep by its token: classes [p] of labels.LIDARSEG, and numbers [p] from 0 to 999.

        Raises:
            ValueError: a class or number does not fit the format.
            OSError: the file cannot be written.
        """
        with whole_file(self._labels / f"{token}_panoptic.npz") as part, part.open("wb") as file:
            np.savez_compressed(file, data=panoptic_labels(class_id, number))

    def finish(self, task: str = "segmentation", inputs: Sequence[str] = ("camera",)) -> None:
        """Describe the results, when all are there.

        Args:
            task: "segmentation" or "tracking".
            inputs: of camera, lidar, radar, map and external.

        Raises:
            OSError: the file cannot be written.
        """
        used = {f"use_{name}": name in inputs for name in ("camera", "lidar", "radar", "map", "external")}
        write_json(self._description, {"meta": {"task": task, **used}})


def _of_nuscenes(drive: Drive) -> NuScenesDrive:
    if not isinstance(drive, NuScenesDrive):
        raise DataError(
            f"{drive.name}: is no scene of nuScenes; panoptic results have the tokens of its sweeps as names"
        )
    return drive
