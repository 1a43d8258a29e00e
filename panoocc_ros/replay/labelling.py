"""The point clouds of a bag labelled by grids: those of a network that runs over it, or those of a bag of grids."""

import heapq
from collections.abc import Callable, Mapping
from typing import Any

from panoocc_core import ModelConfig, Occupancy
from panoocc_core.geometry import Matrix
from panoocc_core.labels import LabelSet
from panoocc_core.panoptic.labelling import PointRules

from ..bags.bag import PREFIX, BagError, BagReader, BrokenMessage, RawMessage
from ..bags.recording import recorded_labels
from ..bags.source import TimedHandler, hand_over_what_always_holds, motion_topics
from ..bags.writer import BagWriter
from ..frames.assembler import FrameAssembler
from ..messages.types import LABEL_SET, POINT_CLOUD, TRANSFORMS, VOXEL_GRID, new_message
from ..messages.voxel_grid import GRID_SOURCES, fill_label_set, occupancy_from_message
from ..outputs.catalogue import LABELLED_POINTS, LABELS
from ..streams.cloud_queue import CloudCounts, CloudQueue, Pair, reads_logits
from ..streams.transforms import clean_frame
from .replay import ReplayReport, check_topic

MAX_WAITING = 128  # clouds, of up to some MB each
FOREVER_S = 1e9
CLOUDS_REMEDY = "give one of them with --points"


def check_clouds(bag: BagReader, topic: str) -> None:
    """That a bag has clouds on a topic.

    Raises:
        BagError: it has not; the text says which it has.
    """
    if POINT_CLOUD not in bag.topics.values():
        raise BagError(f"{bag.path}: the bag has no point clouds ({POINT_CLOUD}), neither on {topic} nor elsewhere")
    check_topic(bag, topic, (POINT_CLOUD,), "points", CLOUDS_REMEDY)
    if not bag.count([topic]):
        raise BagError(f"{bag.path}: {topic} holds no message: {CLOUDS_REMEDY} that was recorded")


class CloudLabeller:
    """Labels the clouds on one topic of a bag as the grids come, and writes them; a `Watcher` of `Replay`.

    No clock ends the waiting: all is in the bag.

    Args:
        config: of the network that makes the grids; None: they come from messages.
    """

    def __init__(
        self,
        bag: BagReader,
        topic: str,
        assembler: FrameAssembler,
        writer: BagWriter,
        rules: PointRules,
        max_age_s: float,
        config: ModelConfig | None = None,
    ) -> None:
        self._bag, self._assembler, self._writer, self._rules = bag, assembler, writer, rules
        base_frame = assembler.rig.base_frame
        self._queue = CloudQueue(self._look_up, base_frame, max_age_s, FOREVER_S, FOREVER_S, MAX_WAITING)
        self._is_over, self._now_ns = False, bag.start_ns
        self.topics: Mapping[str, TimedHandler] = {topic: self._on_cloud}
        self.with_logits = config is not None and reads_logits(config)

    @property
    def counts(self) -> CloudCounts:
        """What became of the clouds so far."""
        return self._queue.counts

    def on_grid(self, occupancy: Occupancy) -> None:
        """Take the next grid."""
        self._write(self._queue.add_grid(occupancy))
        self.poll(self._now_ns)

    def poll(self, now_ns: int) -> None:
        """Something has come, at the bag's time `now_ns`, for which clouds may have waited."""
        self._now_ns = max(self._now_ns, now_ns)
        self._write(self._queue.poll(self._now_ns))

    def finish(self) -> CloudCounts:
        """Label what waits, as nothing more will come; returns what became of all clouds."""
        self._is_over = True
        self._write(self._queue.finish())
        return self._queue.counts

    def _on_cloud(self, message: RawMessage, _: int) -> None:
        try:
            cloud = self._bag.deserialise(message)
        except BrokenMessage as error:
            self._queue.refuse(str(error))
        else:
            self._queue.add_cloud(cloud, message.stamp_ns)
        self.poll(message.stamp_ns)

    def _look_up(self, frame: str, stamp_ns: int) -> Matrix:
        return self._assembler.world_from(frame, stamp_ns, may_guess=self._is_over)

    def _write(self, pairs: list[Pair]) -> None:
        for pair in pairs:
            if (message := self._queue.labelled(pair, self._rules, new_message)) is not None:
                self._writer.write(f"{PREFIX}/{LABELLED_POINTS}", POINT_CLOUD, pair.came_ns, message)


def label_by_grids(
    clouds: BagReader,
    grids: BagReader,
    grid_topic: str,
    labels_topic: str,
    assembler: FrameAssembler,
    labeller: CloudLabeller,
    writer: BagWriter,
    on_message: Callable[[RawMessage], object] = lambda message: None,
) -> ReplayReport:
    """Label the clouds of one bag by the grids of another one, or of the same; returns what became of both.

    Raises:
        BagError: a bag is damaged, or a grid cannot be used; the text names bag and topic.
    """
    labels = _newest_labels(grids, labels_topic, grid_topic)
    writer.write(f"{PREFIX}/{LABELS}", LABEL_SET, clouds.start_ns, fill_label_set(new_message(LABEL_SET), labels), True)
    hand_over_what_always_holds(clouds, assembler)
    rig, report = assembler.rig, ReplayReport()
    motion = motion_topics(assembler)
    topics = (*labeller.topics, rig.tf_topic, rig.tf_static_topic, *motion)
    streams = (
        ((message, clouds) for message in clouds.messages(topics)),
        ((message, grids) for message in grids.messages([grid_topic])),
    )
    for message, bag in heapq.merge(*streams, key=lambda item: item[0].stamp_ns):
        if message.type == VOXEL_GRID:
            grid = grids.deserialise(message)
            labeller.on_grid(_occupancy(grids, message, grid, labels, rig.base_frame))
            report.grids += 1
            report.sources[GRID_SOURCES[int(grid.instance_source)]] += 1
        elif message.type == TRANSFORMS:
            try:
                assembler.on_transforms(bag.deserialise(message), static=message.topic == rig.tf_static_topic)
            except BrokenMessage as error:
                report.note_broken(error, message.topic)
            writer.write(message.topic, message.type, message.stamp_ns, message.data)
            labeller.poll(message.stamp_ns)
        elif message.topic in motion:
            try:
                motion[message.topic](bag.deserialise(message))
            except BrokenMessage as error:
                report.note_broken(error, message.topic)
            labeller.poll(message.stamp_ns)
        else:
            labeller.topics[message.topic](message, message.stamp_ns)
        on_message(message)
    report.status = assembler.status(clouds.end_ns)
    return report


def check_grids(grids: BagReader, grid_topic: str) -> None:
    """That a bag has grids on a topic.

    Raises:
        BagError: it has not; the text says which it has.
    """
    remedy = "give one of them with --grids-topic"
    check_topic(grids, grid_topic, (VOXEL_GRID,), "grids", remedy)
    if not grids.count([grid_topic]):
        raise BagError(f"{grids.path}: {grid_topic} holds no message: {remedy} that was recorded")


def _newest_labels(grids: BagReader, topic: str, grid_topic: str) -> LabelSet:
    newest = None
    for raw in grids.messages([topic]):
        newest = recorded_labels(grids, raw)
    if newest is None:
        others = [name for name, kind in grids.topics.items() if kind == LABEL_SET and grids.count([name])]
        remedy = (
            f"choose what does with --labels-topic: {', '.join(others)}"
            if others
            else f"record both topics ({topic} is latched, so that a recorder may start late)"
        )
        raise BagError(f"{grids.path}: nothing on {topic} says what the classes of {grid_topic} mean: {remedy}")
    return newest


def _occupancy(grids: BagReader, raw: RawMessage, message: Any, labels: LabelSet, base_frame: str) -> Occupancy:
    frame = clean_frame(message.header.frame_id)
    if frame != clean_frame(base_frame):
        raise BagError(
            f"{grids.path}: {raw.topic}: grids are given in {frame!r}, the vehicle's frame is {base_frame!r}: choose "
            "that one with --base-frame"
        )
    try:
        return occupancy_from_message(message, labels)
    except ValueError as error:
        raise BagError(f"{grids.path}: {raw.topic}: the grid at {raw.stamp_ns} ns cannot be used: {error}") from error
