"""The process that leads the node through its lifecycle: `python -m panoocc_ros.live_bench.transitions --report FILE`.

It stays in every state for a while, and reports when that was.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from panoocc_core.base.whole_files import write_json

from ..messages.types import POINT_CLOUD, VOXEL_GRID
from ..ros.argument_types import number
from ..ros.exit_codes import FAILED, INTERRUPTED, OK, failed
from ..ros.graph import message_class, qos
from ..ros.signals import stopped_by_signals

OUTPUTS = {"occupancy": VOXEL_GRID, "points": POINT_CLOUD}
PLAN: tuple[tuple[str, int | None], ...] = (
    ("unconfigured", None),
    ("inactive", Transition.TRANSITION_CONFIGURE),
    ("active, nobody listens", Transition.TRANSITION_ACTIVATE),
    ("active, occupancy and points are listened to", None),
    ("inactive again", Transition.TRANSITION_DEACTIVATE),
    ("unconfigured again", Transition.TRANSITION_CLEANUP),
)
LISTENING = 3  # the state of PLAN in which somebody listens


class Refused(RuntimeError):
    """The node did not take a transition, or is not there."""


def lead(node: Node, target: str, stay_s: float, stop: Event) -> list[tuple[str, float, float]]:
    """State, and between which instants (monotonic, seconds) the node was in it.

    Raises:
        Refused: see there.
    """
    client = node.create_client(ChangeState, f"/{target}/change_state")
    if not client.wait_for_service(300.0):
        raise Refused(f"there is no /{target}/change_state")
    times = []
    for place, (state, transition) in enumerate(PLAN):
        listeners = []
        if transition is not None:
            request = ChangeState.Request(transition=Transition(id=transition))
            future = client.call_async(request)
            rclpy.spin_until_future_complete(node, future, timeout_sec=300.0)
            if not future.done() or not future.result().success:
                raise Refused(f"the node did not become {state}; its log says why")
        if place == LISTENING:
            listeners = [
                node.create_subscription(message_class(kind), f"/{target}/{topic}", lambda _: None, qos(), raw=True)
                for topic, kind in OUTPUTS.items()
            ]
        begin_s = time.monotonic()
        while time.monotonic() < begin_s + stay_s and not stop.is_set():
            rclpy.spin_once(node, timeout_sec=0.05)
        times.append((state, begin_s, time.monotonic()))
        for one in listeners:
            node.destroy_subscription(one)
    return times


def main(arguments: Sequence[str] | None = None) -> int:
    """Lead the node through all states; returns the exit code."""
    parser = argparse.ArgumentParser(prog="transitions", description=__doc__)
    parser.add_argument("--node", default="panoocc", help="its name")
    parser.add_argument("--stay", type=number(1, 3600), default=20.0, metavar="S", help="in every state")
    parser.add_argument("--report", type=Path, required=True, metavar="FILE", help="when it was in which, as JSON")
    options = parser.parse_args(arguments)
    with stopped_by_signals() as stop:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        try:
            times = lead(rclpy.create_node("transitions"), options.node, options.stay, stop)
            if stop.is_set():
                return INTERRUPTED
            write_json(options.report, times)
            return OK
        except Refused as error:
            return failed("transitions", error, FAILED)
        finally:
            rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
