"""Voxel attention: deformable attention of voxel queries over one or two volumes of voxels."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..base.constants import Constant
from ..config import GridConfig
from ..ops.deform_attn import deform_attn
from ..ops.interpolation import bordered
from ..voxels import pillar_positions, tokens_by_layer
from .layers import Dense, Freezable, Linear, runs_in_blocks
from .queries import Position
from .sampling import Samples, in_blocks, joint

SLOTS = 2  # the volume before and the current one


@dataclass(frozen=True, slots=True, eq=False)
class _Conditioning:
    """A layer of (previous, current + position), split: what the position gives is the same for every frame."""

    previous: Dense
    current: Dense
    both: Dense  # where the current volume stands in both places: their sum
    position: Position  # what it adds to the outputs

    @classmethod
    def of(cls, layer: Dense, position: Position) -> "_Conditioning":
        first, second = layer.weight.chunk(SLOTS, dim=1)
        return cls(
            previous=Dense(first, None),
            current=Dense(second, layer.bias),
            both=Dense(first + second, layer.bias),
            position=position.through(second),
        )

    def frozen(self) -> "_Conditioning":
        return _Conditioning(self.previous.frozen(), self.current.frozen(), self.both.frozen(), self.position)

    def __call__(self, query: Tensor, previous: Tensor | None, rows: slice) -> Tensor:
        if previous is None:
            return self.position.added_to(self.both(query[rows]), rows)
        return self.position.added_to(self.current(query[rows], residual=self.previous(previous[rows])), rows)


class VoxelAttention(Freezable):
    """Every voxel samples two volumes around its own column; the two results are averaged (paper section 3.3).

    `memory` says what is sampled.  "own_layer": the horizontal layer that the voxel lies in.  "first_tokens": the first
    rows * columns tokens of the list, read as if they were a map, as the published weights were trained.
    """

    def __init__(
        self, embed: int, heads: int, points: int, grid: GridConfig, memory: Literal["first_tokens", "own_layer"]
    ):
        super().__init__()
        self.heads, self.points, self.memory, self.shape = heads, points, memory, (grid.rows, grid.columns)
        self.sampling_offsets = Linear(SLOTS * embed, heads * SLOTS * points * 2)
        self.attention_weights = Linear(SLOTS * embed, heads * SLOTS * points)
        self.value_proj = Linear(embed, embed)
        self.output_proj = Linear(embed, embed)
        pillars = torch.as_tensor(pillar_positions(grid), dtype=torch.float32)
        self.pillars = Constant(pillars[:, None])  # [N, 1, 2]
        layers = torch.arange(grid.layers, dtype=torch.int32).repeat(grid.rows * grid.columns)
        self.own_layer = Constant(layers[:, None]) if memory == "own_layer" else None  # [N, 1]

    def whole(self, query: Tensor, position: Position, previous: Tensor | None = None) -> Tensor:
        """Attended queries [N, C] of all voxels with their residual, block by block; arguments as those of `attend`."""
        values = self.values(query, previous)

        def of(rows: slice) -> Tensor:
            return self.attend(values, query, position, rows, previous)

        if not runs_in_blocks(self, query):
            return of(slice(0, len(query)))
        return in_blocks(of, len(query), self.samples, len(position.layers))

    def forward(self, values: Tensor, query: Tensor, position: Position, rows: slice) -> Tensor:
        """`attend` without a volume from before."""
        return self.attend(values, query, position, rows)

    @property
    def samples(self) -> int:
        """Of a voxel."""
        return self.heads * SLOTS * self.points

    def values(self, query: Tensor, previous: Tensor | None = None) -> Tensor:
        """What all voxels may sample: bordered value maps [source, cell, head, channel] of one or both volumes."""
        maps = self._maps(query)
        return maps if previous is None else torch.cat((self._maps(previous), maps), dim=1)

    def attend(
        self, values: Tensor, query: Tensor, position: Position, rows: slice, previous: Tensor | None = None
    ) -> Tensor:
        """Attended queries [n, C] of some voxels, whole pillars, with their residual.

        Args:
            values: from `values`, of all voxels.
            query: [N, C], the current volume.
            position: the positional encoding; offsets and weights alone depend on it.
            rows: which voxels.
            previous: [N, C] aligned volume from before, or None: the query stands in both places.
        """
        samples = Samples(self._conditioned(position)(query, previous, rows))
        shape = (self.heads, SLOTS, self.points)
        offsets, weights = samples.offsets(*shape), samples.weights(*shape) / SLOTS
        slots = 1 if previous is None else SLOTS
        if previous is None:  # both slots sample one volume: twice the points of it
            offsets, weights = offsets.flatten(2, 3).unsqueeze(2), weights.flatten(2, 3).unsqueeze(2)
        source = None if self.own_layer is None else self.own_layer.value[rows]
        pillars = self.pillars.value[rows]
        attended = deform_attn(values, (self.shape,) * slots, pillars, offsets, weights, source)
        return self.output_proj(attended, residual=query[rows])

    def _conditioned(self, position: Position) -> _Conditioning:
        if self._kept is not None:
            return self._kept
        made = _Conditioning.of(joint(self.sampling_offsets, self.attention_weights), position)
        if self.is_frozen:
            self._kept = made = made.frozen()
        return made

    def _made(self) -> None:
        """With the next position: that is another module's, and does not change either."""

    def _maps(self, tokens: Tensor) -> Tensor:
        """Volume [N, C] -> bordered value maps [source, cell, head, channel] of the tokens that sampling can reach."""
        pillars = self.shape[0] * self.shape[1]
        if self.memory == "first_tokens":
            values = self.value_proj(tokens[:pillars])[None]
        else:
            values = tokens_by_layer(self.value_proj(tokens), pillars)
        return bordered(values.unflatten(1, self.shape)).flatten(1, 2).unflatten(-1, (self.heads, -1))
