"""What cameras send, taken from a bag, and when: images of a rig at another rate, with stamps of now."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from panoocc_core.geometry import NS_PER_S, rigid

from ..bags.bag import BagError, BagReader
from ..frames.rig import Rig
from ..messages.fields import stamp_ns
from ..messages.types import CAMERA_INFO, typestore
from ..sim.messages import pose_event

TF_HZ = 100.0
SPEED_MPS = 8.0
LEAD_S = 0.5  # of the poses before the first image and after the last
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
    images: dict[str, list[bytes]] = {camera.topic: [] for camera in rig.cameras}
    first_ns: dict[str, int] = {}
    others: dict[str, bytes] = {}
    for raw in bag.messages((*images, *(camera.info_topic for camera in rig.cameras), rig.tf_static_topic)):
        if raw.topic in images:
            images[raw.topic].append(raw.data)
            first_ns.setdefault(raw.topic, stamp_ns(bag.deserialise(raw).header.stamp))
        else:
            others.setdefault(raw.topic, raw.data)
    for topic in (rig.tf_static_topic, *(camera.info_topic for camera in rig.cameras)):
        if topic not in others:
            raise BagError(f"{bag.path}: no {topic}: choose a bag with images, CameraInfos and mounts")
    for topic, found in images.items():
        if not found:
            raise BagError(f"{bag.path}: no image on {topic}: choose a bag of this rig")
    feeds = tuple(
        Feed(
            camera.topic,
            bag.topics[camera.topic],
            camera.info_topic,
            first_ns[camera.topic] - min(first_ns.values()),
            tuple(images[camera.topic]),
            others[camera.info_topic],
        )
        for camera in rig.cameras
    )
    return others[rig.tf_static_topic], feeds


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
    event = pose_event(rigid(np.eye(3), np.array([ahead_m, 0.0, 0.0])), due_ns)
    return Message(due_ns, rig.tf_topic, bytes(typestore().serialize_cdr(event.message, event.type)))
