"""Where bundles of rays enter solids: the one place that intersects, on any device of PyTorch.

A raster (an image, or the shadow map's plane) is looked at through windows, one per shape, outside of which its rays
cannot meet the shape.  All windows are laid end to end and worked off together in pieces, so that thousands of small
shapes cost a few large operations.

Vectors stand component first, `[3, n]`.  Products of coordinates are written out instead of using matrix
multiplication, which may be set to lower precision on a GPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .shapes import Kind, ShapeTable

_PIECE = {"cpu": 32_768}  # rays at a time: on a CPU what fits into the cache
_PIECE_ELSEWHERE = 4_194_304


@dataclass(frozen=True, slots=True, eq=False)
class Bundles:
    """One window of a raster per shape, m of them, and the rays of its cells in the shape's unit frame.

    With column c and row r counted from the window's corner, a ray begins at `start @ (c, r, 1)` and goes along
    `step @ (c, r, 1)`.
    """

    shape: NDArray[np.int64]  # [m], index into the shape table
    window: NDArray[np.int64]  # [m, 4], left, right, top, bottom, in cells of the raster
    start: NDArray[np.floating]  # [m, 3, 3]
    step: NDArray[np.floating]  # [m, 3, 3]


def entries(
    shapes: ShapeTable, bundles: Bundles, columns: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Pieces of p rays each: number of the bundle [p], cell of the raster [p], ray parameter at the entry [p].

    Cells are numbered row by row, `columns` to a row.  The parameter is inf for a miss and where a ray starts inside.
    """
    for kind in Kind:
        own = np.flatnonzero(shapes.kind[bundles.shape] == kind)
        if not len(own):
            continue
        window = bundles.window[own]
        planes = shapes.planes[bundles.shape[own]][:, _planes_of(kind)]
        parts = (bundles.start[own], bundles.step[own], planes)
        packed = np.concatenate([part.reshape(len(own), -1) for part in parts], axis=1).astype(np.float32)
        table = torch.from_numpy(np.ascontiguousarray(packed.T)).to(device)
        corner = window[:, 2] * columns + window[:, 0]
        width = window[:, 1] - window[:, 0]
        numbers = torch.from_numpy(np.stack((own, width, corner))).to(device)
        for bundle, place in _cells(width * (window[:, 3] - window[:, 2]), device):
            number, across, first = numbers.index_select(1, bundle)
            row = place.div(across, rounding_mode="floor")
            column = place - row * across
            values = table.index_select(1, bundle)
            origin, direction = (_affine(part, column, row) for part in (values[:9], values[9:18]))
            yield (
                number,
                first + row * columns + column,
                enter(kind, values[18:].view(-1, 4, len(row)), origin, direction),
            )


def _planes_of(kind: Kind) -> slice:
    """The planes that bound a kind of solid: all, the upper and lower ends, or none."""
    return {Kind.HULL: slice(0, 6), Kind.CYLINDER: slice(4, 6), Kind.ELLIPSOID: slice(0, 0)}[kind]


def _cells(areas: NDArray[np.int64], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows [p] and places within them [p] of all cells of windows with the given areas [m], in pieces."""
    last = areas.cumsum()
    first = torch.from_numpy(last - areas).to(device)
    limit = _PIECE.get(device.type, _PIECE_ELSEWHERE)
    for begin in range(0, int(last[-1]), limit):
        end = min(begin + limit, int(last[-1]))
        counts = np.minimum(last, end) - np.maximum(last - areas, begin)
        there = np.flatnonzero(counts > 0)
        numbers, repeats = torch.from_numpy(np.stack((there, counts[there]))).to(device)
        window = torch.repeat_interleave(numbers, repeats, output_size=end - begin)
        yield window, torch.arange(begin, end, device=device) - first.index_select(0, window)


def _affine(matrix: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """`matrix @ (column, row, 1)` as [3, p] of matrices [9, p]."""
    of_column, of_row, constant = (matrix[i::3] for i in range(3))
    return torch.addcmul(torch.addcmul(constant, of_column, column.float()), of_row, row.float())


def turned(matrix: Tensor, vectors: Tensor) -> Tensor:
    """Products [3, n] of one matrix [3, 3] or n of them [3, 3, n] with vectors [3, n]."""
    columns = matrix[..., None] if matrix.dim() == 2 else matrix
    total = columns[:, 0] * vectors[0]
    return total.addcmul_(columns[:, 1], vectors[1]).addcmul_(columns[:, 2], vectors[2])


def enter(kind: int, planes: Tensor, origin: Tensor, direction: Tensor) -> Tensor:
    """Ray parameter [n] at which rays enter unit solids; inf for a miss and for rays that start inside.

    `origin` and `direction` are [3, n] in the solids' unit frames; `planes` is [6, 4, n]; of cylinders the two ends
    are enough, of ellipsoids none.
    """
    if kind == Kind.HULL:
        first, last = _between_planes(planes, origin, direction)
    elif kind == Kind.ELLIPSOID:
        first, last = _quadric(origin, direction)
    else:
        first, last = _quadric(origin[:2], direction[:2])
        low, high = _between_planes(planes[-2:], origin, direction)
        first, last = torch.maximum(first, low), torch.minimum(last, high)
    return torch.where((first < last) & (first > 0), first, torch.inf)


def _between_planes(planes: Tensor, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    speed, gap = planes[:, 0] * direction[0], planes[:, 3] - planes[:, 0] * origin[0]
    for axis in (1, 2):
        speed.addcmul_(planes[:, axis], direction[axis])
        gap.addcmul_(planes[:, axis], origin[axis], value=-1)
    times = gap / speed
    first = torch.where(speed < 0, times, -torch.inf).amax(dim=0)
    last = torch.where(speed > 0, times, torch.inf).amin(dim=0)
    outside = ((speed == 0) & (gap < 0)).any(dim=0)  # parallel to a plane and beyond it
    return first.masked_fill_(outside, torch.inf), last


def _quadric(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Both crossings of the unit sphere (three coordinates) or the unit circle (two)."""
    a = (direction * direction).sum(dim=0).clamp_(min=1e-12)
    b = (origin * direction).sum(dim=0)
    root = (b * b - a * ((origin * origin).sum(dim=0) - 1)).sqrt_()  # nan for a miss, which no comparison passes
    return (-b - root) / a, (root - b) / a
