"""All topics of OUTPUTS and ANNOUNCEMENTS as rows of one table, for the command and the documents."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .catalogue import ANNOUNCEMENTS, OUTPUTS
from .output_options import MAX_RATE, OutputOptions


@dataclass(frozen=True, slots=True)
class TopicRow:
    """One topic below `~/` of the node, or below `/panoocc/` in a bag.  All are sent reliably."""

    topic: str
    type: str  # sensor_msgs/PointCloud2
    what: str  # what is in a message
    frame: str  # the parameter that names it; "": none
    needs: tuple[str, ...]  # of a grid beside the classes of its voxels
    depth: int
    latched: bool
    max_rate: str  # the parameter; "": it is sent once
    max_rate_hz: float  # its default; 0: as often as grids come
    optional: bool  # the node has it where the package of the type is installed
    in_node: bool
    in_bags: bool
    by_default: bool  # in bags


def topic_rows() -> list[TopicRow]:
    """The outputs, and what is announced once."""
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(OutputOptions)}
    rows = []
    for one in OUTPUTS:
        rate = one.rate.replace("/", "_") + MAX_RATE
        rows.append(
            TopicRow(
                one.topic,
                *_described(one.type, one.make),
                frame=one.frame,
                needs=tuple(sorted(one.needs)),
                depth=one.depth,
                latched=one.latched,
                max_rate=rate,
                max_rate_hz=defaults[rate],
                optional=one.optional,
                in_node=one.in_node,
                in_bags=one.in_bags,
                by_default=one.in_bags and one.by_default,
            )
        )
    for sent_once in ANNOUNCEMENTS:
        described = _described(sent_once.type, sent_once.make)
        rows.append(
            TopicRow(sent_once.topic, *described, "", (), 1, True, "", 0.0, sent_once.optional, True, True, True)
        )
    return rows


def _described(kind: str, make: Callable[..., Any]) -> tuple[str, str]:
    """The short name of a type, and what the function says that is in its messages."""
    return kind.replace("/msg/", "/"), (make.__doc__ or "").partition(": ")[2].rstrip(".")
