"""Boxes claim the voxels, or the points, that are theirs: the paper's rule of panoptic voxels.

Boxes in order of score claim what lies inside them, has their class and is not claimed yet.  A box that finds fewer
than `min_voxels`, or more than half of what it would claim taken, is dropped: so of several boxes around one thing the
best one stays.  With `refine` a box that is sure of itself claims things of any class, which then have its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import PanopticConfig
from ..labels import BOX_CLASSES, LabelSet
from ..types import ScoredBoxes


@dataclass(frozen=True, slots=True, eq=False)
class Claims:
    """Which of p places belong to which of k boxes."""

    box: NDArray[np.int32]  # [p], 0 for none, else 1 + the row in `kept`
    class_id: NDArray[np.uint8]  # [p], changed where a box refined it
    kept: NDArray[np.int64]  # [k], rows of the boxes that stayed, best first


def claimed(
    position_m: NDArray[np.floating],
    class_id: NDArray[np.uint8],
    boxes: ScoredBoxes,
    labels: LabelSet,
    rules: PanopticConfig,
    margin_m: Sequence[float] = (0.0, 0.0, 0.0),
) -> Claims:
    """Claims on places [p, 3] of classes [p], in the frame of the boxes.

    Args:
        margin_m: along x, y, z: how far beyond its faces a box reaches; the larger of the first two counts for both.
    """
    owner, classes = np.zeros(len(position_m), np.int32), class_id.copy()
    is_thing = np.array(labels.is_thing)
    things = np.flatnonzero(is_thing[class_id])
    place, kept = position_m[things], []
    side_m, height_m = max(margin_m[:2]), margin_m[2]
    for row in np.argsort(-boxes.score, kind="stable"):
        name = BOX_CLASSES[boxes.class_id[row]]
        if boxes.score[row] < rules.min_score or name not in labels.names:
            continue
        inside = things[_within(place, boxes, int(row), side_m, height_m)]
        own_class = labels.names.index(name)
        refines = rules.refine and boxes.score[row] >= rules.refine_score
        mine = inside if refines else inside[class_id[inside] == own_class]
        free = mine[owner[mine] == 0]
        if len(free) < rules.min_voxels or 2 * len(free) < len(mine):
            continue
        kept.append(row)
        owner[free], classes[free] = len(kept), own_class
    return Claims(owner, classes, np.array(kept, np.int64))


def _within(
    place_m: NDArray[np.floating], boxes: ScoredBoxes, row: int, side_m: float, height_m: float
) -> NDArray[np.bool_]:
    """Which places [t, 3] lie within a box that reaches so far beyond its sides and its top and bottom."""
    offset = place_m - boxes.centre_m[row]
    cosine, sine = np.cos(boxes.yaw_rad[row]), np.sin(boxes.yaw_rad[row])
    along = np.abs(offset[:, 0] * cosine + offset[:, 1] * sine)
    across = np.abs(offset[:, 1] * cosine - offset[:, 0] * sine)
    length, width, height = boxes.size_m[row] / 2
    return (along <= length + side_m) & (across <= width + side_m) & (np.abs(offset[:, 2]) <= height + height_m)
