"""What the sun does not reach."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .rays import corners_m
from .shapes import Floats, ShapeTable
from .solids import Bundles, entries, turned

_MAX_CELLS = 40_000_000


@dataclass(frozen=True, slots=True, eq=False)
class ShadowMap:
    """Height of the first solid along the sun's rays, in the plane across them.

    Coordinates are metres along two axes across the sun's direction, and "rise" towards the sun.
    """

    axes: Floats  # [3, 3], rows: two across, one towards the sun
    low_m: Floats  # [2], outer corner of the first cell
    top_m: float  # above everything
    cell_m: float
    rise_m: Tensor  # float32 [rows, columns], -inf where nothing stands in the way

    def add(self, shapes: ShapeTable, which: NDArray[np.bool_]) -> None:
        """Let the chosen shapes [n] cast their shadows, which are added in place."""
        index = np.flatnonzero(which)
        spread = corners_m(shapes)[index] @ self.axes[:2].T
        low = np.floor((spread.min(axis=1) - self.low_m) / self.cell_m).astype(np.int64)
        high = np.ceil((spread.max(axis=1) - self.low_m) / self.cell_m).astype(np.int64) + 1
        rows, columns = self.rise_m.shape
        low, high = np.maximum(low, 0), np.minimum(high, (columns, rows))
        there = (high > low).all(axis=1)
        index, low, high = index[there], low[there], high[there]
        window = np.stack((low[:, 0], high[:, 0], low[:, 1], high[:, 1]), axis=1)
        start, step = self._falling(shapes, index, low)
        rise_m = self.rise_m.view(-1)
        for _, cell, fall in entries(shapes, Bundles(index, window, start, step), columns, rise_m.device):
            rise_m.scatter_reduce_(0, cell, self.top_m - fall, "amax")

    def _falling(self, shapes: ShapeTable, index: NDArray[np.int64], low: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Rays as in `Bundles`: from the middles of the cells, at the top, against the direction to the sun."""
        to_local, axes = shapes.local_from_world[index].astype(np.float64), self.axes.astype(np.float64)
        place = (low + 0.5) * self.cell_m + self.low_m
        corner = place @ axes[:2] + self.top_m * axes[2] - shapes.centre_m[index]
        start, step = np.zeros((2, len(index), 3, 3))
        start[:, :, :2] = to_local @ (axes[:2].T * self.cell_m)
        start[:, :, 2] = np.einsum("nij,nj->ni", to_local, corner)
        step[:, :, 2] = -to_local @ axes[2]
        return start, step

    def around(self, point: Floats, reach_m: float) -> "ShadowMap":
        """A copy of the surroundings of a point [3], to which moving shapes can be added."""
        middle = (self.axes[:2] @ point - self.low_m) / self.cell_m
        first = np.floor(middle - reach_m / self.cell_m).astype(int)
        first = np.clip(first, 0, np.array(self.rise_m.shape[::-1]) - 1)
        last = np.maximum(np.ceil(middle + reach_m / self.cell_m).astype(int), first + 1)
        rise_m = self.rise_m[first[1] : last[1], first[0] : last[0]].clone()
        return replace(self, low_m=self.low_m + first * self.cell_m, rise_m=rise_m)

    def lit(self, points: Tensor, bias_m: float = 0.25) -> Tensor:
        """Share of sunlight 0..1 [n] that reaches points [3, n]."""
        spread = turned(torch.from_numpy(self.axes).to(points.device), points)
        corner_m = torch.from_numpy(self.low_m.astype(np.float32)).to(points.device)[:, None]
        place = (spread[:2] - corner_m) / self.cell_m - 0.5
        corner = place.floor()
        part = place - corner
        rows, columns = self.rise_m.shape
        u, v = corner.long()
        limit, rise_m = spread[2] + bias_m, self.rise_m.view(-1)
        share = torch.zeros_like(limit)
        for down, weight_v in ((0, 1 - part[1]), (1, part[1])):
            row = (v + down).clamp_(0, rows - 1) * columns
            for right, weight_u in ((0, 1 - part[0]), (1, part[0])):
                cell = row + (u + right).clamp_(0, columns - 1)
                share += weight_u * weight_v * (rise_m.index_select(0, cell) < limit)
        return share


def empty_map(to_sun: Floats, low_m: Floats, high_m: Floats, cell_m: float, device: torch.device) -> ShadowMap:
    """A map without shadows of the box from `low_m` [3] to `high_m` [3].

    Its cells are larger than `cell_m` where there would be more than 40 million of them.
    """
    across = np.cross((0.0, 0.0, 1.0), to_sun)
    first = across / np.linalg.norm(across)
    axes = np.stack((first, np.cross(to_sun, first), to_sun)).astype(np.float32)
    ends = zip(low_m, high_m)
    spread = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3) @ axes.T
    least = spread.min(axis=0)
    size_m = (spread.max(axis=0) - least)[:2]
    cell_m = max(cell_m, float(np.sqrt(size_m.prod() / _MAX_CELLS)))
    columns, rows = np.ceil(size_m / cell_m).astype(int) + 1
    rise_m = torch.full((int(rows), int(columns)), -torch.inf, device=device)
    return ShadowMap(axes, least[:2], float(spread[:, 2].max()) + 1, cell_m, rise_m)
