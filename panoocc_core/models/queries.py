"""Learned voxel queries, their positional encoding and the embedding of the vehicle's motion."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

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


@dataclass(frozen=True, slots=True, eq=False)
class Position:
    """The positional encoding of a grid: a voxel's is the sum of its row's, its column's and its layer's."""

    rows: Tensor  # [row, C]
    columns: Tensor  # [column, C]
    layers: Tensor  # [layer, C]

    def through(self, weight: Tensor) -> "Position":
        """What a linear map [outputs, C] makes of it."""
        return Position(*(functional.linear(axis, weight) for axis in (self.rows, self.columns, self.layers)))

    def added_to(self, tokens: Tensor) -> Tensor:
        """Tokens [N, C] in their order with the encoding added in place."""
        volume = tokens.view(len(self.rows), len(self.columns), len(self.layers), -1)
        volume += self.rows[:, None, None] + self.columns[:, None]
        volume += self.layers
        return tokens


class VoxelQueries(nn.Module):
    def __init__(self, grid: GridConfig, embed: int):
        super().__init__()
        self.grid = grid
        self.embedding = nn.Embedding(token_count(grid), embed)
        self.row = nn.Embedding(grid.rows, embed)
        self.column = nn.Embedding(grid.columns, embed)
        self.layer = nn.Embedding(grid.layers, embed)
        self.ego_motion = EgoMotionEmbedding(embed)

    def forward(self, ego_motion: Tensor) -> Tensor:
        """Ego-motion vector [18] -> queries [N, C]."""
        return self.embedding.weight + self.ego_motion(ego_motion.to(self.embedding.weight.dtype))

    def position(self) -> Position:
        """The positional encoding of the voxels."""
        return Position(self.row.weight, self.column.weight, self.layer.weight)
