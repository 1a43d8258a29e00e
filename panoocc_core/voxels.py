"""The coarse voxel grid: shapes, centres, and the only places where voxel axes change order.

Tokens are [N, C] with N = rows * columns * layers, in the order (row * columns + column) * layers + layer; rows run
along y, columns along x, layers along z.  Volumes are [1, C, Z, Y, X], output grids [X, Y, Z, ...].
"""

import numpy as np
import torch
from torch import Tensor

from .config import GridConfig
from .geometry import Matrix, rigid


def extent_m(grid: GridConfig) -> tuple[float, float, float]:
    """Size of the grid along x, y and z."""
    low, high = grid.range_m[:3], grid.range_m[3:]
    return high[0] - low[0], high[1] - low[1], high[2] - low[2]


def shape_hwz(grid: GridConfig) -> tuple[int, int, int]:
    """Rows, columns and layers."""
    return grid.rows, grid.columns, grid.layers


def token_count(grid: GridConfig) -> int:
    """Number of voxels."""
    return grid.rows * grid.columns * grid.layers


def _tokens_xyz(x: Matrix, y: Matrix, z: Matrix) -> Matrix:
    """[N, 3] in token order from the coordinates of columns, rows and layers."""
    rows, columns, layers = np.meshgrid(y, x, z, indexing="ij")
    return np.stack((columns, rows, layers), axis=-1).reshape(-1, 3)


def centres_m(grid: GridConfig) -> Matrix:
    """Voxel centres [N, 3] (x, y, z) in the network frame."""
    low, size = np.array(grid.range_m[:3]), np.array(extent_m(grid))
    counts = (grid.columns, grid.rows, grid.layers)
    x, y, z = (low[i] + (np.arange(n) + 0.5) / n * size[i] for i, n in enumerate(counts))
    return _tokens_xyz(x, y, z)


def reference_points_m(grid: GridConfig, heights: str) -> Matrix:
    """Points [N, 3] (x, y, z) that cross-attention projects; `heights` as in EncoderConfig.reference_heights."""
    points = centres_m(grid)
    if heights == "metric_linspace":
        height = extent_m(grid)[2]
        z = grid.range_m[2] + np.linspace(0.5, height - 0.5, grid.layers)
        points[:, 2] = np.tile(z, grid.rows * grid.columns)
    return points


def voxel_from_network(grid: GridConfig) -> Matrix:
    """Affine map [4, 4] from the network frame to continuous voxel indices (x, y, z), 0 at the first voxel's centre."""
    per_metre = np.array((grid.columns, grid.rows, grid.layers)) / extent_m(grid)
    out = np.diag((*per_metre, 1.0))
    out[:3, 3] = -per_metre * grid.range_m[:3] - 0.5
    return out


def ego_from_grid(grid: GridConfig) -> Matrix:
    """Pose [4, 4] of the outer corner of the first voxel."""
    return grid.ego_from_network.matrix @ rigid(np.eye(3), np.array(grid.range_m[:3]))


def token_order_volume(tokens: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """[N, C] -> [1, C, Y, X, Z]; a view whose memory is channels-last, so that convolutions need no copy."""
    return tokens.view(*shape, -1).permute(3, 0, 1, 2).unsqueeze(0)


def token_order_volume_to_tokens(volume: Tensor) -> Tensor:
    """[1, C, Y, X, Z] -> [N, C]."""
    return volume[0].permute(1, 2, 3, 0).flatten(0, 2)


def tokens_by_layer(tokens: Tensor, pillars: int) -> Tensor:
    """[N, C] -> [Z, row * column, C]; a view."""
    return tokens.view(pillars, -1, tokens.shape[-1]).transpose(0, 1)


def tokens_to_layers(tokens: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """[N, C] -> [Z, C, Y, X], channels last in memory: one image a layer."""
    return tokens.view(*shape, -1).permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)


def layers_to_volume(layers: Tensor) -> Tensor:
    """[Z, C, Y, X] -> [1, C, Z, Y, X]; a view."""
    return layers.transpose(0, 1).unsqueeze(0)


def volume_to_layers(volume: Tensor) -> Tensor:
    """[1, C, Z, Y, X] -> [Z, C, Y, X]; a view."""
    return volume[0].transpose(0, 1)


def layers_to_points(layers: Tensor) -> Tensor:
    """[Z, C, Y, X] -> [Z, Y, X, C]; a view, contiguous where the layers lie channels-last."""
    return layers.permute(0, 2, 3, 1)


def points_to_layers(points: Tensor) -> Tensor:
    """[Z, Y, X, C] -> [Z, C, Y, X]; a view, channels last in memory."""
    return points.permute(0, 3, 1, 2)


def stacked_points(points: Tensor, height: int) -> Tensor:
    """[Z, Y, X, height * C] -> [Z * height, Y, X, C]: what a voxel holds of the layers that it is to be split into."""
    return points.unflatten(-1, (height, -1)).permute(0, 3, 1, 2, 4).flatten(0, 1)


def points_to_grid(points: Tensor) -> Tensor:
    """[Z, Y, X, ...] -> [X, Y, Z, ...]; a view."""
    return points.transpose(0, 2)


def volume_to_grid(volume: Tensor) -> Tensor:
    """[1, C, Z, Y, X] -> [X, Y, Z, C]; a view."""
    return volume[0].permute(3, 2, 1, 0)


def grid_to_volume(grid: Tensor) -> Tensor:
    """[X, Y, Z, C] -> [1, C, Z, Y, X]; a view."""
    return grid.permute(3, 2, 1, 0).unsqueeze(0)


def column_mean(tokens: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Mean over the layers: [N, C] -> [rows * columns, C]."""
    return tokens.view(shape[0] * shape[1], shape[2], -1).mean(dim=1)


def pillar_positions(grid: GridConfig) -> Matrix:
    """Column and row of every token as (x, y) in 0..1: [N, 2]."""
    x = (np.arange(grid.columns) + 0.5) / grid.columns
    y = (np.arange(grid.rows) + 0.5) / grid.rows
    return _tokens_xyz(x, y, np.zeros(grid.layers))[:, :2]


def token_index(cells_xyz: Tensor, grid: GridConfig) -> Tensor:
    """Row [n] in tokens of coarse cells [n, 3] (column, row, layer)."""
    x, y, z = cells_xyz.unbind(-1)
    return (y * grid.columns + x) * grid.layers + z


def grid_to_rows(grid: Tensor) -> Tensor:
    """[X, Y, Z, ...] -> [n, ...] in the order of z, y, x, as the decoder's logits lie in memory: of them a view."""
    return grid.transpose(0, 2).flatten(0, 2)
