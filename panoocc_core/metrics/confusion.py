"""Confusion of classes: IoU per class, its means, occupied against free, and all of it by distance from the vehicle.

A confusion is a value: `add` and `+` return a new one, so `total = total.add(predicted, true, mask)`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..labels import LabelSet
from ..types import GridGeometry

Counts = NDArray[np.int64]
Scores = NDArray[np.float64]
Ids = NDArray[np.integer]
Mask = NDArray[np.bool_]

DISTANCE_EDGES_M = (10.0, 20.0, 30.0, 40.0)


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """How often each true class was given each class.

    Raises:
        ValueError: the counts are no square of non-negative whole numbers; other classes are added.
    """

    counts: Counts  # [K, K], row = true class, column = predicted class

    def __post_init__(self) -> None:
        counts = self.counts
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.dtype != np.int64 or (counts < 0).any():
            raise ValueError(f"a confusion is int64 [K, K] of counts, not {counts.dtype} {counts.shape}")

    @classmethod
    def empty(cls, class_count: int) -> "Confusion":
        """Nothing counted yet."""
        return cls(np.zeros((class_count, class_count), np.int64))

    @property
    def class_count(self) -> int:
        return len(self.counts)

    def add(self, predicted: Ids, true: Ids, mask: Mask | None = None) -> "Confusion":
        """This confusion and one more set of voxels or points: a new value.

        Args:
            predicted, true: class ids of any one shape.
            mask: of the same shape; only where it is set is counted.

        Raises:
            ValueError: the shapes differ, or a counted id is not one of the classes.
        """
        return Confusion(self.counts + _pair_counts(predicted, true, mask, self.class_count))

    def __add__(self, other: "Confusion") -> "Confusion":
        if self.class_count != other.class_count:
            raise ValueError(f"confusions over {self.class_count} and {other.class_count} classes cannot be added")
        return Confusion(self.counts + other.counts)

    def iou(self, ignored: Sequence[int] = ()) -> Scores:
        """TP / (TP + FP + FN) of each class [K]; NaN for a class that is neither in truth nor in prediction.

        What is of an ignored class in truth counts for nobody; the ignored classes themselves get NaN.  A point that
        is only predicted to be of an ignored class is missing from its true one.
        """
        counts = self.counts.copy()
        counts[list(ignored)] = 0
        hits = np.diagonal(counts)
        iou = ratio(hits, counts.sum(axis=0) + counts.sum(axis=1) - hits)
        iou[list(ignored)] = math.nan
        return iou

    def present(self) -> Mask:
        """Classes [K] that occur in truth."""
        return self.counts.sum(axis=1) > 0

    def miou(self, labels: LabelSet, ignored: Sequence[int] = ()) -> float:
        """Mean IoU over the classes other than free space that occur in truth or prediction (Occ3D's rule)."""
        return mean_of(self.iou(ignored), self._solid(labels))

    def miou_of_present(self, labels: LabelSet, ignored: Sequence[int] = ()) -> float:
        """Mean IoU over the classes other than free space that occur in truth: for a few frames that lack classes,
        where one false voxel of an absent class would count as a whole class at 0."""
        return mean_of(self.iou(ignored), self._solid(labels) & self.present())

    def geometric_iou(self, labels: LabelSet) -> float:
        """IoU of occupied space, whatever its class; NaN where nothing is.

        Raises:
            ValueError: the label set has no free space.
        """
        if labels.free_id is None:
            raise ValueError(f"label set {labels.key} has no class for free space: there is no geometric IoU")
        solid = self._solid(labels)
        hits = self.counts[np.ix_(solid, solid)].sum()
        misses = self.counts[solid, labels.free_id].sum() + self.counts[labels.free_id, solid].sum()
        return float(ratio(hits, hits + misses))

    def _solid(self, labels: LabelSet) -> Mask:
        if len(labels.names) != self.class_count:
            raise ValueError(f"label set {labels.key} has {len(labels.names)} classes, not {self.class_count}")
        solid = np.ones(self.class_count, bool)
        if labels.free_id is not None:
            solid[labels.free_id] = False
        return solid


@dataclass(frozen=True, slots=True, eq=False)
class DistanceConfusion:
    """Confusions by distance from the vehicle; the last bin holds all that lies beyond the last edge.

    Raises:
        ValueError: the edges do not increase, or counts and edges disagree.
    """

    edges_m: tuple[float, ...]
    counts: Counts  # [B, K, K], B = edges + 1; row = true class, column = predicted class

    def __post_init__(self) -> None:
        _check_edges(self.edges_m)
        if self.counts.ndim != 3 or len(self.counts) != len(self.edges_m) + 1:
            raise ValueError(f"{len(self.edges_m)} edges part the distance into one bin more, not {self.counts.shape}")

    @classmethod
    def empty(cls, class_count: int, edges_m: Sequence[float] = DISTANCE_EDGES_M) -> "DistanceConfusion":
        """Nothing counted yet."""
        return cls(tuple(edges_m), np.zeros((len(edges_m) + 1, class_count, class_count), np.int64))

    def add(self, predicted: Ids, true: Ids, bins: Ids, mask: Mask | None = None) -> "DistanceConfusion":
        """As `Confusion.add`; `bins` come from `distance_bins` with the same edges and have the shape of the ids."""
        return DistanceConfusion(
            self.edges_m,
            self.counts + _pair_counts(predicted, true, mask, self.counts.shape[1], bins, len(self.counts)),
        )

    def __add__(self, other: "DistanceConfusion") -> "DistanceConfusion":
        if self.edges_m != other.edges_m or self.counts.shape != other.counts.shape:
            raise ValueError("confusions with other distance edges or classes cannot be added")
        return DistanceConfusion(self.edges_m, self.counts + other.counts)

    @property
    def total(self) -> Confusion:
        """Over all distances."""
        return Confusion(self.counts.sum(axis=0))

    @property
    def bins(self) -> tuple[Confusion, ...]:
        """One confusion per bin, nearest first."""
        return tuple(Confusion(counts) for counts in self.counts)

    @property
    def names(self) -> tuple[str, ...]:
        """What each bin spans, such as "10-20 m" and last "> 40 m"."""
        return bin_names(self.edges_m)


def bin_names(edges_m: Sequence[float]) -> tuple[str, ...]:
    """What each bin of distance spans, such as "10-20 m" and last "> 40 m"."""
    starts = (0.0, *edges_m)
    return (*(f"{low:g}-{high:g} m" for low, high in zip(starts, edges_m)), f"> {starts[-1]:g} m")


def distance_bins(geometry: GridGeometry, edges_m: Sequence[float] = DISTANCE_EDGES_M) -> NDArray[np.uint8]:
    """Bin index [X, Y, Z] of each voxel by the horizontal distance of its centre from the ego origin.

    Raises:
        ValueError: the edges do not increase from above 0, or there are more than 255.
    """
    _check_edges(edges_m)
    steps = geometry.ego_from_grid[:2, :3] * np.asarray(geometry.voxel_size_m)
    along = [steps[:, axis, None] * (np.arange(n) + 0.5) for axis, n in enumerate(geometry.shape_xyz)]
    corner = geometry.ego_from_grid[:2, 3]
    x, y = (
        along[0][i][:, None, None] + along[1][i][None, :, None] + along[2][i][None, None, :] + corner[i] for i in (0, 1)
    )
    return np.searchsorted(np.asarray(edges_m, float), np.hypot(x, y), side="right").astype(np.uint8)


def _check_edges(edges_m: Sequence[float]) -> None:
    edges = np.array([0.0, *edges_m])
    if len(edges) > 256 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise ValueError(f"distance edges must increase from above 0, at most 255 of them: {tuple(edges_m)}")


def _pair_counts(
    predicted: Ids, true: Ids, mask: Mask | None, class_count: int, bins: Ids | None = None, bin_count: int = 1
) -> Counts:
    """[K, K], or [B, K, K] with bins: how often each pair occurs."""
    shapes = {name: a.shape for name, a in (("mask", mask), ("bins", bins), ("predicted", predicted)) if a is not None}
    for name, shape in shapes.items():
        if shape != true.shape:
            raise ValueError(f"{name} has the shape {shape}, the truth {true.shape}")
    if mask is not None:
        if mask.dtype != np.bool_:
            raise ValueError(f"a mask is bool, not {mask.dtype}")
        predicted, true = predicted[mask], true[mask]
        bins = None if bins is None else bins[mask]
    _check_ids("predicted class", predicted, class_count)
    _check_ids("true class", true, class_count)
    pair = true.ravel().astype(np.int32) * class_count + predicted.ravel()
    size = class_count * class_count
    if bins is None:
        return np.bincount(pair, minlength=size).astype(np.int64).reshape(class_count, class_count)
    check_bins(bins, bin_count)
    pair += bins.ravel().astype(np.int32) * size
    return np.bincount(pair, minlength=bin_count * size).astype(np.int64).reshape(bin_count, class_count, class_count)


def check_bins(bins: Ids, count: int) -> None:
    """Raises ValueError unless all are numbers of bins."""
    _check_ids("distance bin", bins, count)


def _check_ids(what: str, ids: Ids, count: int) -> None:
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{what} ids must be whole numbers, not {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= count):
        raise ValueError(f"{what} ids reach from {ids.min()} to {ids.max()}, outside 0..{count - 1}; mask them")


def ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Scores:
    """part / whole, NaN where the whole is 0."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.true_divide(part, whole))


def mean_of(scores: Scores, chosen: Mask) -> float:
    """Mean of the chosen scores that are not NaN; NaN where there are none."""
    kept = scores[chosen & ~np.isnan(scores)]
    return float(kept.mean()) if len(kept) else math.nan
