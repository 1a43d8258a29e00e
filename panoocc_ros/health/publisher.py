"""Sends a node's `Health` on /diagnostics."""

from collections.abc import Iterable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.duration import Duration
from rclpy.node import Node

from panoocc_core.geometry import NS_PER_S

from ..ros.graph import qos
from ..ros.throttle import bounded
from .verdicts import Health

LEVELS = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)


class Diagnostics:
    """Publisher of one status per subject, named `<node>: <subject>`, the node with its namespace: `robot1/panoocc`."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._name = node.get_fully_qualified_name().lstrip("/")
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", qos(depth=10))

    def publish(self, healths: Iterable[Health]) -> None:
        """Send all statuses with the node's time."""
        message = DiagnosticArray(status=[self._status(health) for health in healths])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def wait_for_arrival(self, timeout_s: float) -> None:
        """Return when all subscribers have what was published, or the time is over."""
        self._publisher.wait_for_all_acked(Duration(nanoseconds=round(timeout_s * NS_PER_S)))

    def _status(self, health: Health) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=LEVELS[health.level],
            name=f"{self._name}: {health.subject}",
            message=bounded(health.message),
            hardware_id=self._name,
            values=[KeyValue(key=bounded(key), value=bounded(value)) for key, value in health.values.items()],
        )
