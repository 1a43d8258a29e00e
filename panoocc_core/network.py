"""What a network is to everything around it: stream, memory, evaluation and training know no family of networks.

A family is a subclass of `Network`, built by `models.build_network`; `models.panoocc` is the first one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .config import ModelConfig
from .ops.voxel_warp import voxel_warp
from .optics import Projections
from .step import BoxPrediction, Stage, StepInput, StepOutput, Wanted
from .voxels import shape_hwz


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
    """Images of one instant and what is remembered in, occupancy out; without state.

    The state that is remembered of an instant is voxel features [N, C] on the coarse grid `config.grid`, in token order
    (`voxels`): the memory keeps them and hands them back as history, with the motion since then.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config

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
            of_images = self.encode_images(inputs.images)
        with stage("encoder"):
            current = self.encode_voxels(of_images, inputs.projections, inputs.ego_motion)
            del of_images  # most of what a step holds
        with stage("temporal"):
            fused = self.fuse(inputs.states, inputs.motions, current)
        return Features(current, fused, self.state(current, fused))

    def align(self, states: Sequence[Tensor], motions: Tensor) -> list[Tensor]:
        """States [N, C] resampled at the voxels of now, zeros outside, in their order: each [N, C].

        Args:
            motions: see `StepInput`.
        """
        if not states:
            return []
        side_by_side = voxel_warp(states, motions, shape_hwz(self.config.grid))
        return list(side_by_side.chunk(len(states), dim=1))

    def classes(self, fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fused features [N, C] -> class and confidence of every voxel, uint8 [X, Y, Z], and whether all is finite."""
        class_id, probability = self.occupancy(fused)
        return class_id, (probability * 255).round().to(torch.uint8), torch.isfinite(probability.sum())

    @abstractmethod
    def encode_images(self, images: Tensor) -> Any:
        """Images float32 [camera, 3, row, column], normalised and padded -> what `encode_voxels` takes of them."""

    @abstractmethod
    def encode_voxels(self, features: Any, projections: Projections, ego_motion: Tensor) -> Tensor:
        """Voxel features [N, C] of this instant alone.

        Args:
            features: from `encode_images`.
            projections: of the network frame into the padded images.
            ego_motion: float32 [18], see `ego_motion`.
        """

    @abstractmethod
    def fuse(self, states: Sequence[Tensor], motions: Tensor, current: Tensor) -> Tensor:
        """States [N, C] as they were remembered, oldest first, and the current features -> fused features [N, C].

        Args:
            motions: see `StepInput`; `align` takes the states along them.
        """

    def alone(self, current: Tensor) -> Tensor:
        """The current features [N, C] as they are fused where nothing is remembered: [N, C]."""
        return self.fuse((), torch.zeros(0, 3, 4, device=current.device), current)

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
