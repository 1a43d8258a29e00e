"""A drive through a simulated street as messages: what a vehicle's sensors say, and the truth that they cannot know.

Rendering and truth are made in worker processes, which know no ROS; messages are made from their results, so that a bag
and a live topic have the same.  The first camera of a rig is its reference: the truth holds at its shutter time.
"""

import math
import os
import signal
from collections.abc import Callable, Generator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from multiprocessing import get_context, resource_tracker
from time import perf_counter
from typing import Any

import numpy as np

from panoocc_core.config import model_config
from panoocc_core.geometry import NS_PER_S, Matrix, quaternion_from_rotation
from panoocc_core.ground_truth import GroundTruth
from panoocc_core.sim import Renderer, Rig, Scene, SimCamera
from panoocc_core.sim.capture import capture
from panoocc_core.sim.pool import begin_worker
from panoocc_core.stream import output_geometry
from panoocc_core.types import GridGeometry
from panoocc_core.weights.checkpoint import usable_device

from ..bags.bag import new_message
from ..messages.truth import TYPES, label_messages, truth_messages
from .faults import IMAGE_TYPE, INFO_TYPE, TF_TOPIC, Event

START_NS = 1_700_000_000 * NS_PER_S  # stamp of the scene's time 0
ODOM_FRAME, BASE_FRAME = "odom", "base_link"
TF_TYPE = "tf2_msgs/msg/TFMessage"
MAX_SETS = 20_000
MAX_SECONDS = 290.0
TF_RATE_HZ = 100
LEAD_S = 0.2  # before the first shutter and after the last one; transforms reach half as far
MOST_WORKERS = 16
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
class Shoot:
    """What is made of every instant of a drive.

    Raises:
        ValueError: the rig is empty, or the device is not on this machine.
    """

    rig: Rig
    grid: GridGeometry | None = None  # of the truth; None: no truth
    device: str = "cpu"  # that renders

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


class Studio:
    """Renders instants of drives; keeps the newest streets."""

    def __init__(self, shoot: Shoot):
        self.shoot = shoot
        self._renderers: dict[Drive, Renderer] = {}

    def poses(self, drive: Drive) -> np.ndarray:
        """`world_from_ego` [n, 4, 4] at the times of the transforms."""
        scene = self._renderer(drive).scene
        return np.stack([scene.world_from_ego(time_s) for time_s in self.shoot.pose_times_s(drive).tolist()])

    def rendered(self, drive: Drive, number: int) -> RenderedSet:
        """Images and truth of one set."""
        begin_s = perf_counter()
        renderer, time_s = self._renderer(drive), drive.time_s(number)
        delay_s = self.shoot.rig[0].shutter_offset_s
        taken = capture(renderer, self.shoot.rig, time_s, self.shoot.grid, truth_delay_s=delay_s)
        jpegs = tuple(jpeg.tobytes() for jpeg in taken.jpegs)
        return RenderedSet(jpegs, taken.truth, perf_counter() - begin_s)

    def _renderer(self, drive: Drive) -> Renderer:
        if drive not in self._renderers:
            while len(self._renderers) >= _STREETS_KEPT:
                del self._renderers[next(iter(self._renderers))]
            scene = Scene(drive.seed, drive.scene_seconds)
            self._renderers[drive] = Renderer(scene, drive.supersample, device=self.shoot.device)
        return self._renderers[drive]


_studio: Studio | None = None  # of a worker process


def _start_worker(shoot: Shoot) -> None:
    global _studio
    begin_worker()
    _studio = Studio(shoot)


def _rendered(drive: Drive, number: int) -> RenderedSet:
    assert _studio is not None
    return _studio.rendered(drive, number)


def _poses(drive: Drive) -> np.ndarray:
    assert _studio is not None
    return _studio.poses(drive)


class Crew:
    """Worker processes that render."""

    def __init__(self, shoot: Shoot, workers: int):
        self.workers = workers
        # Forking a process that runs threads, as torch and ROS do, may hang; a spawned one starts clean.
        self._pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (shoot,))

    def rendered(self, drive: Drive, number: int) -> "Future[RenderedSet]":
        """Begin to render a set."""
        return self._submit(_rendered, drive, number)

    def poses(self, drive: Drive) -> "Future[np.ndarray]":
        """Begin to compute the poses of a drive."""
        return self._submit(_poses, drive)

    def _submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        # Ctrl-C is for the parent, which ends its workers: they inherit that they do not hear it, from their start on.
        resource_tracker.ensure_running()  # its start would undo the blocking
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._pool.submit(work, *arguments)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """End the workers; what they are in the middle of is finished first."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def street_events(
    drive: Drive, shoot: Shoot, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Generator[Event, None, None]:
    """All messages of a drive in the order of their stamps."""
    offsets = [camera.shutter_offset_s for camera in shoot.rig]
    yield from first_events(shoot, _stamp_ns(shoot.span_s(drive)[0]))
    scene = Scene(drive.seed, drive.scene_seconds)
    pending = [
        odometry_event(scene.world_from_ego(time_s), _stamp_ns(time_s)) for time_s in shoot.pose_times_s(drive).tolist()
    ]
    with closing(_all_rendered(drive, shoot, workers)) as sets:
        for number, rendered in enumerate(sets):
            due = _stamp_ns(drive.time_s(number + 1) + min(offsets)) if number + 1 < drive.sets else math.inf
            pending += set_events(rendered, shoot, drive, number, START_NS)
            pending.sort(key=lambda event: event.stamp_ns)
            ready = sum(event.stamp_ns < due for event in pending)
            yield from pending[:ready]
            pending = pending[ready:]
            if progress is not None:
                progress(number + 1, drive.sets)


def _all_rendered(drive: Drive, shoot: Shoot, workers: int | None) -> Generator[RenderedSet, None, None]:
    """Every set, in order."""
    processes = min(workers or os.cpu_count() or 1, MOST_WORKERS, drive.sets)
    if processes == 1 or drive.sets <= _FEW_SETS:
        studio = Studio(shoot)
        for number in range(drive.sets):
            yield studio.rendered(drive, number)
        return
    crew = Crew(shoot, processes)
    try:
        # A few ahead of the writer: a long drive must not wait in memory.
        futures = [crew.rendered(drive, number) for number in range(min(4 * processes, drive.sets))]
        for number in range(drive.sets):
            if number + len(futures) < drive.sets:
                futures.append(crew.rendered(drive, number + len(futures)))
            yield futures.pop(0).result()
    finally:
        crew.close()


def _stamp_ns(time_s: float, zero_ns: int = START_NS) -> int:
    return zero_ns + round(time_s * 1e9)


def frame_id(camera: SimCamera) -> str:
    """Name of the camera's optical frame and of its topics' namespace."""
    return camera.name.lower()


def first_events(shoot: Shoot, stamp_ns: int) -> list[Event]:
    """What is said once, latched: the cameras' mounts, and the meaning of the truth's classes."""
    events = [Event("/tf_static", TF_TYPE, stamp_ns, static_transforms(shoot.rig, stamp_ns), latched=True)]
    if shoot.grid is not None:
        events += [Event(topic, TYPES[topic], stamp_ns, one, True) for topic, one in label_messages().items()]
    return events


def set_events(
    rendered: RenderedSet, shoot: Shoot, drive: Drive, number: int, zero_ns: int, sequence: int | None = None
) -> list[Event]:
    """Images, calibrations and truth of one set; `zero_ns` is the stamp of the scene's time 0."""
    events = []
    for camera, jpeg in zip(shoot.rig, rendered.jpegs):
        stamp_ns = _stamp_ns(drive.time_s(number) + camera.shutter_offset_s, zero_ns)
        events += _camera_events(camera, stamp_ns, jpeg)
    if rendered.truth is not None:
        stamp_ns = _stamp_ns(drive.time_s(number) + shoot.rig[0].shutter_offset_s, zero_ns)
        messages = truth_messages(
            replace(rendered.truth, stamp_ns=stamp_ns),
            number if sequence is None else sequence,
            shoot.names,
            frame_id=BASE_FRAME,
            lifetime_s=3 / drive.rate_hz,
        )
        events += [Event(topic, TYPES[topic], stamp_ns, message) for topic, message in messages.items()]
    return events


def _camera_events(camera: SimCamera, stamp_ns: int, jpeg: bytes) -> list[Event]:
    name = frame_id(camera)
    image = new_message(IMAGE_TYPE)
    _head(image, stamp_ns, name)
    image.format, image.data = "jpeg", np.frombuffer(jpeg, np.uint8)
    return [
        Event(f"/{name}/image_raw/compressed", IMAGE_TYPE, stamp_ns, image),
        Event(f"/{name}/camera_info", INFO_TYPE, stamp_ns, camera_info(camera, stamp_ns)),
    ]


def camera_info(camera: SimCamera, stamp_ns: int) -> Any:
    """sensor_msgs/CameraInfo of a camera without distortion."""
    info = new_message(INFO_TYPE)
    _head(info, stamp_ns, frame_id(camera))
    info.height, info.width, info.distortion_model = camera.height, camera.width, "plumb_bob"
    info.d, info.r = np.zeros(5), np.eye(3).ravel()
    info.k = camera.intrinsics.ravel()
    info.p = np.hstack((camera.intrinsics, np.zeros((3, 1)))).ravel()
    return info


def static_transforms(rig: Rig, stamp_ns: int) -> Any:
    """tf2_msgs/TFMessage with the mounting of every camera."""
    message = new_message(TF_TYPE)
    message.transforms = [_transform(BASE_FRAME, frame_id(c), stamp_ns, c.ego_from_camera) for c in rig]
    return message


def odometry_event(world_from_ego: Matrix, stamp_ns: int) -> Event:
    """The vehicle's pose [4, 4] as a transform on /tf."""
    message = new_message(TF_TYPE)
    message.transforms = [_transform(ODOM_FRAME, BASE_FRAME, stamp_ns, world_from_ego)]
    return Event(TF_TOPIC, TF_TYPE, stamp_ns, message)


def _transform(parent: str, child: str, stamp_ns: int, parent_from_child: Matrix) -> Any:
    stamped = new_message("geometry_msgs/msg/TransformStamped")
    _head(stamped, stamp_ns, parent)
    stamped.child_frame_id = child
    move, turn = stamped.transform.translation, stamped.transform.rotation
    move.x, move.y, move.z = (float(value) for value in parent_from_child[:3, 3])
    turn.x, turn.y, turn.z, turn.w = (float(q) for q in quaternion_from_rotation(parent_from_child[:3, :3]))
    return stamped


def _head(message: Any, stamp_ns: int, frame: str) -> None:
    message.header.frame_id = frame
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, NS_PER_S)
