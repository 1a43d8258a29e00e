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
    row: Tensor | None = None,
    source: Tensor | None = None,
) -> Tensor:
    """See `panoocc_core.ops.deform_attn`."""
    queries, heads, channels = len(reference_points), values.shape[2], values.shape[3]
    if row is not None:
        offsets, weights = offsets[row], weights[row]
    if source is None:
        source = torch.zeros(queries, dtype=torch.int64, device=values.device)
    out = values.new_zeros(queries, heads * channels)
    for index, tokens in enumerate(values):
        here = (source == index).nonzero().squeeze(1)
        attended = values.new_zeros(heads, channels, len(here))
        levels = tokens.split([rows * columns for rows, columns in shapes])
        for level, (rows, columns) in enumerate(shapes):
            maps = levels[level].permute(1, 2, 0).unflatten(2, (rows, columns))  # [head, channel, row, column]
            moved = offsets[here, :, level] / offsets.new_tensor((columns, rows))
            grid = (reference_points[here, None, None] + moved).transpose(0, 1) * 2 - 1  # [head, query, point, 2]
            sampled = functional.grid_sample(maps, grid, align_corners=False)  # [head, channel, query, point]
            attended = attended + (sampled * weights[here, :, level].transpose(0, 1)[:, None]).sum(-1)
        out = out.index_copy(0, here, attended.permute(2, 0, 1).flatten(1))
    return out
