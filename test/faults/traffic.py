"""The messages of a drive at 5 Hz, set by set, before anything goes wrong with them."""

import dataclasses
from functools import cached_property

import numpy as np
import yaml

from panoocc_core.geometry import rigid
from panoocc_ros.frames.rig import load_rig
from panoocc_ros.messages.fields import fill_header
from panoocc_ros.messages.types import typestore
from panoocc_ros.sim.faults import Event
from test.ros.drive import EGO_FROM_OPTICAL, IMAGE_TYPE, INFO_TYPE, T0, TF_TYPE, YAWS_DEG, Drive, turn
from test.ros.messages import MS, SIZE_HW, camera_info, jpeg, picture, raw_image, tf

PERIOD_NS, POSE_NS = 200 * MS, 100 * MS
IMAGE_TYPES = (IMAGE_TYPE, "sensor_msgs/msg/Image")
CAMERAS = tuple(YAWS_DEG)
RAW = "CAM_BACK_LEFT"  # the camera that sends its images unpacked


class Traffic(Drive):
    """Set number k is taken at T0 + k periods; `stamp_ns` of an event is when it is sent."""

    def stamp_ns(self, k):
        return T0 + k * PERIOD_NS

    def write_rig(self, path):
        """The six cameras of nuScenes, one of which sends its images unpacked."""
        cameras = [{"name": n, "topic": image_topic(n), "info_topic": info_topic(n)} for n in CAMERAS]
        keys = {"reference": "CAM_FRONT", "spread_ms": 45.0, "period_ms": PERIOD_NS / MS, "base_frame": "base_link"}
        path.write_text(yaml.safe_dump(keys | {"cameras": cameras}))
        return load_rig(str(path))

    def write_model(self, path):
        """nano's layers over small images and a coarse grid: what is looked at here is not what it sees."""
        path.write_text(
            "extends: nano\nimages: {height: 32, width: 64}\ngrid: {rows: 8, columns: 8, layers: 4}\n"
            "boxes: {queries: 10}\n"
        )
        return path

    @cached_property
    def encoded(self):
        """Every camera's two pictures as messages."""
        return {name: [_image(name, rgb) for rgb in pictures] for name, pictures in self.pictures.items()}

    @cached_property
    def encoded_black(self):
        """A picture of a covered lens."""
        return jpeg(0, "", np.zeros((*SIZE_HW, 3), np.uint8))

    @cached_property
    def encoded_small(self):
        """A picture of half the size."""
        return jpeg(0, "", picture(size_hw=(SIZE_HW[0] // 2, SIZE_HW[1] // 2)))

    def mounts(self, moved_m=0.0):
        """The mounts of the cameras, as they are latched; that of CAM_FRONT moved to the side."""
        places = {name: np.array([1.0, moved_m if name == "CAM_FRONT" else 0.0, 1.5]) for name in CAMERAS}
        yaws = {name: turn(np.radians(yaw_deg)) for name, yaw_deg in YAWS_DEG.items()}
        items = [("base_link", n.lower(), 0, rigid(yaws[n] @ EGO_FROM_OPTICAL, yaws[n] @ places[n])) for n in CAMERAS]
        return Event("/tf_static", TF_TYPE, T0, tf(*items), latched=True)

    def events(self, k):
        """All messages of set k but the mounts, in the order in which they are sent."""
        stamp, found = self.stamp_ns(k), []
        for name in CAMERAS:
            info = camera_info(frame_id=name.lower(), stamp_ns=stamp)
            found.append(Event(info_topic(name), INFO_TYPE, stamp, info))
            image = with_header(self.encoded[name][k % 2], stamp, name.lower())
            found.append(Event(image_topic(name), IMAGE_TYPES[name == RAW], stamp, image))
        for pose_ns in range(stamp - PERIOD_NS + 2 * POSE_NS, stamp + POSE_NS + 1, POSE_NS):
            found.append(Event("/tf", TF_TYPE, pose_ns, tf(("odom", "base_link", pose_ns, self.pose(pose_ns)))))
        return sorted(found, key=lambda event: event.stamp_ns)


def image_topic(name):
    """Where a camera's images are."""
    return f"/{name.lower()}/image_raw" + ("" if name == RAW else "/compressed")


def info_topic(name):
    """Where a camera's CameraInfo is."""
    return f"/{name.lower()}/camera_info"


def with_header(message, stamp_ns, frame_id):
    """A message with a header of its own; everything else is shared."""
    header = dataclasses.replace(message.header, stamp=dataclasses.replace(message.header.stamp))
    fill_header(header, stamp_ns, frame_id)
    return dataclasses.replace(message, header=header)


def serialised(event):
    """The message of an event as it is on the wire."""
    return bytes(typestore().serialize_cdr(event.message, event.type))


def _image(name, rgb):
    if name != RAW:
        return jpeg(0, name.lower(), rgb)
    return raw_image("rgb8", rgb, *rgb.shape[:2], step=3 * rgb.shape[1])
