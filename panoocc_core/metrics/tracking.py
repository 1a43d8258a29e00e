"""Tracking: do instance ids stay with their objects?  STQ (STEP, arXiv 2102.11859) and id switches, over whole drives.

A tube is what shares a class and an instance id over all frames of one drive.  Of true tubes those of things count.

* STQ = sqrt(AQ * SQ).  SQ is the mean IoU of the classes, free space left out.
* AQ is the mean over all true tubes g of 1/|g| * sum over predicted tubes p of TPA * TPA / (TPA + FPA + FNA): TPA is
  what both have in common, whatever their classes, FPA the rest of p and FNA the rest of g.  A thing that one id
  follows from its first to its last voxel gets 1; two ids that each follow half of it give it 1/2.
* True things that nobody told apart (id 0) are cut out.  Predicted ones are one tube for each class, as in PQ.
* What is of an ignored class in truth is cut out before anything is counted.

Id switches are counted as in MOTS (arXiv 1902.03604).  A true object is matched in a frame where a predicted instance
of its class has an IoU above 0.5 with it; then no other has.  It is followed if it is matched in two frames or more.
An id switch is a matched frame whose id differs from that of the object's last matched frame, however long ago.

Ids belong to one drive: the same ids in another drive are other objects.  A track's number that is used again within a
drive, as may be after 65535, is the same tube again.  What is kept of the present drive grows with the pairs of a true
and a predicted tube that meet; of drives that have ended only sums are kept.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..labels import LabelSet
from .confusion import Confusion, Counts, Ids, Mask
from .segments import Distinct, check_instances, distinct

Key = TypeVar("Key")
Tube = int  # (class + 1) * 2^32 + instance
_ID_BITS = 32
_NONE = 0


@dataclass(frozen=True, slots=True)
class TrackSums:
    """What drives that have ended leave behind."""

    association: float = 0.0  # over the true tubes
    objects: int = 0  # true tubes
    followed: int = 0  # objects that were matched in two frames or more
    id_switches: int = 0

    def __add__(self, other: "TrackSums") -> "TrackSums":
        return TrackSums(
            self.association + other.association,
            self.objects + other.objects,
            self.followed + other.followed,
            self.id_switches + other.id_switches,
        )


@dataclass(frozen=True, slots=True)
class TrackingMeans:
    """The numbers of all drives; STQ and AQ are NaN where the truth has no object."""

    stq: float  # segmentation and tracking quality
    aq: float  # association quality
    sq: float  # segmentation quality: mean IoU
    objects: int  # true things that were seen, each drive's for themselves
    followed: int  # those of the objects that were matched in two frames or more
    id_switches: int  # how often the id of a followed object changed


@dataclass(frozen=True, slots=True, eq=False)
class DriveTubes:
    """The tubes of one drive so far."""

    true_size: Mapping[Tube, int] = field(default_factory=dict)
    predicted_size: Mapping[Tube, int] = field(default_factory=dict)
    common: Mapping[tuple[Tube, Tube], int] = field(default_factory=dict)  # (true, predicted) -> TPA
    first_match: Mapping[Tube, Tube] = field(default_factory=dict)  # true -> predicted, in the first matched frame
    last_match: Mapping[Tube, Tube] = field(default_factory=dict)
    followed: frozenset[Tube] = frozenset()
    id_switches: int = 0

    @classmethod
    def of_frame(cls, true: Counts, predicted: Counts) -> "DriveTubes":
        """Those of one frame, from the tubes of its points [p], 0 where there is none."""
        of_true, of_predicted = distinct(true), distinct(predicted)
        pairs = distinct(of_true.index * len(of_predicted.values) + of_predicted.index)
        first, second = np.divmod(pairs.values, max(len(of_predicted.values), 1))
        real = (of_true.values[first] != _NONE) & (of_predicted.values[second] != _NONE)
        first, second, common = first[real], second[real], pairs.counts[real]
        in_true, in_predicted = of_true.values[first], of_predicted.values[second]
        match = 2 * common > of_true.counts[first] + of_predicted.counts[second] - common
        match &= (in_true >> _ID_BITS == in_predicted >> _ID_BITS) & (in_predicted % (1 << _ID_BITS) > 0)  # not id 0
        matches = dict(zip(in_true[match].tolist(), in_predicted[match].tolist()))
        return cls(
            true_size=_sizes(of_true),
            predicted_size=_sizes(of_predicted),
            common=dict(zip(zip(in_true.tolist(), in_predicted.tolist()), common.tolist())),
            first_match=matches,
            last_match=matches,
        )

    def then(self, later: "DriveTubes") -> "DriveTubes":
        """These and those of the frames that come next."""
        again = {tube: first for tube, first in later.first_match.items() if tube in self.last_match}
        switches = sum(self.last_match[tube] != first for tube, first in again.items())
        return DriveTubes(
            true_size=_summed(self.true_size, later.true_size),
            predicted_size=_summed(self.predicted_size, later.predicted_size),
            common=_summed(self.common, later.common),
            first_match={**later.first_match, **self.first_match},
            last_match={**self.last_match, **later.last_match},
            followed=self.followed | later.followed | again.keys(),
            id_switches=self.id_switches + later.id_switches + switches,
        )

    def meets(self, other: "DriveTubes") -> bool:
        """Whether any true tube, or any predicted one with an id, is in both."""
        ids = (tube for tube in other.predicted_size if tube % (1 << _ID_BITS))
        return not self.true_size.keys().isdisjoint(other.true_size) or any(tube in self.predicted_size for tube in ids)

    def sums(self) -> TrackSums:
        """Of the drive as if it ended here."""
        association = sum(
            common * common / (self.true_size[true] + self.predicted_size[predicted] - common) / self.true_size[true]
            for (true, predicted), common in self.common.items()
        )
        return TrackSums(association, len(self.true_size), len(self.followed), self.id_switches)


@dataclass(frozen=True, slots=True, eq=False)
class TrackingQuality:
    """How well ids stay with their objects, a value: `add` takes the next frame of a drive, `then` its next part, `+`
    other drives.  After `+` and `ended` the next frame begins another drive.
    """

    labels: LabelSet
    confusion: Confusion
    before: TrackSums  # of the drives that have ended
    drive: DriveTubes  # of the present one
    ignored: tuple[int, ...] = ()  # classes of truth that count for nobody

    @classmethod
    def empty(cls, labels: LabelSet, ignored: Sequence[int] = ()) -> "TrackingQuality":
        """Nothing counted yet.

        Raises:
            ValueError: an ignored class is none of the classes.
        """
        count = len(labels.names)
        if any(not 0 <= class_id < count for class_id in ignored):
            raise ValueError(f"ignored classes {tuple(ignored)} are not all within 0..{count - 1}")
        return cls(labels, Confusion.empty(count), TrackSums(), DriveTubes(), tuple(ignored))

    def add(
        self,
        predicted_class: Ids,
        predicted_instance: Ids,
        true_class: Ids,
        true_instance: Ids,
        mask: Mask | None = None,
    ) -> "TrackingQuality":
        """This and the next frame of the present drive.

        Args:
            predicted_class, predicted_instance, true_class, true_instance: of any one shape; instances of things count
                from 1, 0 = not told apart; those of stuff do not matter.
            mask: of the same shape; only where it is set is counted.

        Raises:
            ValueError: shapes differ, a counted class is none of the classes, or an instance is not within 0..2^32 - 1.
        """
        check_instances(predicted_instance, true_instance, true_class)
        if max(predicted_instance.max(initial=0), true_instance.max(initial=0)) >> _ID_BITS:
            raise ValueError(f"instance ids must be below 2^{_ID_BITS}")
        confusion = self.confusion.add(predicted_class, true_class, mask)
        kept = ~np.isin(true_class, self.ignored)
        if mask is not None:
            kept &= mask
        predicted = self._tubes(predicted_class[kept], predicted_instance[kept])
        true = self._tubes(true_class[kept], true_instance[kept])
        told_apart = (true == _NONE) | (true_instance[kept] > 0)
        counted = told_apart & ((true != _NONE) | (predicted != _NONE))
        frame = DriveTubes.of_frame(true[counted], predicted[counted])
        return replace(self, confusion=confusion, drive=self.drive.then(frame))

    def then(self, later: "TrackingQuality") -> "TrackingQuality":
        """This and the next part of the present drive.

        Raises:
            ValueError: label sets or ignored classes differ, or the part has a drive that has ended.
        """
        self._check_alike(later)
        if later.before != TrackSums():
            raise ValueError("a part of a drive goes on, not what holds drives that have ended: add these with +")
        return replace(self, confusion=self.confusion + later.confusion, drive=self.drive.then(later.drive))

    def ended(self) -> "TrackingQuality":
        """With the present drive at its end: ids of the next frame are those of another one."""
        return replace(self, before=self._sums, drive=DriveTubes())

    def __add__(self, other: "TrackingQuality") -> "TrackingQuality":
        self._check_alike(other)
        return replace(
            self,
            confusion=self.confusion + other.confusion,
            before=self._sums + other._sums,
            drive=DriveTubes(),
        )

    def means(self) -> TrackingMeans:
        """All numbers of the drives; SQ over the classes that occur in truth or prediction."""
        return self._means(self.confusion.miou(self.labels, self.ignored))

    def means_of_present(self) -> TrackingMeans:
        """As `means`, with SQ over the classes that occur in truth."""
        return self._means(self.confusion.miou_of_present(self.labels, self.ignored))

    def _means(self, sq: float) -> TrackingMeans:
        sums = self._sums
        aq = sums.association / sums.objects if sums.objects else math.nan
        return TrackingMeans(math.sqrt(aq * sq), aq, sq, sums.objects, sums.followed, sums.id_switches)

    def _check_alike(self, other: "TrackingQuality") -> None:
        if (self.labels, self.ignored) != (other.labels, other.ignored):
            raise ValueError("tracking qualities with other label sets or ignored classes cannot be added")

    @property
    def _sums(self) -> TrackSums:
        return self.before + self.drive.sums()

    def _tubes(self, class_id: Ids, instance_id: Ids) -> NDArray[np.int64]:
        """[p], 0 for what is no thing."""
        tube = ((class_id.astype(np.int64) + 1) << _ID_BITS) + instance_id.astype(np.int64)
        return np.where(np.asarray(self.labels.is_thing)[class_id], tube, _NONE)


def _sizes(found: Distinct) -> dict[Tube, int]:
    there = found.values != _NONE
    return dict(zip(found.values[there].tolist(), found.counts[there].tolist()))


def _summed(sizes: Mapping[Key, int], more: Mapping[Key, int]) -> dict[Key, int]:
    return {**sizes, **{key: sizes.get(key, 0) + size for key, size in more.items()}}
