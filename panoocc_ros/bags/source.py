"""The messages of a bag fed to the assembler as the node feeds it those of its topics, however late they were recorded.

What a set becomes depends on stamps alone, and offline everything is there.  So what holds for all times (/tf_static,
the first CameraInfo of every camera) is handed over at the start, and a topic that was recorded later than the cameras
is handed over that much earlier, in the order of its stamps.  For what still has to be waited for the assembler
wants to be `patient`.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from itertools import islice
from statistics import median_low
from types import MappingProxyType
from typing import Any

from panoocc_core.geometry import NS_PER_S

from ..frames.assembler import FrameAssembler
from ..frames.rig import Rig
from ..frames.sets import ReadySet
from ..messages.types import TRANSFORMS
from .bag import BagReader, BrokenMessage, RawMessage

MEASURED_S = 120.0  # of the bag, for how late topics were recorded
MIN_LATE_S, MAX_LATE_S = 0.1, 10.0  # less is usual; more is another clock, which the assembler names
JUMP_NS = NS_PER_S  # of the cameras' clock: a loop, a restart
MAX_STATIC = 1000  # messages of /tf_static that are read at the start

Handler = Callable[[RawMessage], None]
TimedHandler = Callable[[RawMessage, int], None]
BrokenHandler = Callable[[BrokenMessage, str], None]


def ready_sets(
    bag: BagReader,
    assembler: FrameAssembler,
    on_message: Handler = lambda message: None,
    on_transforms: Handler = lambda message: None,
    on_broken: BrokenHandler = lambda error, topic: None,
    others: Mapping[str, TimedHandler] = MappingProxyType({}),
) -> Iterator[tuple[int, ReadySet]]:
    """Every complete set of a bag with the bag's time (ns) at which it was ready.

    Args:
        on_message: called for each message that was read, for progress.
        on_transforms: called for each message of transforms, odometry and IMU, to pass it on.
        on_broken: called with each message that cannot be read, and its topic; it is left out.
        others: topics that are no business of the assembler, and what is done with their messages.

    Raises:
        BagError: the bag is damaged.
    """
    handlers = _handlers(bag, assembler, on_transforms) | dict(others)
    assembler.poll(bag.start_ns)  # its clock begins
    hand_over_what_always_holds(bag, assembler)
    assembler.await_no_info()
    late_ns = lateness_ns(bag, assembler.rig, motion_topics(assembler))
    now_ns = due_ns = bag.start_ns
    for message in _in_order(bag, handlers, late_ns):
        now_ns = max(now_ns, message.stamp_ns)
        due_ns = max(due_ns, message.stamp_ns - late_ns.get(message.topic, 0))
        # First what the time that has passed decides, as the node's timer does; then the message.
        yield from ((now_ns, ready) for ready in _poll(assembler, due_ns))
        try:
            handlers[message.topic](message, due_ns)
        except BrokenMessage as error:
            on_broken(error, message.topic)
        yield from ((now_ns, ready) for ready in _poll(assembler, due_ns))
        on_message(message)
    for ready in assembler.finish():
        yield now_ns, ready


def message_count(bag: BagReader, assembler: FrameAssembler, others: Collection[str] = ()) -> int:
    """How many messages `ready_sets` will read."""
    return bag.count({*_handlers(bag, assembler, lambda message: None), *others})


def motion_topics(assembler: FrameAssembler) -> dict[str, Callable[[Any], None]]:
    """The topics of odometry and IMU that the assembler's options name, and who takes their messages."""
    options = assembler.options
    takers = {options.odometry_topic: assembler.on_odometry, options.imu_topic: assembler.on_imu}
    return {topic: take for topic, take in takers.items() if topic}


def lateness_ns(bag: BagReader, rig: Rig, others: Iterable[str] = ()) -> dict[str, int]:
    """How much later than the cameras' images the messages of some topics were recorded, by their stamps.

    Only topics that are late by more than is usual, and no more than a recorder can explain.

    Args:
        others: topics with a header, beside those of the rig.
    """
    images = {camera.topic for camera in rig.cameras}
    infos = {camera.info_topic for camera in rig.cameras}
    delays_ns: dict[str, int] = {}  # of each camera's newest image, from its stamp to its recording
    behind_ns: dict[str, list[tuple[int, int]]] = defaultdict(list)  # topic -> (recorded, later than the cameras)
    cameras_ns: int | None = None  # the delay of most cameras: one of them may have another clock
    end_ns = bag.start_ns + round(MEASURED_S * NS_PER_S)
    for message in bag.messages(images | infos | {rig.tf_topic, *others}):
        stamp_ns = header_stamp_ns(message)
        if message.stamp_ns > end_ns:
            break
        if stamp_ns is None:
            continue
        delay_ns = message.stamp_ns - stamp_ns
        if message.topic in images:
            delays_ns[message.topic] = delay_ns
            before_ns, cameras_ns = cameras_ns, median_low(delays_ns.values())
            if before_ns is not None and abs(cameras_ns - before_ns) > JUMP_NS:
                _forget_since(behind_ns, message.stamp_ns - JUMP_NS)  # who jumped first was not late
        if cameras_ns is not None:
            behind_ns[message.topic].append((message.stamp_ns, delay_ns - cameras_ns))
    late_ns = {topic: _usual_worst([late for _, late in values]) for topic, values in behind_ns.items() if values}
    return {t: late for t, late in late_ns.items() if MIN_LATE_S * NS_PER_S < late <= MAX_LATE_S * NS_PER_S}


def _forget_since(behind_ns: Mapping[str, list[tuple[int, int]]], since_ns: int) -> None:
    for values in behind_ns.values():
        while values and values[-1][0] >= since_ns:
            values.pop()


def _usual_worst(values: list[int]) -> int:
    """The 95th percentile, and never one of the two largest: single messages say nothing about a topic."""
    return sorted(values)[-min(len(values), max(3, len(values) // 20))]


def header_stamp_ns(message: RawMessage) -> int | None:
    """The stamp of the header, or of the first transform, out of the CDR bytes; None where there is none."""
    begin = 8 if message.type == TRANSFORMS else 4
    order: Mapping[int, str] = {0: "big", 1: "little"}
    if len(message.data) < begin + 8 or message.data[1] not in order:
        return None
    sec, nanosec = (
        int.from_bytes(message.data[k : k + 4], order[message.data[1]], signed=k == begin)  # type: ignore[arg-type]
        for k in (begin, begin + 4)
    )
    return sec * NS_PER_S + nanosec


def _in_order(bag: BagReader, topics: Iterable[str], late_ns: Mapping[str, int]) -> Iterator[RawMessage]:
    """The messages in the order of their recording, late topics as if they had been recorded in time."""
    with ExitStack() as stack:
        streams = [bag.messages([topic for topic in topics if topic not in late_ns])]
        # A reader each: some files can be read at one place at a time.
        for topic, late in late_ns.items():
            streams.append(_straightened(stack.enter_context(BagReader(bag.path)).messages([topic]), late))
        yield from heapq.merge(*streams, key=lambda message: message.stamp_ns - late_ns.get(message.topic, 0))


def _straightened(messages: Iterable[RawMessage], late_ns: int) -> Iterator[RawMessage]:
    """The messages of one topic in the order of their stamps, where each was recorded up to `late_ns` late."""
    waiting: list[tuple[int, int, RawMessage]] = []
    for number, message in enumerate(messages):
        stamp_ns = header_stamp_ns(message)
        if stamp_ns is None:  # it stays beside its neighbour
            stamp_ns = waiting[-1][0] if waiting else 0
        if waiting and stamp_ns < waiting[0][0] - late_ns:  # no lateness: the stamps begin anew
            yield from (one for *_, one in sorted(waiting))
            waiting.clear()
        heapq.heappush(waiting, (stamp_ns, number, message))
        while waiting[0][2].stamp_ns <= message.stamp_ns - late_ns:
            yield heapq.heappop(waiting)[2]
    yield from (one for *_, one in sorted(waiting))


def hand_over_what_always_holds(bag: BagReader, assembler: FrameAssembler) -> None:
    """Give the assembler fixed transforms, and the first CameraInfo of every camera, before their time."""
    rig = assembler.rig
    static = list(islice(bag.messages([rig.tf_static_topic]), MAX_STATIC))
    for message in reversed(static):  # so that the first word on a transform is the last one that is heard
        with suppress(BrokenMessage):  # told when its turn comes
            assembler.on_transforms(bag.deserialise(message), static=True)
    for camera in rig.cameras:
        for message in islice(bag.messages([camera.info_topic]), 1):
            with suppress(BrokenMessage):
                assembler.on_camera_info(camera.name, bag.deserialise(message))


def _poll(assembler: FrameAssembler, now_ns: int) -> Iterator[ReadySet]:
    while (ready := assembler.poll(now_ns)) is not None:
        yield ready


def _handlers(bag: BagReader, assembler: FrameAssembler, pass_on: Handler) -> dict[str, TimedHandler]:
    """What is done with the messages of each topic, and the time (ns) at which they are handed over."""
    read, rig = bag.deserialise, assembler.rig

    def on_image(camera: str) -> TimedHandler:
        return lambda message, now_ns: assembler.on_image(camera, read(message), now_ns)

    def on_info(camera: str) -> TimedHandler:
        return lambda message, _: assembler.on_camera_info(camera, read(message))

    def on_transforms(message: RawMessage, _: int) -> None:
        assembler.on_transforms(read(message), static=message.topic == rig.tf_static_topic)
        pass_on(message)

    def on_motion(take: Callable[[Any], None]) -> TimedHandler:
        def handle(message: RawMessage, _: int) -> None:
            take(read(message))
            pass_on(message)

        return handle

    handlers = {topic: on_motion(take) for topic, take in motion_topics(assembler).items()}
    handlers |= {camera.topic: on_image(camera.name) for camera in rig.cameras}
    handlers |= {camera.info_topic: on_info(camera.name) for camera in rig.cameras}
    return handlers | dict.fromkeys((rig.tf_topic, rig.tf_static_topic), on_transforms)
