"""Torch reference of multi-scale deformable attention."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..interpolation import bordered, cell_and_fraction, weighted_rows

# Samples worked on at once, about 60 bytes each: fewer would stay in a CPU cache, but many small parallel operations
# wait for each other when other processes share the cores.
SAMPLES_AT_ONCE = {"cpu": 1_000_000, "cuda": 8_000_000}


@dataclass(frozen=True, slots=True, eq=False)
class _Samples:
    """What the samples of a visit have in common with those of all others, each [head * level * point].

    As flat rows: on a CPU an operation runs along the last axis, and a few points would be too short for it.
    """

    columns: Tensor  # float32, of the sample's level
    rows: Tensor
    first_row: Tensor  # int32, row of the table where the sample's head and level begin
    row_stride: Tensor  # int32, rows of the table from one row of the map to the next


def deform_attn(
    values: Tensor,
    shapes: tuple[tuple[int, int], ...],
    positions: Tensor,
    offsets: Tensor,
    weights: Tensor,
    query: Tensor | None = None,
    source: Tensor | None = None,
) -> Tensor:
    """See `panoocc_core.ops.deform_attn`."""
    heads, levels, points = weights.shape[1:]
    table, level_start = _table(values, shapes)
    samples = _samples(shapes, level_start, heads, points, values.device)
    offsets, weights = offsets.flatten(1, 3), weights.float().flatten(1)  # [query, sample, 2], [query, sample]
    visits, cells = positions.shape[0], level_start[-1]
    step = max(1, SAMPLES_AT_ONCE[values.device.type] // (heads * levels * points))
    chunks = []
    for begin in range(0, visits, step):
        part = slice(begin, begin + step)
        base = None if source is None else (source[part] * (cells * heads)).to(torch.int32)[:, None]
        moves, shares = _of_visits(offsets, query, part), _of_visits(weights, query, part)
        rows, shares = _corners(positions[part], moves, shares, samples, base, heads)
        chunks.append(weighted_rows(table, rows, shares))
    out = torch.cat(chunks) if chunks else table.new_zeros(0, table.shape[1])
    return out.view(visits, heads * values.shape[-1])


def _of_visits(of_query: Tensor, query: Tensor | None, part: slice) -> Tensor:
    """The rows [query, ...] that belong to some visits."""
    return of_query[part] if query is None else of_query.index_select(0, query[part])


def _table(values: Tensor, shapes: tuple[tuple[int, int], ...]) -> tuple[Tensor, list[int]]:
    """Zero-bordered maps as [source * cell * head, channel]; where the cells of each level begin, and their number."""
    sources, _, heads, channels = values.shape
    maps = values.flatten(2).split([rows * columns for rows, columns in shapes], dim=1)
    cells = [
        bordered(level.reshape(sources, rows, columns, -1)).flatten(1, 2)
        for level, (rows, columns) in zip(maps, shapes, strict=True)
    ]
    start = [0]
    for level in cells:
        start.append(start[-1] + level.shape[1])
    return torch.cat(cells, dim=1).view(-1, channels), start


def _samples(
    shapes: tuple[tuple[int, int], ...], level_start: list[int], heads: int, points: int, device: torch.device
) -> _Samples:
    def each(of_level: list[int], dtype: torch.dtype) -> Tensor:
        return torch.tensor(of_level, device=device, dtype=dtype).repeat_interleave(points).repeat(heads)

    head = torch.arange(heads, device=device, dtype=torch.int32).repeat_interleave(len(shapes) * points)
    return _Samples(
        columns=each([columns for _, columns in shapes], torch.float32),
        rows=each([rows for rows, _ in shapes], torch.float32),
        first_row=each([start * heads for start in level_start[:-1]], torch.int32) + head,
        row_stride=each([(columns + 2) * heads for _, columns in shapes], torch.int32),
    )


def _corners(
    positions: Tensor, offsets: Tensor, weights: Tensor, samples: _Samples, base: Tensor | None, heads: int
) -> tuple[Tensor, Tensor]:
    """Rows of the table around every sample, and what each of them weighs.

    Args:
        positions: [visit, 2].
        offsets: [visit, sample, 2] in cells.
        weights: float32 [visit, sample].
        samples: what holds for every visit.
        base: int32 [visit, 1], where the rows of the visit's source begin.
        heads: number of heads, the rows that a cell has in the table.

    Returns:
        int32 and float32 [visit * head, corner * level * point].
    """
    x, y = positions[:, :1], positions[:, 1:]
    column, right = cell_and_fraction(offsets[..., 0] + x * samples.columns - 0.5, samples.columns)
    row, down = cell_and_fraction(offsets[..., 1] + y * samples.rows - 0.5, samples.rows)
    first = samples.first_row + row * samples.row_stride + column * heads
    if base is not None:
        first = first + base
    below = first + samples.row_stride
    lower = weights * down
    upper = weights - lower
    lower_right, upper_right = lower * right, upper * right
    shares = (upper - upper_right, upper_right, lower - lower_right, lower_right)
    return _by_head((first, first + heads, below, below + heads), heads), _by_head(shares, heads)


def _by_head(corners: tuple[Tensor, ...], heads: int) -> Tensor:
    """Four times [visit, head * n] -> [visit * head, 4 * n]."""
    bags = corners[0].shape[0] * heads
    return torch.cat([corner.view(bags, -1) for corner in corners], dim=1)
