"""A drive with six small cameras for surveys: ten images a second, mounts and names that fit, and faults to order."""

from dataclasses import dataclass, field

import numpy as np

from panoocc_core.geometry import rigid
from panoocc_ros.bags.bag import RawMessage
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.frames.rig import load_rig
from panoocc_ros.messages.types import ODOMETRY, typestore
from panoocc_ros.survey.intake import Intake, read
from test.ros.drive import EGO_FROM_OPTICAL, IMAGE_TYPE, INFO_TYPE, T0, TF_TYPE, YAWS_DEG, turn
from test.ros.messages import MS, camera_info, jpeg, odometry, picture, tf

RIG = load_rig("nuscenes")
SIZE_HW = (90, 160)  # as wide as the networks' crop
PERIOD_NS = 100 * MS


def mount(name):
    yaw = np.radians(YAWS_DEG[name])
    return rigid(turn(yaw) @ EGO_FROM_OPTICAL, turn(yaw) @ np.array([1.0, 0.0, 1.5]))


def info(name):
    return camera_info(SIZE_HW, focal=110.0, frame_id=name.lower())


@dataclass
class SurveyDrive:
    """What is sent; tests change the fields before they ask for messages."""

    sets: int = 12
    rig: object = RIG
    mounts: dict = field(default_factory=lambda: {name: mount(name) for name in YAWS_DEG})  # None: not sent
    infos: dict = field(default_factory=lambda: {name: info(name) for name in YAWS_DEG})
    every: dict = field(default_factory=dict)  # camera -> one image in so many
    late_ns: dict = field(default_factory=dict)  # camera -> how much later its stamps are than the set's
    wrong_ns: dict = field(default_factory=dict)  # camera -> how much its stamps are off, its images come in time
    frames: dict = field(default_factory=dict)  # camera -> header.frame_id
    images: dict = field(default_factory=dict)  # camera -> (type, message of a stamp and a frame)
    gaps_s: dict = field(default_factory=dict)  # topic -> from when to when, after T0, nothing comes on it
    base: str = "base_link"
    moves: bool = True
    has_odometry: bool = False  # on /odometry, in place of /tf

    def frame(self, name):
        return self.frames.get(name, name.lower())

    def messages(self):
        """RawMessages in the order of their arrival."""
        mounts = [(self.base, name.lower(), 0, one) for name, one in self.mounts.items() if one is not None]
        events = [(T0 - 200 * MS, "/tf_static", TF_TYPE, tf(*mounts))]
        for at in range(T0 - 200 * MS, T0 + self.sets * PERIOD_NS + 200 * MS, 20 * MS) if self.moves else ():
            pose = rigid(np.eye(3), np.array([(at - T0) * 4e-9, 0.0, 0.0]))
            if self.has_odometry:
                events.append((at, "/odometry", ODOMETRY, odometry(at, pose, child=self.base)))
            else:
                events.append((at, "/tf", TF_TYPE, tf(("odom", self.base, at, pose))))
        for k, camera in ((k, camera) for k in range(self.sets) for camera in self.rig.cameras):
            name = camera.name
            if k % self.every.get(name, 1) == 0:
                at = T0 + k * PERIOD_NS + self.late_ns.get(name, 0)
                kind, make = self.images.get(name, (IMAGE_TYPE, self.small))
                events.append((at + MS, camera.topic, kind, make(at + self.wrong_ns.get(name, 0), self.frame(name))))
                if self.infos.get(name) is not None:
                    events.append((at + 2 * MS, camera.info_topic, INFO_TYPE, self.infos[name]))
        return [
            RawMessage(topic, kind, at, bytes(typestore().serialize_cdr(message, kind)))
            for at, topic, kind, message in sorted(events, key=lambda event: event[0])
            if not self._is_gap(topic, at)
        ]

    def _is_gap(self, topic, at_ns):
        begin_s, end_s = self.gaps_s.get(topic, (0.0, 0.0))
        return begin_s <= (at_ns - T0) * 1e-9 < end_s

    @staticmethod
    def small(stamp_ns, frame):
        return jpeg(stamp_ns, frame, picture(len(frame), SIZE_HW))

    def intake(self):
        """As a survey takes it."""
        messages = self.messages()
        intake = Intake(read, {message.topic: message.type for message in messages})
        for message in messages:
            intake.take(message)
        return intake

    def write(self, path):
        with BagWriter(path) as writer:
            for message in self.messages():
                writer.write(message.topic, message.type, message.stamp_ns, message.data)
        return path
