"""The node `evaluator`: compares an occupancy node's grids with the truth while they come, as numbers to plot.

Grids of equal stamps belong together.  After each one it publishes std_msgs/Float64: `~/iou`, `~/miou` and `~/pq` over
all grids so far, `~/frame/iou`, `~/frame/miou` and `~/frame/pq` of this one; on /diagnostics, IoU by class and what
found no partner.  The service `~/reset` begins anew.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import rclpy
from panoocc.msg import LabelSet, VoxelGrid
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from panoocc_core.metrics.panoptic import MIN_VOXELS

from ..health.publisher import Diagnostics
from ..messages import truth as truth_messages
from ..ros.graph import qos, take_what_has_come
from ..ros.parameter_fields import SettingsError, parameter
from ..ros.parameters import declared
from ..ros.signals import stopped_by_signals
from .evaluator import CAPACITY, PREDICTION, TRUTH, VISIBLE, Evaluator, FrameScores, evaluation_healths

SCORES = ("iou", "miou", "pq")  # fields of evaluation.Scores and names of topics
GRID_DEPTH, SCORE_DEPTH = 20, 10
LOG_PERIOD_S = 5.0  # a problem that comes with every grid is logged this often
STOP_TICK_S = 0.1  # how soon a signal ends the node
LAST_REPORT_S = 2.0
EXIT_BAD_START = 2


@dataclass(frozen=True, slots=True)
class EvaluatorSettings:
    """Parameters of the evaluator."""

    prediction: str = parameter("/panoocc/occupancy", "Topic of the grids to evaluate.")
    prediction_labels: str = parameter("/panoocc/labels", "Topic of their label set.")
    truth: str = parameter(truth_messages.OCCUPANCY, "Topic of the true grids.")
    truth_labels: str = parameter(truth_messages.LABELS, "Topic of their label set.")
    visible: str = parameter(
        truth_messages.VISIBLE, "Topic of what the cameras can see, outside which nothing counts; empty: all counts."
    )
    capacity: int = parameter(
        CAPACITY, "Grids of each topic that wait for their partners, or with them for a label set.", (1, 10_000)
    )
    min_voxels: int = parameter(
        MIN_VOXELS, "PQ: an unmatched segment, true or predicted, with fewer voxels does not count.", (1, 1_000_000)
    )
    diagnostics_period_s: float = parameter(1.0, "Time between two messages on /diagnostics.", (0.1, 60.0))


class EvaluatorNode(Node):
    """See the module; `options` are those of rclpy's Node.

    Raises:
        SettingsError: a parameter cannot be used.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("evaluator", **options)
        settings = declared(self, EvaluatorSettings)
        self._topics = {PREDICTION: settings.prediction, TRUTH: settings.truth}
        if settings.visible:
            self._topics[VISIBLE] = settings.visible
        self._evaluator = Evaluator(bool(settings.visible), settings.capacity, settings.min_voxels)
        self._senders = {
            path: self.create_publisher(Float64, f"~/{path}", qos(depth=SCORE_DEPTH))
            for path in (*SCORES, *(f"frame/{name}" for name in SCORES))
        }
        self.received = 0  # grids, true grids and views
        self._label_topics = {PREDICTION: settings.prediction_labels, TRUTH: settings.truth_labels}
        for kind, topic in self._label_topics.items():
            self.create_subscription(
                LabelSet, topic, functools.partial(self._on_labels, kind), qos(latched=True, depth=1)
            )
        for kind, topic in self._topics.items():
            self.create_subscription(VoxelGrid, topic, functools.partial(self._on_grid, kind), qos(depth=GRID_DEPTH))
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._diagnostics = Diagnostics(self)
        # A steady clock: reporting goes on when simulated time stands still.
        self.create_timer(settings.diagnostics_period_s, self.report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f"comparing {' and '.join(self._topics.values())}")

    def _on_labels(self, kind: str, message: LabelSet) -> None:
        found = self._evaluator.add_labels(kind, message)
        if kind in self._evaluator.label_problems:
            self.get_logger().error(self._evaluator.label_problems[kind], throttle_duration_sec=LOG_PERIOD_S)
        self._publish(found)

    def _on_grid(self, kind: str, message: VoxelGrid) -> None:
        self.received += 1
        found = self._evaluator.add(kind, message)
        self._publish([] if found is None else [found])

    def _publish(self, found: Sequence[FrameScores]) -> None:
        if self._evaluator.problem:
            self.get_logger().error(self._evaluator.problem, throttle_duration_sec=LOG_PERIOD_S)
        for scores in found:
            for name in SCORES:
                self._send(name, getattr(scores.running, name))
                self._send(f"frame/{name}", getattr(scores.frame, name))

    def _send(self, path: str, value: float) -> None:
        if not isnan(value):
            self._senders[path].publish(Float64(data=value))

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, f"{self._evaluator.pairs} compared grids are forgotten"
        self._evaluator.reset()
        return response

    def report(self) -> None:
        """Send the diagnostics."""
        self._diagnostics.publish(evaluation_healths(self._evaluator, self._topics, self._label_topics))

    def report_last(self) -> None:
        """Send the diagnostics, and wait until they have arrived where somebody listens."""
        self.report()
        self._diagnostics.wait_for_arrival(LAST_REPORT_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted and has said its last scores; returns the exit code."""
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    try:
        with stopped_by_signals() as stop:
            node = EvaluatorNode()
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            while not stop.is_set():
                executor.spin_once(timeout_sec=STOP_TICK_S)
            take_what_has_come(executor, lambda: node.received)
            node.report_last()
    except SettingsError as error:
        rclpy.logging.get_logger("evaluator").fatal(str(error))
        return EXIT_BAD_START
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
