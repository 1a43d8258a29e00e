"""Small helpers over rclpy that the player and the recorder share: classes of types, QoS, ends."""

import importlib
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

QUEUE = 100  # messages: a whole second of transforms at 100 Hz


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


def qos(reliable: bool = True, latched: bool = False, depth: int = QUEUE) -> QoSProfile:
    """Keep-last QoS; `latched` is transient local: whoever comes late still gets what was sent."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
