"""Which true voxels are of one thing, where only true boxes tell things apart."""

import numpy as np
from numpy.typing import NDArray

from ..ground_truth import GroundTruth
from ..labels import things_of_boxes
from ..types import check_box_classes
from .fusion import outside

MARGIN_VOXELS = 0.5  # by which a true box reaches beyond its faces


def true_instance_ids(truth: GroundTruth) -> NDArray[np.int32] | None:
    """Instance ids [X, Y, Z] of true voxels: as given, or those of the true boxes around things of their class.

    A box reaches half a voxel beyond its faces.  Of several the voxel is of the one that it is least outside of, then
    of the one with the nearest centre, then of the smallest one; what lies in none has the id 0.  None where there are
    neither ids nor boxes.

    Raises:
        ValueError: a true box is of no class.
    """
    if truth.instance_id is not None or truth.boxes is None or truth.class_id is None or truth.geometry is None:
        return truth.instance_id
    boxes, geometry = truth.boxes, truth.geometry
    check_box_classes("true boxes", boxes.class_id)
    indices = np.argwhere(np.array(truth.labels.is_thing)[truth.class_id])
    place_m, kinds = geometry.centres_m(indices), truth.class_id[tuple(indices.T)]
    side_m, height_m = (MARGIN_VOXELS * size for size in (max(geometry.voxel_size_m[:2]), geometry.voxel_size_m[2]))
    may_own = things_of_boxes(truth.labels)
    number = np.zeros(len(indices), np.int32)
    least_m = np.full((2, len(indices)), np.inf)  # outside of the best box so far, and from its centre
    for row in np.argsort(boxes.size_m.prod(axis=1), kind="stable"):
        outside_m, is_inside = outside(place_m, boxes, int(row), side_m, height_m)
        centre_m = np.linalg.norm(place_m - boxes.centre_m[row], axis=1)
        nearer = (outside_m < least_m[0]) | ((outside_m == least_m[0]) & (centre_m < least_m[1]))
        mine = is_inside & may_own[boxes.class_id[row]][kinds] & nearer
        number[mine] = boxes.instance_id[row]
        least_m[:, mine] = outside_m[mine], centre_m[mine]
    instance_id = np.zeros(truth.class_id.shape, np.int32)
    instance_id[tuple(indices.T)] = number
    return instance_id
