"""Publishes the outputs of the node.  What nobody subscribes to is not made."""

from collections.abc import Sequence
from typing import Any

from rclpy.node import Node

from panoocc_core import Occupancy
from panoocc_core.labels import InstanceSource, LabelSet

from ..messages.types import LABEL_SET
from ..ros.graph import UnknownType, message_class, new_message, qos
from ..ros.throttle import RateLimit
from .outputs import LABELS, MARKERS, OCCUPANCY, OUTPUTS, Output, Result, label_set
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
        self._outputs = {
            output: node.create_publisher(kind, f"~/{output.topic}", qos(depth=output.depth))
            for output in OUTPUTS
            if (kind := _class_of(output, source, node.get_logger())) is not None
        }
        self._labels = node.create_publisher(message_class(LABEL_SET), f"~/{LABELS}", qos(latched=True, depth=1))
        self._limits = {MARKERS: RateLimit(settings.markers_max_rate_hz)}

    @property
    def subscribers(self) -> int:
        """How many subscriptions the publisher of the grids has met so far."""
        return int(self._outputs[OCCUPANCY].get_subscription_count())

    def wants_instances(self) -> bool:
        """Whether anybody listens to an output for which things have to be told apart."""
        return any(
            output.needs != "classes" and publisher.get_subscription_count()
            for output, publisher in self._outputs.items()
        )

    def publish_labels(self, labels: LabelSet) -> None:
        """Send the meaning of the class ids, once; it is latched."""
        self._labels.publish(label_set(labels, new_message))

    def publish(self, occupancy: Occupancy, sequence: int) -> None:
        """Send one occupancy on every topic that is wanted."""
        result = Result(
            occupancy,
            sequence,
            self._frame_id,
            self._rig_cameras,
            self._settings.encoding,
            self._settings.confidence,
            self._settings.markers_colour,
        )
        for output, publisher in self._outputs.items():
            limit = self._limits.get(output)
            wanted = publisher.get_subscription_count() and output.applies(occupancy)
            if wanted and (limit is None or limit.open()):
                publisher.publish(output.make(result, new_message))


def _class_of(output: Output, source: InstanceSource, logger: Any) -> Any | None:
    """The class of an output's messages; None where the node does not have it."""
    if not output.in_node or (output.needs == "boxes" and source == "none"):
        return None
    try:
        return message_class(output.type)
    except UnknownType:
        if not output.optional:
            raise
        logger.info(f"~/{output.topic} is left out: the package {output.type.partition('/')[0]} is not installed")
        return None
