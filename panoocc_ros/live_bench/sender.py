"""The process that plays the cameras: `python -m panoocc_ros.live_bench.sender BAG --report FILE`.

It waits until somebody listens to every camera, sends the bag's images again and again with stamps of now, as
best-effort publishers like those of drivers, and reports what it has sent.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from panoocc_core import ConfigError
from panoocc_core.base.whole_files import write_json
from panoocc_core.geometry import NS_PER_S

from ..bags.bag import BagError, BagReader
from ..frames.rig import Rig, load_rig
from ..health.latency import summarise
from ..messages.types import IMAGE_TYPES, TRANSFORMS
from ..ros.argument_types import number, whole_number
from ..ros.exit_codes import BAD_INPUT, INTERRUPTED, NO_SUBSCRIBER, OK, failed
from ..ros.graph import message_class, qos
from ..ros.signals import stopped_by_signals
from .feed import mounts_and_feeds, schedule, topics_of

SENSOR_DEPTH = 5
SETTLE_S = 1.0  # after everybody was found: discovery goes both ways


class Cameras(Node):
    """The publishers of a bag's cameras, poses and mounts."""

    def __init__(self, bag: Path, rig: Rig, at_once: bool) -> None:
        super().__init__("cameras")
        with BagReader(bag) as reader:
            mounts, feeds = mounts_and_feeds(reader, rig)
        self.feeds = tuple(replace(feed, offset_ns=0) for feed in feeds) if at_once else feeds
        self._rig = rig
        topics = {
            topic: (kind, qos(reliable=False, depth=SENSOR_DEPTH)) for topic, kind in topics_of(self.feeds).items()
        }
        topics |= {rig.tf_topic: (TRANSFORMS, qos()), rig.tf_static_topic: (TRANSFORMS, qos(latched=True, depth=1))}
        self._senders = {
            topic: self.create_publisher(message_class(kind), topic, profile)
            for topic, (kind, profile) in topics.items()
        }
        self._senders[rig.tf_static_topic].publish(mounts)

    @property
    def unheard(self) -> list[str]:
        """Topics that nobody listens to."""
        return [topic for topic, sender in self._senders.items() if not sender.get_subscription_count()]

    def send(self, rate_hz: float, sets: int, stop: Event) -> dict[str, Any] | None:
        """Send sets of images in real time; returns what was sent, None where it was stopped."""
        sent, late_ms, begin_s = Counter[str](), [], time.monotonic()
        for message in schedule(self.feeds, self._rig, rate_hz, sets, time.time_ns()):
            wait_s = (message.due_ns - time.time_ns()) / NS_PER_S
            if wait_s > 0:
                time.sleep(wait_s)
            if stop.is_set():
                return None
            self._senders[message.topic].publish(message.data)
            sent[message.topic] += 1
            late_ms.append(max(0.0, -wait_s) * 1e3)
        images = {feed.image_topic: sent[feed.image_topic] for feed in self.feeds}
        return {"images": images, "span_s": [begin_s, time.monotonic()], "late_ms": summarise(late_ms)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Send all sets; returns the exit code."""
    options = _parser().parse_args(arguments)
    with stopped_by_signals() as stop:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        try:
            rig = load_rig(options.rig)
            cameras = Cameras(options.bag, rig.select(tuple(options.cameras or rig.names)), options.at_once)
            end_s = time.monotonic() + options.wait
            while cameras.unheard and not stop.wait(0.05):
                if time.monotonic() > end_s:
                    text = f"after {options.wait:g} s nobody listens to {', '.join(cameras.unheard)}"
                    return failed("cameras", text, NO_SUBSCRIBER)
            stop.wait(SETTLE_S)
            report = cameras.send(options.rate, options.sets, stop)
            if report is None:
                return INTERRUPTED
            write_json(options.report, report)
            stop.wait(SETTLE_S)  # what was sent last leaves before the publishers go
            return OK
        except (BagError, ConfigError) as error:
            return failed("cameras", error, BAD_INPUT)
        finally:
            rclpy.try_shutdown()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cameras", description=__doc__)
    parser.add_argument("bag", type=Path, help=f"bag with images ({' or '.join(IMAGE_TYPES)}) of the rig")
    parser.add_argument("--rig", default="nuscenes", help="rig, as for the node")
    parser.add_argument("--cameras", nargs="+", metavar="NAME", help="of the rig that send (default: all)")
    parser.add_argument("--rate", type=number(0.1, 100), default=12.0, metavar="HZ", help="sets a second")
    parser.add_argument("--sets", type=whole_number(1, 1_000_000), default=240, help="how many sets")
    parser.add_argument("--wait", type=number(0, 3600), default=300.0, metavar="S", help="for listeners")
    parser.add_argument("--at-once", action="store_true", help="all cameras at one instant, not as in the bag")
    parser.add_argument("--report", type=Path, required=True, metavar="FILE", help="what was sent, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
