"""One streaming step as tensors: what goes in, what comes out, and who can take it.

Between the host's work before a step (`stream.prepare`) and after it (`stream.collect`) nothing but tensors is handled,
of shapes that the network's configuration fixes: so a step may be taken by the network itself, operator by operator, or
by something that was made of it once.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .config import ModelConfig
from .optics import Projections

Stage = Callable[[str], AbstractContextManager[object]]  # surrounds each named stage, to measure it

STAGES = {  # of a step, in their order, as in `Occupancy.timings_ms`; those that nobody wants are absent
    "prepare": "images at the network's size and on its device, poses, motion of the vehicle",
    "network": "all that the network does, where that cannot be told apart: a CUDA graph, an exported file",
    "backbone": "backbone and feature pyramid",
    "encoder": "voxel queries read the images",
    "temporal": "the history is aligned and fused",
    "decoder": "class and confidence of every voxel",
    "instances": "things and their tracks",
    "visible": "lines of sight",
    "logits": "logits of every voxel, for labelled clouds",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a step is to find beside the classes of the voxels; what nobody wants costs nothing."""

    instances: bool = True  # else the box branch does not run, and tracks are not seen
    visible: bool = True  # what the cameras see
    logits: bool = False  # those of every voxel are kept; costs the decoder once more


@dataclass(frozen=True, slots=True, eq=False)
class StepInput:
    """One instant and what is remembered, on the device of whoever takes the step."""

    images: Tensor  # float32 [camera, 3, row, column], normalised and padded
    projections: Projections  # of the network frame into the padded images
    ego_motion: Tensor  # float32 [18], see `ego_motion`
    states: tuple[Tensor, ...]  # recalled ones, oldest first: [N, C] each
    motions: Tensor  # float32 [state, 3, 4]: place of a voxel then from its place now, both (x, y, z) in voxels


@dataclass(frozen=True, slots=True, eq=False)
class BoxPrediction:
    """Boxes of every decoder layer."""

    class_logits: Tensor  # float32 [layer, query, class]
    codes: Tensor  # float32 [layer, query, 10]; centres in metres in the network frame


@dataclass(frozen=True, slots=True, eq=False)
class StepOutput:
    """What a network makes of one instant and its history; what nobody wanted is None."""

    class_id: Tensor  # uint8 [X, Y, Z]
    confidence: Tensor  # uint8 [X, Y, Z], 255 * probability
    is_finite: Tensor  # bool [], whether what decides is finite; asking it waits for the device
    state: Tensor  # [N, C], to be remembered
    boxes: BoxPrediction | None = None
    logits: Tensor | None = None  # [X, Y, Z, class]


class Executor(Protocol):
    """Takes steps of one network: every `Network` does, and what was made of one for a device or a file."""

    @property
    def config(self) -> ModelConfig:
        """Of the network."""
        ...

    @property
    def device(self) -> torch.device:
        """Where inputs are taken and outputs given."""
        ...

    def step(self, inputs: StepInput, wanted: Wanted, stage: Stage = nullcontext) -> StepOutput:
        """One step; pure."""
        ...
