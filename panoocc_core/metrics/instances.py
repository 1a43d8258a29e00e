"""Instances for predictions that have none: what of a thing class hangs together is one thing."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..labels import LabelSet
from .confusion import Ids

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
