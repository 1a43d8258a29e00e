"""Boxes by the rules of the nuScenes detection task (arXiv 1903.11027, configuration of CVPR 2019): mAP, errors, NDS.

Boxes count up to a distance from the vehicle that depends on their class.  Detections, best first, take the nearest
free true box of their class in the bird's-eye view; a match is nearer than the threshold.  AP is the mean over
thresholds of the area under the precision curve above 10 % recall and 10 % precision.  Errors are those of the matches
at 2 m, cumulated and averaged over recall from 10 % to the highest one reached; 1 where 10 % is not reached.

What the devkit leaves out and so must the truth that comes in here: boxes without a LiDAR or radar point.  Bicycles and
motorcycles in a bicycle rack are left out here, where the racks are given.  Where a true box has no attribute (or
velocity), that error is not counted; a class without any gets an error of 1, again as in the devkit.  So without
attributes the AAE is 1 and the NDS at most 0.9: `nds_without_attributes` leaves the AAE out instead, and is no official
number.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..ground_truth import TrueBoxes
from ..labels import BOX_CLASSES
from ..panoptic.fusion import outside
from ..types import ScoredBoxes, check_box_classes
from .confusion import Counts, Ids, Mask, Scores, mean_of

CLASS_RANGE_M = {
    "car": 50.0,
    "truck": 50.0,
    "construction_vehicle": 50.0,
    "bus": 50.0,
    "trailer": 50.0,
    "barrier": 30.0,
    "motorcycle": 40.0,
    "bicycle": 40.0,
    "pedestrian": 40.0,
    "traffic_cone": 30.0,
}
DISTANCES_M = (0.5, 1.0, 2.0, 4.0)
ERROR_DISTANCE_M = 2.0  # errors are taken of the matches at this distance
ERRORS = ("ATE", "ASE", "AOE", "AVE", "AAE")  # m, 1 - IoU, rad, m/s, 1 - accuracy
MAX_BOXES = 500
MAP_WEIGHT = 5

# A cone looks the same from all sides and, as a barrier, neither moves nor has attributes.
_UNDEFINED = {"traffic_cone": ("AOE", "AVE", "AAE"), "barrier": ("AVE", "AAE")}
_CYCLES = tuple(BOX_CLASSES.index(name) for name in ("bicycle", "motorcycle"))
_RECALL = np.linspace(0, 1, 101)
_FIRST = 11  # of _RECALL: the first step above the least recall
_MIN_PRECISION = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class DetectionScores:
    """What all frames together are worth; classes in the order of labels.BOX_CLASSES."""

    ap: Scores  # [C, 4], by DISTANCES_M; 0 for a class that is not in truth
    errors: Scores  # [C, 5], by ERRORS; NaN where undefined, 1 for a class that is not in truth
    true_count: Counts  # [C], true boxes in range

    @property
    def class_ap(self) -> Scores:
        """Mean over the distances [C]."""
        return self.ap.mean(axis=1)

    @property
    def mean_ap(self) -> float:
        """Over all ten classes, of which an absent one counts as 0."""
        return float(self.class_ap.mean())

    @property
    def mean_errors(self) -> Scores:
        """Mean over the classes [5], by ERRORS; NaN where the error is undefined for all of them."""
        return np.array([mean_of(column, np.ones(len(column), bool)) for column in self.errors.T])

    @property
    def nds(self) -> float:
        """nuScenes detection score."""
        return _nds(self.mean_ap, self.mean_errors)

    @property
    def nds_without_attributes(self) -> float:
        """As the NDS, over four errors: for truth that has no attributes."""
        return _nds(self.mean_ap, self.mean_errors[:4])

    def of_present(self) -> "DetectionScores":
        """The same of those classes only that are in truth: for frames that lack some.

        The order of the classes is kept, their numbers are not.

        Raises:
            ValueError: there is no true box.
        """
        present = self.true_count > 0
        if not present.any():
            raise ValueError("there is no true box within the range of its class")
        return DetectionScores(self.ap[present], self.errors[present], self.true_count[present])


@dataclass(frozen=True, slots=True, eq=False)
class _Matches:
    """One frame's detections in range, m of them."""

    class_id: NDArray[np.int64]  # [m]
    score: Scores  # [m]
    hit: Mask  # [m, 4], by DISTANCES_M
    errors: Scores  # [m, 5], by ERRORS; NaN without a match at ERROR_DISTANCE_M
    true_count: Counts  # [C]


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """Matches of boxes, a value: `add` and `+` return a new one."""

    frames: tuple[_Matches, ...] = field(default=())

    def add(
        self,
        detections: ScoredBoxes,
        truth: TrueBoxes,
        true_attribute: Ids | None = None,
        racks: TrueBoxes | None = None,
    ) -> "Detection":
        """This and one more frame.

        Args:
            racks: boxes in which no bicycle and no motorcycle counts, found or true.
            true_attribute: [n] of the true boxes in the numbers of `detections.attribute_id`; 0 = the box has none.

        Raises:
            ValueError: more than 500 detections, an unknown class, or attributes of another number than boxes.
        """
        if len(detections) > MAX_BOXES:
            raise ValueError(f"{len(detections)} detections in one frame, at most {MAX_BOXES} count: keep the best")
        if true_attribute is not None and true_attribute.shape != (len(truth),):
            raise ValueError(f"true attributes have the shape {true_attribute.shape}, there are {len(truth)} boxes")
        check_box_classes("truth", truth.class_id)
        return Detection((*self.frames, _matches(detections, truth, true_attribute, racks)))

    def __add__(self, other: "Detection") -> "Detection":
        return Detection(self.frames + other.frames)

    def scores(self) -> DetectionScores:
        """AP and errors of each class."""
        count = len(BOX_CLASSES)
        class_id = np.concatenate([np.zeros(0, np.int64), *(f.class_id for f in self.frames)])
        score = np.concatenate([np.zeros(0), *(f.score for f in self.frames)])
        hit = np.concatenate([np.zeros((0, len(DISTANCES_M)), bool), *(f.hit for f in self.frames)])
        errors = np.concatenate([np.zeros((0, len(ERRORS))), *(f.errors for f in self.frames)])
        true_count = sum((f.true_count for f in self.frames), np.zeros(count, np.int64))
        ap, mean_errors = np.zeros((count, len(DISTANCES_M))), np.ones((count, len(ERRORS)))
        order = np.argsort(score, kind="stable")[::-1]  # the devkit too takes the later one of two with the same score
        for c, name in enumerate(BOX_CLASSES):
            of_class = order[class_id[order] == c]
            for t, distance_m in enumerate(DISTANCES_M):
                curve = _curve(score[of_class], hit[of_class, t], int(true_count[c]))
                ap[c, t] = _average_precision(curve)
                if distance_m == ERROR_DISTANCE_M:
                    matched = of_class[hit[of_class, t]]
                    mean_errors[c] = _mean_errors(curve, score[matched], errors[matched])
            for error in _UNDEFINED.get(name, ()):
                mean_errors[c, ERRORS.index(error)] = math.nan
        return DetectionScores(ap, mean_errors, true_count)


@dataclass(frozen=True, slots=True, eq=False)
class _Curve:
    """Over the steps of recall [101]: 0 beyond the highest one reached."""

    precision: Scores
    score: Scores


def _in_range(centre_m: NDArray[np.float32], class_id: Ids) -> Mask:
    reach_m = np.array([CLASS_RANGE_M[name] for name in BOX_CLASSES])
    x, y = centre_m[:, :2].astype(np.float64).T
    return np.asarray(np.hypot(x, y) < reach_m[class_id])


def _counts(boxes: ScoredBoxes | TrueBoxes, racks: TrueBoxes | None) -> Mask:
    """Whether boxes [n] are within the range of their class, and no cycles in a rack."""
    counted = _in_range(boxes.centre_m, boxes.class_id)
    if racks is not None:
        counted &= ~(np.isin(boxes.class_id, _CYCLES) & _inside(boxes.centre_m, racks))
    return counted


def _inside(point_m: NDArray[np.float32], boxes: TrueBoxes) -> Mask:
    """Whether points [p, 3] are in any of the boxes."""
    inside = np.zeros(len(point_m), bool)
    for row in range(len(boxes)):
        inside |= outside(point_m.astype(np.float64), boxes, row)[1]
    return inside


def _matches(
    detections: ScoredBoxes, truth: TrueBoxes, true_attribute: Ids | None, racks: TrueBoxes | None
) -> _Matches:
    kept = np.flatnonzero(_counts(detections, racks))
    there = np.flatnonzero(_counts(truth, racks))
    true_of = np.full((len(kept), len(DISTANCES_M)), -1)  # which true box each detection took
    for c in np.unique(detections.class_id[kept]):
        mine, theirs = np.flatnonzero(detections.class_id[kept] == c), there[truth.class_id[there] == c]
        gap = detections.centre_m[kept[mine], None, :2].astype(np.float64) - truth.centre_m[None, theirs, :2]
        best_first = np.argsort(detections.score[kept[mine]], kind="stable")[::-1]
        distance_m = np.linalg.norm(gap, axis=2)
        for t, limit_m in enumerate(DISTANCES_M):
            taken = _take_nearest(distance_m, best_first, limit_m)
            true_of[mine[taken >= 0], t] = theirs[taken[taken >= 0]]
    errors = np.full((len(kept), len(ERRORS)), math.nan)
    matched = true_of[:, DISTANCES_M.index(ERROR_DISTANCE_M)]
    rows = np.flatnonzero(matched >= 0)
    errors[rows] = _errors(detections, kept[rows], truth, matched[rows], true_attribute)
    return _Matches(
        class_id=detections.class_id[kept],
        score=detections.score[kept].astype(np.float64),
        hit=true_of >= 0,
        errors=errors,
        true_count=np.bincount(truth.class_id[there], minlength=len(BOX_CLASSES)),
    )


def _take_nearest(distance_m: Scores, best_first: Counts, limit_m: float) -> Counts:
    """Column that each row of [m, n] takes, -1 for none; a column is taken once, by the best row."""
    taken = np.full(len(distance_m), -1)
    if not distance_m.shape[1]:
        return taken
    free_m = np.where(distance_m < limit_m, distance_m, math.inf)
    for row in best_first:
        nearest = int(free_m[row].argmin())
        if free_m[row, nearest] < limit_m:
            taken[row] = nearest
            free_m[:, nearest] = math.inf
    return taken


def _errors(
    detections: ScoredBoxes, mine: Counts, truth: TrueBoxes, theirs: Counts, true_attribute: Ids | None
) -> Scores:
    """Errors [r, 5] of pairs of a detection and a true box; NaN where the truth is unknown."""
    moved = detections.centre_m[mine, :2].astype(np.float64) - truth.centre_m[theirs, :2]
    sizes = detections.size_m[mine].astype(np.float64), truth.size_m[theirs].astype(np.float64)
    shared = np.minimum(*sizes).prod(axis=1)
    iou = shared / (sizes[0].prod(axis=1) + sizes[1].prod(axis=1) - shared)
    is_barrier = truth.class_id[theirs] == BOX_CLASSES.index("barrier")
    period = np.where(is_barrier, math.pi, 2 * math.pi)  # a barrier has no front
    turn = truth.yaw_rad[theirs].astype(np.float64) - detections.yaw_rad[mine]
    turn = np.abs((turn + period / 2) % period - period / 2)
    speed = np.linalg.norm(detections.velocity_mps[mine].astype(np.float64) - truth.velocity_mps[theirs], axis=1)
    wrong = np.full(len(mine), math.nan)
    if true_attribute is not None:
        known = true_attribute[theirs] != 0
        given = np.zeros(len(detections), int) if detections.attribute_id is None else detections.attribute_id
        wrong[known] = given[mine][known] != true_attribute[theirs][known]
    return np.stack((np.linalg.norm(moved, axis=1), 1 - iou, turn, speed, wrong), axis=1)


def _curve(score: Scores, hit: Mask, true_count: int) -> _Curve:
    """Of the detections of one class, best first."""
    if not true_count or not hit.any():
        return _Curve(np.zeros(len(_RECALL)), np.zeros(len(_RECALL)))
    hits = np.cumsum(hit)
    recall, precision = hits / true_count, hits / np.arange(1, len(hit) + 1)
    return _Curve(np.interp(_RECALL, recall, precision, right=0), np.interp(_RECALL, recall, score, right=0))


def _average_precision(curve: _Curve) -> float:
    return float(np.maximum(curve.precision[_FIRST:] - _MIN_PRECISION, 0).mean() / (1 - _MIN_PRECISION))


def _mean_errors(curve: _Curve, score: Scores, errors: Scores) -> Scores:
    """Mean over recall [5] of the errors [m, 5] of the matches, best first, each averaged over all better ones."""
    reached = np.flatnonzero(curve.score)
    last = int(reached[-1]) if len(reached) else 0
    if last < _FIRST:
        return np.ones(len(ERRORS))
    known = ~np.isnan(errors)
    number = np.cumsum(known, axis=0)
    so_far = np.cumsum(np.where(known, errors, 0), axis=0) / np.maximum(number, 1)
    so_far[:, number[-1] == 0] = 1
    steps = [np.interp(curve.score[::-1], score[::-1], column[::-1])[::-1] for column in so_far.T]
    return np.stack(steps, axis=1)[_FIRST : last + 1].mean(axis=0)


def _nds(mean_ap: float, errors: Scores) -> float:
    errors = errors[~np.isnan(errors)]  # all five, unless cones and barriers are all there is
    return float((MAP_WEIGHT * mean_ap + (1 - np.minimum(1, errors)).sum()) / (MAP_WEIGHT + len(errors)))
