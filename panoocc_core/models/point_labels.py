"""Class of LiDAR points from a class volume (evaluation of the panoptic networks)."""

import torch
from torch import Tensor
from torch.nn import functional

from ..config import GridConfig, PointConfig
from ..voxels import extent_m, grid_to_volume


def cells_of(points_m: Tensor, grid: GridConfig, cells_xyz: tuple[int, int, int]) -> Tensor:
    """Cell [n, 3] of float32 points [n, 3] in the network frame; points outside take the border cells."""
    # The cell size is rounded to float32 once: dividing in float32 would move points that lie on cell faces.
    size = [length / count for length, count in zip(extent_m(grid), cells_xyz)]
    low = points_m.new_tensor(grid.range_m[:3])
    cells = torch.div(points_m - low, points_m.new_tensor(size), rounding_mode="floor")
    return torch.minimum(cells.clamp(min=0), cells.new_tensor(cells_xyz) - 1).long()


def point_labels(logits: Tensor, points_m: Tensor, grid: GridConfig, config: PointConfig) -> Tensor:
    """Best class, uint8 [n], of points [n, 3] (float32, network frame) from logits [X, Y, Z, class].

    The rule "high_resolution" reads a finer grid, resampled from the logits so that its outermost centres fall on the
    volume's outer faces (half a voxel of stretch), where samples mix with zero.
    """
    if config.rule == "direct":
        x, y, z = cells_of(points_m, grid, tuple(logits.shape[:3])).unbind(-1)  # type: ignore[arg-type]
        return logits[x, y, z].argmax(-1).to(torch.uint8)
    if config.cells_xyz is None:
        raise ValueError("points.cells_xyz must be given for the rule high_resolution")
    cells = cells_of(points_m, grid, config.cells_xyz)
    steps = [torch.linspace(-1, 1, count, device=logits.device) for count in config.cells_xyz]
    positions = torch.stack([axis[index] for axis, index in zip(steps, cells.unbind(-1))], dim=-1)
    volume = grid_to_volume(logits).float()
    sampled = functional.grid_sample(volume, positions[None, :, None, None], align_corners=False)
    return sampled[0, :, :, 0, 0].argmax(0).to(torch.uint8)
