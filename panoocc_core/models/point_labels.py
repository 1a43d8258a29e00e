"""Class of LiDAR points from a class volume, by the rule of the published panoptic networks."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..config import GridConfig, PointConfig
from ..voxels import extent_m, grid_to_volume


def cells_at(
    points_m: Tensor, low_m: Sequence[float], size_m: Sequence[float], cells_xyz: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Cell [n, 3] of finite float32 points [n, 3], and whether [n] they lie inside; others take the border cells.

    Args:
        low_m: lower corner of the grid, in the frame and along the axes of the points; size_m: of a cell.
    """
    # The cell size is rounded to float32 once: dividing in float32 would move points that lie on cell faces.
    cells = torch.div(points_m - points_m.new_tensor(low_m), points_m.new_tensor(size_m), rounding_mode="floor")
    last = cells.new_tensor(cells_xyz) - 1
    inside = ((cells >= 0) & (cells <= last)).all(-1)
    return torch.minimum(cells.clamp(min=0), last).long(), inside


def cells_of(points_m: Tensor, grid: GridConfig, cells_xyz: Sequence[int]) -> Tensor:
    """Cell [n, 3] of float32 points [n, 3] in the network frame; points outside take the border cells."""
    size_m = [length / count for length, count in zip(extent_m(grid), cells_xyz)]
    return cells_at(points_m, grid.range_m[:3], size_m, cells_xyz)[0]


def point_labels(logits: Tensor, points_m: Tensor, grid: GridConfig, config: PointConfig) -> Tensor:
    """Best class, uint8 [n], of points [n, 3] (float32, network frame) from logits [X, Y, Z, class]."""
    cells = cells_of(points_m, grid, read_cells(config, logits.shape[:3]))
    return logits_at(logits, cells, config).argmax(-1).to(torch.uint8)


def read_cells(config: PointConfig, shape_xyz: Sequence[int]) -> Sequence[int]:
    """How many cells (x, y, z) points are sorted into, of a volume with so many voxels."""
    if config.rule == "direct":
        return shape_xyz
    if config.cells_xyz is None:
        raise ValueError("points.cells_xyz must be given for the rule high_resolution")
    return config.cells_xyz


def logits_at(logits: Tensor, cells: Tensor, config: PointConfig) -> Tensor:
    """Logits [n, class] in cells [n, 3] of those that `read_cells` counts, from a volume [X, Y, Z, class].

    The rule "high_resolution" reads a finer grid, resampled from the logits so that its outermost centres fall on the
    volume's outer faces (half a voxel of stretch), where samples mix with zero.
    """
    if config.rule == "direct":
        x, y, z = cells.unbind(-1)
        return logits[x, y, z]
    steps = [torch.linspace(-1, 1, count, device=logits.device) for count in read_cells(config, logits.shape[:3])]
    positions = torch.stack([axis[index] for axis, index in zip(steps, cells.unbind(-1))], dim=-1)
    volume = grid_to_volume(logits).float()
    sampled = functional.grid_sample(volume, positions[None, :, None, None], align_corners=False)
    return sampled[0, :, :, 0, 0].T
