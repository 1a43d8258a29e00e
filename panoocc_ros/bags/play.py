"""Plays a rosbag2 over DDS: raw CDR bytes, true types, in the rhythm of its stamps or of the node that works on it.

`python -m panoocc_ros.bags.play BAG --wait-for-node panoocc --step` sends one set of images, waits for its grid, and
so on.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import rclpy
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from tqdm import tqdm

from ..health.watch import NodeWatch
from ..messages.types import IMAGE_TYPES, LATCHED_TYPES, TRANSFORMS
from ..ros.argument_types import LOOPS, RATE, number, whole_number
from ..ros.exit_codes import BAD_INPUT, INTERRUPTED, NO_ANSWER, NO_SUBSCRIBER, OK, failed
from ..ros.graph import UnknownType, message_class, qos
from ..ros.parameter_fields import SettingsError
from ..ros.parameters import refusals_named, without_ros_arguments
from .bag import LATCHED_TOPICS, BagError, BagReader, RawMessage
from .pacing import Pacer, steps

STEP_LEAD_NS = 500_000_000
TICK_S = 0.01
LAST_S = 2.0  # for the last messages to arrive
CLOCK_HZ = 40.0  # as `ros2 bag play --clock`


class PlayError(RuntimeError):
    """Playing cannot go on; `code` is the exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


@dataclass(slots=True)
class PlayReport:
    """What was sent."""

    messages: int = 0
    steps: int = 0
    unanswered: int = 0  # steps after which the node gave no grid
    max_late_s: float = 0.0  # against the clock on the wall
    topics: int = 0  # with messages
    unheard: tuple[str, ...] = ()  # of these, those that nobody had subscribed to whenever something was sent


class Player:
    """Publishers for the topics of a bag, and the simulated clock, which is set at most `clock_hz` times a second."""

    def __init__(self, node: Node, types: dict[str, str], clock_hz: float | None = None) -> None:
        self.types = types
        self._node = node
        self._executor = SingleThreadedExecutor(context=node.context)  # rclpy.spin_once would set one up each time
        self._executor.add_node(node)
        self._publishers = {
            topic: node.create_publisher(message_class(kind), topic, qos(latched=_is_latched(topic, kind)))
            for topic, kind in types.items()
        }
        self._heard: dict[str, bool] = {}  # topic that was sent -> whether anybody has subscribed to it
        self._clock = node.create_publisher(Clock, "/clock", qos(depth=1)) if clock_hz else None
        self._clock_period_ns = int(1e9 / clock_hz) if clock_hz else 0
        self._clock_ns: int | None = None
        self._clock_due_ns: int | None = None  # not before this time is the clock set again

    def topics_of(self, *kinds: str) -> frozenset[str]:
        """The topics of some types."""
        return frozenset(topic for topic, kind in self.types.items() if kind in kinds)

    def wait_for_subscribers(self, topics: Collection[str], timeout_s: float) -> None:
        """Return when every one of `topics` has a subscriber.

        Raises:
            PlayError: a topic is not played, or has no subscriber in time.
        """
        absent = sorted(set(topics) - set(self._publishers))
        if absent:
            raise PlayError(f"the bag has no topic {', '.join(absent)}", BAD_INPUT)
        end_s = time.monotonic() + timeout_s
        while missing := [topic for topic in topics if not self._publishers[topic].get_subscription_count()]:
            if time.monotonic() > end_s:
                raise PlayError(f"nobody has subscribed to {', '.join(missing)} within {timeout_s:g} s", NO_SUBSCRIBER)
            self.spin(0.05)

    def send(self, message: RawMessage) -> None:
        """Publish the bytes of one message, after the clock if there is one and it is due."""
        self.set_clock(message.stamp_ns)
        publisher = self._publishers[message.topic]
        self._heard[message.topic] = self._heard.get(message.topic) or publisher.get_subscription_count() > 0
        publisher.publish(message.data)

    @property
    def heard(self) -> dict[str, bool]:
        """Every topic that was sent, and whether anybody had subscribed to it, or has by now (the latched ones)."""
        now = {topic: self._publishers[topic].get_subscription_count() > 0 for topic in self._heard}
        return {topic: heard or now[topic] for topic, heard in self._heard.items()}

    def set_clock(self, stamp_ns: int) -> None:
        """Set the simulated clock; it does not go back before `rewind`."""
        self._clock_ns = stamp_ns if self._clock_ns is None else max(stamp_ns, self._clock_ns)
        if self._clock is not None and (self._clock_due_ns is None or self._clock_ns >= self._clock_due_ns):
            clock = Clock()
            clock.clock.sec, clock.clock.nanosec = divmod(self._clock_ns, 1_000_000_000)
            self._clock.publish(clock)
            self._clock_due_ns = self._clock_ns + self._clock_period_ns

    def rewind(self) -> None:
        """The next message may be older than the last one: a new loop."""
        self._clock_ns = self._clock_due_ns = None

    def spin(self, timeout_s: float) -> None:
        """Let subscriptions and discovery work for a while."""
        end_s = time.monotonic() + timeout_s
        while (left_s := end_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left_s)

    def wait_for_arrival(self, timeout_s: float) -> None:
        """Return when all reliable subscribers have what was published, or the time is over."""
        end_s = time.monotonic() + timeout_s
        for publisher in self._publishers.values():
            left_s = max(0.0, end_s - time.monotonic())
            publisher.wait_for_all_acked(Duration(nanoseconds=round(left_s * 1e9)))

    def close(self) -> None:
        """Spin and publish no more; the node is free for others."""
        self._executor.shutdown(timeout_sec=0)
        for publisher in (*self._publishers.values(), *filter(None, (self._clock,))):
            self._node.destroy_publisher(publisher)

    def run_clock(self) -> None:
        """Spin for one tick, the clock running on: what waits for a deadline must not wait for ever."""
        begin_ns = time.monotonic_ns()
        self.spin(TICK_S)
        if self._clock_ns is not None:
            self.set_clock(self._clock_ns + time.monotonic_ns() - begin_ns)


def play(arguments: argparse.Namespace, node: Node) -> PlayReport:
    """Play a bag as the command line says.

    Raises:
        BagError: the bag cannot be read.
        PlayError: nobody listens, or the node that is waited for does not answer.
    """
    with (
        BagReader(arguments.bag) as bag,
        closing(Player(node, _playable(bag.topics, arguments.topics), arguments.clock)) as player,
        _watch(node, arguments.wait_for_node) as watch,
    ):
        if watch:
            _wait_for_node(watch, player, arguments)
        if arguments.wait_for_subscribers is not None:
            player.wait_for_subscribers(arguments.wait_for_subscribers or list(player.types), arguments.wait_timeout)
        report = PlayReport()
        for loop in itertools.count(1) if arguments.loop == 0 else range(1, arguments.loop + 1):
            player.rewind()
            messages = _shown(bag, player.types, f"loop {loop}" if loop > 1 else "playing", arguments.quiet, report)
            _play_once(player, watch, messages, arguments, report)
        if watch and not watch.wait_until_idle(arguments.step_timeout, player.run_clock):
            text = f"node {arguments.wait_for_node} is still busy {arguments.step_timeout:g} s after the last message"
            raise PlayError(text, NO_ANSWER)
        player.wait_for_arrival(LAST_S)
        report.topics = len(player.heard)
        report.unheard = tuple(topic for topic, heard in player.heard.items() if not heard)
    return report


@contextmanager
def _watch(node: Node, name: str | None) -> Iterator[NodeWatch | None]:
    if not name:
        yield None
        return
    with closing(NodeWatch(node, name)) as watch:
        yield watch


def _wait_for_node(watch: NodeWatch, player: Player, arguments: argparse.Namespace) -> None:
    name, timeout_s, wanted = arguments.wait_for_node, arguments.wait_timeout, arguments.wait_for_listeners
    if not watch.wait_until_idle(timeout_s, lambda: player.spin(TICK_S)):
        raise PlayError(f"node {name} is not there, or not ready, within {timeout_s:g} s", NO_SUBSCRIBER)
    if not watch.wait_for_listeners(wanted, timeout_s, lambda: player.spin(TICK_S)):
        text = f"the grids of node {name} have {watch.listeners} of {wanted} listeners after {timeout_s:g} s"
        raise PlayError(text, NO_SUBSCRIBER)


def _play_once(
    player: Player,
    watch: NodeWatch | None,
    messages: Iterator[RawMessage],
    arguments: argparse.Namespace,
    report: PlayReport,
) -> None:
    if watch is None or not arguments.step:
        _play_paced(player, messages, arguments.rate, report)
        return
    for group in steps(messages, player.topics_of(*IMAGE_TYPES), player.topics_of(TRANSFORMS), STEP_LEAD_NS):
        known = watch.grids
        for message in group:
            player.send(message)
        report.steps += 1
        report.unanswered += not watch.wait_for_grid(known, arguments.step_timeout, player.run_clock)


def _play_paced(player: Player, messages: Iterable[RawMessage], rate: float, report: PlayReport) -> None:
    pacer = Pacer(rate)
    for message in messages:
        while (wait_s := pacer.wait_s(message.stamp_ns)) > 0:
            player.set_clock(message.stamp_ns - int(wait_s * rate * 1e9))
            player.spin(min(wait_s, TICK_S))
        report.max_late_s = max(report.max_late_s, -wait_s)
        player.send(message)


def _is_latched(topic: str, kind: str) -> bool:
    return topic in LATCHED_TOPICS or kind in LATCHED_TYPES


def _playable(types: dict[str, str], wanted: Sequence[str] | None) -> dict[str, str]:
    """The topics to play, with their types; whoever asks for a topic by name gets it or an error."""
    absent = sorted(set(wanted or ()) - set(types))
    if absent:
        raise PlayError(f"the bag has no topic {', '.join(absent)}; it has {', '.join(types)}", BAD_INPUT)
    playable = {}
    for topic in types if wanted is None else wanted:
        try:
            message_class(types[topic])
            playable[topic] = types[topic]
        except UnknownType as error:
            if wanted is not None:
                raise PlayError(f"{topic}: {error}", BAD_INPUT) from error
            print(f"play: {topic} is left out: {error}", file=sys.stderr)
    playable.pop("/clock", None)  # --clock gives the time
    return playable


def _shown(
    bag: BagReader, topics: Collection[str], title: str, quiet: bool, report: PlayReport
) -> Iterator[RawMessage]:
    """The messages of the bag, counted and with a progress bar."""
    with tqdm(total=bag.count(topics), desc=title, unit="msg", disable=quiet, mininterval=0.5) as bar:
        for message in bag.messages(topics):
            yield message
            report.messages += 1
            bar.update()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="play_bag", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bag", type=Path, help="rosbag2 folder, or .mcap or .db3 file")
    parser.add_argument("--topics", nargs="+", metavar="TOPIC", help="play these only")
    parser.add_argument("--rate", type=RATE, default=1.0, help="times real time (default: 1)")
    parser.add_argument("--loop", type=LOOPS, default=1, metavar="N", help="how often; 0: for ever (default: 1)")
    parser.add_argument(
        "--clock",
        nargs="?",
        type=number(1e-3, 1e6),
        const=CLOCK_HZ,
        metavar="HZ",
        help=f"publish /clock, for nodes with use_sim_time, at most so many times a second (default: {CLOCK_HZ:g})",
    )
    parser.add_argument(
        "--wait-for-subscribers",
        nargs="*",
        metavar="TOPIC",
        help="begin when these topics have a subscriber (without names: all that are played)",
    )
    parser.add_argument(
        "--wait-for-node",
        metavar="NODE",
        help="begin when this occupancy node, e.g. panoocc or robot1/panoocc, says in /diagnostics that it is ready, "
        "and end when it is idle again",
    )
    parser.add_argument(
        "--wait-for-listeners",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="begin when that node's grids have so many subscribers beside this player, such as a recorder "
        "(default: 0)",
    )
    parser.add_argument(
        "--step", action="store_true", help="one set of images at a time: go on when the node has given its grid"
    )
    parser.add_argument(
        "--wait-timeout",
        type=number(1e-3, 1e6),
        default=60.0,
        metavar="S",
        help="seconds to wait at the start (default: 60)",
    )
    parser.add_argument(
        "--step-timeout",
        type=number(1e-3, 1e6),
        default=120.0,
        metavar="S",
        help="seconds to wait for a grid (default: 120)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Play a bag; `argv` is without the program's name, and may have --ros-args.  Returns the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        arguments = parser().parse_args(without_ros_arguments(words))
        if arguments.step and not arguments.wait_for_node:
            parser().error("--step needs --wait-for-node: whose grids are to be waited for?")
        if arguments.wait_for_listeners and not arguments.wait_for_node:
            parser().error("--wait-for-listeners needs --wait-for-node: whose listeners are to be waited for?")
        with refusals_named():
            rclpy.init(args=words)
            node = rclpy.create_node("play_bag")
        report = play(arguments, node)
    except (BagError, PlayError, SettingsError) as error:
        return failed("play", error, error.code if isinstance(error, PlayError) else BAD_INPUT)
    except (KeyboardInterrupt, ExternalShutdownException):
        return INTERRUPTED
    finally:
        rclpy.try_shutdown()
    how = f"at most {report.max_late_s * 1e3:.0f} ms late"
    if report.steps:
        how = f"{report.steps} sets, {report.unanswered} without a grid"
    print(f"play: {report.messages} messages, {how}")
    if report.unheard:
        print(f"play: nobody has subscribed to {', '.join(report.unheard)}", file=sys.stderr)
    return NO_SUBSCRIBER if report.topics and len(report.unheard) == report.topics else OK


if __name__ == "__main__":
    raise SystemExit(main())
