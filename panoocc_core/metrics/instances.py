"""Instances for predictions that have none: by what hangs together, or by the boxes around points."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..labels import BOX_CLASSES, LabelSet
from .confusion import Ids
from .detection import ScoredBoxes

_NEIGHBOURS = np.ones((3, 3, 3), bool)  # 26: voxels hang together over faces, edges and corners


def connected_instances(class_id: Ids, labels: LabelSet) -> NDArray[np.int32]:
    """Instance ids [X, Y, Z] of a class volume [X, Y, Z]: 0 for stuff and free space, things count from 1.

    Every connected component of a thing class, over faces, edges and corners, is one instance.  So neighbours of one
    class that touch are one thing, and a thing that a gap of one voxel parts is two: with ids of its own a network can
    only do better.  Ids differ between classes, too.

    Raises:
        ValueError: the ids are no volume.
    """
    if class_id.ndim != 3:
        raise ValueError(f"instances are found in a volume [X, Y, Z], not in {class_id.shape}")
    instance_id = np.zeros(class_id.shape, np.int32)
    found = 0
    for thing in np.flatnonzero(labels.is_thing):
        parts, count = ndimage.label(class_id == thing, _NEIGHBOURS)
        instance_id += np.where(parts > 0, parts + np.int32(found), 0).astype(np.int32)
        found += count
    return instance_id


def instances_from_boxes(
    position_m: NDArray[np.floating], class_id: Ids, boxes: ScoredBoxes, labels: LabelSet, least_score: float = 0.3
) -> NDArray[np.int32]:
    """Instance ids [p] of points [p, 3] with classes [p], in the ego frame: 0 where no box claims a point.

    The rule of the nuScenes panoptic devkit's baseline: boxes in order of score claim the points inside them that have
    their class; a box more than half of whose points are taken already is dropped.
    """
    instance_id = np.zeros(len(position_m), np.int32)
    class_of_box = [labels.names.index(name) if name in labels.names else -1 for name in BOX_CLASSES]
    found = 0
    for i in np.argsort(-boxes.score, kind="stable"):
        if boxes.score[i] < least_score:
            break
        offset = position_m - boxes.centre_m[i]
        cosine, sine = np.cos(boxes.yaw_rad[i]), np.sin(boxes.yaw_rad[i])
        along = np.abs(offset[:, 0] * cosine + offset[:, 1] * sine)
        across = np.abs(offset[:, 1] * cosine - offset[:, 0] * sine)
        length, width, height = boxes.size_m[i] / 2
        inside = (along <= length) & (across <= width) & (np.abs(offset[:, 2]) <= height)
        mine = inside & (class_id == class_of_box[boxes.class_id[i]])
        taken = mine & (instance_id > 0)
        if not mine.any() or 2 * taken.sum() > mine.sum():
            continue
        found += 1
        instance_id[mine & ~taken] = found
    return instance_id
