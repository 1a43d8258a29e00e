"""Streaming inference: a pure step from frame and memory to occupancy and memory, and the one object with state."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .config import ModelConfig
from .ego_motion import ego_motion_vector, pose_at, vehicle_motion
from .geometry import NS_PER_S, Matrix
from .memory import VoxelMemory, align, cleared, extended_track, recall, remember, reset_reason
from .models.panoocc import PanoOcc
from .preprocess import NetworkInput, prepare
from .types import Frame, GridGeometry, HistoryReport, Occupancy
from .voxels import ego_from_grid, extent_m


class NonFiniteError(RuntimeError):
    """The network's logits are not finite: its memory or its input is broken."""


class Stopwatch:
    """Wall and CPU time of named stages; waits for the device, so that a stage's time is its own."""

    def __init__(self, device: torch.device):
        self.device, self.wall_ms, self.cpu_ms = device, dict[str, float](), dict[str, float]()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._settle()
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self._settle()
        self.wall_ms[name] = self.wall_ms.get(name, 0.0) + (time.perf_counter() - wall) * 1e3
        self.cpu_ms[name] = self.cpu_ms.get(name, 0.0) + (time.process_time() - cpu) * 1e3

    def _settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What the network makes of one frame and its history, before it is decoded."""

    current: Tensor  # [N, C], of this frame alone
    fused: Tensor  # [N, C], with the history
    memory: VoxelMemory  # after the frame
    ages_s: tuple[float, ...]  # of the states that were fused, oldest first
    reset: str | None  # why the memory was cleared before the frame
    ego_motion: str  # where the ego-motion vector's rates came from


def encode(
    model: PanoOcc,
    frame: Frame,
    memory: VoxelMemory,
    watch: Stopwatch,
    change: Callable[[NetworkInput], NetworkInput] | None = None,
) -> Encoded:
    """The network's way from a frame to fused voxel features; pure.  In training, gradients stop at the memory.

    `change` is what training does to the input of the network.

    Raises:
        ValueError: the frame's cameras are not those of the network.
    """
    config = model.config
    with watch.stage("prepare"):
        inputs = prepare(frame, config, model.device)
        inputs = inputs if change is None else change(inputs)
        projection = model.project(inputs.image_from_network)
    reason = reset_reason(memory, frame, config.temporal)
    if reason is not None:
        memory = cleared(memory, reason)
    vector, source = _ego_motion(frame, memory, config)
    with watch.stage("backbone"):
        maps = model.encode_images(inputs.images)
    with watch.stage("encoder"):
        current = model.encode_voxels(
            maps, projection, torch.as_tensor(vector, dtype=torch.float32, device=model.device)
        )
    with watch.stage("temporal"):
        states = recall(memory, frame.stamp_ns, config.temporal)
        history = align(states, frame.world_from_ego, config, config.grid.ego_from_network.matrix)
        fused = model.fuse(history, current)
    kept = current if config.temporal.kind == "concat" else fused
    ages_s = tuple((frame.stamp_ns - state.stamp_ns) / NS_PER_S for state in states)
    return Encoded(current, fused, remember(memory, frame, kept.detach(), config), ages_s, reason, source)


def advance(model: PanoOcc, frame: Frame, memory: VoxelMemory) -> tuple[Occupancy, VoxelMemory]:
    """One step of the stream; pure: nothing but the returned values changes.

    Raises:
        ValueError: the frame's cameras are not those of the network.
        NonFiniteError: the output is not finite; the memory should be cleared.
    """
    config, watch = model.config, Stopwatch(model.device)
    step = encode(model, frame, memory, watch)
    with watch.stage("decoder"):
        class_id, confidence = classes(model, step.fused)
    after = step.memory
    report = HistoryReport(
        ages_s=step.ages_s,
        states_kept=len(after.states),
        reset=step.reset,
        resets=after.resets,
        ego_motion=step.ego_motion,
    )
    seen = {camera.name: camera.stamp_ns for camera in frame.cameras if not camera.is_blank}
    occupancy = Occupancy(
        stamp_ns=frame.stamp_ns,
        oldest_image_stamp_ns=min(seen.values(), default=frame.stamp_ns),
        newest_image_stamp_ns=max(seen.values(), default=frame.stamp_ns),
        class_id=class_id,
        confidence=confidence,
        instance_id=None,
        geometry=output_geometry(config),
        labels=config.labels,
        cameras=tuple(name for name in config.cameras if name in seen),
        history=report,
        timings_ms=watch.wall_ms,
        cpu_ms=watch.cpu_ms,
    )
    return occupancy, after


def _ego_motion(frame: Frame, memory: VoxelMemory, config: ModelConfig) -> tuple[Matrix, str]:
    """Ego-motion vector [18] and where its rates come from."""
    settings = config.ego_motion
    track = extended_track(memory.track, frame, settings)
    motion, source = vehicle_motion(frame, track, settings.rates)
    interval_ns = int(settings.interval_s * NS_PER_S)
    earlier = pose_at(track, frame.stamp_ns - interval_ns, int(config.temporal.tolerance_s * NS_PER_S))
    return ego_motion_vector(
        frame.world_from_ego, None if earlier is None else earlier.world_from_ego, motion, settings
    ), source


def classes(model: PanoOcc, fused: Tensor) -> tuple[Tensor, Tensor]:
    """Class and confidence of every voxel, both uint8 [X, Y, Z], from fused voxel features [N, C].

    Raises:
        NonFiniteError: what decides is NaN or infinite.
    """
    class_id, probability = model.occupancy(fused)
    if not torch.isfinite(probability.sum()):  # one wait for the device, not one a voxel
        raise NonFiniteError("the class logits are not finite; the memory or an image is broken")
    return class_id, (probability * 255).round().to(torch.uint8)


def output_geometry(config: ModelConfig) -> GridGeometry:
    """Where the output grid of a network lies in the ego frame."""
    shape = config.output_shape_xyz
    size = extent_m(config.grid)
    voxel_size = (size[0] / shape[0], size[1] / shape[1], size[2] / shape[2])
    return GridGeometry(shape, voxel_size, ego_from_grid(config.grid))


class OccupancyStream:
    """Streams frames through a network; the only object with state."""

    def __init__(self, model: PanoOcc):
        self.model = model
        self.memory = VoxelMemory()
        self._pending: str | None = None

    @torch.inference_mode()
    def step(self, frame: Frame) -> Occupancy:
        """Occupancy at the frame's stamp.

        Raises:
            ValueError: the frame's cameras are not those of the network.
            NonFiniteError: the output is not finite; the memory has been cleared.
        """
        try:
            occupancy, self.memory = advance(self.model, frame, self.memory)
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
