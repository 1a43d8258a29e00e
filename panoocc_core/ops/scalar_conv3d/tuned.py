"""3-D convolution to a single channel as a matrix product and a sum of shifted volumes.

The product gives what every voxel adds to each of its neighbours; on a CPU this is several times faster than the usual
convolution.
"""

from itertools import product

import torch
from torch import Tensor


def scalar_conv3d(points: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See `panoocc_core.ops.scalar_conv3d`."""
    kernel, (depth, height, width) = weight.shape[-1], points.shape[:3]
    addends = weight[0].flatten(1).t() @ points.flatten(0, 2).t()  # [kernel ** 3, voxel]
    border = kernel - 1
    total = addends.new_zeros(depth + border, height + border, width + border, dtype=torch.float32)
    taps = product(range(kernel), repeat=3)
    for (z, y, x), addend in zip(taps, addends.view(-1, depth, height, width)):
        z, y, x = border - z, border - y, border - x  # the voxel at (x, y, z) of the window adds to its middle
        total[z : z + depth, y : y + height, x : x + width] += addend
    edge = kernel // 2
    return total[edge : edge + depth, edge : edge + height, edge : edge + width] + bias.float()
