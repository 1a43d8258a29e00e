"""Panoptic quality (arXiv 1801.00868) by the rules of the nuScenes panoptic devkit, at points and on voxels.

A segment is what shares a class and an instance id in one frame.  So the ids of a frame's things must differ within a
class, and all of a stuff class must share one id.  A panoptic label, class * 1000 + instance, is such an id;
instance ids with 0 for stuff are, too.  Things that nobody told apart (id 0) are one segment.

* A predicted and a true segment of one class match where their IoU exceeds 0.5; then no other can match either.
* What is of an ignored class in truth is cut out before anything is counted.
* A true (predicted) segment without a match is a false negative (false positive) if it has at least `min_size` points
  that are not cut out.  A match, a true positive, counts whatever its size.
* Free space of a voxel grid is no ignored class: what is predicted there makes segments larger.  It gets no score.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..labels import LabelSet
from .confusion import Confusion, Counts, Ids, Mask, Scores

MIN_POINTS = 15  # nuScenes, panoptic challenge
MIN_VOXELS = 4  # on voxels of 0.8 m a pedestrian has about four
LABEL_DIVISOR = 1000  # of a panoptic label

_DENSE = 1 << 23  # up to here a table of all ids is faster than sorting them


@dataclass(frozen=True, slots=True)
class PanopticMeans:
    """Means over classes."""

    pq: float
    sq: float
    rq: float
    pq_dagger: float  # of PQ of things and IoU of stuff
    miou: float


@dataclass(frozen=True, slots=True, eq=False)
class PanopticQuality:
    """Matches of segments, a value: `add` and `+` return a new one."""

    matches: Counts  # [K]
    false_positives: Counts  # [K], predicted segments without a match
    false_negatives: Counts  # [K], true segments without a match
    iou_sum: Scores  # [K], over the matches
    confusion: Confusion
    ignored: tuple[int, ...]  # classes of truth that count for nobody
    min_size: int  # points or voxels

    @classmethod
    def empty(cls, class_count: int, ignored: Sequence[int], min_size: int = MIN_POINTS) -> "PanopticQuality":
        """Nothing counted yet.

        Raises:
            ValueError: an ignored class is none of the classes.
        """
        if any(not 0 <= class_id < class_count for class_id in ignored):
            raise ValueError(f"ignored classes {tuple(ignored)} are not all within 0..{class_count - 1}")
        none = np.zeros(class_count, np.int64)
        return cls(none, none, none, np.zeros(class_count), Confusion.empty(class_count), tuple(ignored), min_size)

    def add(
        self,
        predicted_class: Ids,
        predicted_instance: Ids,
        true_class: Ids,
        true_instance: Ids,
        mask: Mask | None = None,
    ) -> "PanopticQuality":
        """This and the segments of one more frame.

        Args:
            predicted_class, predicted_instance, true_class, true_instance: of any one shape; instances not negative.
            mask: of the same shape; only where it is set is counted.

        Raises:
            ValueError: shapes differ, a counted class is none of the classes, or an instance is negative.
        """
        for name, ids in (("predicted", predicted_instance), ("true", true_instance)):
            if ids.shape != true_class.shape:
                raise ValueError(f"{name} instances have the shape {ids.shape}, the true classes {true_class.shape}")
            if not np.issubdtype(ids.dtype, np.integer) or (ids.size and ids.min() < 0):
                raise ValueError(f"{name} instance ids must be whole numbers from 0")
        confusion = self.confusion.add(predicted_class, true_class, mask)
        kept = ~np.isin(true_class, self.ignored)
        if mask is not None:
            kept &= mask
        predicted = _segments(predicted_class[kept], predicted_instance[kept])
        true = _segments(true_class[kept], true_instance[kept])
        count = self.confusion.class_count

        same = predicted.class_id[predicted.index] == true.class_id[true.index]
        pairs = _distinct(true.index[same] * len(predicted.size) + predicted.index[same])
        of_true, of_predicted = np.divmod(pairs.values, max(len(predicted.size), 1))
        union = true.size[of_true] + predicted.size[of_predicted] - pairs.counts
        match = 2 * pairs.counts > union
        matched_class = true.class_id[of_true[match]]
        iou = pairs.counts[match] / union[match]
        false_positives = _unmatched(predicted, of_predicted[match], self.min_size, count)
        false_positives[list(self.ignored)] = 0
        return PanopticQuality(
            matches=self.matches + np.bincount(matched_class, minlength=count),
            false_positives=self.false_positives + false_positives,
            false_negatives=self.false_negatives + _unmatched(true, of_true[match], self.min_size, count),
            iou_sum=self.iou_sum + np.bincount(matched_class, weights=iou, minlength=count),
            confusion=confusion,
            ignored=self.ignored,
            min_size=self.min_size,
        )

    def __add__(self, other: "PanopticQuality") -> "PanopticQuality":
        if (self.ignored, self.min_size) != (other.ignored, other.min_size):
            raise ValueError("panoptic qualities with other ignored classes or smallest segments cannot be added")
        return PanopticQuality(
            matches=self.matches + other.matches,
            false_positives=self.false_positives + other.false_positives,
            false_negatives=self.false_negatives + other.false_negatives,
            iou_sum=self.iou_sum + other.iou_sum,
            confusion=self.confusion + other.confusion,
            ignored=self.ignored,
            min_size=self.min_size,
        )

    def sq(self) -> Scores:
        """Mean IoU of the matches [K]: 0 without any, NaN for a class without segments."""
        return np.where(self._occurs(), self.iou_sum / np.maximum(self.matches, 1), math.nan)

    def rq(self) -> Scores:
        """F1 score of finding segments [K]; NaN for a class without segments."""
        wanted = self.matches + 0.5 * self.false_positives + 0.5 * self.false_negatives
        return np.where(self._occurs(), self.matches / np.maximum(wanted, 0.5), math.nan)

    def pq(self) -> Scores:
        """SQ times RQ [K]; NaN for a class without segments."""
        return self.sq() * self.rq()

    def iou(self) -> Scores:
        """IoU of points or voxels [K], see `Confusion.iou`."""
        return self.confusion.iou(self.ignored)

    def means(self, labels: LabelSet) -> PanopticMeans:
        """Over all classes but free space and the ignored ones; as in the devkit, an absent class counts as 0."""
        return self._means(labels, self._scored(labels))

    def means_of_present(self, labels: LabelSet) -> PanopticMeans:
        """As `means`, over those classes that occur in truth: for frames that lack some."""
        return self._means(labels, self._scored(labels) & self.confusion.present())

    def _occurs(self) -> Mask:
        return self.matches + self.false_positives + self.false_negatives > 0

    def _scored(self, labels: LabelSet) -> Mask:
        if len(labels.names) != len(self.matches):
            raise ValueError(f"label set {labels.key} has {len(labels.names)} classes, not {len(self.matches)}")
        scored = np.ones(len(self.matches), bool)
        scored[list(self.ignored)] = False
        if labels.free_id is not None:
            scored[labels.free_id] = False
        return scored

    def _means(self, labels: LabelSet, chosen: Mask) -> PanopticMeans:
        def mean(scores: Scores) -> float:
            return float(np.nan_to_num(scores[chosen]).mean()) if chosen.any() else math.nan

        dagger = np.where(labels.is_thing, self.pq(), self.iou())
        return PanopticMeans(mean(self.pq()), mean(self.sq()), mean(self.rq()), mean(dagger), mean(self.iou()))


def panoptic_labels(class_id: Ids, instance_id: Ids) -> NDArray[np.uint16]:
    """class * 1000 + instance, as nuScenes stores panoptic results.

    Raises:
        ValueError: an instance is not within 0..999, or a class not within 0..64.
    """
    if class_id.size and not (instance_id.min() >= 0 and instance_id.max() < LABEL_DIVISOR):
        raise ValueError(f"a panoptic label holds instances 0..{LABEL_DIVISOR - 1}; number those of a frame anew")
    if class_id.size and not (class_id.min() >= 0 and class_id.max() <= 64):
        raise ValueError("a panoptic label holds classes 0..64")
    return (class_id.astype(np.uint16) * LABEL_DIVISOR + instance_id.astype(np.uint16)).astype(np.uint16)


@dataclass(frozen=True, slots=True, eq=False)
class _Distinct:
    values: Counts  # [n], increasing
    index: Counts  # of each key, into values
    counts: Counts  # [n]


@dataclass(frozen=True, slots=True, eq=False)
class _Segments:
    class_id: Counts  # [n]
    size: Counts  # [n]
    index: Counts  # [p], which segment each point belongs to


def _distinct(keys: Counts) -> _Distinct:
    if keys.size and keys.max() >= _DENSE:
        values, index, counts = np.unique(keys, return_inverse=True, return_counts=True)
        return _Distinct(values, index.reshape(-1), counts)
    counts = np.bincount(keys)
    return _Distinct(np.flatnonzero(counts), (np.cumsum(counts > 0) - 1)[keys], counts[counts > 0])


def _segments(class_id: Ids, instance_id: Ids) -> _Segments:
    span = int(instance_id.max()) + 1 if instance_id.size else 1
    found = _distinct(class_id.astype(np.int64) * span + instance_id)
    return _Segments(found.values // span, found.counts, found.index)


def _unmatched(segments: _Segments, matched: Counts, min_size: int, class_count: int) -> Counts:
    """How many segments [K] found no match and are large enough to count."""
    counted = segments.size >= min_size
    counted[matched] = False
    return np.bincount(segments.class_id[counted], minlength=class_count)
