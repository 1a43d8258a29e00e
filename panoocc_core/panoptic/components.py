"""Instances of networks without a trained box branch: connected voxels of one class, and a box around each."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..labels import LabelSet, box_class
from ..types import GridGeometry, ScoredBoxes

MAX_INSTANCES = 1000  # of a frame: what has more is noise, of which the largest parts stay
_NEIGHBOURS = np.ones((3, 3, 3), bool)  # 26: voxels hang together over faces, edges and corners


def connected_instances(class_id: NDArray[np.uint8], labels: LabelSet) -> NDArray[np.int32]:
    """Instance ids [X, Y, Z] of a class volume [X, Y, Z]: 0 for stuff and free space, things count from 1.

    Every connected component of a thing class, over faces, edges and corners, is one instance.  So neighbours of one
    class that touch are one thing, and a thing that a gap of one voxel parts is two.  Ids differ between classes, too.

    Raises:
        ValueError: the ids are no volume.
    """
    if class_id.ndim != 3:
        raise ValueError(f"instances are found in a volume [X, Y, Z], not in {class_id.shape}")
    instance_id = np.zeros(class_id.shape, np.int32)
    found = 0
    for thing, where in enumerate(ndimage.find_objects(class_id + np.uint8(1))):  # numbers from 1 to 255
        if where is None or not labels.is_thing[thing]:
            continue
        parts, count = ndimage.label(class_id[where] == thing, _NEIGHBOURS)
        instance_id[where] += np.where(parts > 0, parts + np.int32(found), 0).astype(np.int32)
        found += count
    return instance_id


def boxes_around(
    indices: NDArray[np.int64],
    owner: NDArray[np.int32],
    class_id: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    geometry: GridGeometry,
    labels: LabelSet,
) -> ScoredBoxes:
    """The smallest upright boxes around the voxels of each instance 1..k, in the ego frame; nothing says how they move.

    The longer side is the length, which points ahead of the vehicle rather than back.

    Args:
        indices: [v, 3] (x, y, z) of the voxels; owner: [v], their instance; class_id, confidence: [v].
    """
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.diff(owner[order], prepend=0))
    corners_m = _corners_m(indices[order], geometry)  # [v, 8, 3]
    rows = [_box(corners.reshape(-1, 3)) for corners in np.split(corners_m, starts[1:])] if len(order) else []
    found = np.array(rows, np.float32).reshape(-1, 7)
    score = np.add.reduceat(confidence[order].astype(np.float32), starts) if len(order) else np.zeros(0, np.float32)
    counts = np.diff(np.append(starts, len(order)))
    names = [labels.names[kind] for kind in class_id[order][starts]]
    return ScoredBoxes(
        centre_m=found[:, :3],
        size_m=found[:, 3:6],
        yaw_rad=found[:, 6],
        velocity_mps=np.zeros((len(found), 2), np.float32),
        class_id=np.array([box_class(name) for name in names], np.int64),
        score=(score / np.maximum(counts, 1) / 255).astype(np.float32),
    )


def _corners_m(indices: NDArray[np.int64], geometry: GridGeometry) -> NDArray[np.float64]:
    ends = np.indices((2, 2, 2)).reshape(3, -1).T - 0.5
    corners = indices[:, None] + ends
    return geometry.centres_m(corners.reshape(-1, 3)).reshape(len(indices), 8, 3)


def _box(corners_m: NDArray[np.float64]) -> tuple[float, ...]:
    """x, y, z, length, width, height and heading of the smallest upright box around points [n, 3]."""
    low, high = corners_m[:, 2].min(), corners_m[:, 2].max()
    (x, y), (length, width), turn_deg = cv2.minAreaRect(corners_m[:, :2].astype(np.float32))
    if width > length:
        length, width, turn_deg = width, length, turn_deg + 90
    yaw = np.deg2rad((turn_deg + 90) % 180 - 90)
    return x, y, (low + high) / 2, length, width, high - low, yaw
