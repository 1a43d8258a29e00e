"""Sends a node's `Health` on /diagnostics, and as a text on `~/status`."""

import time
from collections.abc import Iterable, Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import String

from panoocc_core.geometry import NS_PER_S

from ..ros.graph import qos
from ..ros.throttle import bounded
from .status_text import StatusText
from .verdicts import ERROR, OUTPUT, Health

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

    @property
    def name(self) -> str:
        """The node's, as statuses have it."""
        return self._name

    def _status(self, health: Health) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=LEVELS[health.level],
            name=f"{self._name}: {health.subject}",
            message=bounded(health.message),
            hardware_id=self._name,
            values=[KeyValue(key=bounded(key), value=bounded(value)) for key, value in health.values.items()],
        )


class Report:
    """/diagnostics and `~/status` (latched): every `period_s`, and at once when the level of a status changes."""

    def __init__(self, node: Node, period_s: float) -> None:
        self._node, self.period_s = node, period_s
        self._diagnostics = Diagnostics(node)
        self._text = StatusText(self._diagnostics.name)
        self._publisher = node.create_publisher(String, "~/status", qos(latched=True, depth=1))
        self._told_s, self._levels = float("-inf"), dict[str, int]()
        self._is_alarmed = False  # an alarm has replaced what was told
        self.last_text = ""  # as it was sent last

    @property
    def is_due(self) -> bool:
        """Whether the period is over, or an alarm stands for a state that is over."""
        return self._is_alarmed or time.monotonic() - self._told_s >= self.period_s

    def tell(self, healths: Sequence[Health]) -> None:
        """Take the statuses as they are now; they are sent if it is time."""
        levels = {health.subject: health.level for health in healths}
        if self.is_due or levels != self._levels:
            self._is_alarmed, self._told_s, self._levels = False, time.monotonic(), levels
            self._diagnostics.publish(healths)
            self.last_text = self._text.text(healths)
            self._publisher.publish(String(data=self.last_text))

    def alarm(self, text: str) -> None:
        """From another thread: the one that calls `tell` hangs."""
        if not self._node.context.ok():  # it hangs while the process ends
            return
        self._diagnostics.publish([Health(OUTPUT, ERROR, text)])
        self._publisher.publish(String(data=f"{self._diagnostics.name}: ERROR, {text}"))
        self._is_alarmed = True  # last: a `tell` in between must not count as one after it
