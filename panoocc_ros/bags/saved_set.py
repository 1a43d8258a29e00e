"""One set of images with all that became of it, as a bag for a report: `panoocc run` makes the same set of it again.

Images and CameraInfo stand on their topics as they came.  Mounts on /tf_static, the vehicle's pose at every shutter on
/tf, and its rates, where there are topics of odometry and IMU, are those that were used; the odometry has the poses
too.  Below /panoocc stands what became of the set: grid, classes, texts.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from panoocc_core.cameras.lens import LensInfo
from panoocc_core.geometry import Matrix
from panoocc_core.types import VehicleMotion

from ..frames.rig import Rig, RigCamera
from ..frames.sets import ReadySet
from ..messages.fields import fill_header, fill_pose, fill_vector
from ..messages.types import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    IMAGE_TYPES,
    IMU,
    ODOMETRY,
    TRANSFORMS,
    new_message,
)
from ..motion.motion_options import MotionOptions
from ..motion.tf_message import tf_message
from ..streams.transforms import clean_frame
from .bag import PREFIX, BagWriteError
from .writer import BagWriter

STRING = "std_msgs/msg/String"
NAME, ENDING = "panoocc_set", ".mcap"
ZERO = (0.0, 0.0, 0.0)
MAX_BAGS = 200  # in one folder
MAX_IMAGE_BYTES = 1 << 30  # of one set
ToBytes = Callable[[Any], bytes]  # a message as it came -> CDR


class SaveRefused(Exception):
    """No set can be saved now; the message says why."""


class Made(NamedTuple):
    """A message of ours about the set."""

    topic: str  # below /panoocc
    type: str
    message: Any
    latched: bool


def default_folder() -> Path:
    """`panoocc` where ROS keeps its logs."""
    return Path(os.environ.get("ROS_HOME") or Path.home() / ".ros") / "panoocc"


def free_path(folder: Path) -> Path:
    """Where the next bag will lie, named by the time; the folder is there then.

    Raises:
        BagWriteError: the folder cannot be written, or is full of such bags.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sum(1 for path in folder.glob(f"{NAME}_*{ENDING}"))
    except OSError as error:
        raise BagWriteError(f"{folder}: cannot be written: {error.strerror or error}") from error
    if there >= MAX_BAGS:
        raise BagWriteError(f"{folder} has {there} bags of sets already: move some away, or name another as save_dir")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BagWriteError(f"{folder}: cannot be written: no permission; name another folder as save_dir")
    stem, number = f"{NAME}_{time.strftime('%Y%m%d_%H%M%S')}", 1
    while os.path.lexists(path := folder / f"{stem}{f'_{number}' if number > 1 else ''}{ENDING}"):
        number += 1
    return path


def write_set(
    path: Path,
    rig: Rig,
    sources: MotionOptions,
    ready: ReadySet,
    made: Sequence[Made],
    texts: Mapping[str, str],
    to_bytes: ToBytes,
) -> None:
    """Write a set.

    Args:
        rig: its topics and frames.
        sources: its topics of odometry and IMU.
        made: what became of it.
        texts: topic below /panoocc -> text.

    Raises:
        BagWriteError: the disk is full, something is at that path, or the images are too large.
    """
    size = sum(len(picture.message.data) for picture in ready.messages.messages.values())
    if size > MAX_IMAGE_BYTES:
        raise BagWriteError(f"{path}: not written: the images have {size >> 20} MiB, more than {MAX_IMAGE_BYTES >> 20}")
    shutters_ns = {pose.stamp_ns: pose.world_from_ego for pose in ready.poses.values()}
    poses = dict(sorted((shutters_ns | {ready.stamp_ns: ready.world_from_ego}).items()))
    begin_ns = next(iter(poses))
    with BagWriter(path) as writer:
        writer.write(rig.tf_static_topic, TRANSFORMS, begin_ns, _mounts(rig, ready, begin_ns), latched=True)
        for stamp_ns, world_from_ego in poses.items():
            items = [(ready.fixed_frame, rig.base_frame, world_from_ego)]
            writer.write(rig.tf_topic, TRANSFORMS, stamp_ns, tf_message(stamp_ns, items), latched=False)
            if sources.odometry_topic:
                message = _odometry(stamp_ns, ready, rig.base_frame, world_from_ego)
                writer.write(sources.odometry_topic, ODOMETRY, stamp_ns, message)
        if sources.imu_topic:
            writer.write(sources.imu_topic, IMU, ready.stamp_ns, _imu(ready, rig.base_frame))
        for camera in rig.cameras:
            _write_camera(writer, camera, ready, begin_ns, to_bytes)
        for one in made:
            writer.write(f"{PREFIX}/{one.topic}", one.type, ready.stamp_ns, one.message, one.latched)
        for topic, text in texts.items():
            writer.write(f"{PREFIX}/{topic}", STRING, ready.stamp_ns, new_message(STRING, data=text), latched=True)


def _write_camera(writer: BagWriter, camera: RigCamera, ready: ReadySet, begin_ns: int, to_bytes: ToBytes) -> None:
    image, info = _image(ready, camera.name), ready.infos.get(camera.name)
    if info is None:
        writer.declare(camera.info_topic, CAMERA_INFO)
    else:
        message = _info(info, _frame(camera, image), begin_ns) if isinstance(info, LensInfo) else to_bytes(info)
        writer.write(camera.info_topic, CAMERA_INFO, begin_ns, message)
    if image is None:  # it saw nothing; `panoocc run` wants its topic all the same
        writer.declare(camera.topic, IMAGE_TYPES[camera.is_compressed])
    else:
        kind = COMPRESSED_IMAGE if hasattr(image, "format") else IMAGE
        writer.write(camera.topic, kind, ready.messages.stamps_ns[camera.name], to_bytes(image))


def _image(ready: ReadySet, camera: str) -> Any | None:
    """The message of a camera, as it came."""
    picture = ready.messages.messages.get(camera)
    return None if picture is None else picture.message


def _frame(camera: RigCamera, image: Any) -> str:
    """The optical frame of a camera, where there is one."""
    return camera.frame or ("" if image is None else clean_frame(image.header.frame_id))


def _mounts(rig: Rig, ready: ReadySet, stamp_ns: int) -> Any:
    """What lies still on the vehicle."""
    frames = {name: _frame(rig.camera(name), _image(ready, name)) for name in ready.poses}
    items = [(rig.base_frame, frame, ready.poses[name].ego_from_camera) for name, frame in frames.items() if frame]
    if rig.network_frame is not None and ready.ego_from_network is not None:
        items.append((rig.base_frame, rig.network_frame, ready.ego_from_network))
    return tf_message(stamp_ns, items)


def _odometry(stamp_ns: int, ready: ReadySet, base_frame: str, world_from_ego: Matrix) -> Any:
    """A pose, and the twist of the set; a covariance of -1 where that was not measured."""
    message = new_message(ODOMETRY, child_frame_id=base_frame)
    fill_header(message.header, stamp_ns, ready.fixed_frame)
    pose, twist, motion = message.pose.pose, message.twist.twist, ready.motion or VehicleMotion()
    fill_pose(pose.position, pose.orientation, world_from_ego)
    fill_vector(twist.linear, motion.velocity_mps or ZERO)
    fill_vector(twist.angular, motion.rotation_rate_radps or ZERO)
    if motion.velocity_mps is None or motion.rotation_rate_radps is None:
        message.twist.covariance[0] = -1.0
    return message


def _imu(ready: ReadySet, base_frame: str) -> Any:
    """Rates as if they had been measured in the vehicle's frame; a covariance of -1 where they were not."""
    message, motion = new_message(IMU), ready.motion or VehicleMotion()
    fill_header(message.header, ready.stamp_ns, base_frame)
    for name, numbers in (
        ("angular_velocity", motion.rotation_rate_radps),
        ("linear_acceleration", motion.acceleration_mps2),
    ):
        fill_vector(getattr(message, name), numbers or ZERO)
        getattr(message, f"{name}_covariance")[0] = -1.0 if numbers is None else 0.0
    return message


def _info(info: LensInfo, frame: str, stamp_ns: int) -> Any:
    """The CameraInfo of a calibration file."""
    fields = {name: getattr(info, name) for name in ("width", "height", "distortion_model", "d", "k", "r", "p")}
    message = new_message(CAMERA_INFO, **fields)
    fill_header(message.header, stamp_ns, frame)
    return message
