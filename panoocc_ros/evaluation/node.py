"""The node `evaluator`: compares an occupancy node's grids with the truth while they come, as numbers to plot.

Grids of equal stamps belong together.  After each one it publishes std_msgs/Float64 over all grids so far: `~/iou`,
`~/miou`, `~/pq`; where predictions have instance ids, `~/stq` and `~/id_switches`; where they and the truth say what is
visible, `~/visible_iou` and `~/free_but_occupied`, the share of what is called free and visible that is truly occupied.
Of this one: `~/frame/iou`, `~/frame/miou` and `~/frame/pq`; on /diagnostics, all scores, IoU by class and what found no
partner.  The service `~/reset` begins anew.
"""

import functools
from collections.abc import Callable, Sequence
from math import isnan
from typing import Any

import rclpy
from panoocc.msg import LabelSet, VoxelGrid
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from ..health.publisher import Diagnostics
from ..health.recent import Recent
from ..health.verdicts import callbacks_health
from ..ros.callbacks import Guard
from ..ros.exit_codes import BAD_INPUT
from ..ros.graph import qos, take_what_has_come
from ..ros.parameter_fields import SettingsError
from ..ros.parameters import declared, refusals_named
from ..ros.signals import stopped_by_signals
from ..ros.throttle import ProblemLog
from .evaluator import PREDICTION, TRUTH, Evaluator, FrameScores, evaluation_healths
from .settings import EvaluatorSettings

FRAME_SCORES = ("iou", "miou", "pq")  # fields of evaluation.Scores and names of topics
RUNNING_SCORES = (*FRAME_SCORES, "stq", "id_switches", "visible_iou", "free_but_occupied")
GRID_DEPTH, SCORE_DEPTH = 20, 10
STOP_TICK_S = 0.1  # how soon a signal ends the node
LAST_REPORT_S = 2.0


class EvaluatorNode(Node):
    """See the module; `options` are those of rclpy's Node.

    Raises:
        SettingsError: a parameter cannot be used.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("evaluator", **options)
        settings = declared(self, EvaluatorSettings)
        self._log = ProblemLog(self.get_logger())
        self._guard, self._failures = Guard(self._log, self.context.ok), Recent[str]()
        self._evaluator = Evaluator(settings.capacity, settings.min_voxels)
        self._senders = {
            path: self.create_publisher(Float64, f"~/{path}", qos(depth=SCORE_DEPTH))
            for path in (*RUNNING_SCORES, *(f"frame/{name}" for name in FRAME_SCORES))
        }
        self.received = 0  # grids and true grids
        topics = {PREDICTION: settings.prediction, TRUTH: settings.truth}
        label_topics = {PREDICTION: settings.prediction_labels, TRUTH: settings.truth_labels}
        self._label_topics = {
            kind: self._listen(LabelSet, topic, functools.partial(self._on_labels, kind), qos(latched=True, depth=1))
            for kind, topic in label_topics.items()
        }
        self._topics = {
            kind: self._listen(VoxelGrid, topic, functools.partial(self._on_grid, kind), qos(depth=GRID_DEPTH))
            for kind, topic in topics.items()
        }
        self.create_service(Trigger, "~/reset", self._guard.service(self._on_reset, "reset"))
        self._diagnostics = Diagnostics(self)
        # A steady clock: reporting goes on when simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(settings.diagnostics_period_s, self._guard(self.report, "report"), clock=steady)
        self.get_logger().info(f"comparing {' and '.join(self._topics.values())}")

    def _listen(self, message_type: type, topic: str, callback: Callable[[Any], None], profile: QoSProfile) -> str:
        """Subscribe; returns the topic with its namespace."""
        return str(self.create_subscription(message_type, topic, self._guard(callback, topic), profile).topic_name)

    def _on_labels(self, kind: str, message: LabelSet) -> None:
        found = self._evaluator.add_labels(kind, message)
        if kind in self._evaluator.label_problems:
            self._log.error(f"labels {kind}", self._evaluator.label_problems[kind])
        self._publish(found)

    def _on_grid(self, kind: str, message: VoxelGrid) -> None:
        self.received += 1
        found = self._evaluator.add(kind, message)
        self._publish([] if found is None else [found])

    def _publish(self, found: Sequence[FrameScores]) -> None:
        if self._evaluator.problem:
            self._log.error("problem", self._evaluator.problem)
        for scores in found:
            for name in RUNNING_SCORES:
                self._send(name, getattr(scores.running, name))
            for name in FRAME_SCORES:
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
        healths = evaluation_healths(self._evaluator, self._topics, self._label_topics)
        lately = self._failures.rises({"callbacks": self._guard.errors}).total()
        self._diagnostics.publish([*healths, callbacks_health(self._guard.errors, lately, self._guard.last_error)])

    def report_last(self) -> None:
        """Send the diagnostics, and wait until they have arrived where somebody listens."""
        self.report()
        self._diagnostics.wait_for_arrival(LAST_REPORT_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted and has said its last scores; returns the exit code."""
    try:
        with stopped_by_signals() as stop:
            with refusals_named():
                rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
                node = EvaluatorNode()
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            while not stop.is_set():
                executor.spin_once(timeout_sec=STOP_TICK_S)
            take_what_has_come(executor, lambda: node.received)
            node.report_last()
    except SettingsError as error:
        rclpy.logging.get_logger("evaluator").fatal(str(error))
        return BAD_INPUT
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
