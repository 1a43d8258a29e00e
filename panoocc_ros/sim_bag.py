"""Bags of simulated streets: images of a rig, calibration and transforms, as a vehicle's recorder would write them."""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from panoocc_core.geometry import NS_PER_S, Matrix, quaternion_from_rotation
from panoocc_core.sim import Renderer, Rig, Scene, SimCamera, nuscenes_rig

from .bag import BagWriter, new_message

START_NS = 1_700_000_000 * NS_PER_S  # stamp of the scene's time 0
ODOM_FRAME, BASE_FRAME = "odom", "base_link"
JPEG_QUALITY = 92
MAX_SETS = 20_000
_LEAD_S = 0.2  # transforms before the first shutter and after the last one
_TF_RATE_HZ = 100
_FEW_SETS = 6  # not worth the start of worker processes


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
        if not 0 < self.seconds <= 290:
            raise ValueError(f"seconds must be more than 0 and at most 290, not {self.seconds}")
        if self.sets > MAX_SETS:
            raise ValueError(f"{self.sets} sets of images are too many (at most {MAX_SETS}): lower rate or seconds")

    @property
    def sets(self) -> int:
        """How many times the cameras fire."""
        return max(1, math.floor(self.seconds * self.rate_hz + 1e-6))

    def time_s(self, number: int) -> float:
        """When set `number` is due, in the scene's time."""
        return _LEAD_S + number / self.rate_hz


def write_street_bag(
    path: Path | str,
    seed: int = 0,
    seconds: float = 8.0,
    rate_hz: float = 2.0,
    rig: Rig | None = None,
    *,
    supersample: int = 1,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a drive through a simulated street as a rosbag2 (a folder, or one file where `path` ends with .mcap).

    Topics are those of `config/rigs/nuscenes.yaml`: `/<camera>/image_raw/compressed` and `/<camera>/camera_info` at
    each camera's own shutter time, `/tf` (odom to base_link at 100 Hz) and `/tf_static` (base_link to the optical
    frames).  The same arguments give the same messages.  `workers` None uses all processors; `progress` is called with
    the number of finished sets and of all sets.

    Raises:
        ValueError: a number is out of range; the message names it.
        BagError: the path exists (unless `overwrite`) or cannot be written; nothing is left behind.
    """
    drive, rig = Drive(seed, seconds, rate_hz, supersample), nuscenes_rig(0.25) if rig is None else rig
    if not rig:
        raise ValueError("a rig needs at least one camera")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    with BagWriter(path, overwrite=overwrite) as writer:
        for topic, kind, stamp_ns, message in _events(drive, rig, workers, progress):
            writer.write(topic, kind, stamp_ns, message)
    return Path(path)


Event = tuple[str, str, int, Any]  # topic, type, stamp_ns, message


def _events(
    drive: Drive, rig: Rig, workers: int | None, progress: Callable[[int, int], None] | None
) -> Iterator[Event]:
    """All messages in the order of their stamps."""
    scene = Scene(drive.seed, drive.time_s(drive.sets) + 1)
    offsets = [camera.shutter_offset_s for camera in rig]
    first_s = drive.time_s(0) + min(0.0, *offsets) - _LEAD_S / 2
    last_s = drive.time_s(drive.sets - 1) + max(0.0, *offsets) + _LEAD_S / 2
    yield "/tf_static", "tf2_msgs/msg/TFMessage", _stamp_ns(first_s), static_transforms(rig, _stamp_ns(first_s))
    count = math.ceil((last_s - first_s) * _TF_RATE_HZ) + 1
    pending = [_odometry(scene, first_s + i / _TF_RATE_HZ) for i in range(count)]
    for number, images in enumerate(_rendered(drive, rig, workers)):
        messages = [event for camera, data in zip(rig, images) for event in _camera_events(camera, drive, number, data)]
        due = _stamp_ns(drive.time_s(number + 1) + min(offsets)) if number + 1 < drive.sets else math.inf
        pending = sorted(pending + messages, key=lambda event: event[2])
        ready = sum(event[2] < due for event in pending)
        yield from pending[:ready]
        pending = pending[ready:]
        if progress is not None:
            progress(number + 1, drive.sets)


def _stamp_ns(time_s: float) -> int:
    return START_NS + round(time_s * 1e9)


def frame_id(camera: SimCamera) -> str:
    """Name of the camera's optical frame and of its topics' namespace."""
    return camera.name.lower()


def _camera_events(camera: SimCamera, drive: Drive, number: int, jpeg: bytes) -> list[Event]:
    stamp_ns, name = _stamp_ns(drive.time_s(number) + camera.shutter_offset_s), frame_id(camera)
    image = new_message("sensor_msgs/msg/CompressedImage")
    _head(image, stamp_ns, name)
    image.format, image.data = "jpeg", np.frombuffer(jpeg, np.uint8)
    return [
        (f"/{name}/image_raw/compressed", "sensor_msgs/msg/CompressedImage", stamp_ns, image),
        (f"/{name}/camera_info", "sensor_msgs/msg/CameraInfo", stamp_ns, camera_info(camera, stamp_ns)),
    ]


def camera_info(camera: SimCamera, stamp_ns: int) -> Any:
    """sensor_msgs/CameraInfo of a camera without distortion."""
    info = new_message("sensor_msgs/msg/CameraInfo")
    _head(info, stamp_ns, frame_id(camera))
    info.height, info.width, info.distortion_model = camera.height, camera.width, "plumb_bob"
    info.d, info.r = np.zeros(5), np.eye(3).ravel()
    info.k = camera.intrinsics.ravel()
    info.p = np.hstack((camera.intrinsics, np.zeros((3, 1)))).ravel()
    return info


def static_transforms(rig: Rig, stamp_ns: int) -> Any:
    """tf2_msgs/TFMessage with the mounting of every camera."""
    message = new_message("tf2_msgs/msg/TFMessage")
    message.transforms = [_transform(BASE_FRAME, frame_id(c), stamp_ns, c.ego_from_camera) for c in rig]
    return message


def _odometry(scene: Scene, time_s: float) -> Event:
    message = new_message("tf2_msgs/msg/TFMessage")
    stamp_ns = _stamp_ns(time_s)
    message.transforms = [_transform(ODOM_FRAME, BASE_FRAME, stamp_ns, scene.world_from_ego(time_s))]
    return "/tf", "tf2_msgs/msg/TFMessage", stamp_ns, message


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


class _Studio:
    """Renders numbered sets of one drive."""

    def __init__(self, drive: Drive, rig: Rig):
        self.drive, self.rig = drive, rig
        scene = Scene(drive.seed, drive.time_s(drive.sets) + 1)
        self.renderer = Renderer(scene, supersample=drive.supersample)

    def jpegs(self, number: int) -> list[bytes]:
        """JPEG files in the order of the rig."""
        pictures = self.renderer.pictures(self.rig, self.drive.time_s(number))
        return [_jpeg(pictures[camera.name].rgb) for camera in self.rig]


def _jpeg(rgb: np.ndarray) -> bytes:
    done, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise RuntimeError(f"an image of {rgb.shape} could not be encoded as JPEG")
    return data.tobytes()


_studio: _Studio | None = None  # of a worker process


def _start_worker(drive: Drive, rig: Rig) -> None:
    global _studio
    cv2.setNumThreads(1)
    _studio = _Studio(drive, rig)


def _work(number: int) -> list[bytes]:
    assert _studio is not None
    return _studio.jpegs(number)


def _rendered(drive: Drive, rig: Rig, workers: int | None) -> Iterator[list[bytes]]:
    """JPEG files of every set, in order."""
    processes = min(workers or os.cpu_count() or 1, 16, drive.sets)
    if processes == 1 or drive.sets <= _FEW_SETS:
        studio = _Studio(drive, rig)
        yield from map(studio.jpegs, range(drive.sets))
        return
    # Forking a process that runs threads, as torch and ROS do, may hang; a spawned one starts clean.
    with ProcessPoolExecutor(processes, get_context("spawn"), _start_worker, (drive, rig)) as pool:
        yield from pool.map(_work, range(drive.sets))
