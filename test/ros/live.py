"""A node as a process of its own, and a peer that talks to it over DDS."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from panoocc.msg import LabelSet, VoxelGrid
from rclpy.serialization import deserialize_message

from panoocc_ros.bags.bag import LATCHED_TOPICS
from panoocc_ros.ros.graph import message_class, qos

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0  # for conditions that a busy machine may reach late; never the time that a test takes


class NodeProcess:
    """An executable with parameters, its output in a log file."""

    def __init__(self, log, executable="occupancy_node", namespace="", **parameters):
        self.log = log
        command = [sys.executable, str(ROOT / "scripts" / executable), "--ros-args", "-r", f"__ns:=/{namespace}"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        with log.open("wb") as stream:
            self.process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)

    @property
    def words(self):
        return self.log.read_text()

    def wait(self, timeout_s=PATIENCE_S):
        """The exit code."""
        return self.process.wait(timeout_s)

    def interrupt(self):
        """End it with SIGINT; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Peer:
    """Publishes raw messages and remembers what the node says."""

    def __init__(self):
        rclpy.init()
        self.node = rclpy.create_node(f"peer_{random.randint(0, 10**9)}")
        self.publishers, self.raw_grids, self.labels, self.health, self.health_count = {}, [], [], {}, 0
        self.node.create_subscription(VoxelGrid, "/panoocc/occupancy", self.raw_grids.append, qos(), raw=True)
        self.node.create_subscription(LabelSet, "/panoocc/labels", self.labels.append, qos(latched=True))
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos())

    @property
    def grids(self):
        return [deserialize_message(data, VoxelGrid) for data in self.raw_grids]

    def _on_diagnostics(self, message):
        self.health = {status.name.removeprefix("panoocc: "): status for status in message.status}
        self.health_count += 1

    def values(self, subject):
        return {value.key: value.value for value in self.health[subject].values}

    def level(self, subject):
        return int.from_bytes(self.health[subject].level, "little") if subject in self.health else None

    def publish(self, messages, latched=LATCHED_TOPICS):
        """Publishers for the topics of `messages`; those of the topics `latched` are transient local."""
        for message in messages:
            if message.topic not in self.publishers:
                self.publishers[message.topic] = self.node.create_publisher(
                    message_class(message.type), message.topic, qos(latched=message.topic in latched)
                )

    def advertise(self, messages):
        """Publishers for the topics of `messages`, matched with the node."""
        self.publish(messages)
        self.wait(lambda: all(one.get_subscription_count() for one in self.publishers.values()), "subscriptions")

    def send(self, messages):
        for message in messages:
            self.publishers[message.topic].publish(message.data)

    def wait(self, condition, what, timeout_s=PATIENCE_S):
        """Spin until `condition()`; fails with `what` and the node's last words when the time is over."""
        end_s = time.monotonic() + timeout_s
        while not condition():
            words = {name: (status.level, status.message) for name, status in self.health.items()}
            assert time.monotonic() < end_s, f"no {what} within {timeout_s} s; the node says {words}"
            rclpy.spin_once(self.node, timeout_sec=0.02)

    def wait_for_grids(self, count, timeout_s=PATIENCE_S):
        self.wait(lambda: len(self.raw_grids) >= count, f"{count} grids ({len(self.raw_grids)} came)", timeout_s)

    def wait_for_health(self, subject, level, text, timeout_s=PATIENCE_S):
        """Wait until a status has this level and its message this text."""
        self.wait(
            lambda: self.level(subject) == level and text in self.health[subject].message,
            f"{subject!r} at level {level} with {text!r}",
            timeout_s,
        )

    def spin(self, duration_s):
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            rclpy.spin_once(self.node, timeout_sec=0.02)

    def close(self):
        self.node.destroy_node()
        rclpy.try_shutdown()


@contextmanager
def node_and_peer(log, before=None, **parameters):
    """A running node that is ready, and a peer beside it; `before(peer)` is called before the node starts."""
    peer = Peer()
    if before is not None:
        before(peer)
    node = NodeProcess(log, **{"model": "nano", "seeded_weights": True, "diagnostics_period_s": 0.2} | parameters)
    try:
        peer.wait(lambda: node.process.poll() is not None or peer.health, "diagnostics of the node")
        assert node.process.poll() is None, node.words
        yield node, peer
    finally:
        peer.close()
        node.kill()
