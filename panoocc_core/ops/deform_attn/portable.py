"""Multi-scale deformable attention as one `grid_sample` of four dimensions a level, which ONNX and TensorRT have.

The maps of all sources lie one below the other: their rings of zeros keep them apart.  All is float32, as `grid_sample`
wants places and values of one type.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ..reference_mode import slots_that_count

SAMPLED_AT_ONCE = 1 << 26  # values: 256 MiB


def deform_attn(
    values: Tensor,
    shapes: tuple[tuple[int, int], ...],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    source: Tensor | None = None,
) -> Tensor:
    """See `panoocc_core.ops.deform_attn`; of the slots of a query the first `slots_that_count` that exist are used."""
    sources, _, heads, channels = values.shape
    dtype, values = values.dtype, values.float()
    if source is None:
        source, share = torch.zeros_like(reference_points[..., 0]), torch.ones_like(reference_points[..., 0])
    else:
        reference_points, source = _first_slots(reference_points, source.float(), slots_that_count())
        exists = (source >= 0).float()
        share = exists / exists.sum(1, keepdim=True).clamp(min=1)
    tables = [
        level.reshape(sources * (rows + 2), columns + 2, heads, channels).permute(2, 3, 0, 1)
        for level, (rows, columns) in zip(values.split([(r + 2) * (c + 2) for r, c in shapes], dim=1), shapes)
    ]
    queries, slots = source.shape
    step = max(1, SAMPLED_AT_ONCE // (slots * offsets.shape[3] * heads * channels))
    parts = []
    for begin in range(0, queries, step):
        part = slice(begin, min(begin + step, queries))
        base, attended = source[part].clamp(min=0)[:, :, None, None], []
        for level, (table, (rows, columns)) in enumerate(zip(tables, shapes)):
            places = reference_points[part, :, None, None] * offsets.new_tensor((columns, rows)) + 0.5
            x, y = (places + offsets[part, None, :, level]).unbind(-1)  # [query, slot, head, point]; 0 is the ring
            y = y.clamp(0, rows + 1) + base * (rows + 2)
            weight = weights[part, None, :, level] * share[part, :, None, None]
            attended.append(_sampled(table, x.clamp(0, columns + 1), y, weight.float()))
        parts.append(torch.stack(attended).sum(0))
    return torch.cat(parts).to(dtype)


def _sampled(table: Tensor, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums over slots and points of samples of maps [head, channel, row, column]: [query, head * channel].

    Args:
        x, y: [query, slot, head, point], in cells, 0 at the centre of the first one.
    """
    rows, columns = table.shape[2:]
    grid = torch.stack((x * (2 / (columns - 1)) - 1, y * (2 / (rows - 1)) - 1), dim=-1).permute(2, 0, 1, 3, 4)
    queries, slots, heads, points = x.shape
    flat = grid.reshape(heads, queries, slots * points, 2)
    sampled = functional.grid_sample(table, flat, align_corners=True)  # [head, channel, query, slot * point]
    weight = weight.permute(2, 0, 1, 3).reshape(heads, 1, queries, slots * points)
    return (sampled * weight).sum(-1).permute(2, 0, 1).reshape(queries, -1)


def _first_slots(reference_points: Tensor, source: Tensor, slots: int | None) -> tuple[Tensor, Tensor]:
    """Of [query, slot, 2] and [query, slot] the first `slots` that exist; of fewer the others are -1 still."""
    given = source.shape[1]
    if slots is None or slots >= given:
        return reference_points, source
    order = torch.arange(given, 0, -1, dtype=torch.float32, device=source.device)
    chosen = torch.where(source >= 0, order, order - given).topk(slots, dim=1).indices
    points = reference_points.gather(1, chosen[..., None].expand(-1, -1, 2))
    return points, source.gather(1, chosen)
