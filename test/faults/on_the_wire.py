"""Rows: what cameras, calibrations, transforms and clocks do wrong.

Each row has a camera of its own where it can: a warning is shown for five seconds after its cause, and the next row
that waits for the same one would wait for that.
"""

import copy
import dataclasses

import numpy as np

from panoocc_ros.messages.fields import set_stamp, stamp_ns
from test.faults.fault import (
    CAMERA_TIMEOUT_S,
    ERROR,
    TF_TIMEOUT_S,
    WARN,
    Fault,
    Says,
    camera,
    images,
    infos,
    injected,
    poses,
    replaced,
    without,
)
from test.faults.traffic import CAMERAS, PERIOD_NS, RAW, Traffic, image_topic, info_topic, with_header
from test.ros.messages import MS, tf

TRAFFIC = Traffic()
WENT_BACK = {"the stamps of the images went back": 1}
STRAGGLE_S = 2.5  # for so long what lies ahead is taken for the rest of a clock that went back
MANY_SETS_S = 10 * PERIOD_NS * 1e-9  # a picture is odd after so many sets
GRID_LATE_S = 2.0


def shifted(seconds):
    """A change that moves the stamp in the header."""
    return lambda k, one: with_header(one, stamp_ns(one.header.stamp) + round(seconds * 1e9), one.header.frame_id)


def pose_changed(change):
    """A change of every transform in a message."""

    def changed(k, message):
        message = copy.deepcopy(message)
        for item in message.transforms:
            change(item)
        return message

    return poses(changed)


def elsewhere(item):
    item.transform.translation.x += 200.0


def upside_down(item):
    item.header.frame_id, item.child_frame_id = item.child_frame_id, item.header.frame_id


def not_a_number(item):
    item.transform.rotation.w = float("nan")


def a_second_behind(item):
    set_stamp(item.header.stamp, stamp_ns(item.header.stamp) - 10**9)


def with_a_rival(k, events):
    """A second sender says that the vehicle is three metres further."""
    rivals = []
    for event in events:
        if event.topic == "/tf":
            stamp = event.stamp_ns + 5 * MS
            place = TRAFFIC.pose(stamp)
            place[0, 3] += 3.0
            rivals.append(event._replace(stamp_ns=stamp, message=tf(("odom", "base_link", stamp, place))))
    return sorted(events + rivals, key=lambda event: event.stamp_ns)


def delayed(seconds, *topics):
    """Messages of some topics come late, under the stamps that they have."""

    def spoil(k, events):
        late_ns = round(seconds * 1e9)
        return [one._replace(stamp_ns=one.stamp_ns + late_ns * (one.topic in topics)) for one in events]

    return spoil


def doubled(*topics):
    """Messages of some topics come twice."""
    return lambda k, events: [one for event in events for one in [event] * (1 + (event.topic in topics))]


def swapped_in_time(topic):
    """Every second message of a topic comes after the next one."""
    held = []

    def spoil(k, events):
        found = [event for event in events if event.topic != topic]
        (image,) = (event for event in events if event.topic == topic)
        if k % 2 == 0:
            held[:] = [image]
            return found
        found += [image, *(one._replace(stamp_ns=image.stamp_ns + MS) for one in held)]
        return sorted(found, key=lambda event: event.stamp_ns)

    return spoil


def mixed_up(first, second):
    """The drivers of two cameras send on each other's topics."""
    topics = {image_topic(first): image_topic(second), image_topic(second): image_topic(first)}
    return lambda k, events: [event._replace(topic=topics.get(event.topic, event.topic)) for event in events]


def from_the_beginning(k, events):
    """What was sent at the beginning, sent now."""
    later_ns = events[-1].stamp_ns - TRAFFIC.events(k)[-1].stamp_ns
    return [event._replace(stamp_ns=event.stamp_ns + later_ns) for event in TRAFFIC.events(k)]


def mounts_moved(by_m):
    """The mount of the front camera is sent anew, with the first set."""
    return lambda k, events: [TRAFFIC.mounts(by_m)._replace(stamp_ns=events[0].stamp_ns), *events] if k == 0 else events


def black(k, message):
    encoded = TRAFFIC.encoded_black
    return dataclasses.replace(message, data=encoded.data)


def jpeg_header_of(height, width):
    """A JPEG that says to be so large, and has nothing in it."""

    def change(k, message):
        data = np.array(message.data, dtype=np.uint8)
        place = bytes(data).index(b"\xff\xc0")
        data[place + 5 : place + 9] = [height >> 8, height & 255, width >> 8, width & 255]
        return dataclasses.replace(message, data=data)

    return change


def info_changed(**fields):
    """A change of the camera matrix: `focal`, or all of `k`."""

    def change(k, message):
        matrix = np.array(message.k)
        if "focal" in fields:
            matrix[[0, 4]] = fields["focal"]
        return dataclasses.replace(message, k=fields.get("k", matrix))

    return change


OF_CAMERAS = (
    Fault(
        "camera dead from the start",
        without(image_topic("CAM_BACK"), info_topic("CAM_BACK")),
        says=camera("CAM_BACK", ERROR, "no image yet on /cam_back"),
        after_s=CAMERA_TIMEOUT_S,
        lasts_s=2.5,
        counts=("sets/blank.CAM_BACK",),
        is_fresh=True,
        note="the first sets wait for it as long",
    ),
    Fault(
        "camera dead later",
        injected("dead camera=cam_back"),
        says=camera("CAM_BACK", ERROR, "dead: the last image on /cam_back"),
        after_s=CAMERA_TIMEOUT_S,
        counts=("sets/reused.CAM_BACK",),
        told="reused (CAM_BACK)",
        is_short=True,
    ),
    Fault(
        "reference camera dead",
        injected("dead camera=cam_front"),
        says=camera("CAM_FRONT", ERROR, "dead: the last image on /cam_front"),
        after_s=CAMERA_TIMEOUT_S,
        counts=("sets/reused.CAM_FRONT",),
        told="reused (CAM_FRONT)",
        is_short=True,
    ),
    Fault(
        "all cameras silent",
        without(*map(image_topic, CAMERAS)),
        says=Says("output", WARN, "no new grid"),
        after_s=GRID_LATE_S,
        goes_on=False,
        told="grids out",
    ),
    Fault(
        "camera late",
        delayed(0.45, image_topic("CAM_FRONT_LEFT")),
        says=camera("CAM_FRONT_LEFT", WARN, "its image came"),
        after_s=0.45,
        counts=("sets/reused.CAM_FRONT_LEFT",),
        told="grids out",
        note="past the deadline its last image stands in",
    ),
    Fault(
        "camera frozen",
        injected("freeze camera=cam_front_right"),
        says=camera("CAM_FRONT_RIGHT", WARN, "the same picture for"),
        after_s=MANY_SETS_S,
        told="frozen (CAM_FRONT_RIGHT)",
    ),
    Fault(
        "camera black",
        images(black, "CAM_BACK_RIGHT"),
        says=camera("CAM_BACK_RIGHT", WARN, "the picture is black"),
        after_s=MANY_SETS_S,
        told="black (CAM_BACK_RIGHT)",
    ),
    Fault(
        "images duplicated",
        doubled(image_topic("CAM_BACK")),
        counts=("camera CAM_BACK/drops.duplicate",),
        told="duplicate (CAM_BACK)",
    ),
    Fault(
        "cameras swapped",
        mixed_up("CAM_FRONT_LEFT", "CAM_FRONT_RIGHT"),
        says=camera("CAM_FRONT_LEFT", WARN, "cam_front_right"),
        resets={"calibration": 2},
        told="cam_front_right",
        note="each is taken for where its frame says that it is",
    ),
    Fault(
        "camera corrupt",
        injected("truncate camera=cam_back_right"),
        says=camera("CAM_BACK_RIGHT", WARN, "images refused in the last 5 s"),
        counts=("camera CAM_BACK_RIGHT/drops.refused", "sets/reused.CAM_BACK_RIGHT"),
        told="refused (CAM_BACK_RIGHT)",
        is_short=True,
    ),
    Fault(
        "camera corrupt for long",
        injected("garble camera=cam_front_right"),
        says=camera("CAM_FRONT_RIGHT", ERROR, "none that can be used for"),
        after_s=CAMERA_TIMEOUT_S + 0.2,
        counts=("camera CAM_FRONT_RIGHT/drops.refused",),
        told="refused (CAM_FRONT_RIGHT)",
    ),
    Fault(
        "camera resized",
        images(lambda k, one: dataclasses.replace(one, data=TRAFFIC.encoded_small.data), "CAM_FRONT_LEFT"),
        says=camera("CAM_FRONT_LEFT", WARN, "CameraInfo"),
        counts=("camera CAM_FRONT_LEFT/drops.refused",),
        told="refused (CAM_FRONT_LEFT)",
    ),
    Fault(
        "encoding unknown",
        images(replaced(encoding="rgb17"), RAW),
        says=camera(RAW, WARN, "rgb17"),
        counts=(f"camera {RAW}/drops.refused",),
        told=f"refused ({RAW})",
    ),
    Fault(
        "encoding wrong",
        images(replaced(encoding="rgba8"), RAW),
        says=camera(RAW, WARN, "rgba8"),
        counts=(f"camera {RAW}/drops.refused",),
        told=f"refused ({RAW})",
    ),
    Fault(
        "image no picture",
        images(replaced(data=np.frombuffer(b"GIF89a" + 200 * b"\0", np.uint8)), "CAM_BACK"),
        says=camera("CAM_BACK", WARN, "images refused in the last 5 s"),
        counts=("camera CAM_BACK/drops.refused",),
        told="refused (CAM_BACK)",
    ),
    Fault(
        "image giant",
        images(jpeg_header_of(65_000, 65_000), "CAM_FRONT"),
        says=camera("CAM_FRONT", WARN, "65000"),
        counts=("camera CAM_FRONT/drops.refused",),
        told="refused (CAM_FRONT)",
        note="it is refused before memory is taken",
    ),
    Fault(
        "image empty",
        images(replaced(data=np.zeros(0, np.uint8), height=0, width=0, step=0), RAW),
        says=camera(RAW, WARN, "images refused in the last 5 s"),
        counts=(f"camera {RAW}/drops.refused",),
        told=f"refused ({RAW})",
    ),
    Fault(
        "stamps zero",
        images(lambda k, one: with_header(one, 0, one.header.frame_id), "CAM_BACK"),
        says=camera("CAM_BACK", ERROR, "stamps of CAM_BACK are zero"),
        counts=("camera CAM_BACK/drops.duplicate",),
        told="duplicate (CAM_BACK)",
    ),
    Fault(
        "stamps equal",
        injected("repeat camera=cam_back_right"),
        says=camera("CAM_BACK_RIGHT", ERROR, "stand still"),
        counts=("camera CAM_BACK_RIGHT/drops.duplicate",),
        told="duplicate (CAM_BACK_RIGHT)",
    ),
    Fault(
        "clock of a camera another one",
        images(shifted(100.0), "CAM_FRONT_LEFT"),
        says=camera("CAM_FRONT_LEFT", ERROR, "another clock"),
        counts=("camera CAM_FRONT_LEFT/drops.other_clock",),
        told="other_clock (CAM_FRONT_LEFT)",
    ),
    Fault(
        "images out of order",
        swapped_in_time(image_topic("CAM_FRONT_RIGHT")),
        counts=("sets/reused.CAM_FRONT_RIGHT",),
        told="grids out",
        note="those that are too late are reused or lost, and nothing restarts",
    ),
)

OF_CALIBRATION = (
    Fault(
        "CameraInfo missing",
        without(info_topic("CAM_FRONT_LEFT")),
        says=camera("CAM_FRONT_LEFT", ERROR, "no CameraInfo yet on /cam_front_left/camera_info"),
        counts=("sets/blank.CAM_FRONT_LEFT", "camera CAM_FRONT_LEFT/drops.no_camera_info"),
        is_fresh=True,
    ),
    Fault(
        "CameraInfo K zeros",
        infos(info_changed(k=np.zeros(9)), "CAM_BACK"),
        says=camera("CAM_BACK", WARN, "K is all zero"),
        counts=("camera CAM_BACK/drops.refused",),
        told="K is all zero",
        is_short=True,
    ),
    Fault(
        "CameraInfo K NaN",
        infos(info_changed(k=np.full(9, np.nan)), "CAM_FRONT_RIGHT"),
        says=camera("CAM_FRONT_RIGHT", WARN, "images refused in the last 5 s"),
        counts=("camera CAM_FRONT_RIGHT/drops.refused",),
        told="refused (CAM_FRONT_RIGHT)",
    ),
    Fault(
        "CameraInfo of another size",
        infos(replaced(width=640, height=480), "CAM_BACK_RIGHT"),
        says=camera("CAM_BACK_RIGHT", WARN, "640"),
        counts=("camera CAM_BACK_RIGHT/drops.refused",),
        told="refused (CAM_BACK_RIGHT)",
    ),
    Fault(
        "CameraInfo of an unknown lens",
        infos(replaced(distortion_model="fisheye_9000", d=np.ones(4)), "CAM_FRONT"),
        says=camera("CAM_FRONT", WARN, "fisheye_9000"),
        counts=("camera CAM_FRONT/drops.refused",),
        told="fisheye_9000",
    ),
    Fault(
        "CameraInfo changing",
        infos(info_changed(focal=80.0), "CAM_FRONT_LEFT"),
        counts=("model/resets.calibration",),
        resets={"calibration": 2},
        told="2 calibration",
        note="the memory is cleared when it changes, and when it changes back",
    ),
    Fault(
        "CameraInfo trembling",
        infos(lambda k, one: info_changed(focal=50.0 + 0.5 * (k % 2))(k, one), "CAM_BACK"),
        told="grids out",
        note="nothing is said of an autofocus",
    ),
    Fault("mount moved", mounts_moved(0.6), counts=("model/resets.calibration",), resets={"calibration": 1}),
    Fault("mount moved back", mounts_moved(0.0), counts=("model/resets.calibration",), resets={"calibration": 1}),
)

OF_TRANSFORMS = (
    Fault(
        "TF absent from the start",
        without("/tf"),
        says=Says("transforms", ERROR, "base_link"),
        after_s=TF_TIMEOUT_S + 0.25,
        counts=("output/drops.tf_timeout",),
        goes_on=False,
        is_fresh=True,
    ),
    Fault(
        "TF silent later",
        injected("tf_gap"),
        says=Says("transforms", ERROR, "after the newest sample"),
        after_s=TF_TIMEOUT_S,
        counts=("output/drops.tf_timeout",),
        goes_on=False,
        told="grids out",
        is_short=True,
    ),
    Fault(
        "TF late",
        delayed(0.3, "/tf"),
        told="grids out",
        note="sets wait for it, and nothing is lost or said",
    ),
    Fault(
        "TF too late",
        delayed(1.2, "/tf"),
        says=Says("transforms", ERROR, "after the newest sample"),
        after_s=TF_TIMEOUT_S,
        lasts_s=1.4,
        counts=("output/drops.tf_timeout",),
        goes_on=False,
        told="grids out",
    ),
    Fault(
        "TF stamps a second behind",
        pose_changed(a_second_behind),
        says=Says("transforms", ERROR, "after the newest sample"),
        after_s=TF_TIMEOUT_S,
        counts=("output/drops.tf_timeout",),
        goes_on=False,
        told="grids out",
        note="never extrapolated",
    ),
    Fault(
        "pose teleports",
        pose_changed(elsewhere),
        counts=("model/resets.teleport",),
        resets={"teleport": 2},
        told="2 teleport",
        is_short=True,
        note="there and back",
    ),
    Fault(
        "TF contradictory",
        with_a_rival,
        says=Says("transforms", WARN, "jumps to and fro"),
        told="jumps to and fro",
    ),
    Fault(
        "TF inverse",
        pose_changed(upside_down),
        says=Says("transforms", WARN, "closes a loop with"),
        goes_on=False,
        told="closes a loop with",
    ),
    Fault(
        "TF not a number",
        pose_changed(not_a_number),
        says=Says("transforms", WARN, "was refused"),
        counts=("transforms/transforms.refused",),
        goes_on=False,
        told="refused",
        is_short=True,
    ),
)

OF_CLOCKS = (
    Fault(
        "clock jumps back",
        injected("clock_jump by=-20"),
        lasts_s=STRAGGLE_S,
        counts=("model/resets.the stamps of the images went back",),
        resets=WENT_BACK,
        told="1 the stamps of the images went back",
    ),
    Fault(
        "clock jumps ahead",
        injected("clock_jump by=20"),
        counts=("model/resets.gap",),
        resets=WENT_BACK,
        told="1 gap",
        note="and back when the fault ends",
    ),
    Fault(
        "bag loops",
        from_the_beginning,
        lasts_s=STRAGGLE_S,
        counts=("model/resets.the stamps of the images went back",),
        resets=WENT_BACK,
        told="1 the stamps of the images went back",
        is_short=True,
    ),
)

ROWS = OF_CAMERAS + OF_CALIBRATION + OF_TRANSFORMS + OF_CLOCKS
