"""Linear interpolation with zeros outside, as rows and weights of a zero-bordered table."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional


def lower_and_fraction(position: Tensor, size: int | Tensor) -> tuple[Tensor, Tensor]:
    """Lower neighbour in a bordered axis and the weight of the upper one.

    Args:
        position: any shape; 0 is the centre of the lower border cell, 1 that of the first cell, size that of the last.
        size: number of cells without the border.

    Returns:
        Whole number in 0..size of the lower neighbour (0 is the lower border cell), of the position's type, and the
        weight in [0, 1] of the next one.  Positions outside weigh only a border cell; of a NaN both are NaN.
    """
    position = position.clamp(0, size + 1) if isinstance(size, int) else position.clamp(0 * size, size + 1)
    lower = position.floor().clamp_(max=size)
    return lower, position.sub_(lower)


def cell_and_fraction(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """`lower_and_fraction` with the neighbour as an index, int32; a NaN gets a valid one and a NaN weight."""
    lower, fraction = lower_and_fraction(position, size)
    return index(lower), fraction


def index(place: Tensor) -> Tensor:
    """Whole numbers, none below zero, as int32; a NaN becomes 0."""
    return place.to(torch.int32).clamp_(min=0)


def bordered(maps: Tensor) -> Tensor:
    """[source, row, column, channel] with one ring of zero cells added to rows and columns."""
    return functional.pad(maps, (0, 0, 1, 1, 1, 1))


@cache  # a network has a handful of shapes; graphs read them by their addresses, so that they must stay
@torch.inference_mode(False)  # kept from an inference, they serve a training too
def ring_cells(shapes: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """Which cells, int64, of bordered maps (rows, columns) one after the other are of their rings."""
    inside = [torch.zeros(rows, columns, device="cpu") for rows, columns in shapes]
    maps = [functional.pad(level, (1, 1, 1, 1), value=1.0).flatten() for level in inside]
    return torch.cat(maps).nonzero().squeeze(1).to(device)


def weighted_rows(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Sum of `weights` [bag, k] times the rows [bag, k] of a table [row, channel]: [bag, channel]."""
    return functional.embedding_bag(rows, table, per_sample_weights=weights.to(table.dtype), mode="sum")
