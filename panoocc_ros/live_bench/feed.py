"""What cameras send, taken from a bag, and when: images of a rig at another rate, with stamps of now."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from panoocc_core.base.rig_files import AUTO
from panoocc_core.geometry import NS_PER_S, rigid

from ..bags.bag import BagError, BagReader, RawMessage
from ..frames.rig import Rig
from ..messages.fields import stamp_ns
from ..messages.types import CAMERA_INFO, TRANSFORMS, new_message, typestore
from ..sim.messages import ODOM_FRAME, pose_event

TF_HZ = 100.0
SPEED_MPS = 8.0
LEAD_S = 0.5  # of the poses before the first image and after the last
MAX_IMAGES = 30  # of one camera that are sent by turns ...
MAX_IMAGE_BYTES = 512_000_000  # ... and of all together, but for the first one of each
MAX_MOUNTS = 10_000  # fixed transforms
LACKING = "choose a bag with images, CameraInfos and mounts"
_STAMP = slice(4, 12)  # of a message that begins with a header, behind the four bytes that say how CDR is written


@dataclass(frozen=True, slots=True)
class Feed:
    """One camera: its messages as CDR, whose stamps are replaced when they are sent."""

    image_topic: str
    image_type: str
    info_topic: str
    offset_ns: int  # from the first camera's image of a set to its own
    images: tuple[bytes, ...]  # sent in turn
    info: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent at one instant."""

    due_ns: int  # since the beginning, and its stamp
    topic: str
    data: bytes  # CDR


def mounts_and_feeds(bag: BagReader, rig: Rig) -> tuple[bytes, tuple[Feed, ...]]:
    """The cameras' mounts (a TFMessage as CDR), and their feeds.

    Raises:
        BagError: the bag lacks a camera's images or CameraInfo, or the mounts.
    """
    mounts, (images, infos) = _mounts(bag, rig.tf_static_topic), _images_and_infos(bag, rig)
    first_ns = {topic: stamp_ns(bag.deserialise(found[0]).header.stamp) for topic, found in images.items()}
    feeds = tuple(
        Feed(
            camera.topic,
            bag.topics[camera.topic],
            camera.info_topic,
            first_ns[camera.topic] - min(first_ns.values()),
            tuple(raw.data for raw in images[camera.topic]),
            infos[camera.info_topic],
        )
        for camera in rig.cameras
    )
    return mounts, feeds


def _mounts(bag: BagReader, topic: str) -> bytes:
    """All fixed transforms of a bag in one TFMessage, of each frame the newest one."""
    by_child: dict[str, Any] = {}
    for raw in bag.messages([topic]):
        by_child |= {one.child_frame_id: one for one in bag.deserialise(raw).transforms}
        if len(by_child) > MAX_MOUNTS:
            raise BagError(f"{bag.path}: {topic} has more than {MAX_MOUNTS} frames: choose another bag")
    if not by_child:
        raise BagError(f"{bag.path}: no {topic}: {LACKING}")
    message = new_message(TRANSFORMS)
    message.transforms = list(by_child.values())
    return bytes(typestore().serialize_cdr(message, TRANSFORMS))


def _images_and_infos(bag: BagReader, rig: Rig) -> tuple[dict[str, list[RawMessage]], dict[str, bytes]]:
    """Topic -> the first images of a bag, as many as memory is meant for; topic -> the first CameraInfo."""
    images: dict[str, list[RawMessage]] = {camera.topic: [] for camera in rig.cameras}
    infos, taken = dict[str, bytes](), 0
    info_topics = dict.fromkeys(camera.info_topic for camera in rig.cameras)
    for raw in bag.messages((*images, *info_topics)):
        if raw.topic in info_topics:
            infos.setdefault(raw.topic, raw.data)
        elif not images[raw.topic] or (len(images[raw.topic]) < MAX_IMAGES and taken < MAX_IMAGE_BYTES):
            images[raw.topic].append(raw)
            taken += len(raw.data)
        is_full = taken >= MAX_IMAGE_BYTES or all(len(found) >= MAX_IMAGES for found in images.values())
        if is_full and all(images.values()) and len(infos) == len(info_topics):
            break
    for topic in info_topics:
        if topic not in infos:
            raise BagError(f"{bag.path}: no {topic}: {LACKING}")
    for topic, found in images.items():
        if not found:
            raise BagError(f"{bag.path}: no image on {topic}: choose a bag of this rig")
    return images, infos


def schedule(feeds: tuple[Feed, ...], rig: Rig, rate_hz: float, sets: int, begin_ns: int) -> Iterator[Message]:
    """All messages in the order in which they are due; the vehicle drives straight on.

    Args:
        begin_ns: the stamp of the first pose.
    """
    lead_ns = round(LEAD_S * NS_PER_S)
    times = [
        (begin_ns + lead_ns + round(number * NS_PER_S / rate_hz) + feed.offset_ns, number, feed)
        for number in range(sets)
        for feed in feeds
    ]
    times.sort(key=lambda item: item[0])
    end_ns, pose_ns = times[-1][0] + lead_ns, begin_ns
    for due_ns, number, feed in times:
        while pose_ns <= due_ns:
            yield _pose(rig, pose_ns, begin_ns)
            pose_ns += round(NS_PER_S / TF_HZ)
        yield Message(due_ns, feed.info_topic, _stamped(feed.info, due_ns))
        yield Message(due_ns, feed.image_topic, _stamped(feed.images[number % len(feed.images)], due_ns))
    while pose_ns <= end_ns:
        yield _pose(rig, pose_ns, begin_ns)
        pose_ns += round(NS_PER_S / TF_HZ)


def topics_of(feeds: tuple[Feed, ...]) -> dict[str, str]:
    """Topic -> type of what cameras send."""
    images = {feed.image_topic: feed.image_type for feed in feeds}
    return images | {feed.info_topic: CAMERA_INFO for feed in feeds}


def _stamped(cdr: bytes, stamp: int) -> bytes:
    """A message with another stamp in its header."""
    order = "<" if cdr[1] & 1 else ">"
    return cdr[: _STAMP.start] + struct.pack(f"{order}iI", *divmod(stamp, NS_PER_S)) + cdr[_STAMP.stop :]


def _pose(rig: Rig, due_ns: int, begin_ns: int) -> Message:
    ahead_m = SPEED_MPS * (due_ns - begin_ns) / NS_PER_S
    pose = rigid(np.eye(3), np.array([ahead_m, 0.0, 0.0]))
    fixed_frame = ODOM_FRAME if rig.fixed_frame == AUTO else rig.fixed_frame
    event = pose_event(pose, due_ns, fixed_frame, rig.base_frame)
    return Message(due_ns, rig.tf_topic, bytes(typestore().serialize_cdr(event.message, event.type)))
