"""Watches an occupancy node from outside: its grids, who else gets them, whether it has nothing left to do."""

import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from ..messages.types import VOXEL_GRID
from ..ros.graph import message_class, qos
from .verdicts import IDLE, OUTPUT, SUBSCRIBERS

Spin = Callable[[], None]  # lets the watching node work for a moment

IDLE_REPORTS = 2  # the first may have been on its way when the last message was sent


class NodeWatch:
    """Counts the grids of the node `name` (with its namespace: `robot1/panoocc`) and reads its diagnostics."""

    def __init__(self, node: Node, name: str) -> None:
        name = name.strip("/")
        self._output_status = f"{name}: {OUTPUT}"
        self.grids = 0
        self.listeners = 0  # subscriptions to the grids, but for the watch's own
        self._idle_reports = 0
        voxel_grid = message_class(VOXEL_GRID)
        self._node = node
        self._subscriptions = (
            node.create_subscription(voxel_grid, f"/{name}/occupancy", self._on_grid, qos(), raw=True),
            node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos()),
        )

    def close(self) -> None:
        """Watch no more."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def wait_for_grid(self, known: int, timeout_s: float, spin: Spin) -> bool:
        """Whether there are more than `known` grids before the time is over or the node says that none will come."""
        self._wait(lambda: self.grids > known, timeout_s, spin)
        return self.grids > known

    def wait_until_idle(self, timeout_s: float, spin: Spin) -> bool:
        """Whether the node reports that it has nothing to do before the time is over."""
        return self._wait(lambda: False, timeout_s, spin)

    def wait_for_listeners(self, count: int, timeout_s: float, spin: Spin) -> bool:
        """Whether the node's grids reach `count` subscriptions beside this watch before the time is over."""
        end_s = time.monotonic() + timeout_s
        while self.listeners < count:
            if time.monotonic() > end_s:
                return False
            spin()
        return True

    def _wait(self, done: Callable[[], bool], timeout_s: float, spin: Spin) -> bool:
        """Spin until `done()` or the node is idle (True), or the time is over (False)."""
        self._idle_reports = 0
        end_s = time.monotonic() + timeout_s
        while not done() and self._idle_reports < IDLE_REPORTS:
            if time.monotonic() > end_s:
                return False
            spin()
        return True

    def _on_grid(self, _: bytes) -> None:
        self.grids += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._output_status:
                values = {value.key: value.value for value in status.values}
                self._idle_reports = self._idle_reports + 1 if values.get("state") == IDLE else 0
                self.listeners = int(values.get(SUBSCRIBERS, 1)) - 1
