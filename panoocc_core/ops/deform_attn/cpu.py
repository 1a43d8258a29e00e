"""Multi-scale deformable attention as one weighted gather from a table of all levels."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..interpolation import bordered, cell_and_fraction, weighted_rows

# Samples worked on at once, about 60 bytes each: fewer would stay in a CPU cache, but many small parallel operations
# wait for each other when other processes share the cores.
SAMPLES_AT_ONCE = {"cpu": 1_000_000, "cuda": 8_000_000}


@dataclass(frozen=True, slots=True, eq=False)
class _Samples:
    """What the samples of a query have in common with those of all others, each [head * level * point].

    As flat rows: on a CPU an operation runs along the last axis, and a few points would be too short for it.
    """

    columns: Tensor  # float32, of the sample's level
    rows: Tensor
    first_row: Tensor  # int32, row of the table where the sample's head and level begin
    row_stride: Tensor  # int32, rows of the table from one row of the map to the next


def deform_attn(
    values: Tensor,
    shapes: tuple[tuple[int, int], ...],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    row: Tensor | None = None,
    source: Tensor | None = None,
) -> Tensor:
    """See `panoocc_core.ops.deform_attn`."""
    heads, levels, points = weights.shape[1:]
    table = _table(values, shapes)
    samples = _samples(shapes, heads, points, values.device)
    offsets, weights = offsets.flatten(1, 3), weights.float().flatten(1)  # [row, sample, 2], [row, sample]
    queries, rows_of_source = reference_points.shape[0], len(table) // len(values)
    step = max(1, SAMPLES_AT_ONCE[values.device.type] // (heads * levels * points))
    chunks = []
    for begin in range(0, queries, step):
        part = slice(begin, begin + step)
        base = None if source is None else (source[part] * rows_of_source).to(torch.int32)[:, None]
        own = (_of_queries(offsets, row, part), _of_queries(weights, row, part))
        corners, corner_weights = _corners(reference_points[part], *own, samples, base, heads)
        chunks.append(weighted_rows(table, corners, corner_weights))
    out = torch.cat(chunks) if chunks else table.new_zeros(0, table.shape[1])
    return out.view(queries, heads * values.shape[-1])


def _of_queries(of_row: Tensor, row: Tensor | None, part: slice) -> Tensor:
    """What [row, ...] holds for some of the queries."""
    return of_row[part] if row is None else of_row.index_select(0, row[part])


def _table(values: Tensor, shapes: tuple[tuple[int, int], ...]) -> Tensor:
    """Zero-bordered maps as [source * cell * head, channel]; a source has the cells of all levels."""
    sources, _, _, channels = values.shape
    maps = values.flatten(2).split([rows * columns for rows, columns in shapes], dim=1)
    cells = [
        bordered(level.reshape(sources, rows, columns, -1)).flatten(1, 2)
        for level, (rows, columns) in zip(maps, shapes, strict=True)
    ]
    return torch.cat(cells, dim=1).view(-1, channels)


@lru_cache(maxsize=64)  # a network has a handful of shapes; on CUDA each would be four uploads a call
@torch.inference_mode(False)  # kept from an inference, they serve a training too
def _samples(shapes: tuple[tuple[int, int], ...], heads: int, points: int, device: torch.device) -> _Samples:
    def each(of_level: list[int], dtype: torch.dtype) -> Tensor:
        return torch.tensor(of_level, device=device, dtype=dtype).repeat_interleave(points).repeat(heads)

    cells = [(rows + 2) * (columns + 2) for rows, columns in shapes]
    head = torch.arange(heads, device=device, dtype=torch.int32).repeat_interleave(len(shapes) * points)
    return _Samples(
        columns=each([columns for _, columns in shapes], torch.float32),
        rows=each([rows for rows, _ in shapes], torch.float32),
        first_row=each([sum(cells[:level]) * heads for level in range(len(cells))], torch.int32) + head,
        row_stride=each([(columns + 2) * heads for _, columns in shapes], torch.int32),
    )


def _corners(
    reference_points: Tensor, offsets: Tensor, weights: Tensor, samples: _Samples, base: Tensor | None, heads: int
) -> tuple[Tensor, Tensor]:
    """Rows of the table around every sample, and what each of them weighs.

    Args:
        reference_points: [query, 2].
        offsets: [query, sample, 2] in cells.
        weights: float32 [query, sample].
        samples: what holds for every query.
        base: int32 [query, 1], where the rows of the query's source begin.
        heads: number of heads, the rows that a cell has in the table.

    Returns:
        int32 and float32 [query * head, corner * level * point].
    """
    x, y = reference_points[:, :1], reference_points[:, 1:]
    column, right = cell_and_fraction(offsets[..., 0] + x * samples.columns - 0.5, samples.columns)
    row, down = cell_and_fraction(offsets[..., 1] + y * samples.rows - 0.5, samples.rows)
    first = samples.first_row + row * samples.row_stride + column * heads
    if base is not None:
        first = first + base
    below = first + samples.row_stride
    lower = weights * down
    upper = weights - lower
    lower_right, upper_right = lower * right, upper * right
    corner_weights = (upper - upper_right, upper_right, lower - lower_right, lower_right)
    return _by_head((first, first + heads, below, below + heads), heads), _by_head(corner_weights, heads)


def _by_head(corners: tuple[Tensor, ...], heads: int) -> Tensor:
    """Four times [query, head * n] -> [query * head, 4 * n]."""
    bags = corners[0].shape[0] * heads
    return torch.cat([corner.view(bags, -1) for corner in corners], dim=1)
