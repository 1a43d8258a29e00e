"""Learned voxel queries, their positional encoding and the embedding of the vehicle's motion."""

import torch
from torch import Tensor, nn

from ..config import GridConfig
from ..voxels import token_count

EGO_MOTION_VALUES = 18


class EgoMotionEmbedding(nn.Sequential):
    """The ego-motion vector [18] as one embedding [C]."""

    def __init__(self, embed: int):
        super().__init__(
            nn.Linear(EGO_MOTION_VALUES, embed // 2),
            nn.ReLU(),
            nn.Linear(embed // 2, embed),
            nn.ReLU(),
            nn.LayerNorm(embed),
        )


class VoxelQueries(nn.Module):
    def __init__(self, grid: GridConfig, embed: int):
        super().__init__()
        self.grid, self.shape = grid, (grid.rows, grid.columns, grid.layers, embed)
        self.embedding = nn.Embedding(token_count(grid), embed)
        self.row = nn.Embedding(grid.rows, embed)
        self.column = nn.Embedding(grid.columns, embed)
        self.layer = nn.Embedding(grid.layers, embed)
        self.ego_motion = EgoMotionEmbedding(embed)

    def forward(self, ego_motion: Tensor) -> Tensor:
        """Ego-motion vector [18] -> queries [N, C]."""
        return self.embedding.weight + self.ego_motion(ego_motion.to(self.embedding.weight.dtype))

    def position(self) -> Tensor:
        """Positional encoding [N, C]: a row, a column and a layer vector added."""
        row, column, layer = self.row.weight[:, None, None], self.column.weight[None, :, None], self.layer.weight
        return torch.broadcast_to(row + column + layer, self.shape).reshape(-1, self.shape[-1])
