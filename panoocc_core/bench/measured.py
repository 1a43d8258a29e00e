"""One network as it streams: time by stage, memory, how far it is from its floor and from its float32 reference.

`measure` is meant for a process of its own, so that the peak of its memory is that of this network.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ..base.devices import full_float32
from ..base.host_memory import Kept
from ..config import ModelConfig
from ..cuda.graph import CapturedSteps
from ..geometry import NS_PER_S
from ..memory import VoxelMemory, states_kept
from ..models.view_encoder import project
from ..network import Network
from ..preprocess import network_input
from ..step import Executor, Wanted
from ..stream import OccupancyStream
from ..types import Frame, Occupancy
from ..voxels import reference_points_m
from ..weights.checkpoint import load_model
from .comparison import Agreement, compare, reference_stream
from .floor import BOXES, TOTAL, Floor, FrameFacts, Rates, Work, floors, measure_rates, works
from .machine import forget_peak, hardware, memory_mb, most_mb

EXECUTORS: dict[str, Callable[[Network], Executor]] = {  # what takes a network's steps
    "eager": lambda network: network,
    "graph": CapturedSteps,  # on CUDA
}
GRID_ALONE, ALL = Wanted(instances=False, visible=False), Wanted()
OUTPUT_STAGES = ("instances", "visible")
LEAST_FRAMES, MOST_FRAMES, OUTPUT_FRAMES, COMPARED_FRAMES = 3, 300, 5, 2


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured."""

    config: ModelConfig
    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 1  # of the CPU
    checkpoint: Path | None = None
    seeded_weights: bool = False
    executor: str = "eager"
    kept: Kept = "all"  # of freed memory, which its process sees to

    @property
    def label(self) -> str:
        where = "" if self.device == "cpu" else f" on {self.device}"
        how = "" if self.executor == "eager" else f", {self.executor}"
        return f"{self.config.name}, {self.precision}, {self.threads} thread{'s' * (self.threads > 1)}{where}{how}"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    frames: int | None = None  # that are counted; None: as many as the seconds hold
    seconds: float = 8.0
    compared: int = COMPARED_FRAMES  # frames that the reference sees too; 0: no comparison


@dataclass(frozen=True, slots=True)
class Times:
    """Of one stage over the counted frames."""

    p50: float  # wall, ms
    p95: float  # the frame that is slower than 95 % of them
    p99: float
    cpu: float | None  # ms of all threads together, median; on CUDA of giving orders, and of whole frames alone
    most: float  # wall of the slowest frame

    def ratios(self, floor: Floor) -> dict[str, float | None]:
        """CPU and wall time as multiples of the floor's."""
        cpu = None if self.cpu is None or not floor.cpu_ms else self.cpu / floor.cpu_ms
        return {"cpu": cpu, "wall": self.p50 / floor.wall_ms}


@dataclass(frozen=True, slots=True)
class Memory:
    """MB: of the process, or of tensors on CUDA."""

    before: float  # Python, torch and the images
    loading: float  # the most while the network was loaded
    peak: float  # the most while it streamed, its full history included


@dataclass(frozen=True, slots=True)
class NetworkReport:
    """All that was measured in one setting."""

    setting: Setting
    hardware: str
    frames: int
    times: dict[str, Times]  # stage -> times; "total" is the whole step without things and lines of sight
    floors: dict[str, Floor]
    memory: Memory
    rates: dict[str, Rates]  # "one thread", "all threads" or "device"
    agreement: Agreement | None
    facts: FrameFacts

    def as_dict(self) -> dict[str, Any]:
        setting, stages = self.setting, {}
        for name, times in self.times.items():
            floor = self.floors.get(name)
            stages[name] = {
                "wall_ms": {"p50": times.p50, "p95": times.p95, "p99": times.p99, "most": times.most},
                "cpu_ms": times.cpu,
                "floor": None if floor is None else floor.as_dict(),
                "ratio": None if floor is None else times.ratios(floor),
            }
        return {
            "model": setting.config.name,
            "device": setting.device,
            "precision": setting.precision,
            "threads": setting.threads,
            "executor": setting.executor,
            "kept_of_freed_memory": setting.kept,
            "weights": "seeded" if setting.seeded_weights else "trained",
            "hardware": self.hardware,
            "frames": self.frames,
            "stages": stages,
            "memory_mb": {"before": self.memory.before, "loading": self.memory.loading, "peak": self.memory.peak},
            "rates": {name: rates.as_dict() for name, rates in self.rates.items()},
            "agreement": None if self.agreement is None else self.agreement.as_dict(),
            "sightings": self.facts.sightings,
            "open_share": self.facts.open_share,
        }


@torch.inference_mode()
@full_float32()
def measure(setting: Setting, frames: Sequence[Frame], effort: Effort = Effort()) -> NetworkReport:
    """Load the network, stream the frames, compare, and put the times beside their floors.

    Raises:
        ConfigError, CheckpointError, ValueError: the network cannot be loaded, or takes other frames.
        NonFiniteError: its output is not finite, as with a precision that it cannot do with.
    """
    device, config = torch.device(setting.device), setting.config
    torch.set_num_threads(setting.threads)
    cv2.setNumThreads(setting.threads)
    before = memory_mb(device)
    forget_peak(device)
    network = load_model(config, setting.checkpoint, setting.seeded_weights, device, setting.precision)
    loading = most_mb(device)
    facts = facts_of(network, frames[0])
    counted = works(config, facts, network.dtype.itemsize)
    rates = device_rates(counted, network, setting.threads)

    forget_peak(device)
    times, stream = stream_times(EXECUTORS[setting.executor](network), frames, effort, not setting.seeded_weights)
    memory = Memory(before, loading, most_mb(device))
    boxes = box_times(network, stream.memory)
    agreement = None
    if effort.compared:
        compared = list(itertools.islice(steady(frames, config), effort.compared))
        reference = reference_stream(config, setting.checkpoint, setting.seeded_weights, device)
        ours = OccupancyStream(EXECUTORS[setting.executor](network))
        agreement = compare(ours, reference, compared, filled=lambda memory: full_history(memory, config))
        del reference
    again = device_rates(counted, network, setting.threads)  # the better one counts: others may have been at work
    rates = {name: rate.best(again[name]) for name, rate in rates.items()}
    return NetworkReport(
        setting=setting,
        hardware=hardware(device),
        frames=times.frames,
        times=times.stages if boxes is None else {**times.stages, BOXES: boxes},
        floors=floors(counted, rates.get("one thread"), rates.get("all threads") or rates["device"]),
        memory=memory,
        rates=rates,
        agreement=agreement,
        facts=facts,
    )


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """What a stream took."""

    frames: int
    stages: dict[str, Times]


def stream_times(
    executor: Executor, frames: Sequence[Frame], effort: Effort, with_outputs: bool = False
) -> tuple[StreamTimes, OccupancyStream]:
    """Times of every stage and of whole steps with a full history; the stream is returned as it is then.

    Args:
        with_outputs: things and lines of sight too, on some more frames; seeded weights make noise of things.
    """
    device, config = executor.device, executor.config
    stream, feed = OccupancyStream(executor), steady(frames, config)
    stream.step(next(feed), GRID_ALONE)
    stream.memory = full_history(stream.memory, config)
    stream.step(next(feed), GRID_ALONE)  # the first with history
    walls, cpus = dict[str, list[float]](), dict[str, list[float]]()
    begin_s, count = time.perf_counter(), 0
    while not _is_enough(count, time.perf_counter() - begin_s, effort):
        _settle(device)
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        step = stream.step(next(feed), GRID_ALONE)
        _settle(device)
        wall_ms, cpu_ms = (time.perf_counter() - wall_s) * 1e3, (time.process_time() - cpu_s) * 1e3
        _append(walls, {**step.timings_ms, TOTAL: wall_ms})
        _append(cpus, {**step.cpu_ms, TOTAL: cpu_ms})
        count += 1
    for _ in range(OUTPUT_FRAMES if with_outputs else 0):
        step = stream.step(next(feed), ALL)
        _append(walls, {stage: ms for stage, ms in step.timings_ms.items() if stage in OUTPUT_STAGES})
        _append(cpus, {stage: ms for stage, ms in step.cpu_ms.items() if stage in OUTPUT_STAGES})
    return StreamTimes(count, {stage: _times(wall, cpus.get(stage, ())) for stage, wall in walls.items()}), stream


def box_times(network: Network, memory: VoxelMemory) -> Times | None:
    """Of the box branch alone, whose cost does not depend on what it finds; None without one or without a state."""
    if not network.config.boxes.classes or not memory.states:
        return None
    tokens = memory.states[-1].tokens
    network.detect(tokens)
    walls, cpus = [], []
    for _ in range(OUTPUT_FRAMES):
        _settle(network.device)
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        network.detect(tokens)
        _settle(network.device)
        walls.append((time.perf_counter() - wall_s) * 1e3)
        cpus.append((time.process_time() - cpu_s) * 1e3)
    return _times(walls, cpus)


def steady(frames: Sequence[Frame], config: ModelConfig) -> Iterator[Frame]:
    """The frames forth and back without end, as far apart as states are kept, so that a full history stays full.

    Where the vehicle would then be faster than the memory believes, they stay as far apart as they came.
    """
    period_ns = int(config.temporal.spacing_s * NS_PER_S)
    pairs = list(itertools.pairwise(frames))
    if pairs:
        far_m = max(float(np.linalg.norm((b.world_from_ego - a.world_from_ego)[:3, 3])) for a, b in pairs)
        if far_m * NS_PER_S > 0.5 * config.temporal.max_speed_mps * period_ns:
            period_ns = int(median(b.stamp_ns - a.stamp_ns for a, b in pairs))
    order = [*frames, *frames[-2:0:-1]]
    for number, frame in enumerate(itertools.cycle(order)):
        yield _later(frame, frames[0].stamp_ns + number * period_ns - frame.stamp_ns)


def _later(frame: Frame, shift_ns: int) -> Frame:
    cameras = tuple(replace(camera, stamp_ns=camera.stamp_ns + shift_ns) for camera in frame.cameras)
    return replace(frame, stamp_ns=frame.stamp_ns + shift_ns, cameras=cameras)


def full_history(memory: VoxelMemory, config: ModelConfig) -> VoxelMemory:
    """A memory that holds one state as often as it keeps states, each as large as a real one."""
    if not memory.states:
        return memory
    newest, spacing_ns = memory.states[-1], int(config.temporal.spacing_s * NS_PER_S)
    older = (
        replace(newest, stamp_ns=newest.stamp_ns - number * spacing_ns, tokens=newest.tokens.clone())
        for number in range(states_kept(config.temporal) - 1, 0, -1)
    )
    return replace(memory, states=(*older, newest))


def facts_of(network: Network, frame: Frame) -> FrameFacts:
    """What a frame decides of the work: who sees which voxels, and what the occupancy gate lets through."""
    config = network.config.placed(frame.ego_from_network)
    points = torch.as_tensor(reference_points_m(config.grid, config.encoder.reference_heights), dtype=torch.float32)
    inputs = network_input(frame, config, torch.device("cpu"))
    seen = project(points, inputs.projections, config.images.padded_hw).visible
    open_share = 1.0
    if config.decoder.gate_threshold is not None:
        open_share = float(_open(OccupancyStream(network).step(frame, GRID_ALONE), config).float().mean())
    return FrameFacts(
        int(seen.sum()), sum(camera.size_hw[0] * camera.size_hw[1] for camera in frame.cameras), open_share
    )


def _open(step: Occupancy, config: ModelConfig) -> Tensor:
    """Which voxels the occupancy gate let through: the confidence of a closed one is that of being free.

    One that it let through and that is free for sure counts as closed: a floor may be too low, but not too high.
    """
    threshold, free_id = config.decoder.gate_threshold, config.labels.free_id
    if threshold is None or free_id is None or step.confidence is None:
        return torch.ones_like(step.class_id, dtype=torch.bool)
    return (step.class_id != free_id) | (step.confidence < round(255 * (1 - threshold)))


def device_rates(counted: Sequence[Work], network: Network, threads: int) -> dict[str, Rates]:
    """The rates that floors are made of, by who reaches them."""
    if network.device.type == "cuda":
        return {"device": measure_rates(counted, network.device, network.dtype)}
    one = measure_rates(counted, network.device, network.dtype, 1)
    return {
        "one thread": one,
        "all threads": one if threads == 1 else measure_rates(counted, network.device, network.dtype, threads),
    }


def _is_enough(count: int, seconds: float, effort: Effort) -> bool:
    if effort.frames is not None:
        return count >= effort.frames
    return count >= MOST_FRAMES or (count >= LEAST_FRAMES and seconds >= effort.seconds)


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _append(samples: dict[str, list[float]], values: dict[str, float]) -> None:
    for name, value in values.items():
        samples.setdefault(name, []).append(value)


def _times(walls: Sequence[float], cpus: Sequence[float]) -> Times:
    p95, p99 = (float(np.percentile(walls, share, method="higher")) for share in (95, 99))
    return Times(median(walls), p95, p99, median(cpus) if cpus else None, max(walls))
