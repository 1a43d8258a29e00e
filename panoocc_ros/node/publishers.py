"""Publishes the outputs of the node.  What nobody subscribes to is not made."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

from rclpy.node import Node
from std_msgs.msg import Float64

from panoocc_core import Frame, Occupancy, Wanted
from panoocc_core.geometry import Matrix
from panoocc_core.labels import InstanceSource, LabelSet

from ..bags.saved_set import Made
from ..health.stages import STAGES, stage_topic
from ..messages.types import new_message as bag_message
from ..outputs.catalogue import ANNOUNCEMENTS, INSTANCES, OCCUPANCY, OUTPUTS, STAGES_OF, VISIBLE
from ..outputs.output import Announcement, Output, Result, TopicRates, no_free_space, wanted_by
from ..ros.graph import UnknownType, deaf, message_class, new_message, qos
from .settings import NodeSettings
from .step import error_text


class StageTopics:
    """`~/debug/<stage>_ms`: how long each stage of a set took, for whoever listens.  Safe from the worker's thread."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publishers = {
            stage: node.create_publisher(Float64, f"~/{stage_topic(stage)}", qos(depth=10)) for stage in STAGES
        }

    def publish(self, times_ms: Mapping[str, float]) -> None:
        """Send the times of one set."""
        for stage, time_ms in times_ms.items():
            publisher = self._publishers[stage]
            if publisher.get_subscription_count():
                publisher.publish(Float64(data=float(time_ms)))

    def close(self) -> None:
        """Take all topics away."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of the outputs of a set."""

    failures: Mapping[str, str] = field(default_factory=dict)  # topic -> why its last message could not be made or sent
    costs_ms: Mapping[str, float] = field(default_factory=dict)  # topic -> how long its message took


class Publishers:
    """The publishers below `~/`.  Publishing is safe from the worker's thread.

    Args:
        source: what tells things apart.
        labels: the network's classes.
    """

    def __init__(
        self,
        node: Node,
        settings: NodeSettings,
        rig_cameras: Sequence[str],
        frame_id: str,
        source: InstanceSource,
        labels: LabelSet,
    ) -> None:
        self._node, self._settings = node, settings
        self._rig_cameras, self._frame_id, self._labels = rig_cameras, frame_id, labels
        logger = node.get_logger()
        self._outputs = {
            output: node.create_publisher(kind, f"~/{output.topic}", qos(latched=output.latched, depth=output.depth))
            for output in OUTPUTS
            if output.in_node and not _is_left_out(output, source, labels, logger)
            if (kind := _class_of(output, logger)) is not None
        }
        self._announcements = {
            one: node.create_publisher(kind, f"~/{one.topic}", qos(latched=True, depth=1))
            for one in ANNOUNCEMENTS
            if (kind := _class_of(one, logger)) is not None
        }
        self._rates = TopicRates(settings, self._outputs)
        self._failures: dict[str, str] = {}  # topic -> why its last message could not be sent

    def take(self, settings: NodeSettings) -> None:
        """Publish by other parameters from the next grid on."""
        self._settings, self._rates = settings, TopicRates(settings, self._outputs)

    def deaf(self) -> dict[str, str]:
        """Topic -> why one of its subscribers gets nothing; asks the graph about every topic."""
        topics = {one.topic: publisher.topic_name for one, publisher in self._outputs.items() if not one.latched}
        return {topic: why for topic, name in topics.items() if (why := deaf(self._node, name))}

    def close(self) -> None:
        """Take all topics away."""
        for publisher in (*self._outputs.values(), *self._announcements.values()):
            self._node.destroy_publisher(publisher)
        self._outputs, self._announcements = {}, {}

    @property
    def subscribers(self) -> int:
        """How many subscriptions the publisher of the grids has met so far."""
        return int(self._outputs[OCCUPANCY].get_subscription_count())

    def made(self, occupancy: Occupancy, frame: Frame, sequence: int) -> list[Made]:
        """The grid and the meaning of its classes, for a bag, whether or not anybody listens."""
        result = Result(occupancy, frame, sequence, self._frame_id, self._rig_cameras, self._settings)
        labels = [
            Made(one.topic, one.type, one.make(self._labels, self._frame_id, bag_message), True)
            for one in ANNOUNCEMENTS
        ]
        return [Made(OCCUPANCY.topic, OCCUPANCY.type, OCCUPANCY.make(result, bag_message), False), *labels]

    def has_listener(self, output: Output) -> bool:
        """Whether anybody listens to an output."""
        return output in self._outputs and bool(self._outputs[output].get_subscription_count())

    def wanted(self, stamp_ns: int) -> Wanted:
        """What a step has to find for those outputs that somebody listens to; things also between their messages, since
        tracks have to be seen.

        Args:
            stamp_ns: of the grid to come.
        """
        return replace(wanted_by(self._heard()), visible=wanted_by(self._due(stamp_ns)).visible)

    def asked(self, stamp_ns: int) -> tuple[set[str], set[str]]:
        """The topics that somebody listens to, and the stages that these need; those of the grid to come among them."""
        heard = _topics_and_stages(self._heard())
        return heard, _topics_and_stages(self._due(stamp_ns)) | (heard & {INSTANCES})

    def _heard(self) -> list[Output]:
        return [output for output in self._outputs if self.has_listener(output)]

    def _due(self, stamp_ns: int) -> list[Output]:
        return [output for output in self._heard() if self._rates.is_due(output, stamp_ns)]

    def announce(self) -> None:
        """Send the meaning of the class ids, once; it is latched."""
        for one, publisher in self._announcements.items():
            publisher.publish(one.make(self._labels, self._frame_id, new_message))

    def publish(
        self,
        occupancy: Occupancy,
        frame: Frame,
        sequence: int,
        wanted: Wanted,
        map_from_ego: Matrix | None = None,
        on_topic: Callable[[str], object] = lambda topic: None,
        left_out: AbstractSet[str] = frozenset(),
    ) -> Sent:
        """Send what was made of a frame on every topic that is heard, due, and has all that it needs; the grid first.

        Args:
            wanted: what the step was to be asked for: who began to listen during it gets what comes next.
            map_from_ego: [4, 4] of `grid_frame`, where it is known.
            on_topic: called with the name of each topic before its message is made.
            left_out: topics, and stages that the step was not asked for after all; the grid goes out without these.

        Returns:
            What could not be made or sent: one output does not take the others along.
        """
        costs_ms: dict[str, float] = {}
        result = Result(occupancy, frame, sequence, self._frame_id, self._rig_cameras, self._settings, map_from_ego)
        for output, publisher in self._outputs.items():
            is_heard = self.has_listener(output)
            if not is_heard:
                self._failures.pop(output.topic, None)
            if not is_heard or not output.applies(occupancy, wanted):
                self._rates.forget(output)
            elif left_out & {output.topic, *STAGES_OF.get(output.topic, ())}:
                continue
            elif self._rates.is_due(output, occupancy.stamp_ns):
                on_topic(output.topic)
                begin_s = time.perf_counter()
                self._send(output, publisher, result)
                costs_ms[output.topic] = (time.perf_counter() - begin_s) * 1e3
        self._rates.next_grid(occupancy.stamp_ns)
        return Sent(dict(self._failures), costs_ms)

    def _send(self, output: Output, publisher: Any, result: Result) -> None:
        try:
            message = output.make(result, new_message)
            if message is None:
                self._rates.forget(output)
                return
            publisher.publish(message)
        except Exception as error:  # of any kind: it is told, and the next one may be well again
            self._failures[output.topic] = error_text(error)
        else:
            self._failures.pop(output.topic, None)
        self._rates.sent(output)


def _topics_and_stages(outputs: Iterable[Output]) -> set[str]:
    return {name for one in outputs for name in (one.topic, *(one.needs & {INSTANCES, VISIBLE}))}


def _is_left_out(output: Output, source: InstanceSource, labels: LabelSet, logger: Any) -> bool:
    """Whether the network never has what an output cannot do without; told, but where `source` was the choice."""
    lacks = output.lacks(source, labels)
    if lacks == "free":
        logger.info(f"~/{output.topic} is left out: {no_free_space(labels)}")
    return lacks is not None


def _class_of(output: Output | Announcement, logger: Any) -> Any | None:
    """The class of an output's messages; None where its package is not installed, and the node lives without it."""
    try:
        return message_class(output.type)
    except UnknownType:
        if not output.optional:
            raise
        logger.info(f"~/{output.topic} is left out: the package {output.type.partition('/')[0]} is not installed")
        return None
