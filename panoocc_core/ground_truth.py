"""What was really there: the targets of training and the yardstick of evaluation, whatever they come from.

A field is None where a data set has no such truth.  Boxes and points are in the ego frame ("base_link", REP-103: x
ahead, y left, z up), voxels on the grid that `geometry` places in it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .geometry import Matrix
from .labels import OCC3D, LabelSet, counterparts
from .types import Frame, GridGeometry, check_boxes, rows_of


@dataclass(frozen=True, slots=True, eq=False)
class TrueBoxes:
    """Things as boxes in the ego frame, n of them.

    Raises:
        ValueError: the arrays disagree in length, a centre, size or heading is not finite, or a size is not positive.
    """

    centre_m: NDArray[np.float32]  # [n, 3], the middle of the box
    size_m: NDArray[np.float32]  # [n, 3], length, width, height
    yaw_rad: NDArray[np.float32]  # [n], heading, counter-clockwise from x
    velocity_mps: NDArray[np.float32]  # [n, 2], over ground, along the ego frame's x and y; NaN where unknown
    class_id: NDArray[np.int64]  # [n], index into labels.BOX_CLASSES
    instance_id: NDArray[np.int32]  # [n], the same through a drive
    attribute_id: NDArray[np.int64] | None = None  # [n], nuScenes' attributes (metrics.attributes), 0 = has none

    def __post_init__(self) -> None:
        check_boxes("true boxes", self, finite=("centre_m", "size_m", "yaw_rad"))

    def __len__(self) -> int:
        return len(self.centre_m)

    def select(self, rows: NDArray[Any]) -> "TrueBoxes":
        """The boxes of some rows: numbers, or a mask."""
        return rows_of(self, rows)


@dataclass(frozen=True, slots=True, eq=False)
class TruePoints:
    """Labelled LiDAR points in the ego frame."""

    position_m: NDArray[np.float32]  # [p, 3]
    class_id: NDArray[np.uint8]  # [p], ids of labels.LIDARSEG; 0 = noise
    instance_id: NDArray[np.int32] | None  # [p], 0 = stuff; None: nobody has told the things apart
    is_ambiguous: NDArray[np.bool_] | None = None  # [p], in several true boxes: no part of any instance


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """The truth of one frame.

    Raises:
        ValueError: voxel arrays of another shape than the geometry's, or a class that `labels` does not have.
    """

    stamp_ns: int
    geometry: GridGeometry | None = None
    class_id: NDArray[np.uint8] | None = None  # [X, Y, Z], ids of `labels`
    instance_id: NDArray[np.int32] | None = None  # [X, Y, Z], 0 = stuff and free
    camera_mask: NDArray[np.bool_] | None = None  # [X, Y, Z], what the cameras can see
    lidar_mask: NDArray[np.bool_] | None = None  # [X, Y, Z]
    boxes: TrueBoxes | None = None
    bicycle_racks: TrueBoxes | None = None  # of no class; cycles in them count neither as truth nor as found
    points: TruePoints | None = None
    labels: LabelSet = OCC3D  # of the voxels

    def __post_init__(self) -> None:
        for name in ("class_id", "instance_id", "camera_mask", "lidar_mask"):
            values = getattr(self, name)
            if values is None:
                continue
            if self.geometry is None:
                raise ValueError(f"truth: {name} is given without the geometry of its grid")
            if values.shape != self.geometry.shape_xyz:
                raise ValueError(f"truth: {name} has the shape {values.shape}, not {self.geometry.shape_xyz}")
        if self.class_id is not None and self.class_id.max(initial=0) >= len(self.labels.names):
            raise ValueError(
                f"truth: class_id holds the class {self.class_id.max()}, {self.labels.key} has "
                f"0..{len(self.labels.names) - 1}: make or download the data again"
            )

    def in_classes_of(self, labels: LabelSet) -> "GroundTruth":
        """The same truth with the voxels' classes by their counterparts in another label set.

        Raises:
            ValueError: one of the classes has none there.
        """
        if labels.names == self.labels.names:
            return self
        ids = counterparts(self.labels, labels)
        if None in ids:
            raise ValueError(
                f"the true voxels have the classes {self.labels.key}, of which {labels.key} has no "
                f"{self.labels.names[ids.index(None)]}"
            )
        if self.class_id is None:
            return replace(self, labels=labels)
        class_id, instance_id = np.array(ids, np.uint8)[self.class_id], self.instance_id
        if instance_id is not None:  # a thing there may be stuff here
            instance_id = np.where(np.array(labels.is_thing)[class_id], instance_id, 0).astype(np.int32)
        return replace(self, class_id=class_id, instance_id=instance_id, labels=labels)


class Drive(Protocol):
    """One recording in order of time: frames and what was there, read when asked for."""

    @property
    def name(self) -> str: ...
    def __len__(self) -> int: ...
    def frame(self, index: int) -> Frame: ...
    def world_from_ego(self, index: int) -> Matrix:
        """The pose of a frame [4, 4], without its images."""
        ...

    def truth(self, index: int) -> GroundTruth: ...


Drives = Sequence[Drive]


@contextmanager
def naming_frame(drive: Drive, index: int) -> Iterator[None]:
    """A block that reads a frame: what is wrong there says in which drive and frame.

    Raises:
        ValueError: that of the block, after drive and frame.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{drive.name}, frame {index}: {error}") from error
