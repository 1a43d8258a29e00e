"""What a network is to everything around it: stream, memory, evaluation and training know no family of networks.

A family is a subclass of `Network`, built by `models.build_network`; `models.panoocc` is the first one.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .base.constants import Constant
from .config import ModelConfig
from .optics import Projections
from .voxels import centres_m


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
class BoxPrediction:
    """Boxes of every decoder layer."""

    class_logits: Tensor  # float32 [layer, query, class]
    codes: Tensor  # float32 [layer, query, 10]; centres in metres in the network frame


class Network(nn.Module, ABC):
    """Images of one instant and aligned history in, occupancy out; without state.

    The state that is remembered of an instant is voxel features [N, C] on the coarse grid `config.grid`, in token order
    (`voxels`): the memory keeps them, resamples them at the vehicle's present pose and hands them back as history.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        # float64 [N, 3] in the network frame: where the voxels of a state lie.
        self.state_centres_m = Constant(torch.from_numpy(centres_m(config.grid)))

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and features; coordinates are float32 always."""
        return next(self.parameters()).dtype

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
