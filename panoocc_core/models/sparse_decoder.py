"""The voxel decoder that goes on, after every upsampling stage, with the voxels that are likeliest occupied alone.

How many go on follows from the configuration: all shapes are fixed.  Parameters are those of the dense decoder and the
occupancy heads; with a capacity of 1 throughout both give the same.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import ModelConfig, SparseConfig
from ..network import StageOccupancy, VoxelLogits
from ..voxels import layers_to_points, points_to_grid, tokens_to_layers
from .voxel_decoder import OccupancyGate, TransposedConv, VoxelDecoder, classify
from .voxel_sets import VoxelSet, conv_transpose, interpolated, repeated, scalar_conv


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What is left of a volume after the last upsampling stage."""

    voxels: VoxelSet  # k of them
    features: Tensor  # [k, C]
    gate: Tensor | None  # float32 [k], logits of the occupancy gate
    dropped: Tensor  # float32 [Z, Y, X], no gradient: logit of being occupied, below what it takes, of those dropped
    whole_gate: Tensor | None  # float32 [Z, Y, X], for training: of those that reached the gate, its logits
    stages: tuple[StageOccupancy, ...]


HEAD_CHANNELS = 32


class OccupancyHead(nn.Module):
    """One logit of being occupied for every voxel, from itself and its neighbours."""

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.narrow = nn.Linear(channels, HEAD_CHANNELS)
        self.gate = OccupancyGate(HEAD_CHANNELS, kernel)

    def forward(self, features: Tensor, voxels: VoxelSet, whole: bool) -> Tensor:
        """Features [k, C] of some voxels, `whole`: of all in their order -> float32 [k]."""
        return gate_logits(self.gate, self.narrow(features).relu(), voxels, whole)


def gate_logits(gate: OccupancyGate, features: Tensor, voxels: VoxelSet, whole: bool) -> Tensor:
    """What a gate says of features [k, C] of some voxels, float32 [k]; `whole`: of all in their order."""
    if whole:
        return gate(features.view(*voxels.shape, -1)).flatten()
    assert gate.bias is not None
    return scalar_conv(features, voxels, gate.weight, gate.bias)


class SparseVoxelDecoder(VoxelDecoder):
    """After every stage a head gives each voxel that was computed a logit of being occupied; those with the highest are
    kept, and the next stage computes their children.  Where there is an occupancy gate, it is the last stage's head."""

    def __init__(self, config: ModelConfig, sparse: SparseConfig):
        super().__init__(config)
        decoder = config.decoder
        self.capacity, self.free_id, self.closed = sparse.capacity, config.labels.free_id, decoder.closed_logit
        self.heads = nn.ModuleList(
            OccupancyHead(stage.channels, decoder.gate_kernel) for stage in decoder.upsample[: decoder.head_count]
        )

    def forward(self, tokens: Tensor) -> VoxelLogits:
        """Fused voxel features [N, C] -> logits; those of dropped voxels say that they are free, without gradient."""
        kept = self.kept(tokens, self.capacity)
        dropped = repeated(kept.dropped, self.config.logit_upsample)
        classes = self._free_logits(dropped.flatten()).to(kept.features.dtype)
        parts = list(self._class_logits(kept))
        index, logits = torch.cat([voxels.index for _, voxels in parts]), torch.cat([part for part, _ in parts])
        classes = classes.index_copy(0, index, logits)
        return VoxelLogits(
            classes=points_to_grid(classes.view(*dropped.shape, -1)),
            gate=None if kept.whole_gate is None else points_to_grid(kept.whole_gate),
            things=self.thing_logits(tokens),
            stages=kept.stages,
        )

    def occupancy(self, tokens: Tensor, free_id: int | None) -> tuple[Tensor, Tensor]:
        """As `VoxelDecoder.occupancy`.  Dropped voxels are free, with the probability that their head gave, or the
        least that a free voxel has where that is more."""
        return self.occupancy_of(tokens, self.capacity)

    def occupancy_of(self, tokens: Tensor, capacity: tuple[float, ...] | None) -> tuple[Tensor, Tensor]:
        """`occupancy` with another capacity than the configuration's; None: with all voxels, by the dense decoder."""
        if capacity is None:
            return super().occupancy(tokens, self.free_id)
        assert self.free_id is not None
        kept = self.kept(tokens, capacity)
        probability = 1 - repeated(kept.dropped, self.config.logit_upsample).sigmoid()
        class_id = torch.full_like(probability, self.free_id, dtype=torch.uint8)
        for logits, voxels in self._class_logits(kept):
            classes, sure = classify(VoxelLogits(logits, kept.gate, None), self.config, self.free_id)
            class_id.view(-1).index_copy_(0, voxels.index, classes)
            probability.view(-1).index_copy_(0, voxels.index, sure)
        return points_to_grid(class_id), points_to_grid(probability)

    def kept(self, tokens: Tensor, capacity: tuple[float, ...]) -> Kept:
        """The voxels that are left of fused features [N, C], and what is known of the others."""
        features, voxels = self._first_stage(tokens)
        dropped = features.new_empty(voxels.shape, dtype=torch.float32)
        stages: list[StageOccupancy] = []
        for number, share in enumerate(capacity):
            if number:
                dropped = repeated(dropped, self.config.upsample[number].stride)
                features, voxels = self._next_stage(number, features, voxels)
            is_gate = number == len(self.heads)
            logits = self._occupied_logits(number, features, voxels)
            if not is_gate:
                stages.append(StageOccupancy(voxels.index, logits, voxels.shape))
            whole_gate = dropped.flatten().index_copy(0, voxels.index, logits).view(voxels.shape) if is_gate else None
            closed = logits.detach().clamp(max=self.closed)
            dropped = dropped.flatten().index_copy(0, voxels.index, closed).view(voxels.shape)
            rows = _likeliest(logits.detach(), math.ceil(share * dropped.numel()))
            features, voxels, gate = features.index_select(0, rows), voxels.of_rows(rows), logits.index_select(0, rows)
        return Kept(voxels, features, gate if is_gate else None, dropped, whole_gate, tuple(stages))

    def _first_stage(self, tokens: Tensor) -> tuple[Tensor, VoxelSet]:
        """Whose input is whole: every layer an image."""
        layers = tokens_to_layers(tokens, self.shape)
        for module in list(self.upsample)[:3]:
            layers = module(layers)
        points = layers_to_points(layers)
        depth, rows, columns, _ = points.shape
        return points.flatten(0, 2), VoxelSet.full((depth, rows, columns), points.device)

    def _next_stage(self, number: int, features: Tensor, voxels: VoxelSet) -> tuple[Tensor, VoxelSet]:
        conv, norm, rectifier = list(self.upsample)[3 * number : 3 * number + 3]
        assert isinstance(conv, TransposedConv)
        stage = self.config.upsample[number]
        features, voxels = conv_transpose(features, voxels, conv.weight, conv.bias, stage.stride, stage.padding)
        return rectifier(norm(features[:, :, None, None]))[:, :, 0, 0], voxels

    def _occupied_logits(self, number: int, features: Tensor, voxels: VoxelSet) -> Tensor:
        """Of stage `number`: float32 [k], by its head or the gate."""
        whole = number == 0
        if number < len(self.heads):
            return self.heads[number](features, voxels, whole)
        assert self.gate is not None
        return gate_logits(self.gate, features, voxels, whole)

    def _class_logits(self, kept: Kept) -> Iterator[tuple[Tensor, VoxelSet]]:
        """Class logits [k, class] of the output voxels that were kept, in parts."""
        logits = self.mlp(kept.features)
        if self.config.logit_upsample == (1, 1, 1):
            yield logits, kept.voxels
        else:
            yield from interpolated(logits, kept.voxels, self.config.logit_upsample)

    def _free_logits(self, dropped: Tensor) -> Tensor:
        """Class logits [n, class] that say what logits of being occupied [n] say."""
        classes = self.mlp[-1].out_features
        assert isinstance(classes, int)
        if self.config.empty_below is not None:  # a sigmoid a class, and none for free space
            return dropped[:, None].expand(-1, classes)
        assert self.free_id is not None
        logits = dropped.new_zeros(len(dropped), classes)
        logits[:, self.free_id] = math.log(classes - 1) - dropped
        return logits


def _likeliest(logits: Tensor, count: int) -> Tensor:
    """Rows of the `count` highest logits [n], in their order."""
    if count == len(logits):
        return torch.arange(count, device=logits.device)
    return logits.topk(count, sorted=False).indices.sort().values


def build_decoder(config: ModelConfig) -> VoxelDecoder:
    """The sparse decoder where the configuration has a capacity, else the dense one."""
    sparse = config.decoder.sparse
    return VoxelDecoder(config) if sparse is None else SparseVoxelDecoder(config, sparse)
