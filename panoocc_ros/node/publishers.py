"""Publishes the outputs of the node.  What nobody subscribes to is not made."""

from collections.abc import Sequence
from typing import Any

from rclpy.node import Node

from panoocc_core import Frame, Occupancy, Wanted
from panoocc_core.labels import InstanceSource, LabelSet

from ..messages.types import LABEL_SET
from ..outputs.catalogue import LABELS, OCCUPANCY, OUTPUTS, label_set
from ..outputs.output import Output, Result, wanted_by
from ..ros.graph import UnknownType, message_class, new_message, qos
from ..ros.throttle import RateLimit
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
        self._limits = {output: RateLimit(settings.max_rate_hz(output.topic)) for output in self._outputs}

    @property
    def subscribers(self) -> int:
        """How many subscriptions the publisher of the grids has met so far."""
        return int(self._outputs[OCCUPANCY].get_subscription_count())

    def wanted(self) -> Wanted:
        """What a step has to find for those outputs that somebody listens to."""
        heard = (output for output, publisher in self._outputs.items() if publisher.get_subscription_count())
        return wanted_by(heard)

    def publish_labels(self, labels: LabelSet) -> None:
        """Send the meaning of the class ids, once; it is latched."""
        self._labels.publish(label_set(labels, new_message))

    def publish(self, occupancy: Occupancy, frame: Frame, sequence: int) -> None:
        """Send what was made of a frame on every topic that is wanted."""
        result = Result(occupancy, frame, sequence, self._frame_id, self._rig_cameras, self._settings)
        for output, publisher in self._outputs.items():
            wanted = publisher.get_subscription_count() and output.applies(occupancy)
            if wanted and self._limits[output].open():
                publisher.publish(output.make(result, new_message))


def _class_of(output: Output, source: InstanceSource, logger: Any) -> Any | None:
    """The class of an output's messages; None where the node does not have it."""
    if not output.in_node or ("boxes" in output.needs and source == "none"):
        return None
    try:
        return message_class(output.type)
    except UnknownType:
        if not output.optional:
            raise
        logger.info(f"~/{output.topic} is left out: the package {output.type.partition('/')[0]} is not installed")
        return None
