"""What multi-scale deformable attention computes: one `grid_sample` a source and level, the usual torch formulation."""

import torch
from torch import Tensor
from torch.nn import functional


def deform_attn(
    values: Tensor,
    shapes: tuple[tuple[int, int], ...],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    source: Tensor | None = None,
) -> Tensor:
    """See `panoocc_core.ops.deform_attn`."""
    queries, slots = reference_points.shape[:2]
    heads, channels = values.shape[2:]
    if source is None:
        source = torch.zeros(queries, slots, dtype=torch.int32, device=values.device)
    out = values.new_zeros(queries, heads * channels)
    for index, cells in enumerate(values):
        query, slot = (source == index).nonzero().unbind(1)
        attended = values.new_zeros(heads, channels, len(query))
        levels = cells.split([(rows + 2) * (columns + 2) for rows, columns in shapes])
        for level, (rows, columns) in enumerate(shapes):
            ringed = levels[level].unflatten(0, (rows + 2, columns + 2)).permute(2, 3, 0, 1)
            maps = ringed[..., 1:-1, 1:-1]  # [head, channel, row, column]
            moved = offsets[query, :, level] / reference_points.new_tensor((columns, rows))
            grid = (reference_points[query, slot, None, None] + moved).transpose(0, 1) * 2 - 1  # [head, pair, point, 2]
            sampled = functional.grid_sample(maps, grid, align_corners=False)  # [head, channel, pair, point]
            attended = attended + (sampled * weights[query, :, level].transpose(0, 1)[:, None]).sum(-1)
        out = out.index_add(0, query, attended.permute(2, 0, 1).flatten(1))
    return out / (source >= 0).sum(1).clamp(min=1)[:, None]
