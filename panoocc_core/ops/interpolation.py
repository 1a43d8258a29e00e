"""Linear interpolation with zeros outside, as rows and weights of a zero-bordered table."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional


def cell_and_fraction(position: Tensor, size: int | Tensor) -> tuple[Tensor, Tensor]:
    """Lower neighbour in a bordered axis and the weight of the upper one.

    Args:
        position: any shape; 0 is the centre of the lower border cell, 1 that of the first cell, size that of the last.
        size: number of cells without the border.

    Returns:
        int32 index in 0..size of the lower neighbour (0 is the lower border cell) and the weight in [0, 1] of the next
        one.  Positions outside weigh only a border cell; a NaN gets a valid index and a NaN weight.
    """
    position = position.clamp(min=0)
    if isinstance(size, Tensor):
        position = torch.minimum(position, size + 1)
        low = torch.minimum(position.floor(), size)
    else:
        position = position.clamp(max=size + 1)
        low = position.floor().clamp(max=size)
    return low.to(torch.int32).clamp_(min=0), position - low  # the clamp turns what a NaN became into an index


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
