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
    """The positional encoding of a grid: a voxel's is the sum of its pillar's and its layer's."""

    pillars: Tensor  # [row * column, C]
    layers: Tensor  # [layer, C]

    def through(self, weight: Tensor) -> "Position":
        """What a linear map [outputs, C] makes of it."""
        return Position(functional.linear(self.pillars, weight), functional.linear(self.layers, weight))

    def added_to(self, tokens: Tensor, rows: slice) -> Tensor:
        """Tokens [rows, C] of whole pillars with their encoding added in place."""
        height = len(self.layers)
        pillars = tokens.unflatten(0, (-1, height))
        pillars += self.pillars[rows.start // height : rows.stop // height, None]
        pillars += self.layers
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
        """The positional encoding of the voxels: a row, a column and a layer vector added."""
        return Position((self.row.weight[:, None] + self.column.weight).flatten(0, 1), self.layer.weight)
