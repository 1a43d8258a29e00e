"""Voxel attention: deformable attention of voxel queries over one or two volumes of voxels."""

from typing import Literal

import torch
from torch import Tensor, nn

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
        self.heads, self.points, self.grid, self.memory = heads, points, grid, memory
        self.sampling_offsets = nn.Linear(SLOTS * embed, heads * SLOTS * points * 2)
        self.attention_weights = nn.Linear(SLOTS * embed, heads * SLOTS * points)
        self.value_proj = nn.Linear(embed, embed)
        self.output_proj = nn.Linear(embed, embed)

    def forward(self, query: Tensor, position: Tensor, previous: Tensor | None = None) -> Tensor:
        """Attended query with its residual.

        Args:
            query: [N, C], the current volume.
            position: [N, C], positional encoding; it steers the sampling only.
            previous: [N, C] aligned volume from before, or None: the query stands in both places.
        """
        first = query if previous is None else previous
        steering = torch.cat((first, query + position), dim=-1)  # [N, 2C]
        offsets = self.sampling_offsets(steering).float().unflatten(-1, (self.heads, SLOTS, self.points, 2))
        logits = self.attention_weights(steering).float().unflatten(-1, (self.heads, SLOTS, self.points))
        weights = short_softmax(logits.flatten(1, 2)).unflatten(1, (self.heads, SLOTS)) / SLOTS

        maps = self._maps(query)
        if previous is None:  # both slots sample one volume: twice the points of it
            values, slots = maps, 1
            offsets, weights = offsets.flatten(2, 3).unsqueeze(2), weights.flatten(2, 3).unsqueeze(2)
        else:
            values, slots = torch.cat((self._maps(previous), maps), dim=1), SLOTS
        here, grid = pillar_positions(self.grid, query.device), self.grid
        source = self._source(query.shape[0], query.device)
        attended = deform_attn(values, ((grid.rows, grid.columns),) * slots, here, offsets, weights, source=source)
        return self.output_proj(attended) + query

    def _maps(self, tokens: Tensor) -> Tensor:
        """Volume [N, C] -> value maps [source, row * column, head, channel] of the tokens that sampling can reach."""
        pillars = self.grid.rows * self.grid.columns
        if self.memory == "first_tokens":
            values = self.value_proj(tokens[:pillars])[None]
        else:
            values = tokens_by_layer(self.value_proj(tokens), pillars)
        return values.unflatten(-1, (self.heads, -1))

    def _source(self, count: int, device: torch.device) -> Tensor | None:
        if self.memory == "first_tokens":
            return None
        return torch.arange(self.grid.layers, device=device).repeat(count // self.grid.layers)
