"""Publishes the outputs of the node.  What nobody subscribes to is not made."""

from collections.abc import Sequence

from rclpy.node import Node

from panoocc_core import Occupancy
from panoocc_core.labels import LabelSet

from ..messages.types import LABEL_SET
from ..ros.graph import message_class, new_message, qos
from ..ros.throttle import RateLimit
from .outputs import LABELS, MARKERS, OCCUPANCY, OUTPUTS, Result, label_set
from .settings import NodeSettings


class Publishers:
    """The publishers below `~/`.  Publishing is safe from the worker's thread."""

    def __init__(self, node: Node, settings: NodeSettings, rig_cameras: Sequence[str], frame_id: str) -> None:
        self._settings, self._rig_cameras, self._frame_id = settings, rig_cameras, frame_id
        self._outputs = {
            output: node.create_publisher(message_class(output.type), f"~/{output.topic}", qos(depth=output.depth))
            for output in OUTPUTS
            if output.in_node
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
            output.of_instances and publisher.get_subscription_count() for output, publisher in self._outputs.items()
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
        )
        for output, publisher in self._outputs.items():
            limit = self._limits.get(output)
            if publisher.get_subscription_count() and (limit is None or limit.open()):
                publisher.publish(output.make(result, new_message))
