"""What counts as an obstacle: voxels of some classes, in a band of heights above the vehicle's base."""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..labels import GROUND, LabelSet
from ..types import GridGeometry

_SLACK_M = 1e-6  # a middle that lies on the edge of a band, but for rounding, lies on it


@dataclass(frozen=True, slots=True)
class Band:
    """Heights in the vehicle's frame.  It holds the voxels whose middles lie in it, the lower edge included.

    Raises:
        ValueError: it is empty, or not finite.
    """

    min_m: float
    max_m: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.min_m) and math.isfinite(self.max_m) and self.min_m < self.max_m):
            raise ValueError(f"a band of heights from {self.min_m:g} to {self.max_m:g} m is empty")

    def holds(self, height_m: NDArray[Any]) -> NDArray[np.bool_]:
        """Which heights lie in it."""
        return np.asarray((height_m >= self.min_m - _SLACK_M) & (height_m < self.max_m - _SLACK_M))


def ground_classes(labels: LabelSet) -> NDArray[np.bool_]:
    """Which classes are ground, [256] by id."""
    return _table(labels, (name for name in labels.names if name in GROUND))


def ground_ids(labels: LabelSet) -> frozenset[int]:
    """Ids of the classes that are ground, as `KnownSpace` takes them for `ignored`."""
    return frozenset(number for number, name in enumerate(labels.names) if name in GROUND)


def obstacle_classes(labels: LabelSet, names: Iterable[str] = ()) -> NDArray[np.bool_]:
    """Which classes are obstacles, [256] by id.

    Args:
        names: of them; none: all but those of the ground and `noise`.

    Raises:
        ValueError: `labels` has no class of a name (the text has the nearest one), or it is that of free space.
    """
    wanted = tuple(names)
    free = None if labels.free_id is None else labels.names[labels.free_id]
    for name in wanted:
        if name not in labels.names:
            near = difflib.get_close_matches(name, labels.names, n=1)
            hint = f"is {near[0]!r} meant?" if near else f"it has {', '.join(labels.names)}"
            raise ValueError(f"label set {labels.key} has no class {name!r}; {hint}")
        if name == free:
            raise ValueError(f"class {name!r} is free space, and no obstacle")
    return _table(labels, wanted or (name for name in labels.names if name not in (*GROUND, "noise", free)))


def _table(labels: LabelSet, names: Iterable[str]) -> NDArray[np.bool_]:
    table = np.zeros(256, bool)
    table[[labels.names.index(name) for name in names]] = True
    return table


def layers_in(band: Band, geometry: GridGeometry) -> tuple[int, int]:
    """The first layer of a grid that has a voxel in a band, and one past the last.

    Raises:
        ValueError: there is none.
    """
    heights_m = [height_of_layers_m(geometry, x, y) for x in (0, -1) for y in (0, -1)]
    found = np.flatnonzero(
        (np.max(heights_m, axis=0) >= band.min_m - _SLACK_M) & (np.min(heights_m, axis=0) < band.max_m - _SLACK_M)
    )
    if not len(found):
        low, high = np.min(heights_m), np.max(heights_m)
        raise ValueError(
            f"no voxel has its middle between {band.min_m:g} and {band.max_m:g} m: the grid's lie from {low:.2f} to "
            f"{high:.2f} m above the vehicle's frame"
        )
    return int(found[0]), int(found[-1]) + 1


def height_of_layers_m(geometry: GridGeometry, x: int, y: int) -> NDArray[np.float64]:
    """Heights [Z] of the voxels' middles of one column; negative indices count from the end."""
    nx, ny, nz = geometry.shape_xyz
    places = np.stack((np.full(nz, x % nx), np.full(nz, y % ny), np.arange(nz)), axis=1)
    return np.asarray(geometry.centres_m(places)[:, 2])
