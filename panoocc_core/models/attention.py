"""Voxel attention: deformable attention of voxel queries over one or two volumes of voxels."""

from typing import Literal

import torch
from torch import Tensor, nn

from ..base.constants import Constant
from ..config import GridConfig
from ..ops.deform_attn import deform_attn
from ..ops.short_softmax import short_softmax
from ..voxels import pillar_positions, tokens_by_layer

SLOTS = 2  # the volume before and the current one


class VoxelAttention(nn.Module):
    """Every voxel samples two volumes around its own column; the two results are averaged (paper section 3.3).

    `memory` says what is sampled.  "own_layer": the horizontal layer that the voxel lies in.  "first_tokens": the first
    rows * columns tokens of the list, read as if they were a map, as the published weights were trained.
    """

    def __init__(
        self, embed: int, heads: int, points: int, grid: GridConfig, memory: Literal["first_tokens", "own_layer"]
    ):
        super().__init__()
        self.heads, self.points, self.memory, self.shape = heads, points, memory, (grid.rows, grid.columns)
        self.sampling_offsets = nn.Linear(SLOTS * embed, heads * SLOTS * points * 2)
        self.attention_weights = nn.Linear(SLOTS * embed, heads * SLOTS * points)
        self.value_proj = nn.Linear(embed, embed)
        self.output_proj = nn.Linear(embed, embed)
        self.pillars = Constant(torch.as_tensor(pillar_positions(grid), dtype=torch.float32))  # [N, 2]
        layers = torch.arange(grid.layers).repeat(grid.rows * grid.columns)
        self.own_layer = Constant(layers) if memory == "own_layer" else None  # [N]

    def forward(self, query: Tensor, position: Tensor, previous: Tensor | None = None) -> Tensor:
        """Attended query with its residual.

        Args:
            query: [N, C], the current volume.
            position: [N, C], positional encoding; offsets and weights alone depend on it.
            previous: [N, C] aligned volume from before, or None: the query stands in both places.
        """
        first = query if previous is None else previous
        conditioning = torch.cat((first, query + position), dim=-1)  # [N, 2C]
        offsets = self.sampling_offsets(conditioning).float().unflatten(-1, (self.heads, SLOTS, self.points, 2))
        logits = self.attention_weights(conditioning).float().unflatten(-1, (self.heads, SLOTS, self.points))
        weights = short_softmax(logits.flatten(1, 2)).unflatten(1, (self.heads, SLOTS)) / SLOTS

        maps = self._maps(query)
        if previous is None:  # both slots sample one volume: twice the points of it
            values, slots = maps, 1
            offsets, weights = offsets.flatten(2, 3).unsqueeze(2), weights.flatten(2, 3).unsqueeze(2)
        else:
            values, slots = torch.cat((self._maps(previous), maps), dim=1), SLOTS
        source = None if self.own_layer is None else self.own_layer.value
        attended = deform_attn(values, (self.shape,) * slots, self.pillars.value, offsets, weights, source=source)
        return self.output_proj(attended) + query

    def _maps(self, tokens: Tensor) -> Tensor:
        """Volume [N, C] -> value maps [source, row * column, head, channel] of the tokens that sampling can reach."""
        pillars = self.shape[0] * self.shape[1]
        if self.memory == "first_tokens":
            values = self.value_proj(tokens[:pillars])[None]
        else:
            values = tokens_by_layer(self.value_proj(tokens), pillars)
        return values.unflatten(-1, (self.heads, -1))
