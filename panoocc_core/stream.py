"""Streaming inference: a pure step from frame and memory to occupancy and memory, and the one object with state."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .base.devices import full_float32
from .config import ModelConfig
from .ego_motion import StampedPose, ego_motion_vector, pose_at, vehicle_motion
from .geometry import NS_PER_S, Matrix
from .labels import InstanceSource
from .memory import VoxelMemory, begin, cleared, remember
from .network import Network, NonFiniteError
from .panoptic import detected_boxes, find_things, follow
from .preprocess import NetworkInput, prepare
from .stopwatch import Stopwatch
from .types import Frame, GridGeometry, HistoryReport, Occupancy, ScoredBoxes
from .visibility import eyes_of, visible_voxels
from .voxels import ego_from_grid, extent_m

STAGES = {  # of a step, in their order, as in `Occupancy.timings_ms`; those that nobody wants are absent
    "prepare": "images at the network's size and on its device, poses, motion of the vehicle",
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
class Encoded:
    """What the network makes of one frame and its history, before it is decoded."""

    current: Tensor  # [N, C], of this frame alone
    fused: Tensor  # [N, C], with the history
    memory: VoxelMemory  # after the frame
    history: HistoryReport
    config: ModelConfig  # of the network, with its frame where it was for this frame


def encode(
    network: Network,
    frame: Frame,
    memory: VoxelMemory,
    change: Callable[[NetworkInput], NetworkInput] | None = None,
    stage: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> Encoded:
    """The network's way from a frame to fused voxel features; pure.  In training, gradients stop at the memory.

    Args:
        change: what training does to the input of the network.
        stage: surrounds each named stage, to measure it.

    Raises:
        ValueError: the frame's cameras are not those of the network.
    """
    config = network.config.placed(frame.ego_from_network)
    with stage("prepare"):
        inputs = prepare(frame, config, network.device)
        inputs = inputs if change is None else change(inputs)
        past = begin(memory, frame, config)
        vector, source = _ego_motion(frame, past.poses, config)
        motion = torch.as_tensor(vector, dtype=torch.float32, device=network.device)
    with stage("backbone"):
        maps = network.encode_images(inputs.images)
    with stage("encoder"):
        current = network.encode_voxels(maps, inputs.projections, motion)
    with stage("temporal"):
        fused = network.fuse(past.history(network), current)
    after = remember(past, network.state(current, fused).detach(), config)
    report = HistoryReport(past.ages_s, len(after.states), past.reset, after.resets, source)
    return Encoded(current, fused, after, report, config)


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """Things of one frame with their numbers, and the classes of the voxels, which boxes may have refined."""

    class_id: Tensor  # uint8 [X, Y, Z]
    unrefined: Tensor  # uint8 [X, Y, Z], the classes without boxes
    instance_id: Tensor | None  # int32 [X, Y, Z]
    boxes: ScoredBoxes | None
    source: InstanceSource
    memory: VoxelMemory  # with the tracks after the frame
    detected: ScoredBoxes | None = None  # all of the box branch, where boxes are the source


def instances(network: Network, frame: Frame, step: Encoded, class_id: Tensor, confidence: Tensor) -> Instances:
    """The things of an encoded frame, by the source that the configuration names, with the numbers of their tracks.

    Args:
        class_id, confidence: uint8 [X, Y, Z], from `classes`.

    Raises:
        NonFiniteError: a box is not finite.
    """
    config, memory = step.config, step.memory
    detected = detected_boxes(network, step.fused, config) if config.panoptic.instances == "boxes" else None
    found = find_things(detected, class_id, confidence, output_geometry(config), config)
    if found is None:
        return no_instances(step, class_id)
    tracks, boxes = follow(
        memory.tracks,
        found.boxes,
        frame.stamp_ns,
        frame.world_from_ego,
        config.tracking,
        know_velocity=found.source == "boxes",
    )
    assert boxes.instance_id is not None
    instance_id = found.numbered(boxes.instance_id)
    memory = replace(memory, tracks=tracks)
    return Instances(found.class_id, class_id, instance_id, boxes, found.source, memory, detected)


def no_instances(step: Encoded, class_id: Tensor) -> Instances:
    """Where nobody wants the things of a frame; its tracks then are not seen."""
    return Instances(class_id, class_id, None, None, "none", step.memory)


@full_float32()
def advance(
    network: Network,
    frame: Frame,
    memory: VoxelMemory,
    exact_times: bool = False,
    wanted: Wanted = Wanted(),
    on_stage: Callable[[str], object] = lambda name: None,
) -> tuple[Occupancy, VoxelMemory]:
    """One step of the stream; pure: nothing but the returned values changes.

    Args:
        exact_times, on_stage: see `Stopwatch`.

    Raises:
        ValueError: the frame's cameras are not those of the network.
        NonFiniteError: the output is not finite; the memory should be cleared.
    """
    watch = Stopwatch(network.device, exact_times, on_stage)
    step = encode(network, frame, memory, stage=watch.stage)
    with watch.stage("decoder"):
        class_id, confidence = classes(network, step.fused)
    if wanted.instances:
        with watch.stage("instances"):
            things = instances(network, frame, step, class_id, confidence)
    else:
        things = no_instances(step, class_id)
    seen, logits = None, None
    if wanted.visible:
        with watch.stage("visible"):
            seen = visible(frame, step, things.class_id)
    if wanted.logits:
        with watch.stage("logits"):
            logits = network.decode(step.fused).classes
    occupancy = occupancy_of(frame, step, things, confidence, seen, logits)
    return replace(occupancy, timings_ms=watch.wall_ms(), cpu_ms=watch.cpu_ms()), things.memory


def visible(frame: Frame, step: Encoded, class_id: Tensor) -> Tensor | None:
    """What the cameras of a frame see of its classes, bool [X, Y, Z]; None where no class stands for free space."""
    config = step.config
    if config.labels.free_id is None:
        return None
    geometry = output_geometry(config)
    return visible_voxels(class_id != config.labels.free_id, geometry, eyes_of(frame, geometry, config.images))


def occupancy_of(
    frame: Frame,
    step: Encoded,
    things: Instances,
    confidence: Tensor,
    seen: Tensor | None = None,
    logits: Tensor | None = None,
) -> Occupancy:
    """What was found of an encoded frame, with where and when that is.

    Args:
        confidence: uint8 [X, Y, Z], from `classes`.
        seen, logits: of `visible` and the decoder, where somebody wants them.
    """
    config = step.config
    stamps_ns = {camera.name: camera.stamp_ns for camera in frame.cameras if not camera.is_blank}
    return Occupancy(
        stamp_ns=frame.stamp_ns,
        oldest_image_stamp_ns=min(stamps_ns.values(), default=frame.stamp_ns),
        newest_image_stamp_ns=max(stamps_ns.values(), default=frame.stamp_ns),
        class_id=things.class_id,
        confidence=confidence,
        instance_id=things.instance_id,
        boxes=things.boxes,
        instances=things.source,
        visible=seen,
        logits=logits,
        geometry=output_geometry(config),
        labels=config.labels,
        cameras=tuple(name for name in config.cameras if name in stamps_ns),
        history=step.history,
    )


def _ego_motion(frame: Frame, poses: tuple[StampedPose, ...], config: ModelConfig) -> tuple[Matrix, str]:
    """Ego-motion vector [18] and where its rates come from; `poses` end with this frame's."""
    settings = config.ego_motion
    motion, source = vehicle_motion(frame, poses, settings.rates)
    interval_ns = int(settings.interval_s * NS_PER_S)
    earlier = pose_at(poses, frame.stamp_ns - interval_ns, int(config.temporal.tolerance_s * NS_PER_S))
    return ego_motion_vector(
        frame.world_from_ego, None if earlier is None else earlier.world_from_ego, motion, settings
    ), source


def classes(network: Network, fused: Tensor) -> tuple[Tensor, Tensor]:
    """Class and confidence of every voxel, both uint8 [X, Y, Z], from fused voxel features [N, C].

    Raises:
        NonFiniteError: what decides is NaN or infinite.
    """
    class_id, probability = network.occupancy(fused)
    confidence = (probability * 255).round().to(torch.uint8)
    if not torch.isfinite(probability.sum()):  # the one wait for the device, when all its work has been given
        raise NonFiniteError("the class logits are not finite; the memory or an image is broken")
    return class_id, confidence


def output_geometry(config: ModelConfig) -> GridGeometry:
    """Where the output grid of a network lies in the ego frame."""
    shape = config.output_shape_xyz
    size = extent_m(config.grid)
    voxel_size = (size[0] / shape[0], size[1] / shape[1], size[2] / shape[2])
    return GridGeometry(shape, voxel_size, ego_from_grid(config.grid))


class OccupancyStream:
    """Streams frames through a network; the only object with state.

    Args:
        exact_times, on_stage: see `Stopwatch`.
    """

    def __init__(
        self, network: Network, exact_times: bool = False, on_stage: Callable[[str], object] = lambda name: None
    ):
        self.network, self._exact_times, self._on_stage = network, exact_times, on_stage
        self.memory = VoxelMemory()
        self._pending: str | None = None

    @torch.inference_mode()
    def step(self, frame: Frame, wanted: Wanted = Wanted()) -> Occupancy:
        """Occupancy at the frame's stamp.

        Raises:
            ValueError: the frame's cameras are not those of the network.
            NonFiniteError: the output is not finite; the memory has been cleared.
        """
        try:
            occupancy, self.memory = advance(
                self.network, frame, self.memory, self._exact_times, wanted, self._on_stage
            )
        except NonFiniteError:
            self.reset("non_finite")
            raise
        if self._pending is not None and occupancy.history.reset is None:
            occupancy = replace(occupancy, history=replace(occupancy.history, reset=self._pending))
        self._pending = None
        return occupancy

    def reset(self, reason: str = "requested") -> None:
        """Forget all history; the next result reports the reason."""
        self.memory = cleared(self.memory, reason)
        self._pending = reason
