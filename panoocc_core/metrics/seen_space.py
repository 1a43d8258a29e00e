"""Known space against what it truly is: which voxels a prediction calls visible, and what of the free ones is occupied.

A planner drives into what is called free and visible, so the share of it that is truly occupied is what it fears.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .confusion import DISTANCE_EDGES_M, Counts, Ids, Mask, bin_names, check_bins, ratio

# In this order, fractions of 1; `SeenSpace.scores`.
VISIBLE_SCORES = (
    "visible_iou",  # of what is called visible and what truly is
    "falsely_visible",  # of what is called visible, hidden
    "falsely_hidden",  # of what is truly visible, called hidden
    "free_but_occupied",  # of what is called free and visible
    "free_but_occupied_hidden",  # of what is called free and hidden, to compare with
    "free_but_occupied_truly_visible",  # of what is called free and is truly visible, whatever it is called
)


@dataclass(frozen=True, slots=True, eq=False)
class SeenSpace:
    """How often voxels were called free and visible, and were truly occupied and visible, by distance.

    Raises:
        ValueError: edges and counts disagree; others with other edges are added.
    """

    edges_m: tuple[float, ...]
    counts: Counts  # [B, 2, 2, 2, 2], B = edges + 1: called free, called visible, truly occupied, truly visible

    def __post_init__(self) -> None:
        wanted = (len(self.edges_m) + 1, 2, 2, 2, 2)
        if self.counts.shape != wanted:
            raise ValueError(f"the counts of {len(self.edges_m)} distance edges are {wanted}, not {self.counts.shape}")

    @classmethod
    def empty(cls, edges_m: Sequence[float] = DISTANCE_EDGES_M) -> "SeenSpace":
        """Nothing counted yet."""
        return cls(tuple(edges_m), np.zeros((len(edges_m) + 1, 2, 2, 2, 2), np.int64))

    def add(self, is_free: Mask, is_visible: Mask, truly_occupied: Mask, truly_visible: Mask, bins: Ids) -> "SeenSpace":
        """These counts and those of one more grid: a new value.

        Args:
            is_free, is_visible: what the prediction says of every voxel.
            bins: from `distance_bins` with the same edges; all five have one shape.

        Raises:
            ValueError: the shapes or types differ, or a bin is not one of the edges'.
        """
        masks = (is_free, is_visible, truly_occupied, truly_visible)
        if {mask.shape for mask in masks} != {bins.shape} or any(mask.dtype != np.bool_ for mask in masks):
            raise ValueError(f"masks must be bool {bins.shape}, as the bins: {[(m.dtype, m.shape) for m in masks]}")
        check_bins(bins, len(self.counts))
        places = np.ravel_multi_index((bins.ravel(), *(mask.ravel() for mask in masks)), self.counts.shape)
        found = np.bincount(places, minlength=self.counts.size).astype(np.int64)
        return SeenSpace(self.edges_m, self.counts + found.reshape(self.counts.shape))

    def __add__(self, other: "SeenSpace") -> "SeenSpace":
        if self.edges_m != other.edges_m:
            raise ValueError("counts of seen space with other distance edges cannot be added")
        return SeenSpace(self.edges_m, self.counts + other.counts)

    def scores(self) -> dict[str, float]:
        """VISIBLE_SCORES over all distances; NaN where there is nothing that it could be a share of."""
        return dict(zip(VISIBLE_SCORES, _scores(self.counts.sum(axis=0, keepdims=True))[0].tolist()))

    def by_distance(self) -> dict[str, dict[str, float]]:
        """VISIBLE_SCORES in each bin, by names such as "10-20 m"."""
        rows = _scores(self.counts).tolist()
        return {name: dict(zip(VISIBLE_SCORES, row)) for name, row in zip(bin_names(self.edges_m), rows)}

    def called_free(self) -> Counts:
        """How many voxels of each bin [B, 2] were called free and hidden, free and visible."""
        return np.asarray(self.counts[:, 1].sum(axis=(2, 3)))


def _scores(counts: Counts) -> NDArray[np.float64]:
    """VISIBLE_SCORES [B, 6] of counts [B, 2, 2, 2, 2]."""
    seen = counts.sum(axis=(1, 3))  # [B, called visible, truly visible]
    free = counts[:, 1]  # [B, called visible, truly occupied, truly visible]
    both, called, true = seen[:, 1, 1], seen[:, 1].sum(axis=1), seen[:, :, 1].sum(axis=1)
    free_seen, free_hidden, free_truly_seen = free[:, 1], free[:, 0], free[..., 1]
    shares = (
        (both, called + true - both),
        (seen[:, 1, 0], called),
        (seen[:, 0, 1], true),
        (free_seen[:, 1].sum(axis=1), free_seen.sum(axis=(1, 2))),
        (free_hidden[:, 1].sum(axis=1), free_hidden.sum(axis=(1, 2))),
        (free_truly_seen[:, :, 1].sum(axis=1), free_truly_seen.sum(axis=(1, 2))),
    )
    return np.stack([ratio(part, whole) for part, whole in shares], axis=1)
