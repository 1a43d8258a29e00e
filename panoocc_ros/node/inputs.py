"""The node's subscriptions: which topics and types, how they follow the graph, and publishers that are not heard."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from ..frames.rig import Rig, RigCamera
from ..messages.types import CAMERA_INFO, IMAGE_TYPES, IMU, ODOMETRY, TRANSFORMS
from ..ros.callbacks import Guard
from ..ros.graph import Offer, message_class, offers, qos, unheard
from ..ros.parameter_fields import SettingsError
from .settings import NodeSettings

TF_QUEUE = 500
LOST_BEFORE = "is VOLATILE, not TRANSIENT_LOCAL: what it sent before this node was there is lost"


class Receiver(Protocol):
    """Who takes the messages."""

    def on_image(self, camera: str, message: Any) -> None:
        """A sensor_msgs Image or CompressedImage."""

    def on_camera_info(self, camera: str, message: Any) -> None:
        """A sensor_msgs/CameraInfo."""

    def on_transforms(self, message: Any, static: bool) -> None:
        """A tf2_msgs/TFMessage."""

    def on_odometry(self, message: Any) -> None:
        """A nav_msgs/Odometry."""

    def on_imu(self, message: Any) -> None:
        """A sensor_msgs/Imu."""


@dataclass(slots=True)
class _Feed:
    """One topic; with several profiles a message may come more than once."""

    topic: str
    types: Sequence[str]  # that it may have; the first one until its publisher is known
    profiles: Sequence[QoSProfile]
    callback: Callable[..., None]
    has_one_sender: bool = True
    is_sent_once: bool = False
    is_drained: bool = False  # all that has come is taken before a set is judged
    may_be_latched: bool = False  # a latched publisher's last message is asked for where there is one
    parameter: str = "rig"  # that names the topic
    type: str = ""
    subscriptions: list[Subscription] = field(default_factory=list)


class Inputs:
    """Subscriptions of a node to the topics of its rig.

    Raises:
        SettingsError: the rig has a name that is no topic.
    """

    def __init__(self, node: Node, rig: Rig, settings: NodeSettings, receiver: Receiver, guard: Guard) -> None:
        self._node, self._guard = node, guard
        self.is_draining = False
        self._feeds = _feeds(rig, settings, receiver)
        try:
            for feed in self._feeds:
                self._subscribe(feed, feed.types[0])
        except BaseException:
            self.close()
            raise

    def follow(self) -> None:
        """Take the types that the publishers have, and what they sent before; call it from time to time."""
        for feed in self._feeds:
            if len(feed.types) > 1 or feed.may_be_latched:
                self._follow(feed, offers(self._node, feed.topic))

    def drain(self) -> None:
        """Take all poses and measurements of motion that have come, before a set is judged.

        The executor takes one message of every topic in turn: on a machine that is too slow for the images, /tf with a
        hundred a second would fall behind them, and every set would be lost for want of a pose that is there.
        """
        if self.is_draining:
            return
        self.is_draining = True
        try:
            for feed in self._feeds:
                for subscription in feed.subscriptions if feed.is_drained else ():
                    _take_all(subscription)
        finally:
            self.is_draining = False

    def close(self) -> None:
        """Hear nothing more."""
        for subscription in (one for feed in self._feeds for one in feed.subscriptions):
            self._node.destroy_subscription(subscription)
        self._feeds = []

    def _follow(self, feed: _Feed, offered: Sequence[Offer]) -> None:
        fitting = [one for one in feed.types if one in {offer.type for offer in offered}]
        is_latched = feed.may_be_latched and any(offer.is_latched for offer in offered)
        if is_latched:  # not before: other drivers would warn of a subscription that does not fit
            feed.profiles, feed.may_be_latched = (*feed.profiles, qos(latched=True, depth=1)), False
        if is_latched or (fitting and feed.type not in fitting):
            self._subscribe(feed, fitting[0] if fitting else feed.type)

    def problems(self) -> dict[str, list[str]]:
        """Topic -> what is wrong with its publishers now, a sentence for each."""
        return {feed.topic: self._problems(feed) for feed in self._feeds}

    def _problems(self, feed: _Feed) -> list[str]:
        offered = offers(self._node, feed.topic)
        found = [f"{feed.topic}: {text}" for text in unheard(offered, feed.type, feed.profiles)]
        names = sorted(offer.node for offer in offered if offer.type == feed.type)
        if feed.has_one_sender and len(names) > 1:
            senders = f"{len(names)} publishers ({', '.join(names)})"
            found.append(f"{feed.topic}: {senders}, whose messages are mixed: stop all but one")
        if feed.is_sent_once:
            found += [f"{feed.topic}: {one.node} {LOST_BEFORE}" for one in offered if not one.is_latched]
        return found

    def _subscribe(self, feed: _Feed, type_name: str) -> None:
        for subscription in feed.subscriptions:
            self._node.destroy_subscription(subscription)
        feed.subscriptions, feed.type = [], ""  # so that it is tried again where this fails
        callback = self._guard(feed.callback, feed.topic)
        try:
            feed.subscriptions = [
                self._node.create_subscription(message_class(type_name), feed.topic, callback, profile)
                for profile in feed.profiles
            ]
        except InvalidTopicNameException as error:
            reason = f"{feed.topic!r} cannot be a topic: {error}".splitlines()[0]
            raise SettingsError(reason, feed.parameter) from error
        feed.type = type_name


def _take_all(subscription: Subscription) -> None:
    """Call back with all messages of a subscription that have come, as the executor would one by one."""
    for _ in range(TF_QUEUE):  # no more, though they may come faster than they are taken
        with subscription.handle:
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
        if taken is None:
            return
        subscription.callback(taken[0])


def _feeds(rig: Rig, settings: NodeSettings, receiver: Receiver) -> list[_Feed]:
    feeds = [feed for camera in rig.cameras for feed in _camera_feeds(camera, settings, receiver)]
    on_tf, on_tf_static = (partial(receiver.on_transforms, static=static) for static in (False, True))
    both = (qos(latched=True, depth=TF_QUEUE), qos(depth=TF_QUEUE))  # some bridges and players send them volatile
    many = partial(_Feed, has_one_sender=False, is_drained=True)
    feeds.append(many(rig.tf_topic, (TRANSFORMS,), both[1:], on_tf))
    feeds.append(many(rig.tf_static_topic, (TRANSFORMS,), both, on_tf_static, is_sent_once=True))
    fast = (qos(reliable=False, depth=TF_QUEUE),)  # matches reliable senders too
    if settings.odometry_topic:
        on_odometry = receiver.on_odometry
        name = "odometry_topic"
        feeds.append(_Feed(settings.odometry_topic, (ODOMETRY,), fast, on_odometry, is_drained=True, parameter=name))
    if settings.imu_topic:
        name = "imu_topic"
        feeds.append(_Feed(settings.imu_topic, (IMU,), fast, receiver.on_imu, is_drained=True, parameter=name))
    return feeds


def _camera_feeds(camera: RigCamera, settings: NodeSettings, receiver: Receiver) -> tuple[_Feed, _Feed]:
    live = qos(reliable=settings.image_reliability == "reliable", depth=settings.image_queue)
    types = IMAGE_TYPES[::-1] if camera.is_compressed else IMAGE_TYPES
    return (
        _Feed(
            camera.topic,
            types if camera.compressed is None else types[:1],
            (live,),
            partial(receiver.on_image, camera.name),
        ),
        # Some drivers send CameraInfo with every image, others once and latched.
        _Feed(
            camera.info_topic,
            (CAMERA_INFO,),
            (live,),
            partial(receiver.on_camera_info, camera.name),
            may_be_latched=True,
        ),
    )
