"""A small drive as a bag: six cameras with tiny JPEGs, calibrations, poses and mounts."""

import numpy as np

from panoocc_core.geometry import rigid
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.frames.rig import load_rig
from test.ros.messages import MS, camera_info, jpeg, picture, tf

T0 = 1_533_151_603_512_404_000
PERIOD_NS = 100 * MS
RIG = load_rig("nuscenes")
IMAGE, INFO, TF = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
CAMERA_AXES = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # ego from optical, looking ahead


def pose_at(stamp_ns):
    """Ten metres a second, straight ahead."""
    return rigid(np.eye(3), np.array([(stamp_ns - T0) * 1e-8, 0.0, 0.0]))


def mount(k):
    angle = k * np.pi / 3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return rigid(turn @ CAMERA_AXES, np.array([np.cos(angle), np.sin(angle), 1.6]))


def drive(sets=2, skip=(), change=None, tf_late_ns=0, tf_kinds=("/tf", "/tf_static")):
    """(record time, topic, type, message) of a drive; `change(topic, message)` may spoil messages, None drops one."""
    mounts = tf(*(("base_link", name.lower(), 0, mount(k)) for k, name in enumerate(RIG.names)))
    events = [(T0 - 100 * MS, "/tf_static", TF, mounts)]
    for stamp in range(T0 - 100 * MS, T0 + sets * PERIOD_NS, 20 * MS):
        events.append((stamp + tf_late_ns, "/tf", TF, tf(("odom", "base_link", stamp, pose_at(stamp)))))
    for k in range(sets):
        for number, camera in enumerate(RIG.cameras):
            stamp = T0 + k * PERIOD_NS + (number - 2) * 5 * MS
            image = jpeg(stamp, camera.name.lower(), picture(10 * k + number))
            events.append((stamp + 2 * MS, camera.topic, IMAGE, image))
            info = camera_info(focal=40.0, frame_id=camera.name.lower(), stamp_ns=stamp)
            events.append((stamp + 1 * MS, camera.info_topic, INFO, info))
    kept = []
    for stamp, topic, kind, message in sorted(events, key=lambda event: event[0]):
        wanted = topic not in skip and (kind != TF or topic in tf_kinds)
        message = change(topic, message) if wanted and change else message
        if wanted and message is not None:
            kept.append((stamp, topic, kind, message))
    return kept


def write_drive(path, **options):
    """Write a drive; returns its path."""
    with BagWriter(path) as writer:
        for stamp, topic, kind, message in drive(**options):
            writer.write(topic, kind, stamp, message)
    return path
