"""The scenes of a node that runs, as its grids come."""

import functools
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from ..messages.types import VOXEL_GRID
from ..ros.graph import UnknownType, message_class, offers, qos, take_what_has_come
from ..ros.parameters import refusals_named
from .bag_scenes import GRIDS
from .scene import Scene, Scenes, Sources, sources_in

LOOK_S = 0.5  # between two looks for topics
SETTLE_S = 1.0  # from the first publisher of grids to the first scene, for the other topics to be found
COMPANIONS_S = 0.1  # after a grid, for what was made beside it
WAITING_GRIDS = 2  # of a view that is too slow the older ones are dropped
IMAGE_QUEUE = 10
QUIET_S = 10.0  # without a grid, after which what is waited for is told


class LiveScenes:
    """Scenes until `stop` is set, and of what had come by then; where the view is too slow, the newest ones.

    Raises:
        ValueError: a topic's name is none.
    """

    def __init__(self, node: Node, stop: threading.Event, topic: str = GRIDS) -> None:
        self._node, self._stop, self._topic = node, stop, topic
        self._grids: deque[tuple[Any, int, float]] = deque(maxlen=WAITING_GRIDS)  # grid, when it came by both clocks
        self._heard: set[str] = set()
        self._scenes = Scenes(sources_in({}, topic))
        self.broken: Counter[str] = Counter()  # grids that cannot be used, by why
        self.skipped = 0  # grids that newer ones have overtaken
        self._came = 0
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)

    @property
    def problems(self) -> dict[str, str]:
        """Topic or frame -> what is wrong with it."""
        return self._scenes.problems

    @property
    def sources(self) -> Sources:
        """What was found so far."""
        return self._scenes.sources

    def wait_for_node(self) -> bool:
        """Wait until somebody publishes grids, and find what there is beside them; false where `stop` came first."""
        while not self._stop.is_set() and not self._is_there():
            self._executor.spin_once(timeout_sec=LOOK_S)
        end_s = time.monotonic() + SETTLE_S
        while not self._stop.is_set() and time.monotonic() < end_s:
            self._look()
            self._executor.spin_once(timeout_sec=0.1)
        return not self._stop.is_set()

    def __iter__(self) -> Iterator[Scene]:
        look_s, told_s = 0.0, time.monotonic()
        while not self._stop.is_set():
            if time.monotonic() >= look_s:
                self._look()
                look_s = time.monotonic() + LOOK_S
            self._executor.spin_once(timeout_sec=COMPANIONS_S / 2)
            if self._grids and (len(self._grids) > 1 or time.monotonic() - self._grids[0][2] >= COMPANIONS_S):
                told_s = time.monotonic()
                yield from self._made()
            elif time.monotonic() - told_s > QUIET_S:
                self._node.get_logger().warning(f"no grid on {self._topic} for {QUIET_S:.0f} s")
                told_s = time.monotonic()

        take_what_has_come(self._executor, lambda: self._came)
        while self._grids:
            yield from self._made()

    def _made(self) -> Iterator[Scene]:
        try:
            yield self._scenes.scene(*self._grids.popleft()[:2])
        except ValueError as error:
            self.broken[str(error)] += 1

    def _is_there(self) -> bool:
        return any(offer.type == VOXEL_GRID for offer in offers(self._node, self._topic))

    def _look(self) -> None:
        """Subscribe to what has appeared."""
        kinds = {name: types[0] for name, types in self._node.get_topic_names_and_types()}
        self._scenes.sources = sources_in(kinds, self._topic)
        for topic in (self._topic, *self._scenes.sources.companions):
            if topic not in self._heard and topic in kinds and (offered := offers(self._node, topic)):
                self._heard.add(topic)
                try:
                    kind = message_class(kinds[topic])
                except UnknownType as error:
                    self._scenes.problems[topic] = str(error)
                    continue
                latched = all(offer.is_latched for offer in offered)
                reliable = all(offer.is_reliable for offer in offered) and topic not in self._scenes.sources.cameras
                depth = {"depth": IMAGE_QUEUE} if topic in self._scenes.sources.cameras else {}
                self._node.create_subscription(kind, topic, self._receiver(topic), qos(reliable, latched, **depth))

    def _receiver(self, topic: str) -> Any:
        return self._on_grid if topic == self._topic else functools.partial(self._scenes.add, topic)

    def _on_grid(self, message: Any) -> None:
        self.skipped += len(self._grids) == WAITING_GRIDS
        self._came += 1
        self._grids.append((message, self._node.get_clock().now().nanoseconds, time.monotonic()))


@contextmanager
def listening(topic: str, stop: threading.Event, use_sim_time: bool) -> Iterator[LiveScenes]:
    """Scenes of what is published on this machine's ROS graph.

    Raises:
        UnknownType: the package of the grids is not built, or its workspace not sourced.
    """
    message_class(VOXEL_GRID)
    with refusals_named():
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        parameter = Parameter("use_sim_time", value=use_sim_time)
        yield LiveScenes(rclpy.create_node("panoocc_view", parameter_overrides=[parameter]), stop, topic)
    finally:
        rclpy.try_shutdown()
