"""Streaming inference: a pure step from frame and memory to occupancy and memory, and the one object with state."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .base.devices import full_float32
from .base.stopwatch import Stopwatch
from .config import ModelConfig
from .cuda.compaction import compaction_on
from .cuda.staging import on_device
from .ego_motion import StampedPose, ego_motion_vector, pose_at, vehicle_motion
from .geometry import NS_PER_S, Matrix
from .labels import InstanceSource
from .memory import Recollection, VoxelMemory, begin, cleared, remember
from .network import Network, NonFiniteError
from .panoptic import detected_boxes, find_things, follow
from .preprocess import NetworkInput, network_input
from .step import BoxPrediction, Executor, Stage, StepInput, StepOutput, Wanted
from .types import Frame, GridGeometry, HistoryReport, ListedVoxels, Occupancy, ScoredBoxes
from .visibility import eyes_of, visible_voxels
from .voxels import ego_from_grid, extent_m


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What the host has ready for a step, and what it needs after it."""

    inputs: StepInput
    past: Recollection
    config: ModelConfig  # of the network, with its frame where it is for this frame
    rates: str  # where those of the ego motion come from

    def after(self, state: Tensor) -> "After":
        """What is known once the state [N, C] of the frame is."""
        memory = remember(self.past, state, self.config)
        past = self.past
        history = HistoryReport(past.ages_s, len(memory.states), past.reset, memory.resets, self.rates)
        return After(past.frame, self.config, memory, history)


@dataclass(frozen=True, slots=True, eq=False)
class After:
    """What is known of a frame when the network has seen it, beside what it has found."""

    frame: Frame
    config: ModelConfig  # of the network, with its frame where it was for this frame
    memory: VoxelMemory  # after the frame
    history: HistoryReport


@dataclass(frozen=True, slots=True, eq=False)
class Encoded(After):
    """What the network makes of one frame and its history, before it is decoded."""

    current: Tensor  # [N, C], of this frame alone
    fused: Tensor  # [N, C], with the history


def prepare(
    config: ModelConfig,
    device: torch.device,
    frame: Frame,
    memory: VoxelMemory,
    change: Callable[[NetworkInput], NetworkInput] = lambda inputs: inputs,
) -> Prepared:
    """The host's work before a step of a network on a device; pure.

    Args:
        change: what training does to the input of the network.

    Raises:
        ValueError: the frame's cameras are not those of the network.
    """
    config = config.placed(frame.ego_from_network)
    seen = change(network_input(frame, config, device))
    past = begin(memory, frame, config)
    vector, rates = _ego_motion(frame, past.poses, config)
    ego_motion, motions = (
        torch.as_tensor(values, dtype=torch.float32) for values in (vector, past.voxel_motions(config))
    )
    states = tuple(state.tokens for state in past.states)
    inputs = StepInput(seen.images, seen.projections, ego_motion, states, motions)
    return Prepared(on_device(inputs, device), past, config, rates)


def encode(
    network: Network,
    frame: Frame,
    memory: VoxelMemory,
    change: Callable[[NetworkInput], NetworkInput] = lambda inputs: inputs,
) -> Encoded:
    """The network's way from a frame to fused voxel features; pure.  In training, gradients stop at the memory.

    Args:
        change: what training does to the input of the network.

    Raises:
        ValueError: the frame's cameras are not those of the network.
    """
    prepared = prepare(network.config, network.device, frame, memory, change)
    features = network.features(prepared.inputs)
    after = prepared.after(features.state.detach())
    return Encoded(frame, after.config, after.memory, after.history, features.current, features.fused)


@full_float32()
def advance(
    executor: Executor,
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
    watch = Stopwatch(executor.device, exact_times, on_stage)
    with watch.stage("prepare"):
        prepared = prepare(executor.config, executor.device, frame, memory)
    output = executor.step(prepared.inputs, wanted, watch.stage)
    occupancy, memory = collect(prepared, output, wanted, watch.stage)
    return replace(occupancy, timings_ms=watch.wall_ms(), cpu_ms=watch.cpu_ms()), memory


def collect(
    prepared: Prepared, output: StepOutput, wanted: Wanted, stage: Stage = nullcontext
) -> tuple[Occupancy, VoxelMemory]:
    """The host's work after a step: its occupancy with things and what is seen, and the memory; pure.

    Raises:
        NonFiniteError: the output is not finite.
    """
    after, compaction = prepared.after(output.state), compaction_on(output.class_id.device)
    if compaction is None:
        check_finite(output.is_finite)
    seen, listed = None, None
    if wanted.visible:  # boxes change the classes of things, but free no voxel
        with stage("visible"):
            seen = visible(after, output.class_id)
    class_id, confidence = output.class_id, output.confidence
    if compaction is not None:
        free_id = after.config.labels.free_id
        pending = compaction.begin(class_id, confidence, free_id, seen, output.is_finite)
        listed, is_finite = (
            pending.wait()
        )  # for the device, when all its work has been given; `visible` and boxes wait too
        check_finite(is_finite)
        class_id, confidence = listed.volumes(after.config.output_shape_xyz, free_id)
    things = no_instances(after, class_id)
    if wanted.instances:
        with stage("instances"):
            things = instances(after, class_id, confidence, output.boxes)
    if listed is not None:
        if things.class_id is not class_id:
            listed = replace(listed, class_id=listed.at(things.class_id))
        things = things.on(output.class_id)
    return occupancy_of(after, things, output.confidence, seen, output.logits, listed), things.memory


def check_finite(is_finite: Tensor | bool) -> None:
    """Raises NonFiniteError unless what decides the classes is finite."""
    if not is_finite:
        raise NonFiniteError("the class logits are not finite; the memory or an image is broken")


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

    def on(self, unrefined: Tensor) -> "Instances":
        """The same with its classes on the device that has them unrefined."""
        is_refined = self.class_id is not self.unrefined
        return replace(
            self,
            class_id=self.class_id.to(unrefined.device, non_blocking=True) if is_refined else unrefined,
            unrefined=unrefined,
        )


def instances(after: After, class_id: Tensor, confidence: Tensor, boxes: BoxPrediction | None) -> Instances:
    """The things of a frame, by the source that the configuration names, with the numbers of their tracks.

    Args:
        class_id, confidence: uint8 [X, Y, Z].
        boxes: of the box branch, where boxes are the source.

    Raises:
        NonFiniteError: a box is not finite.
    """
    config, frame = after.config, after.frame
    detected = None if boxes is None else detected_boxes(boxes, config)
    found = find_things(detected, class_id, confidence, output_geometry(config), config)
    if found is None:
        return no_instances(after, class_id)
    tracks, tracked = follow(
        after.memory.tracks,
        found.boxes,
        frame.stamp_ns,
        frame.world_from_ego,
        config.tracking,
        know_velocity=found.source == "boxes",
    )
    assert tracked.instance_id is not None
    instance_id = found.numbered(tracked.instance_id)
    memory = replace(after.memory, tracks=tracks)
    return Instances(found.class_id, class_id, instance_id, tracked, found.source, memory, detected)


def no_instances(after: After, class_id: Tensor) -> Instances:
    """Where nobody wants the things of a frame; its tracks then are not seen."""
    return Instances(class_id, class_id, None, None, "none", after.memory)


def visible(after: After, class_id: Tensor) -> Tensor | None:
    """What the cameras of a frame see of its classes, bool [X, Y, Z]; None where no class stands for free space."""
    config = after.config
    if config.labels.free_id is None:
        return None
    geometry = output_geometry(config)
    return visible_voxels(class_id != config.labels.free_id, geometry, eyes_of(after.frame, geometry, config.images))


def occupancy_of(
    after: After,
    things: Instances,
    confidence: Tensor,
    seen: Tensor | None = None,
    logits: Tensor | None = None,
    listed: ListedVoxels | None = None,
) -> Occupancy:
    """What was found of a frame, with where and when that is.

    Args:
        confidence: uint8 [X, Y, Z].
        seen, logits: of `visible` and the decoder, where somebody wants them.
        listed: what is not free, where there is a list.
    """
    frame, config = after.frame, after.config
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
        listed=listed,
        geometry=output_geometry(config),
        labels=config.labels,
        cameras=tuple(name for name in config.cameras if name in stamps_ns),
        history=after.history,
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
    class_id, confidence, is_finite = network.classes(fused)
    check_finite(is_finite)
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
        self, network: Executor, exact_times: bool = False, on_stage: Callable[[str], object] = lambda name: None
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
