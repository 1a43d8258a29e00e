"""Multi-scale deformable attention as one weighted gather from a table of all levels."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from ..interpolation import index, lower_and_fraction, weighted_rows

# Samples worked on at once: on a CPU so few that what is computed of them stays in the cache of a core.
SAMPLES_AT_ONCE = {"cpu": 64_000, "cuda": 8_000_000}
EXACT_ROWS = 1 << 24  # of a source's table: they are counted in float32


@dataclass(frozen=True, slots=True, eq=False)
class _Samples:
    """What the samples of a query have in common with those of all others, each [head * level * point].

    As flat rows: on a CPU an operation runs along the last axis, and a few points would be too short for it.
    """

    columns: Tensor  # float32, of the sample's level
    rows: Tensor
    first_row: Tensor  # float32, row of the source's table where the sample's head and level begin
    row_stride: Tensor  # float32, rows of the table from one row of the map to the next
    corners: Tensor  # int32 [4, 1, head * level * point], rows of the table from the upper left corner to each


def deform_attn(
    values: Tensor,
    shapes: tuple[tuple[int, int], ...],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    source: Tensor | None = None,
) -> Tensor:
    """See `panoocc_core.ops.deform_attn`."""
    queries, heads, levels, points = weights.shape
    x, y = (offsets[..., axis].flatten(1).float() for axis in (0, 1))
    weights = weights.float().flatten(1)
    samples = _samples(shapes, heads, points, values.device)
    table, rows_of_source = values.reshape(-1, values.shape[-1]), values.shape[1] * heads
    if source is None:
        assert reference_points.shape[1] == 1
        query, positions, first = None, reference_points[:, 0], None
    else:
        query, slot = (source >= 0).nonzero().unbind(1)  # the pairs that exist, query by query
        positions, first = reference_points[query, slot], (source[query, slot] * rows_of_source)[:, None]

    attended, step = [], max(1, SAMPLES_AT_ONCE[values.device.type] // (heads * levels * points))
    for begin in range(0, len(positions), step):
        part = slice(begin, begin + step)
        rows = part if query is None else query[part]
        base = None if first is None else first[part]
        corners, corner_weights = _corners(positions[part], x[rows], y[rows], weights[rows], samples, base, heads)
        bags = weighted_rows(table, corners.view(-1, levels * points), corner_weights.view(-1, levels * points))
        attended.append(bags.view(4, -1, heads * values.shape[-1]).sum(0))
    out = torch.cat(attended) if attended else table.new_zeros(0, heads * values.shape[-1])
    return out if query is None or source is None else _mean_of_slots(out, source >= 0)


def _mean_of_slots(attended: Tensor, exists: Tensor) -> Tensor:
    """[pair, C], query by query -> means [query, C] over the pairs of each, which `exists` [query, slot] names."""
    count = exists.sum(1)
    order = torch.arange(len(attended), device=attended.device)
    return functional.embedding_bag(order, attended, count.cumsum(0) - count, mode="mean")


@cache  # a network has a handful of shapes; graphs read them by their addresses, so that they must stay
@torch.inference_mode(False)  # kept from an inference, they serve a training too
def _samples(shapes: tuple[tuple[int, int], ...], heads: int, points: int, device: torch.device) -> _Samples:
    def each(of_level: list[int]) -> Tensor:
        return torch.tensor(of_level, device=device, dtype=torch.float32).repeat_interleave(points).repeat(heads)

    cells = [(rows + 2) * (columns + 2) for rows, columns in shapes]
    if sum(cells) * heads > EXACT_ROWS:
        raise ValueError(f"maps {shapes} with {heads} heads have more than {EXACT_ROWS} rows: take smaller images")
    head = torch.arange(heads, device=device).repeat_interleave(len(shapes) * points)
    below = each([(columns + 2) * heads for _, columns in shapes])
    return _Samples(
        columns=each([columns for _, columns in shapes]),
        rows=each([rows for rows, _ in shapes]),
        first_row=each([sum(cells[:level]) * heads for level in range(len(cells))]) + head,
        row_stride=below,
        corners=torch.stack((0 * below, 0 * below + heads, below, below + heads)).to(torch.int32)[:, None],
    )


def _corners(
    positions: Tensor, x: Tensor, y: Tensor, weights: Tensor, samples: _Samples, first: Tensor | None, heads: int
) -> tuple[Tensor, Tensor]:
    """Rows of the table around every sample, and what each of them weighs: int32 and float32 [corner, pair, sample].

    Args:
        positions: [pair, 2], reference points.
        x, y: [pair, sample], offsets in cells.
        weights: float32 [pair, sample].
        samples: what holds for every pair.
        first: int32 [pair, 1], where the rows of the pair's source begin.
        heads: number of heads, the rows that a cell has in the table.
    """
    column, right = lower_and_fraction(torch.addcmul(x, positions[:, :1], samples.columns).add_(0.5), samples.columns)
    row, down = lower_and_fraction(torch.addcmul(y, positions[:, 1:], samples.rows).add_(0.5), samples.rows)
    upper_left = index(torch.addcmul(samples.first_row, row, samples.row_stride).add_(column, alpha=heads))
    if first is not None:
        upper_left += first
    return upper_left + samples.corners, _corner_weights(weights, right, down)


def _corner_weights(weights: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Weights [pair, sample] dealt out to the corners by where between them a sample lies: [corner, pair, sample]."""
    whole = None if torch.is_grad_enabled() else weights.new_empty(4, *weights.shape)
    into = (None,) * 4 if whole is None else whole.unbind()  # without a copy where no gradient flows
    lower = weights * down
    upper = weights - lower
    upper_right, lower_right = torch.mul(upper, right, out=into[1]), torch.mul(lower, right, out=into[3])
    upper_left, lower_left = torch.sub(upper, upper_right, out=into[0]), torch.sub(lower, lower_right, out=into[2])
    return torch.stack((upper_left, upper_right, lower_left, lower_right)) if whole is None else whole
