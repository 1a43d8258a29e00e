"""The messages of a ROS graph that runs, for some seconds."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions

from ..bags.bag import RawMessage
from ..messages.types import IMAGE_TYPES, TRANSFORMS
from ..ros.graph import Offer, message_class, offers, qos
from ..ros.parameters import refusals_named
from .intake import TYPES, Intake, read

LOOK_S = 0.2  # between two looks for topics
WAIT_S = 10.0  # for the first image
TF_QUEUE, IMAGE_QUEUE = 500, 10


class Listener:
    """Subscribes to what there is of images, CameraInfos and transforms."""

    def __init__(self, node: Node, wanted: Collection[str] | None) -> None:
        self._node, self._wanted = node, wanted
        self._topics: dict[str, str] = {}
        self._subscribed: set[tuple[str, str]] = set()
        self.intake = Intake(read, self._topics)

    def listen(self, seconds: float, tell: Callable[[float], None] = lambda listened_s: None) -> Intake:
        """What comes from the first image on, for so long; without any image WAIT_S are waited.

        Args:
            tell: called with the seconds since the first image.
        """
        executor = SingleThreadedExecutor(context=self._node.context)
        executor.add_node(self._node)
        begin_s, first_s, look_s = time.monotonic(), None, 0.0
        while True:
            now_s = time.monotonic()
            if first_s is None and self.intake.first_image_ns is not None:
                first_s = now_s
            if now_s - begin_s > WAIT_S if first_s is None else now_s - first_s > seconds:
                break
            if first_s is not None:
                tell(now_s - first_s)
            if now_s >= look_s:
                self._look()
                look_s = now_s + LOOK_S
            executor.spin_once(timeout_sec=LOOK_S / 4)
        executor.shutdown(timeout_sec=0)
        return self.intake

    def _look(self) -> None:
        """Subscribe to what has appeared."""
        for topic, kinds in self._node.get_topic_names_and_types():
            offered = offers(self._node, topic)
            if not offered:
                continue
            self._topics[topic] = offered[0].type
            self.intake.senders[topic] = tuple(sorted(offer.node for offer in offered))
            for kind in {*kinds} & {*TYPES}:
                if self._wanted is None or topic in self._wanted:
                    self._subscribe(topic, kind, [offer for offer in offered if offer.type == kind])

    def _subscribe(self, topic: str, kind: str, offered: list[Offer]) -> None:
        if not offered or (topic, kind) in self._subscribed:
            return
        self._subscribed.add((topic, kind))
        for profile in _profiles(kind, offered):
            self._node.create_subscription(
                message_class(kind), topic, partial(self._take, topic, kind), profile, raw=True
            )

    def _take(self, topic: str, kind: str, data: bytes) -> None:
        self.intake.take(RawMessage(topic, kind, time.time_ns(), data))


def _profiles(kind: str, offered: list[Offer]) -> list[QoSProfile]:
    """Those that hear all publishers: best effort and volatile but for transforms, latched where one is."""
    depth = IMAGE_QUEUE if kind in IMAGE_TYPES else TF_QUEUE
    reliable = kind == TRANSFORMS and all(offer.is_reliable for offer in offered)
    latched = [qos(latched=True, depth=depth)] if any(offer.is_latched for offer in offered) else []
    volatile = [qos(reliable, depth=depth)] if not all(offer.is_latched for offer in offered) else []
    return [*latched, *volatile]


@contextmanager
def listener(wanted: Collection[str] | None = None) -> Iterator[Listener]:
    """Whoever listens to this machine's ROS graph.

    Args:
        wanted: topics; None: all of the types that matter.
    """
    with refusals_named():
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield Listener(rclpy.create_node("panoocc_rig"), wanted)
    finally:
        rclpy.try_shutdown()
