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
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..labels import LabelSet
from .confusion import Confusion, Counts, Ids, Mask, Scores
from .segments import SegmentCounts, check_instances, matched, segments

MIN_POINTS = 15  # nuScenes, panoptic challenge
MIN_VOXELS = 4  # on voxels of 0.8 m a pedestrian has about four
LABEL_DIVISOR = 1000  # of a panoptic label


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

    segments: SegmentCounts  # [K]
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
        return cls(SegmentCounts.empty(class_count), Confusion.empty(class_count), tuple(ignored), min_size)

    @property
    def matches(self) -> Counts:
        return self.segments.matches

    @property
    def false_positives(self) -> Counts:
        return self.segments.false_positives

    @property
    def false_negatives(self) -> Counts:
        return self.segments.false_negatives

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
        check_instances(predicted_instance, true_instance, true_class)
        confusion = self.confusion.add(predicted_class, true_class, mask)
        kept = ~np.isin(true_class, self.ignored)
        if mask is not None:
            kept &= mask
        predicted = segments(predicted_class[kept], predicted_instance[kept])
        true = segments(true_class[kept], true_instance[kept])
        found = matched(predicted, true, self.min_size, confusion.class_count)
        found.false_positives[list(self.ignored)] = 0
        return replace(self, segments=self.segments + found, confusion=confusion)

    def __add__(self, other: "PanopticQuality") -> "PanopticQuality":
        if (self.ignored, self.min_size) != (other.ignored, other.min_size):
            raise ValueError("panoptic qualities with other ignored classes or smallest segments cannot be added")
        return replace(self, segments=self.segments + other.segments, confusion=self.confusion + other.confusion)

    def sq(self) -> Scores:
        """[K], see `SegmentCounts.sq`."""
        return self.segments.sq()

    def rq(self) -> Scores:
        """[K], see `SegmentCounts.rq`."""
        return self.segments.rq()

    def pq(self) -> Scores:
        """[K], see `SegmentCounts.pq`."""
        return self.segments.pq()

    def iou(self) -> Scores:
        """IoU of points or voxels [K], see `Confusion.iou`."""
        return self.confusion.iou(self.ignored)

    def means(self, labels: LabelSet) -> PanopticMeans:
        """Over all classes but free space and the ignored ones; as in the devkit, an absent class counts as 0."""
        return self._means(labels, self._scored(labels))

    def means_of_present(self, labels: LabelSet) -> PanopticMeans:
        """As `means`, over those classes that occur in truth: for frames that lack some."""
        return self._means(labels, self._scored(labels) & self.confusion.present())

    def _scored(self, labels: LabelSet) -> Mask:
        if len(labels.names) != self.confusion.class_count:
            raise ValueError(
                f"label set {labels.key} has {len(labels.names)} classes, not {self.confusion.class_count}"
            )
        scored = np.ones(self.confusion.class_count, bool)
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
