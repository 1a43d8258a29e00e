"""How far a network as it runs is from the same network as it is written, on the same frames.

The reference is plain float32: no folded norms, no packed weights, every operator its reference (`ops.reference_mode`).
Both stream on their own, so that differences add up through the memory as they do on a vehicle.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..config import ModelConfig
from ..memory import VoxelMemory
from ..ops.reference_mode import reference_operators
from ..step import Wanted
from ..stream import OccupancyStream
from ..types import Frame, Occupancy
from ..weights.checkpoint import load_model

PARTS = 32  # that large tensors are compared in
COMPARED = Wanted(instances=False, visible=False, logits=True)


class Stream(Protocol):
    """What runs a network over frames, by whatever executor."""

    memory: VoxelMemory

    def step(self, frame: Frame, wanted: Wanted = ...) -> Occupancy: ...


@dataclass(frozen=True, slots=True)
class Agreement:
    """The worst over the compared frames; shares over all of them."""

    frames: int
    worst_logit: float | None  # largest difference of a class logit; None: the executor gives no logits
    worst_feature: float | None  # largest difference of a remembered feature; None: nothing is remembered
    feature_rms: float | None  # of the reference, which the difference is to be seen against
    same_class: float  # share of the voxels
    same_occupied: float  # share of the voxels that either of them calls occupied
    of_plain: float | None  # CPU time of a step divided by the reference's, of the last frame; None on CUDA

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        logit = "logits not compared" if self.worst_logit is None else f"worst logit error {self.worst_logit:.2g}"
        feature = ""
        if self.worst_feature is not None:
            feature = f", worst feature error {self.worst_feature:.2g} (rms {self.feature_rms:.2g})"
        return (
            f"{logit}{feature}, same class {100 * self.same_class:.4f} % of all voxels, "
            f"{100 * self.same_occupied:.3f} % of the occupied"
        )


class ReferenceStream(OccupancyStream):
    """Streams frames through a network whose operators are all their references."""

    def step(self, frame: Frame, wanted: Wanted = COMPARED) -> Occupancy:
        with reference_operators():
            return super().step(frame, wanted)


def reference_stream(
    config: ModelConfig, checkpoint: Path | None, seeded_weights: bool, device: str | torch.device = "cpu"
) -> ReferenceStream:
    """The network in float32 as it is written, with the same weights.

    Raises:
        ConfigError, CheckpointError, ValueError: as `load_model`.
    """
    return ReferenceStream(load_model(config, checkpoint, seeded_weights, device, plain=True))


def compare(
    stream: Stream,
    reference: Stream,
    frames: Sequence[Frame],
    on_frame: Callable[[], object] = lambda: None,
    filled: Callable[[VoxelMemory], VoxelMemory] = lambda memory: memory,
) -> Agreement:
    """Both step through the frames from where they are; what they find is compared frame by frame.

    Args:
        on_frame: called after each.
        filled: what both memories become after the first frame.

    Raises:
        ValueError: there are no frames.
        NonFiniteError: logits are not finite.
    """
    if not frames:
        raise ValueError("there is no frame to compare on")
    logits, features, rms, of_plain = [], [], [], None
    voxels = same = occupied = same_occupied = 0
    for frame in frames:
        found, true = stream.step(frame, COMPARED), reference.step(frame, COMPARED)
        ours, theirs = found.class_id.cpu(), true.class_id.cpu()
        equal, free_id = ours == theirs, true.labels.free_id
        solid = torch.ones_like(equal) if free_id is None else (ours != free_id) | (theirs != free_id)
        voxels, same = voxels + equal.numel(), same + int(equal.sum())
        occupied, same_occupied = occupied + int(solid.sum()), same_occupied + int((equal & solid).sum())
        if found.logits is not None and true.logits is not None:
            logits.append(_worst(found.logits, true.logits))
        if stream.memory.states and reference.memory.states:
            wanted = reference.memory.states[-1].tokens
            features.append(_worst(stream.memory.states[-1].tokens, wanted))
            rms.append(float(wanted.float().square().mean().sqrt()))
        if found.cpu_ms and true.cpu_ms:
            of_plain = _without_logits(found.cpu_ms) / _without_logits(true.cpu_ms)
        del found, true  # logits of the largest networks take 700 MB
        if frame is frames[0]:
            stream.memory, reference.memory = filled(stream.memory), filled(reference.memory)
        on_frame()
    return Agreement(
        frames=len(frames),
        worst_logit=max(logits, default=None),
        worst_feature=max(features, default=None),
        feature_rms=max(rms, default=None),
        same_class=same / voxels,
        same_occupied=same_occupied / occupied if occupied else 1.0,
        of_plain=of_plain,
    )


def _without_logits(cpu_ms: Mapping[str, float]) -> float:
    return sum(ms for stage, ms in cpu_ms.items() if stage != "logits")


def _worst(found: Tensor, true: Tensor) -> float:
    """Largest difference of two tensors, part by part, as they may be large; infinite where one is not a number."""
    parts = zip(found.tensor_split(PARTS), true.tensor_split(PARTS), strict=True)
    worst = [float((a.float().cpu() - b.float().cpu()).abs().max()) for a, b in parts if a.numel()]
    return max(worst) if all(map(math.isfinite, worst)) else math.inf
