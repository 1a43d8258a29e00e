"""What the voxel warp computes."""

from torch import Tensor
from torch.nn import functional


def voxel_warp(tokens: Tensor, shape_hwz: tuple[int, int, int], positions: Tensor) -> Tensor:
    """See `panoocc_core.ops.voxel_warp`."""
    rows, columns, layers = shape_hwz
    volume = tokens.view(rows, columns, layers, -1).permute(3, 2, 0, 1)[None]  # [1, channel, layer, row, column]
    grid = (positions + 0.5) / positions.new_tensor((columns, rows, layers)) * 2 - 1
    sampled = functional.grid_sample(volume, grid[None, :, None, None].to(tokens.dtype), align_corners=False)
    return sampled[0, :, :, 0, 0].T
