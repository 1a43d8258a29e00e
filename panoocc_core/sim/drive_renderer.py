"""Renders the instants of simulated drives, in this process or in workers."""

import math
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from ..base.devices import usable_device
from ..base.processors import processor_count
from ..config import model_config
from ..ground_truth import GroundTruth
from ..labels import OCC3D, LabelSet, counterparts
from ..stream import output_geometry
from ..types import GridGeometry
from .camera import Rig, SimCamera
from .capture import capture
from .pool import WorkerPool
from .renderer import Renderer
from .scene import Scene

MAX_SETS = 20_000
MAX_SECONDS = 290.0
TF_RATE_HZ = 100
LEAD_S = 0.2  # before the first shutter and after the last one; transforms reach half as far
MAX_WORKERS = 16
_FEW_SETS = 6  # not worth the start of worker processes
_STREETS_KEPT = 2  # by a worker: the one in work and the next


@dataclass(frozen=True, slots=True)
class Drive:
    """What is recorded: a street by its seed, and how the cameras sample it.

    Raises:
        ValueError: a number is out of range; the message names it.
    """

    seed: int = 0
    seconds: float = 8.0
    rate_hz: float = 2.0
    supersample: int = 1

    def __post_init__(self) -> None:
        if self.supersample < 1:
            raise ValueError(f"supersample must be at least 1, not {self.supersample}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, not {self.seed}")
        if not 0 < self.rate_hz <= 60:
            raise ValueError(f"rate must be more than 0 and at most 60 Hz, not {self.rate_hz}")
        if not 0 < self.seconds <= MAX_SECONDS:
            raise ValueError(f"seconds must be more than 0 and at most {MAX_SECONDS:.0f}, not {self.seconds}")
        if self.sets > MAX_SETS:
            raise ValueError(f"{self.sets} sets of images are too many (at most {MAX_SETS}): lower rate or seconds")

    @property
    def sets(self) -> int:
        """How many times the cameras fire."""
        return max(1, math.floor(self.seconds * self.rate_hz + 1e-6))

    @property
    def scene_seconds(self) -> float:
        """How long the scene must last."""
        return self.time_s(self.sets) + 1

    def time_s(self, number: int) -> float:
        """When set `number` is due, in the scene's time."""
        return LEAD_S + number / self.rate_hz


@dataclass(frozen=True, slots=True, eq=False)
class RenderSetup:
    """What is made of every instant of a drive.

    Raises:
        ValueError: the rig is empty, or the device is not on this machine.
    """

    rig: Rig
    grid: GridGeometry | None = None  # of the truth; None: no truth
    device: str = "cpu"  # of the renderer
    labels: LabelSet = OCC3D  # of the truth

    def __post_init__(self) -> None:
        if not self.rig:
            raise ValueError("a rig needs at least one camera")
        usable_device(self.device)

    @property
    def names(self) -> tuple[str, ...]:
        """Namespaces of the cameras' topics."""
        return tuple(frame_id(camera) for camera in self.rig)

    def span_s(self, drive: Drive) -> tuple[float, float]:
        """First and last time of the transforms."""
        offsets = [camera.shutter_offset_s for camera in self.rig]
        first_s = drive.time_s(0) + min(0.0, *offsets) - LEAD_S / 2
        return first_s, drive.time_s(drive.sets - 1) + max(0.0, *offsets) + LEAD_S / 2

    def pose_times_s(self, drive: Drive) -> np.ndarray:
        """Times [n] of the transforms."""
        first_s, last_s = self.span_s(drive)
        return first_s + np.arange(math.ceil((last_s - first_s) * TF_RATE_HZ) + 1) / TF_RATE_HZ


@dataclass(frozen=True, slots=True, eq=False)
class RenderedSet:
    """What a worker makes of one instant."""

    jpegs: tuple[bytes, ...]  # in the order of the rig
    truth: GroundTruth | None  # its stamp is the scene's time, not yet that of a message
    work_s: float  # how long it took


def truth_grid(model: str) -> GridGeometry:
    """The output grid of a model preset or YAML file.

    Raises:
        ConfigError: it is neither.
    """
    return output_geometry(model_config(model))


def truth_labels(model: str) -> LabelSet:
    """The classes of a model preset or YAML file, where the simulator's truth can be told in them; else its own.

    Raises:
        ConfigError: it is neither.
    """
    labels = model_config(model).labels
    return OCC3D if None in counterparts(OCC3D, labels) else labels


class DriveRenderer:
    """Renders instants of drives; keeps the newest streets."""

    def __init__(self, setup: RenderSetup):
        self.setup = setup
        self._renderers: dict[Drive, Renderer] = {}

    def poses(self, drive: Drive) -> np.ndarray:
        """`world_from_ego` [n, 4, 4] at the times of the transforms."""
        scene = self._renderer(drive).scene
        return np.stack([scene.world_from_ego(time_s) for time_s in self.setup.pose_times_s(drive).tolist()])

    def rendered(self, drive: Drive, number: int) -> RenderedSet:
        """Images and truth of one set."""
        begin_s = perf_counter()
        renderer, time_s = self._renderer(drive), drive.time_s(number)
        delay_s = self.setup.rig[0].shutter_offset_s
        taken = capture(renderer, self.setup.rig, time_s, self.setup.grid, truth_delay_s=delay_s)
        jpegs = tuple(jpeg.tobytes() for jpeg in taken.jpegs)
        there = None if taken.truth is None else taken.truth.in_classes_of(self.setup.labels)
        return RenderedSet(jpegs, there, perf_counter() - begin_s)

    def _renderer(self, drive: Drive) -> Renderer:
        if drive not in self._renderers:
            while len(self._renderers) >= _STREETS_KEPT:
                del self._renderers[next(iter(self._renderers))]
            scene = Scene(drive.seed, drive.scene_seconds)
            self._renderers[drive] = Renderer(scene, drive.supersample, device=self.setup.device)
        return self._renderers[drive]


_worker_renderer: DriveRenderer | None = None  # of a worker process


def _start_worker(setup: RenderSetup) -> None:
    global _worker_renderer
    _worker_renderer = DriveRenderer(setup)


def _rendered(drive: Drive, number: int) -> RenderedSet:
    assert _worker_renderer is not None
    return _worker_renderer.rendered(drive, number)


def _poses(drive: Drive) -> np.ndarray:
    assert _worker_renderer is not None
    return _worker_renderer.poses(drive)


class RenderPool:
    """Worker processes that render."""

    def __init__(self, setup: RenderSetup, workers: int):
        self.workers = workers
        self._pool = WorkerPool(workers, _start_worker, setup, unwinds=False)

    def rendered(self, drive: Drive, number: int) -> "Future[RenderedSet]":
        """Begin to render a set."""
        return self._pool.submit(_rendered, drive, number)

    def poses(self, drive: Drive) -> "Future[np.ndarray]":
        """Begin to compute the poses of a drive."""
        return self._pool.submit(_poses, drive)

    def close(self) -> None:
        """End the workers; what they are in the middle of is given up."""
        self._pool.close()


def all_rendered(drive: Drive, setup: RenderSetup, workers: int | None) -> Generator[RenderedSet, None, None]:
    """Every set, in order."""
    processes = min(workers or processor_count(), MAX_WORKERS, drive.sets)
    if processes == 1 or drive.sets <= _FEW_SETS:
        renderer = DriveRenderer(setup)
        for number in range(drive.sets):
            yield renderer.rendered(drive, number)
        return
    pool = RenderPool(setup, processes)
    try:
        # A few ahead of the writer: a long drive must not wait in memory.
        futures = [pool.rendered(drive, number) for number in range(min(4 * processes, drive.sets))]
        for number in range(drive.sets):
            if number + len(futures) < drive.sets:
                futures.append(pool.rendered(drive, number + len(futures)))
            yield futures.pop(0).result()
    finally:
        pool.close()


def frame_id(camera: SimCamera) -> str:
    """Name of the camera's optical frame and of its topics' namespace."""
    return camera.name.lower()
