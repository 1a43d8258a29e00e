"""Records topics into a rosbag2: raw CDR bytes, true types.

`python -m panoocc_ros.bags.record /panoocc/occupancy /diagnostics --out grids.mcap` ends with Ctrl-C, after `--count`
messages, or after `--timeout` seconds.  The bag gets its name only when it is whole; whatever ends it before, what was
recorded stays as NAME.partial.mcap, and after a kill in the folder NAME.part.
"""

import argparse
import functools
import math
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from ..ros.argument_types import number, whole_number
from ..ros.exit_codes import BAD_INPUT, NOT_WRITTEN, OK, TOO_FEW, failed
from ..ros.graph import UnknownType, message_class, qos, take_what_has_come
from ..ros.parameter_fields import SettingsError
from ..ros.parameters import refusals_named, without_ros_arguments
from ..ros.signals import stopped_by_signals
from .bag import BagError, BagWriteError
from .writer import BagWriter

MAX_EARLY = 1000  # messages that wait for simulated time to begin
FLUSH_S = 1.0  # what a kill may cost


class Recorder:
    """Subscribes to topics as soon as somebody publishes them, and writes what comes."""

    def __init__(self, node: Node, writer: BagWriter, topics: Sequence[str]) -> None:
        self._node, self._writer = node, writer
        self._missing = set(topics)
        self._early: list[tuple[str, str, bool, bytes, int]] = []  # what came before the first /clock, and when
        self._by_wall_clock = False
        self.counts = dict.fromkeys(topics, 0)

    def discover(self) -> None:
        """Subscribe to the topics that have appeared.

        Raises:
            UnknownType: a topic's type is not installed.
        """
        for topic, kinds in self._node.get_topic_names_and_types() if self._missing else ():
            publishers = self._node.get_publishers_info_by_topic(topic) if topic in self._missing else ()
            if publishers:
                self._missing.discard(topic)
                latched = all(info.qos_profile.durability == qos(latched=True).durability for info in publishers)
                reliable = all(info.qos_profile.reliability == qos().reliability for info in publishers)
                callback = functools.partial(self._write, topic, kinds[0], latched)
                kind = message_class(kinds[0])
                self._node.create_subscription(kind, topic, callback, qos(reliable, latched), raw=True)
                print(f"record: {topic} ({kinds[0]})", flush=True)

    @property
    def missing(self) -> list[str]:
        """Topics that nobody has published yet."""
        return sorted(self._missing)

    def _write(self, topic: str, kind: str, latched: bool, data: bytes) -> None:
        self.counts[topic] += 1
        self._early.append((topic, kind, latched, data, time.time_ns()))
        if len(self._early) > MAX_EARLY and self._now_ns() == 0:
            self._give_up_clock()
        if self._by_wall_clock or self._now_ns() > 0:
            self._write_early()

    def finish(self) -> None:
        """Write what still waits for simulated time; where there is none, with the wall clock's time of arrival."""
        if self._early and self._now_ns() == 0:
            self._give_up_clock()
        self._write_early()

    def _give_up_clock(self) -> None:
        # For good: a bag must not change from one clock to another.
        self._by_wall_clock = True
        print("record: no /clock came; the bag has the wall clock's times of arrival", file=sys.stderr)

    def _write_early(self) -> None:
        now_ns = self._now_ns()
        for topic, kind, latched, data, wall_ns in self._early:
            self._writer.write(topic, kind, wall_ns if self._by_wall_clock else now_ns, data, latched)
        self._early.clear()

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)


def record(arguments: argparse.Namespace, node: Node, stop: threading.Event) -> dict[str, int]:
    """Record as the command line says, or until `stop` is set; returns the messages per topic.

    Raises:
        BagError: the bag cannot be written.
        UnknownType: a topic's type is not installed.
    """
    end_s = time.monotonic() + arguments.timeout
    with BagWriter(arguments.out, overwrite=arguments.overwrite, keep=True) as writer:
        recorder = Recorder(node, writer, arguments.topics)
        next_look_s = next_flush_s = 0.0
        executor = SingleThreadedExecutor(context=node.context)  # rclpy.spin_once would set one up each time
        executor.add_node(node)
        while not stop.is_set() and time.monotonic() < end_s:
            if time.monotonic() >= next_look_s:
                recorder.discover()
                next_look_s = time.monotonic() + 0.1
            if time.monotonic() >= next_flush_s:
                writer.flush()
                next_flush_s = time.monotonic() + FLUSH_S
            executor.spin_once(timeout_sec=0.1)
            if arguments.count and sum(recorder.counts.values()) >= arguments.count:
                break
        else:
            take_what_has_come(executor, lambda: sum(recorder.counts.values()))
        executor.shutdown(timeout_sec=0)
        recorder.finish()
    for topic in recorder.missing:
        print(f"record: nobody published {topic}", file=sys.stderr)
    return recorder.counts


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="record_bag", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("topics", nargs="+", metavar="TOPIC", help="topics to record; they may appear later")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="BAG", help="one file where the name ends in .mcap, else a folder"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a bag of panoocc's of this name")
    parser.add_argument(
        "--count", type=whole_number(0), default=0, metavar="N", help="end after N messages (default: 0, no limit)"
    )
    parser.add_argument(
        "--timeout", type=number(0.0), default=math.inf, metavar="S", help="end after S seconds (default: no limit)"
    )
    parser.add_argument("--use-sim-time", action="store_true", help="time of recording from /clock")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Record; `argv` is as for the player.

    Returns the exit code: 0; 2 bad input; 3 fewer messages came than `--count`; 4 the bag could not be written.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        arguments = parser().parse_args(without_ros_arguments(words))
        with stopped_by_signals() as stop:
            with refusals_named():
                rclpy.init(args=words, signal_handler_options=SignalHandlerOptions.NO)
                use_sim_time = Parameter("use_sim_time", value=arguments.use_sim_time)
                node = rclpy.create_node("record_bag", parameter_overrides=[use_sim_time])
            counts = record(arguments, node, stop)
    except (BagError, UnknownType, SettingsError) as error:
        return failed("record", error, NOT_WRITTEN if isinstance(error, BagWriteError) else BAD_INPUT)
    finally:
        rclpy.try_shutdown()
    print(f"record: {arguments.out}: " + ", ".join(f"{count} on {topic}" for topic, count in counts.items()))
    return TOO_FEW if sum(counts.values()) < arguments.count else OK


if __name__ == "__main__":
    raise SystemExit(main())
