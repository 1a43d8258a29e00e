"""Small helpers over rclpy that the executables share: classes of types, QoS, who publishes a topic, ends."""

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message

QUEUE = 100  # messages: a whole second of transforms at 100 Hz
QUIET_S, MAX_WAIT_S = 0.2, 2.0  # at the end, for messages that have come but were not taken


class UnknownType(ValueError):
    """A message type whose Python package is not installed; the message names it."""


def message_class(type_name: str) -> Any:
    """The Python class of a type such as `sensor_msgs/msg/Image`.

    Raises:
        UnknownType: it is not a message type, or its package is not installed (or its workspace not sourced).
    """
    package, _, name = type_name.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownType(
            f"message type {type_name} is not installed; install its package or source its workspace"
        ) from error


def new_message(type_name: str, **fields: Any) -> Any:
    """A message of a type, with the fields that are given.

    Raises:
        UnknownType: as `message_class`.
    """
    return message_class(type_name)(**fields)


def to_bytes(message: Any) -> bytes:
    """The CDR bytes of a message."""
    return bytes(serialize_message(message))


def qos(reliable: bool = True, latched: bool = False, depth: int = QUEUE) -> QoSProfile:
    """Keep-last QoS; `latched` is transient local: whoever comes late still gets what was sent."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


@dataclass(frozen=True, slots=True)
class Offer:
    """One publisher of a topic, as the graph knows it."""

    node: str
    type: str
    is_reliable: bool
    is_latched: bool


def offers(node: Node, topic: str) -> list[Offer]:
    """The publishers of a topic; a name that does not begin with / is one of the node's namespace."""
    return [
        Offer(
            f"{one.node_namespace.rstrip('/')}/{one.node_name}",
            one.topic_type,
            one.qos_profile.reliability == ReliabilityPolicy.RELIABLE,
            one.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
        )
        for one in node.get_publishers_info_by_topic(topic)
    ]


def unheard(offered: Sequence[Offer], kind: str, profiles: Sequence[QoSProfile]) -> list[str]:
    """Why publishers are not heard by subscriptions of the type `kind` with these profiles, a sentence for each."""
    wants_reliable = all(one.reliability == ReliabilityPolicy.RELIABLE for one in profiles)
    wants_latched = all(one.durability == DurabilityPolicy.TRANSIENT_LOCAL for one in profiles)
    found = []
    for offer in offered:
        if offer.type != kind:
            found.append(f"{offer.node} sends {offer.type}, not {kind}")
        elif wants_reliable and not offer.is_reliable:
            found.append(f"the QoS of {offer.node} does not fit: RELIABILITY is BEST_EFFORT, RELIABLE is asked for")
        elif wants_latched and not offer.is_latched:
            found.append(f"the QoS of {offer.node} does not fit: DURABILITY is VOLATILE, TRANSIENT_LOCAL is asked for")
    return found


def deaf(node: Node, topic: str) -> str:
    """Why a subscriber does not hear a reliable, volatile publisher of a topic; empty where all do."""
    for one in node.get_subscriptions_info_by_topic(topic):
        if one.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL:
            name = f"{one.node_namespace.rstrip('/')}/{one.node_name}"
            return (
                f"the QoS of {name} does not fit: DURABILITY is VOLATILE, TRANSIENT_LOCAL is asked for; it gets nothing"
            )
    return ""


def take_what_has_come(executor: Executor, taken: Callable[[], int]) -> None:
    """Spin until the number of messages `taken` stands still: what lies in the queues at the end is not lost."""
    end_s = time.monotonic() + MAX_WAIT_S
    before, quiet_since_s = taken(), time.monotonic()
    while time.monotonic() < min(end_s, quiet_since_s + QUIET_S):
        executor.spin_once(timeout_sec=QUIET_S / 4)
        if taken() != before:
            before, quiet_since_s = taken(), time.monotonic()
