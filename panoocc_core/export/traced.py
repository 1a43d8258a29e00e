"""A streaming step as a module of named tensors with fixed shapes: what is written to a file."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..models.panoocc import PanoOcc
from ..models.queries import EGO_MOTION_VALUES
from ..ops.reference_mode import portable_operators
from ..optics import Projections
from ..voxels import token_count
from ..weights.checkpoint import PRECISIONS


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a file."""

    name: str
    dtype: str  # as torch names it: float32, uint8
    shape: tuple[int, ...]
    meaning: str


def type_name(precision: str) -> str:
    """What torch calls the type of a precision's tensors: `fp16` -> `float16`."""
    return str(PRECISIONS[precision]).removeprefix("torch.")


def input_ports(config: ModelConfig, precision: str) -> tuple[Port, ...]:
    """What a step of a network takes."""
    cameras, states = len(config.cameras), len(config.temporal.ages_s)
    state_shape = (token_count(config.grid), config.embed)
    ports = [
        Port("images", "float32", (cameras, 3, *config.images.padded_hw), "normalised and padded"),
        Port("projections", "float32", (cameras, 3, 4), "of the network frame into the padded images, in pixels"),
        Port("ego_motion", "float32", (EGO_MOTION_VALUES,), "motion of the vehicle"),
    ]
    if states:
        ports += [
            Port("motions", "float32", (states, 3, 4), "place of a voxel then from its place now, in voxels"),
            Port("known", "int32", (states,), "1 where there is such a state, 0 where not; the last ones are there"),
            *(Port(f"state_{i}", precision, state_shape, "what was remembered, oldest first") for i in range(states)),
        ]
    return tuple(ports)


def output_ports(config: ModelConfig, precision: str, with_boxes: bool) -> tuple[Port, ...]:
    """What a step of a network gives."""
    grid, boxes = config.output_shape_xyz, config.boxes
    ports = [
        Port("class_id", "uint8", grid, "class of every voxel along x, y, z"),
        Port("confidence", "uint8", grid, "255 * its probability; of free voxels, of being free"),
        Port("is_finite", "int32", (), "1 where what decides the classes is finite"),
        Port("most_cameras", "int32", (), "largest number of cameras that see one voxel: not more than the file uses"),
        Port("state", precision, (token_count(config.grid), config.embed), "to be remembered"),
    ]
    if with_boxes:
        ports += [
            Port("box_logits", "float32", (boxes.queries, len(boxes.classes)), "of the box classes"),
            Port("box_codes", "float32", (boxes.queries, 10), "cx cy log_w log_l cz log_h sin_yaw cos_yaw vx vy"),
        ]
    return tuple(ports)


class TracedStep(nn.Module):
    """A network's step with a fixed number of cameras for every voxel, made of portable operators.

    Args:
        network: ready to infer, and not frozen: its layers are not packed for this processor.
        cameras: how many of the cameras that see a voxel are read, the first ones in their order.
    """

    def __init__(self, network: PanoOcc, cameras: int):
        super().__init__()
        self.network, self.cameras = network, cameras

    def forward(
        self,
        images: Tensor,
        projections: Tensor,
        ego_motion: Tensor,
        motions: Tensor | None = None,
        known: Tensor | None = None,
        *states: Tensor,
    ) -> tuple[Tensor, ...]:
        """`input_ports` -> `output_ports`."""
        network, config = self.network, self.network.config
        seen = Projections(projections)
        with portable_operators(self.cameras):
            current = network.encode_voxels(network.encode_images(images), seen, ego_motion)
            if motions is None or known is None:
                fused = network.alone(current)
            else:
                fused = network.fuse(*filled_in(states, motions, known, current), current)
            class_id, probability = network.occupancy(fused)
            boxes = network.detect(fused) if config.panoptic.instances == "boxes" else None
        confidence = (probability * 255).round()
        outputs = [
            class_id.to(torch.uint8),
            confidence.to(torch.uint8),
            (probability.sum().abs() < torch.inf).to(torch.int32),
            network.cameras_per_voxel(seen).max().to(torch.int32),
            network.state(current, fused),
        ]
        return (*outputs, *(() if boxes is None else (boxes.class_logits[-1], boxes.codes[-1])))


def filled_in(states: Sequence[Tensor], motions: Tensor, known: Tensor, current: Tensor) -> tuple[list[Tensor], Tensor]:
    """States [N, C], oldest first, and motions [state, 3, 4], missing ones replaced by the oldest there is: if there is
    none, by the current one, which has not moved.

    Args:
        known: int32 [state], 0 where one is missing; only older ones may be missing than those that are there.
    """
    filled: list[tuple[Tensor, Tensor]] = []
    oldest = current, torch.eye(3, 4, dtype=motions.dtype, device=motions.device)
    for state, motion, is_known in zip(reversed(states), reversed(motions.unbind(0)), reversed(known.unbind(0))):
        oldest = torch.where(is_known > 0, state, oldest[0]), torch.where(is_known > 0, motion, oldest[1])
        filled.insert(0, oldest)
    return [state for state, _ in filled], torch.stack([motion for _, motion in filled])
