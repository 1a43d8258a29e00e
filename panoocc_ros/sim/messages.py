"""A drive through a simulated street as messages: what a vehicle's sensors say, and the truth that they cannot know.

Rendering and truth are made in worker processes, which know no ROS; messages are made from their results, so that a bag
and a live topic have the same.  The first camera of a rig is its reference: the truth holds at its shutter time.
"""

import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from panoocc_core.cameras.lens import distortion_of
from panoocc_core.geometry import NS_PER_S, Matrix, rigid
from panoocc_core.sim import Rig, Scene, SimCamera
from panoocc_core.sim.drive_renderer import Drive, RenderedSet, RenderSetup, all_rendered, frame_id
from panoocc_core.sim.lidar import Lidar, true_points

from ..messages.fields import fill_header, fill_pose, fill_vector
from ..messages.truth import TYPES, label_messages, truth_messages
from ..messages.types import CAMERA_INFO, COMPRESSED_IMAGE, IMU, ODOMETRY, POINT_CLOUD, TRANSFORMS, new_message
from ..motion.tf_message import tf_message
from .faults import TF_TOPIC, Event
from .true_motion import TrueMotion

START_NS = 1_700_000_000 * NS_PER_S  # stamp of the scene's time 0
ODOM_FRAME, BASE_FRAME = "odom", "base_link"
LIDAR_TOPIC, LIDAR_FRAME = "/lidar/points", "lidar"
ODOMETRY_TOPIC, IMU_TOPIC, IMU_FRAME, IMU_HEIGHT_M = "/odom", "/imu", "imu", 0.4


def street_events(
    drive: Drive,
    setup: RenderSetup,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    lidar_hz: float = 0.0,
) -> Generator[Event, None, None]:
    """All messages of a drive in the order of their stamps.

    Args:
        lidar_hz: clouds a second; 0: no LiDAR.
    """
    offsets = [camera.shutter_offset_s for camera in setup.rig]
    yield from first_events(setup, _stamp_ns(setup.span_s(drive)[0]), has_lidar=lidar_hz > 0)
    scene = Scene(drive.seed, drive.scene_seconds)
    poses = np.stack([scene.world_from_ego(time_s) for time_s in setup.pose_times_s(drive).tolist()])
    motion = TrueMotion(poses, setup.pose_times_s(drive))
    pending = [
        event
        for number, time_s in enumerate(setup.pose_times_s(drive).tolist())
        for event in motion_events(motion, number, _stamp_ns(time_s))
    ]
    begin_s, end_s = setup.span_s(drive)
    turns_s: list[float] = np.arange(begin_s, end_s, 1 / lidar_hz).tolist() if lidar_hz else []
    with closing(all_rendered(drive, setup, workers)) as sets:
        for number, rendered in enumerate(sets):
            due = _stamp_ns(drive.time_s(number + 1) + min(offsets)) if number + 1 < drive.sets else math.inf
            pending += set_events(rendered, setup, drive, number, START_NS)
            turned = [time_s for time_s in turns_s if _stamp_ns(time_s) < due]
            pending += [lidar_event(scene, time_s, _stamp_ns(time_s)) for time_s in turned]
            turns_s = turns_s[len(turned) :]
            pending.sort(key=lambda event: event.stamp_ns)
            ready = sum(event.stamp_ns < due for event in pending)
            yield from pending[:ready]
            pending = pending[ready:]
            if progress is not None:
                progress(number + 1, drive.sets)


def _stamp_ns(time_s: float, zero_ns: int = START_NS) -> int:
    return zero_ns + round(time_s * 1e9)


def first_events(setup: RenderSetup, stamp_ns: int, has_lidar: bool = False) -> list[Event]:
    """What is said once, latched: the sensors' mounts, and the meaning of the truth's classes."""
    mounts = camera_mounts(setup.rig)
    mounts.append((BASE_FRAME, IMU_FRAME, rigid(np.eye(3), np.array([0.0, 0.0, IMU_HEIGHT_M]))))
    if has_lidar:  # in the same message: of a latched topic the last one is kept
        mounts.append((BASE_FRAME, LIDAR_FRAME, rigid(np.eye(3), np.array([0.0, 0.0, Lidar().height_m]))))
    events = [Event("/tf_static", TRANSFORMS, stamp_ns, tf_message(stamp_ns, mounts), latched=True)]
    if setup.grid is not None:
        events += [
            Event(topic, TYPES[topic], stamp_ns, one, True) for topic, one in label_messages(setup.labels).items()
        ]
    return events


def set_events(
    rendered: RenderedSet, setup: RenderSetup, drive: Drive, number: int, zero_ns: int, sequence: int | None = None
) -> list[Event]:
    """Images, calibrations and truth of one set; `zero_ns` is the stamp of the scene's time 0."""
    events = []
    for camera, jpeg in zip(setup.rig, rendered.jpegs):
        stamp_ns = _stamp_ns(drive.time_s(number) + camera.shutter_offset_s, zero_ns)
        events += _camera_events(camera, stamp_ns, jpeg)
    if rendered.truth is not None:
        stamp_ns = _stamp_ns(drive.time_s(number) + setup.rig[0].shutter_offset_s, zero_ns)
        messages = truth_messages(
            replace(rendered.truth, stamp_ns=stamp_ns),
            number if sequence is None else sequence,
            setup.names,
            frame_id=BASE_FRAME,
            lifetime_s=3 / drive.rate_hz,
        )
        events += [Event(topic, TYPES[topic], stamp_ns, message) for topic, message in messages.items()]
    return events


def image_topic(camera: SimCamera) -> str:
    """Where a camera's images go."""
    return f"/{frame_id(camera)}/image_raw/compressed"


def _camera_events(camera: SimCamera, stamp_ns: int, jpeg: bytes) -> list[Event]:
    name = frame_id(camera)
    image = new_message(COMPRESSED_IMAGE)
    fill_header(image.header, stamp_ns, name)
    image.format, image.data = "jpeg", np.frombuffer(jpeg, np.uint8)
    return [
        Event(image_topic(camera), COMPRESSED_IMAGE, stamp_ns, image),
        Event(f"/{name}/camera_info", CAMERA_INFO, stamp_ns, camera_info(camera, stamp_ns)),
    ]


def camera_info(camera: SimCamera, stamp_ns: int) -> Any:
    """sensor_msgs/CameraInfo of a camera."""
    info = new_message(CAMERA_INFO)
    fill_header(info.header, stamp_ns, frame_id(camera))
    info.height, info.width = camera.height, camera.width
    info.distortion_model, info.d = distortion_of(camera.lens)
    info.r = np.eye(3).ravel()
    info.k = camera.intrinsics.ravel()
    info.p = np.hstack((camera.intrinsics, np.zeros((3, 1)))).ravel()
    return info


def camera_mounts(rig: Rig) -> list[tuple[str, str, Matrix]]:
    """The mounting of every camera: parent, child, parent_from_child [4, 4]."""
    return [(BASE_FRAME, frame_id(camera), camera.ego_from_camera) for camera in rig]


def lidar_event(scene: Scene, time_s: float, stamp_ns: int) -> Event:
    """What a LiDAR sees at one instant, as a sensor_msgs/PointCloud2 of x, y, z in its own frame."""
    points = true_points(scene, time_s).position_m - np.array([0, 0, Lidar().height_m], np.float32)
    message = new_message(POINT_CLOUD)
    fill_header(message.header, stamp_ns, LIDAR_FRAME)
    message.fields = [
        new_message("sensor_msgs/msg/PointField", name=name, offset=4 * k, datatype=7, count=1)
        for k, name in enumerate("xyz")
    ]
    message.height, message.width = 1, len(points)
    message.point_step, message.row_step, message.is_dense = 12, 12 * len(points), True
    message.data = np.ascontiguousarray(points, "<f4").view(np.uint8).ravel()
    return Event(LIDAR_TOPIC, POINT_CLOUD, stamp_ns, message)


def motion_events(motion: TrueMotion, number: int, stamp_ns: int) -> list[Event]:
    """What is said of the vehicle's motion at pose `number`: a transform, the IMU, and every other time odometry."""
    events = [pose_event(motion.world_from_ego[number], stamp_ns), _imu_event(motion, number, stamp_ns)]
    return [*events, _odometry_event(motion, number, stamp_ns)] if number % 2 == 0 else events


def pose_event(
    world_from_ego: Matrix, stamp_ns: int, fixed_frame: str = ODOM_FRAME, base_frame: str = BASE_FRAME
) -> Event:
    """The vehicle's pose [4, 4] as a transform on /tf."""
    message = tf_message(stamp_ns, [(fixed_frame, base_frame, world_from_ego)])
    return Event(TF_TOPIC, TRANSFORMS, stamp_ns, message)


def _odometry_event(motion: TrueMotion, number: int, stamp_ns: int) -> Event:
    message = new_message(ODOMETRY)
    fill_header(message.header, stamp_ns, ODOM_FRAME)
    message.child_frame_id = BASE_FRAME
    fill_pose(message.pose.pose.position, message.pose.pose.orientation, motion.world_from_ego[number])
    fill_vector(message.twist.twist.linear, motion.velocity_mps[number])
    fill_vector(message.twist.twist.angular, motion.rotation_rate_radps[number])
    return Event(ODOMETRY_TOPIC, ODOMETRY, stamp_ns, message)


def _imu_event(motion: TrueMotion, number: int, stamp_ns: int) -> Event:
    message = new_message(IMU)
    fill_header(message.header, stamp_ns, IMU_FRAME)
    message.orientation_covariance[0] = -1.0  # it measures none
    fill_vector(message.angular_velocity, motion.rotation_rate_radps[number])
    fill_vector(message.linear_acceleration, motion.acceleration_mps2[number])
    return Event(IMU_TOPIC, IMU, stamp_ns, message)
