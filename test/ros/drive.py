"""A short drive with small images, as the raw messages of a bag: what live and offline tests feed in."""

from functools import cached_property

import numpy as np

from panoocc_core.geometry import rigid
from panoocc_ros.bags.bag import RawMessage
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.frames.rig import load_rig
from panoocc_ros.messages.fields import fill_header
from panoocc_ros.messages.types import typestore
from test.ros.messages import MS, camera_info, jpeg, picture, raw_image, tf

T0 = 1_700_000_000_000_000_000
PERIOD_NS = 500 * MS
IMAGE_TYPE, INFO_TYPE, TF_TYPE = (
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
    "tf2_msgs/msg/TFMessage",
)
# Optical axes (z ahead, x right, y down) of a camera that looks along the vehicle's x.
EGO_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
YAWS_DEG = {  # left of ahead is positive
    "CAM_FRONT": 0,
    "CAM_FRONT_RIGHT": -55,
    "CAM_FRONT_LEFT": 55,
    "CAM_BACK": 180,
    "CAM_BACK_LEFT": 110,
    "CAM_BACK_RIGHT": -110,
}


def turn(yaw):
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


class Drive:
    """Set number k is taken at T0 + k * period; the vehicle goes 4 m/s and turns a little."""

    rig = load_rig("nuscenes")

    def stamp_ns(self, k):
        return T0 + k * PERIOD_NS

    @cached_property
    def pictures(self):
        """Every camera sees something else, and something else in every second set."""
        return {name: [picture(2 * i), picture(2 * i + 1)] for i, name in enumerate(self.rig.names)}

    def static(self):
        mounts = []
        for camera in self.rig.cameras:
            yaw = np.radians(YAWS_DEG[camera.name])
            mount = rigid(turn(yaw) @ EGO_FROM_OPTICAL, turn(yaw) @ np.array([1.0, 0.0, 1.5]))
            mounts.append(("base_link", camera.name.lower(), 0, mount))
        return _raw("/tf_static", TF_TYPE, T0 - 200 * MS, tf(*mounts))

    def infos(self):
        return [
            _raw(camera.info_topic, INFO_TYPE, T0 - 150 * MS, camera_info(frame_id=camera.name.lower()))
            for camera in self.rig.cameras
        ]

    def poses(self, k):
        """odom to base_link around set k, at 50 Hz."""
        stamps = range(self.stamp_ns(k) - 100 * MS, self.stamp_ns(k) + 101 * MS, 20 * MS)
        return [_raw("/tf", TF_TYPE, stamp, tf(("odom", "base_link", stamp, self.pose(stamp)))) for stamp in stamps]

    def pose(self, stamp_ns):
        t = (stamp_ns - T0) * 1e-9
        return rigid(turn(0.1 * t), np.array([4.0 * t, 0.2 * t, 0.0]))

    def images(self, k, without=(), broken=()):
        messages = []
        for camera in self.rig.cameras:
            if camera.name not in without:
                stamp = self.stamp_ns(k) + camera.shutter_offset_ns
                message = jpeg(stamp, camera.name.lower(), self.pictures[camera.name][k % 2])
                if camera.name in broken:
                    message.data = message.data[: len(message.data) // 2]
                messages.append(_raw(camera.topic, IMAGE_TYPE, stamp, message))
        return messages

    def raw_images(self, k):
        """The images of set k as sensor_msgs/Image, all at the set's stamp."""
        messages = []
        for camera in self.rig.cameras:
            rgb = self.pictures[camera.name][k % 2]
            message = raw_image("rgb8", rgb, *rgb.shape[:2], step=3 * rgb.shape[1])
            fill_header(message.header, self.stamp_ns(k), camera.name.lower())
            topic = camera.topic.removesuffix("/compressed")
            messages.append(_raw(topic, "sensor_msgs/msg/Image", self.stamp_ns(k), message))
        return messages

    def whole_set(self, k, **options):
        return sorted(self.poses(k) + self.images(k, **options), key=lambda message: message.stamp_ns)

    def messages(self, count):
        """The messages of a bag with `count` sets."""
        return [self.static(), *self.infos(), *(message for k in range(count) for message in self.whole_set(k))]

    def write_bag(self, path, count):
        with BagWriter(path) as writer:
            for message in self.messages(count):
                writer.write(message.topic, message.type, message.stamp_ns, message.data)
        return path


def _raw(topic, kind, stamp_ns, message):
    return RawMessage(topic, kind, stamp_ns, bytes(typestore().serialize_cdr(message, kind)))
