"""Small helpers over rclpy that the executables share: classes of types, QoS, ends."""

import importlib
import time
from collections.abc import Callable
from typing import Any

from rclpy.executors import Executor
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

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


def qos(reliable: bool = True, latched: bool = False, depth: int = QUEUE) -> QoSProfile:
    """Keep-last QoS; `latched` is transient local: whoever comes late still gets what was sent."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def take_what_has_come(executor: Executor, taken: Callable[[], int]) -> None:
    """Spin until the number of messages `taken` stands still: what lies in the queues at the end is not lost."""
    end_s = time.monotonic() + MAX_WAIT_S
    before, quiet_since_s = taken(), time.monotonic()
    while time.monotonic() < min(end_s, quiet_since_s + QUIET_S):
        executor.spin_once(timeout_sec=QUIET_S / 4)
        if taken() != before:
            before, quiet_since_s = taken(), time.monotonic()
