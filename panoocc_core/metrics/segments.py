"""Segments, what shares a class and an instance id in one frame: which ones match, and the scores of matching."""

import math
from dataclasses import dataclass

import numpy as np

from .confusion import Counts, Ids, Mask, Scores

_DENSE = 1 << 23  # up to here a table of all ids is faster than sorting them


@dataclass(frozen=True, slots=True, eq=False)
class SegmentCounts:
    """Matched and unmatched segments by class, a value: `+` returns a new one.  Arrays [..., K]."""

    matches: Counts
    false_positives: Counts  # predicted segments without a match
    false_negatives: Counts  # true segments without a match
    iou_sum: Scores  # over the matches

    @classmethod
    def empty(cls, *shape: int) -> "SegmentCounts":
        """Nothing counted yet."""
        none = np.zeros(shape, np.int64)
        return cls(none, none, none, np.zeros(shape))

    def __add__(self, other: "SegmentCounts") -> "SegmentCounts":
        return SegmentCounts(
            matches=self.matches + other.matches,
            false_positives=self.false_positives + other.false_positives,
            false_negatives=self.false_negatives + other.false_negatives,
            iou_sum=self.iou_sum + other.iou_sum,
        )

    def sq(self) -> Scores:
        """Mean IoU of the matches: 0 without any, NaN for a class without segments."""
        return np.where(self._occurs(), self.iou_sum / np.maximum(self.matches, 1), math.nan)

    def rq(self) -> Scores:
        """F1 score of finding segments; NaN for a class without segments."""
        wanted = self.matches + 0.5 * self.false_positives + 0.5 * self.false_negatives
        return np.where(self._occurs(), self.matches / np.maximum(wanted, 0.5), math.nan)

    def pq(self) -> Scores:
        """SQ times RQ; NaN for a class without segments."""
        return self.sq() * self.rq()

    def _occurs(self) -> Mask:
        return np.asarray(self.matches + self.false_positives + self.false_negatives > 0)


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """The segments of one frame."""

    class_id: Counts  # [n]
    size: Counts  # [n]
    index: Counts  # [p], which segment each point belongs to


@dataclass(frozen=True, slots=True, eq=False)
class Distinct:
    """Keys without their repetitions."""

    values: Counts  # [n], increasing
    index: Counts  # of each key, into values
    counts: Counts  # [n]


def check_instances(predicted: Ids, true: Ids, true_class: Ids) -> None:
    """Raises ValueError unless both are whole numbers from 0 in the shape of the true classes."""
    for name, ids in (("predicted", predicted), ("true", true)):
        if ids.shape != true_class.shape:
            raise ValueError(f"{name} instances have the shape {ids.shape}, the true classes {true_class.shape}")
        if not np.issubdtype(ids.dtype, np.integer) or (ids.size and ids.min() < 0):
            raise ValueError(f"{name} instance ids must be whole numbers from 0")


def segments(class_id: Ids, instance_id: Ids) -> Segments:
    """The segments of points [p]."""
    span = int(instance_id.max()) + 1 if instance_id.size else 1
    found = distinct(class_id.astype(np.int64) * span + instance_id)
    return Segments(found.values // span, found.counts, found.index)


def matched(
    predicted: Segments, true: Segments, min_size: int, class_count: int, common: Mask | None = None
) -> SegmentCounts:
    """Segments of one class whose IoU exceeds 0.5 match; of the others count those that are large enough.

    Args:
        predicted, true: of the same points [p].
        common: [p], only where it is set can a point be common to two segments.
    """
    same = predicted.class_id[predicted.index] == true.class_id[true.index]
    if common is not None:
        same &= common
    pairs = distinct(true.index[same] * len(predicted.size) + predicted.index[same])
    of_true, of_predicted = np.divmod(pairs.values, max(len(predicted.size), 1))
    union = true.size[of_true] + predicted.size[of_predicted] - pairs.counts
    match = 2 * pairs.counts > union
    matched_class = true.class_id[of_true[match]]
    iou = pairs.counts[match] / union[match]
    return SegmentCounts(
        matches=np.bincount(matched_class, minlength=class_count),
        false_positives=_unmatched(predicted, of_predicted[match], min_size, class_count),
        false_negatives=_unmatched(true, of_true[match], min_size, class_count),
        iou_sum=np.bincount(matched_class, weights=iou, minlength=class_count).astype(float),
    )


def distinct(keys: Counts) -> Distinct:
    """The different ones of keys [p] that are not negative."""
    if keys.size and keys.max() >= _DENSE:
        values, index, counts = np.unique(keys, return_inverse=True, return_counts=True)
        return Distinct(values, index.reshape(-1), counts)
    counts = np.bincount(keys)
    return Distinct(np.flatnonzero(counts), (np.cumsum(counts > 0) - 1)[keys], counts[counts > 0])


def _unmatched(segments: Segments, matched: Counts, min_size: int, class_count: int) -> Counts:
    """How many segments [K] found no match and are large enough to count."""
    counted = segments.size >= min_size
    counted[matched] = False
    return np.bincount(segments.class_id[counted], minlength=class_count)
