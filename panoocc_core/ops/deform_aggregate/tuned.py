"""Grouped deformable aggregation as one weighted gather."""

import torch
from torch import Tensor

from ..interpolation import bordered, cell_and_fraction, weighted_rows


def deform_aggregate(values: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """See `panoocc_core.ops.deform_aggregate`."""
    images, rows, columns, groups, channels = values.shape
    device = values.device
    pixel_x = torch.arange(1, columns + 1, device=device)[:, None, None]  # with the border
    pixel_y = torch.arange(1, rows + 1, device=device)[:, None, None, None]
    cell_x, right = cell_and_fraction(offsets[..., 0] + pixel_x, columns)
    cell_y, down = cell_and_fraction(offsets[..., 1] + pixel_y, rows)

    image = torch.arange(images, device=device, dtype=torch.int32)[:, None, None, None, None] * (rows + 2)
    first = (image + cell_y) * (columns + 2) + cell_x
    below = first + (columns + 2)
    cells = torch.stack((first, first + 1, below, below + 1), dim=-1)
    cells = cells * groups + torch.arange(groups, device=device, dtype=torch.int32)[:, None, None]
    left, up = 1 - right, 1 - down
    corners = torch.stack((up * left, up * right, down * left, down * right), dim=-1)
    weights = corners * weights[..., None].float()

    table = bordered(values.flatten(3)).reshape(-1, channels)
    bags = images * rows * columns * groups
    return weighted_rows(table, cells.view(bags, -1), weights.view(bags, -1)).view(images, rows, columns, -1)
