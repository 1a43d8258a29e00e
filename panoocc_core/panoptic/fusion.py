"""Boxes claim the voxels, or the points, that are theirs: the paper's rule of panoptic voxels.

Boxes in order of score claim what lies inside them, has their class and is not claimed yet.  A box that finds fewer
than `min_voxels`, or more than half of what it would claim taken, is dropped: so of several boxes around one thing the
best one stays.  With `refine` a box that is sure of itself claims things of any class, which then have its own.
In the end what is unclaimed and at most `join_m` outside a box of its class joins the nearest one: boxes are never as
exact as voxels, nor voxels as sharp as boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import PanopticConfig
from ..ground_truth import TrueBoxes
from ..labels import LabelSet, things_of_boxes
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
    things = np.flatnonzero(np.array(labels.is_thing)[class_id])
    things = things[np.argsort(position_m[things, 0], kind="stable")]  # along x, so that a box looks at few of them
    place_m, kinds, margin = position_m[things], class_id[things], (max(margin_m[:2]), margin_m[2])
    reach_m = np.linalg.norm(boxes.size_m / 2, axis=1) + max(rules.join_m, *margin_m)
    begin = np.searchsorted(place_m[:, 0], boxes.centre_m[:, 0] - reach_m, "left")
    end = np.searchsorted(place_m[:, 0], boxes.centre_m[:, 0] + reach_m, "right")
    nearest_m, nearest = np.full(len(things), rules.join_m), np.zeros(len(things), np.int32)
    may_own, kept = things_of_boxes(labels)[boxes.class_id], list[int]()  # [box, class]
    for row in np.argsort(-boxes.score, kind="stable"):
        if boxes.score[row] < rules.min_score or not may_own[row].any():
            continue
        near = slice(begin[row], end[row])
        outside_m, is_inside = outside(place_m[near], boxes, int(row), *margin)
        has_class = may_own[row][kinds[near]]
        refines = rules.refine and boxes.score[row] >= rules.refine_score
        mine = things[near][is_inside if refines else is_inside & has_class]
        free = mine[owner[mine] == 0]
        if len(free) < rules.min_voxels or 2 * len(free) < len(mine):
            continue
        kept.append(int(row))
        owner[free] = len(kept)
        classes[free] = np.where(may_own[row][class_id[free]], class_id[free], may_own[row].argmax())
        nearer = (outside_m < nearest_m[near]) & has_class
        nearest_m[near][nearer], nearest[near][nearer] = outside_m[nearer], len(kept)
    left = owner[things] == 0
    owner[things[left]] = nearest[left]
    return Claims(owner, classes, np.array(kept, np.int64))


def outside(
    place_m: NDArray[np.floating],
    boxes: ScoredBoxes | TrueBoxes,
    row: int,
    side_m: float = 0.0,
    height_m: float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How far places [t, 3] are outside a box, [t], and whether they are in it with so much more at its sides, and at
    top and bottom, [t]."""
    offset = place_m - boxes.centre_m[row]
    cosine, sine = np.cos(boxes.yaw_rad[row]), np.sin(boxes.yaw_rad[row])
    along = offset[:, 0] * cosine + offset[:, 1] * sine
    across = offset[:, 1] * cosine - offset[:, 0] * sine
    beyond = np.abs(np.stack((along, across, offset[:, 2]), axis=1)) - boxes.size_m[row] / 2
    return np.linalg.norm(np.maximum(beyond, 0), axis=1), (beyond <= (side_m, side_m, height_m)).all(axis=1)
