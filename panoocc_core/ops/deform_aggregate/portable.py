"""Grouped deformable aggregation as one `grid_sample` of four dimensions, which ONNX and TensorRT have; in float32."""

import torch
from torch import Tensor
from torch.nn import functional


def deform_aggregate(values: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """See `panoocc_core.ops.deform_aggregate`."""
    images, rows, columns, groups, channels = values.shape
    y, x = torch.meshgrid(*(torch.arange(size, device=values.device) for size in (rows, columns)), indexing="ij")
    pixel = (torch.stack((x, y), dim=-1) + 0.5)[:, :, None, None]  # [row, column, group, point, xy]
    grid = (pixel + offsets) / offsets.new_tensor((columns, rows)) * 2 - 1
    grid = grid.permute(0, 3, 1, 2, 4, 5).reshape(images * groups, rows, -1, 2)
    maps = values.permute(0, 3, 4, 1, 2).reshape(images * groups, channels, rows, columns).float()
    sampled = functional.grid_sample(maps, grid, align_corners=False)  # [image * group, channel, row, column * point]
    weight = weights.permute(0, 3, 1, 2, 4).reshape(images * groups, 1, rows, -1).float()
    total = (sampled * weight).unflatten(3, (columns, -1)).sum(-1)
    return total.view(images, groups * channels, rows, columns).permute(0, 2, 3, 1).to(values.dtype)
