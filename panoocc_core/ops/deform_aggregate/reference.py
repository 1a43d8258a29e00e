"""What grouped deformable aggregation computes: group by group and point by point a sampled, weighted map."""

import torch
from torch import Tensor
from torch.nn import functional


def deform_aggregate(values: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """See `panoocc_core.ops.deform_aggregate`."""
    _, rows, columns, groups, _ = values.shape
    y, x = torch.meshgrid(*(torch.arange(size, device=values.device) for size in (rows, columns)), indexing="ij")
    pixel, size = torch.stack((x, y), dim=-1) + 0.5, offsets.new_tensor((columns, rows))
    out = []
    for group in range(groups):
        maps = values[:, :, :, group].permute(0, 3, 1, 2)  # [image, channel, row, column]
        total = torch.zeros_like(maps)
        for point in range(offsets.shape[4]):
            grid = (pixel + offsets[:, :, :, group, point]) / size * 2 - 1
            sampled = functional.grid_sample(maps, grid, align_corners=False)
            total = total + sampled * weights[:, None, :, :, group, point]
        out.append(total.permute(0, 2, 3, 1))
    return torch.cat(out, dim=-1)
