"""Other people's point clouds, labelled by the node's grids: `~/labelled_points`.

What nobody subscribes to is not made: without a listener no cloud is kept.
"""

from collections import deque
from typing import Any

from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node

from panoocc_core import ModelConfig, Occupancy

from ..frames.assembler import FrameAssembler
from ..health.cloud_watch import CloudWatch
from ..health.health_log import HealthLog
from ..health.running_time import RunningTime
from ..health.verdicts import Health
from ..load.priorities import give_way
from ..load.worker import Worker
from ..messages.types import POINT_CLOUD
from ..outputs.catalogue import LABELLED_POINTS
from ..ros.callbacks import Guard
from ..ros.graph import message_class, new_message, offers, qos, unheard
from ..ros.parameter_fields import SettingsError
from ..streams.cloud_queue import CloudQueue, Pair, point_rules
from .settings import NodeSettings
from .step import error_text

MAX_WAITING = 32  # clouds
Pairs = tuple[Pair, ...]
DEPTH = 5  # of the queues of subscription and publisher


class CloudOutput:
    """Subscription, labelling and publisher; methods are of the executor's thread unless they say otherwise.

    Raises:
        SettingsError: `label_points_topic` is no name of a topic.
    """

    def __init__(
        self,
        node: Node,
        settings: NodeSettings,
        config: ModelConfig,
        assembler: FrameAssembler,
        guard: Guard,
        time: RunningTime,
    ) -> None:
        self._node, self._topic = node, settings.label_points_topic
        self._rules = point_rules(config, settings.label_outside)
        self._queue = CloudQueue(
            assembler.world_from,
            assembler.rig.base_frame,
            settings.label_max_age_s,
            settings.label_wait_s,
            settings.tf_timeout_s,
            MAX_WAITING,
        )
        self._watch, self._log, self._time = CloudWatch(self._topic, time), HealthLog(node.get_logger()), time
        self._profile = qos(reliable=False, depth=DEPTH)  # matches every driver
        try:
            callback = guard(self._on_cloud, self._topic)
            self._subscription = node.create_subscription(
                message_class(POINT_CLOUD), self._topic, callback, self._profile
            )
        except InvalidTopicNameException as error:
            raise SettingsError(
                f"{self._topic!r} is no topic: {error}".splitlines()[0], "label_points_topic"
            ) from error
        self._publisher = node.create_publisher(message_class(POINT_CLOUD), f"~/{LABELLED_POINTS}", qos(depth=DEPTH))
        self._grids: deque[Occupancy] = deque()  # on their way to the executor's thread
        on_begin = give_way if settings.thread_priorities != "system" else lambda: None
        self._worker = Worker(self._publish, self._on_failure, self._merged, "labels", on_begin=on_begin)

    @property
    def has_listener(self) -> bool:
        """Whether anybody listens; of any thread."""
        return bool(self._publisher.get_subscription_count())

    def hand_over(self, occupancy: Occupancy) -> None:
        """Leave the next grid; of any thread."""
        self._grids.append(occupancy)

    def poll(self, now_ns: int) -> None:
        """Take the grids that came and label what need not wait longer; call it from time to time."""
        while self._grids:
            self._submit(self._queue.add_grid(self._grids.popleft()))
        self._submit(self._queue.poll(now_ns))

    def health(self) -> Health:
        """How it goes; also told in the log where it is bad."""
        problems = [
            f"{self._topic}: {text}" for text in unheard(offers(self._node, self._topic), POINT_CLOUD, [self._profile])
        ]
        health = self._watch.health(self._queue.counts, problems, self.has_listener)
        self._log.look(health, self._time())
        return health

    def close(self, timeout_s: float) -> bool:
        """End the worker and take the topics away; returns whether it ended in time."""
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_publisher(self._publisher)
        return self._worker.close(timeout_s)

    def _on_cloud(self, message: Any) -> None:
        if self.has_listener:
            now_ns = self._node.get_clock().now().nanoseconds
            self._queue.add_cloud(message, now_ns)
            self.poll(now_ns)

    def _submit(self, pairs: list[Pair]) -> None:
        if pairs:
            self._worker.submit(tuple(pairs))

    def _publish(self, pairs: Pairs) -> None:
        """Worker thread."""
        for pair in pairs:
            message = self._queue.labelled(pair, self._rules, new_message)
            if message is not None:
                self._publisher.publish(message)

    def _merged(self, old: Pairs, new: Pairs) -> Pairs:
        """All that waits for the worker, unless that is too slow."""
        both = old + new
        if len(both) > MAX_WAITING:
            self._queue.lose("busy", "labelling takes longer than clouds take to come", len(both) - MAX_WAITING)
        return both[-MAX_WAITING:]

    def _on_failure(self, error: Exception) -> None:
        """Worker thread: a fault of our own, with all clouds that were in work."""
        self._queue.lose("failed", error_text(error))
