"""RayPQ (SparseOcc, arXiv 2312.17118): panoptic quality of what LiDAR rays meet first.

The protocol of the published numbers, with the rays of RayIoU; those whose truth meets nothing are dropped.  A segment
is what shares a class and an instance id among a frame's rays, from all of its origins.  Every instance of a thing is a
segment, which leaves eight kinds in nuScenes' classes: of barriers, cones and stuff the whole class is one.

* A predicted and a true segment of one class match where their IoU exceeds 0.5.  A ray is common to both only if the
  depths it meets differ by less than 1, 2 or 4 m; it counts for the size of both in any case.
* A segment without a match counts if it has at least ten rays.
* PQ = SQ x RQ per class and threshold; the mean is over all of them that exist.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..labels import LabelSet
from .confusion import Counts, Ids, Mask, Scores, mean_of
from .ray_iou import THRESHOLDS_M, RayHits, needed_free_id
from .segments import SegmentCounts, check_instances, matched, segments

MIN_RAYS = 10
COUNTED_TOGETHER = ("barrier", "traffic_cone", "construction_cone")  # besides stuff


@dataclass(frozen=True, slots=True, eq=False)
class RayPQ:
    """Matches of what rays meet, a value: `add` and `+` return a new one."""

    segments: SegmentCounts  # [T, K]
    true_rays: Counts  # [K]
    thresholds_m: tuple[float, ...] = THRESHOLDS_M
    min_rays: int = MIN_RAYS

    @classmethod
    def empty(cls, class_count: int, thresholds_m: Sequence[float] = THRESHOLDS_M, min_rays: int = MIN_RAYS) -> "RayPQ":
        """Nothing counted yet."""
        counts = SegmentCounts.empty(len(thresholds_m), class_count)
        return cls(counts, np.zeros(class_count, np.int64), tuple(thresholds_m), min_rays)

    def add(self, predicted: RayHits, true: RayHits, labels: LabelSet) -> "RayPQ":
        """This and all rays of one more frame.

        Raises:
            ValueError: rays have no instances or differ in number, a class is none of the classes, or the label set has
                no free space.
        """
        free_id, count = needed_free_id(labels), len(self.true_rays)
        if len(labels.names) != count:
            raise ValueError(f"label set {labels.key} has {len(labels.names)} classes, not {count}")
        if predicted.class_id.shape != true.class_id.shape:
            raise ValueError(f"{len(predicted.class_id)} predicted rays, {len(true.class_id)} true ones")
        if max(predicted.class_id.max(initial=0), true.class_id.max(initial=0)) >= count:
            raise ValueError(f"a ray meets a class outside 0..{count - 1}")
        if predicted.instance_id is None or true.instance_id is None:
            raise ValueError("rays were cast without instances: there is no RayPQ")
        check_instances(predicted.instance_id, true.instance_id, true.class_id)
        one_by_one = np.array(labels.is_thing) & ~np.isin(labels.names, COUNTED_TOGETHER)
        kept = true.class_id != free_id
        guess, truth = (
            segments(hits.class_id[kept], _instances(hits.class_id[kept], ids[kept], one_by_one))
            for hits, ids in ((predicted, predicted.instance_id), (true, true.instance_id))
        )
        error_m = np.abs(predicted.depth_m[kept] - true.depth_m[kept])
        found = [matched(guess, truth, self.min_rays, count, error_m < limit) for limit in self.thresholds_m]
        for one in found:
            one.false_positives[free_id] = 0  # where a ray meets nothing, nothing is invented
        return replace(
            self,
            segments=self.segments + _stacked(found),
            true_rays=self.true_rays + np.bincount(true.class_id[kept], minlength=count),
        )

    def __add__(self, other: "RayPQ") -> "RayPQ":
        if (self.thresholds_m, self.min_rays) != (other.thresholds_m, other.min_rays):
            raise ValueError("ray PQs with other thresholds or smallest segments cannot be added")
        return replace(self, segments=self.segments + other.segments, true_rays=self.true_rays + other.true_rays)

    def pq(self) -> Scores:
        """[T, K]; NaN for a class without segments."""
        return self.segments.pq()

    def present(self) -> Mask:
        """Classes [K] that rays meet in truth."""
        return self.true_rays > 0

    def means(self) -> tuple[float, ...]:
        """Mean over the classes at each threshold."""
        return tuple(mean_of(row, np.ones(len(row), bool)) for row in self.pq())

    def mean(self) -> float:
        """RayPQ: the mean over classes and thresholds."""
        pq = self.pq()
        return mean_of(pq, np.ones(pq.shape, bool))

    def mean_of_present(self) -> float:
        """As `mean`, over those classes that rays meet in truth: for frames that lack some."""
        pq = self.pq()
        return mean_of(pq, np.broadcast_to(self.present(), pq.shape))


def _instances(class_id: Ids, instance_id: Ids, one_by_one: Mask) -> Ids:
    return np.where(one_by_one[class_id], instance_id, 0)


def _stacked(counts: Sequence[SegmentCounts]) -> SegmentCounts:
    return SegmentCounts(
        matches=np.stack([one.matches for one in counts]),
        false_positives=np.stack([one.false_positives for one in counts]),
        false_negatives=np.stack([one.false_negatives for one in counts]),
        iou_sum=np.stack([one.iou_sum for one in counts]),
    )
