"""Publishes the outputs of the node.  What nobody subscribes to is not made."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rclpy.node import Node

from panoocc_core import Frame, Occupancy, Wanted
from panoocc_core.geometry import Matrix
from panoocc_core.labels import InstanceSource, LabelSet

from ..outputs.catalogue import ANNOUNCEMENTS, OCCUPANCY, OUTPUTS
from ..outputs.output import Announcement, Output, Pacer, Result, wanted_by
from ..ros.graph import UnknownType, message_class, new_message, qos
from .settings import NodeSettings


class Publishers:
    """The publishers below `~/`.  Publishing is safe from the worker's thread.

    Args:
        source: what tells things apart.
    """

    def __init__(
        self,
        node: Node,
        settings: NodeSettings,
        rig_cameras: Sequence[str],
        frame_id: str,
        source: InstanceSource,
    ) -> None:
        self._settings, self._rig_cameras, self._frame_id = settings, rig_cameras, frame_id
        logger, has_things = node.get_logger(), source != "none"
        self._outputs = {
            output: node.create_publisher(kind, f"~/{output.topic}", qos(latched=output.latched, depth=output.depth))
            for output in OUTPUTS
            if output.in_node and (has_things or "boxes" not in output.needs)
            if (kind := _class_of(output, logger)) is not None
        }
        self._announcements = {
            one: node.create_publisher(kind, f"~/{one.topic}", qos(latched=True, depth=1))
            for one in ANNOUNCEMENTS
            if (kind := _class_of(one, logger)) is not None
        }
        self._pacer = Pacer(settings)

    @property
    def subscribers(self) -> int:
        """How many subscriptions the publisher of the grids has met so far."""
        return int(self._outputs[OCCUPANCY].get_subscription_count())

    def wanted(self, stamp_ns: int) -> Wanted:
        """What a step has to find for those outputs that somebody listens to; things also between their messages, since
        tracks have to be seen.

        Args:
            stamp_ns: of the grid to come.
        """
        heard = [output for output, publisher in self._outputs.items() if publisher.get_subscription_count()]
        due = wanted_by(output for output in heard if self._pacer.is_due(output, stamp_ns))
        return replace(wanted_by(heard), visible=due.visible)

    def announce(self, labels: LabelSet) -> None:
        """Send the meaning of the class ids, once; it is latched."""
        for one, publisher in self._announcements.items():
            publisher.publish(one.make(labels, self._frame_id, new_message))

    def publish(self, occupancy: Occupancy, frame: Frame, sequence: int, map_from_ego: Matrix | None = None) -> None:
        """Send what was made of a frame on every topic that is wanted.

        Args:
            map_from_ego: [4, 4] of `grid_frame`, where it is known.

        Raises:
            Exception: of the first message that could not be made; the others were sent.
        """
        result = Result(occupancy, frame, sequence, self._frame_id, self._rig_cameras, self._settings, map_from_ego)
        failures = []
        for output, publisher in self._outputs.items():
            if not publisher.get_subscription_count():
                self._pacer.forget(output)
            elif output.applies(occupancy) and self._pacer.is_due(output, occupancy.stamp_ns):
                try:
                    message = output.make(result, new_message)
                    if message is not None:
                        publisher.publish(message)
                        self._pacer.sent(output, occupancy.stamp_ns)
                except Exception as error:  # one output must not take the others along
                    failures.append(error)
        if failures:
            raise failures[0]


def _class_of(output: Output | Announcement, logger: Any) -> Any | None:
    """The class of an output's messages; None where its package is not installed, and the node lives without it."""
    try:
        return message_class(output.type)
    except UnknownType:
        if not output.optional:
            raise
        logger.info(f"~/{output.topic} is left out: the package {output.type.partition('/')[0]} is not installed")
        return None
