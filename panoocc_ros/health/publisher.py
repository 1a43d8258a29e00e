"""Sends the node's `Health` on /diagnostics and hears of incompatible QoS."""

from collections.abc import Callable, Iterable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import qos_policy_name_from_kind

from panoocc_core.geometry import NS_PER_S

from ..ros.graph import qos
from .verdicts import Health

LEVELS = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)


class Diagnostics:
    """Publisher of one status per subject, named `<node>: <subject>`."""

    def __init__(self, node: Node) -> None:
        self._node = node
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
            name=f"{self._node.get_name()}: {health.subject}",
            message=health.message,
            hardware_id=self._node.get_name(),
            values=[KeyValue(key=key, value=value) for key, value in health.values.items()],
        )


def on_mismatch(report: Callable[[str], None]) -> SubscriptionEventCallbacks:
    """Callbacks that report in words why a publisher of the topic is not heard: the QoS policy, or the message type."""
    return SubscriptionEventCallbacks(
        incompatible_qos=lambda event: report(
            f"a publisher's {qos_policy_name_from_kind(event.last_policy_kind)} (QoS) does not fit the node's"
        ),
        incompatible_type=lambda _: report("a publisher sends another message type"),
    )
