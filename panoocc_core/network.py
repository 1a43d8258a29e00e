"""What a network is to everything around it: stream, memory, evaluation and training know no family of networks.

A family is a subclass of `Network`, built by `models.build_network`; `models.panoocc` is the first one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .base.constants import Constant
from .config import ModelConfig
from .ops.voxel_warp import voxel_warp
from .optics import Projections
from .step import BoxPrediction, Stage, StepInput, StepOutput, Wanted
from .voxels import shape_hwz, voxel_places


class NonFiniteError(RuntimeError):
    """The network's output is not finite: its memory or its input is broken."""


@dataclass(frozen=True, slots=True, eq=False)
class StageOccupancy:
    """What an occupancy head of a sparse decoder says of the n voxels that were computed at its stage."""

    index: Tensor  # int64 [n], places in the stage's volume in the order of z, y, x
    logits: Tensor  # float32 [n], of anything being occupied below the voxel
    shape: tuple[int, int, int]  # Z, Y, X of the volume


@dataclass(frozen=True, slots=True, eq=False)
class VoxelLogits:
    """What the voxel decoder gives."""

    classes: Tensor  # [X, Y, Z, class]
    gate: Tensor | None  # [X, Y, Z], logit of being occupied
    things: Tensor | None  # [N, 2], logits of the coarse voxels
    stages: tuple[StageOccupancy, ...] = ()  # of the occupancy heads, if there are any


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What the network makes of one instant and its history, before it is decoded."""

    current: Tensor  # [N, C], of this instant alone
    fused: Tensor  # [N, C], with the history
    state: Tensor  # [N, C], which of them is remembered


class Network(nn.Module, ABC):
    """Images of one instant and aligned history in, occupancy out; without state.

    The state that is remembered of an instant is voxel features [N, C] on the coarse grid `config.grid`, in token order
    (`voxels`): the memory keeps them and hands them back as history, with the motion since then.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        places = torch.as_tensor(voxel_places(config.grid), dtype=torch.float32)
        self.voxel_places = Constant(places)  # [N, 3] (x, y, z), of the voxels of a state

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and features; coordinates are float32 always."""
        return next(self.parameters()).dtype

    def step(self, inputs: StepInput, wanted: Wanted, stage: Stage = nullcontext) -> StepOutput:
        """One streaming step; pure, of tensors alone."""
        features, boxes, logits = self.features(inputs, stage), None, None
        with stage("decoder"):
            class_id, confidence, is_finite = self.classes(features.fused)
        if wanted.instances and self.config.panoptic.instances == "boxes":
            with stage("instances"):
                boxes = self.detect(features.fused)
        if wanted.logits:
            with stage("logits"):
                logits = self.decode(features.fused).classes
        return StepOutput(class_id, confidence, is_finite, features.state, boxes, logits)

    def features(self, inputs: StepInput, stage: Stage = nullcontext) -> Features:
        """The way from images and history to fused voxel features."""
        with stage("backbone"):
            maps = self.encode_images(inputs.images)
        with stage("encoder"):
            current = self.encode_voxels(maps, inputs.projections, inputs.ego_motion)
        with stage("temporal"):
            fused = self.fuse(self.align(inputs.states, inputs.motions), current)
        return Features(current, fused, self.state(current, fused))

    def align(self, states: Sequence[Tensor], motions: Tensor) -> list[Tensor]:
        """States [N, C] resampled at the voxels of now, zeros outside, in their order: each [N, C].

        Args:
            motions: see `StepInput`.
        """
        places, shape = self.voxel_places.value[:, None], shape_hwz(self.config.grid)
        # Not a matrix product, which autocast and TF32 would round.
        moved = [(places * motion[:, :3]).sum(-1) + motion[:, 3] for motion in motions]  # [N, 3] each
        return [voxel_warp(state, shape, there) for state, there in zip(states, moved, strict=True)]

    def classes(self, fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fused features [N, C] -> class and confidence of every voxel, uint8 [X, Y, Z], and whether all is finite."""
        class_id, probability = self.occupancy(fused)
        return class_id, (probability * 255).round().to(torch.uint8), torch.isfinite(probability.sum())

    @abstractmethod
    def encode_images(self, images: Tensor) -> list[Tensor]:
        """Images float32 [camera, 3, row, column], normalised and padded -> what `encode_voxels` takes of them."""

    @abstractmethod
    def encode_voxels(self, maps: list[Tensor], projections: Projections, ego_motion: Tensor) -> Tensor:
        """Voxel features [N, C] of this instant alone.

        Args:
            maps: from `encode_images`.
            projections: of the network frame into the padded images.
            ego_motion: float32 [18], see `ego_motion`.
        """

    @abstractmethod
    def fuse(self, history: list[Tensor], current: Tensor) -> Tensor:
        """Aligned states [N, C], oldest first, and the current features -> fused features [N, C]."""

    @abstractmethod
    def state(self, current: Tensor, fused: Tensor) -> Tensor:
        """Which features [N, C] are remembered of this instant: the current or the fused ones."""

    @abstractmethod
    def occupancy(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Fused features [N, C] -> class and probability of every voxel, uint8 and float32 [X, Y, Z]."""

    @abstractmethod
    def decode(self, fused: Tensor) -> VoxelLogits:
        """Fused features [N, C] -> logits on the output grid, for training and for what is measured at points."""

    @abstractmethod
    def box_map(self, fused: Tensor) -> Tensor:
        """Fused features [N, C] -> what boxes are found in, [rows * columns, C]."""

    @abstractmethod
    def boxes_in(self, box_map: Tensor) -> BoxPrediction:
        """What `box_map` gives -> boxes of every decoder layer."""

    def detect(self, fused: Tensor) -> BoxPrediction:
        """Fused features [N, C] -> boxes of every decoder layer."""
        return self.boxes_in(self.box_map(fused))

    @property
    @abstractmethod
    def classifier(self) -> nn.Linear:
        """The layer whose outputs are the class logits."""
