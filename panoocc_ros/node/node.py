"""The node `panoocc`: surround cameras, their calibrations and transforms in, voxel grids out.

The executor's thread only takes messages in and asks the assembler for complete sets; images are decoded and the
network runs in one worker thread, which always takes the newest set.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from panoocc_core import OccupancyStream
from panoocc_core.base.host_memory import keep_freed_memory

from ..frames.assembler import FrameAssembler
from ..frames.sets import ReadySet
from ..health.arrivals import Arrivals
from ..health.latency import StageTimes
from ..health.ledger import Ledger
from ..health.publisher import Diagnostics
from ..health.running_time import RunningTime
from ..health.verdicts import READY_TO_OUTPUT
from ..outputs.catalogue import GRID_2D
from ..outputs.planner_outputs import check_outputs
from ..ros.callbacks import Guard
from ..ros.exit_codes import BAD_INPUT
from ..ros.parameter_fields import SettingsError
from ..ros.parameters import declared, refusals_named
from ..ros.throttle import ProblemLog
from ..streams.cloud_queue import reads_logits
from .cloud_output import CloudOutput
from .inputs import Inputs
from .load import chosen_calibration, chosen_config, chosen_rig, loaded_network, placed_by, rig_for, unused
from .publishers import Publishers
from .settings import NodeSettings, camera_limits
from .status import StatusReport, model_facts
from .step import Lost, error_text, step
from .worker import Worker

TICK_S = 0.05  # how often waiting sets look for what they lack
FOLLOW_S = 0.2  # how often the types of the topics are looked up
STOP_S = 2.0
MAX_STAMP_AGE_S = 60.0  # older stamps are of another clock (a bag played without /clock)


@dataclass(frozen=True, slots=True)
class Job:
    """A complete set on its way to the worker."""

    ready: ReadySet
    reset: str | None  # the memory is to be cleared before this set, for this reason
    since_s: float  # time.perf_counter() when the set was complete


def keep_reset(old: Job, new: Job) -> Job:
    """A set that is replaced before its turn must not take its reset with it."""
    return replace(new, reset=new.reset or old.reset)


class OccupancyNode(Node):
    """See the module; `options` are those of rclpy's Node.

    Raises:
        SettingsError: a parameter cannot be used; nothing was subscribed to.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("panoocc", **options)
        begin_s = time.perf_counter()
        self._settings = settings = declared(self, NodeSettings)
        config = chosen_config(settings.model, camera_limits(settings), settings.instances)
        rig = chosen_rig(
            settings.rig,
            config,
            settings.base_frame,
            settings.fixed_frame,
            settings.sync_spread_ms,
        )
        self._rig = rig_for(config, rig, settings.network_frame)
        for sentence in unused(config, rig, settings.network_frame):
            self.get_logger().info(sentence)
        calibration = chosen_calibration(settings.calibration, rig)
        check_outputs(settings, placed_by(calibration, config))
        self.get_logger().info(f"loading {config.name}")
        network = loaded_network(
            config,
            settings.checkpoint,
            settings.seeded_weights,
            settings.device,
            settings.precision,
            settings.threads,
        )
        facts = model_facts(settings, config, str(network.device), time.perf_counter() - begin_s)
        self._stream = OccupancyStream(network)
        self._time = RunningTime(self._now_ns)
        self._log = ProblemLog(self.get_logger())
        self._assembler = FrameAssembler(self._rig, settings, calibration, config, settings.grid_frame)
        self._arrivals, self._ledger = Arrivals(self._rig.names, self._time), Ledger(self._time)
        self._times = StageTimes()
        self._outputs = Publishers(
            self, settings, rig.names, self._rig.base_frame, config.panoptic.instances, config.labels
        )
        self._outputs.announce()
        self._guard = Guard(self._log, self.context.ok)
        self._reads_logits = reads_logits(config)
        self._clouds = (
            CloudOutput(self, settings, config, self._assembler, self._guard, self._time)
            if settings.label_points_topic
            else None
        )
        self._worker = Worker(self._work, self._on_failure, keep_reset, "inference")
        self._requested_reset: str | None = None
        self._inputs = Inputs(self, self._rig, settings, self, self._guard)
        self._status = StatusReport(self._rig, settings, facts, self._time, self.get_logger())
        self._diagnostics = Diagnostics(self)
        self._serve()
        self._log_start(facts)

    def _serve(self) -> None:
        self.create_service(Trigger, "~/reset_history", self._guard.service(self._on_reset_history, "reset_history"))
        # A steady clock: waiting and reporting go on when simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        for period_s, callback in (
            (TICK_S, self._poll),
            (FOLLOW_S, self._inputs.follow),
            (self._settings.diagnostics_period_s, self._report),
        ):
            self.create_timer(period_s, self._guard(callback, callback.__name__.lstrip("_")), clock=steady)

    def on_image(self, camera: str, message: Image | CompressedImage) -> None:
        """Take an image of a camera."""
        self._arrivals.on_image(camera)
        self._assembler.on_image(camera, message, self._now_ns())
        self._poll()

    def on_camera_info(self, camera: str, message: CameraInfo) -> None:
        """Take the calibration of a camera."""
        self._assembler.on_camera_info(camera, message)

    def on_transforms(self, message: TFMessage, static: bool) -> None:
        """Take transforms of /tf or /tf_static."""
        self._assembler.on_transforms(message, static)

    def _on_reset_history(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._requested_reset = "requested by service"
        response.success, response.message = True, "the memory is cleared before the next set"
        return response

    def _poll(self) -> None:
        """Hand complete sets to the worker."""
        self._time()  # a clock that is seldom looked at seems to jump
        wants_map = self._outputs.has_listener(GRID_2D)
        while (ready := self._assembler.poll(self._now_ns(), wants_map)) is not None:
            reset, self._requested_reset = ready.reset or self._requested_reset, None
            self._ledger.complete()
            if self._worker.submit(Job(ready, reset, time.perf_counter())) is not None:
                self._ledger.replace()
        self._ledger.formed(self._assembler.sets_formed)
        if self._clouds is not None:
            self._clouds.poll(self._now_ns())

    def _work(self, job: Job) -> None:
        """Worker thread: one set from messages to grids."""
        self._ledger.begin()
        try:
            self._work_on(job)
        finally:
            self._ledger.end()

    def _work_on(self, job: Job) -> None:
        begin_s = time.perf_counter()
        wants_clouds = self._clouds is not None and self._clouds.has_listener
        wanted = self._outputs.wanted(job.ready.stamp_ns)
        if wants_clouds:
            wanted = replace(wanted, instances=True, logits=self._reads_logits)
        done = step(
            self._assembler,
            self._stream,
            job.ready,
            job.reset,
            wanted,
        )
        if not rclpy.ok():
            return  # the node ended during the step
        for number, text in enumerate(done.geometry or ()):
            self._log.warn(f"geometry {number}", text)
        if isinstance(done, Lost):
            self._on_lost(done)
            return
        if (reason := done.occupancy.history.reset) is not None:
            self._log.warn(f"reset {reason}", f"the memory is cleared: {reason}")
        stepped_s = time.perf_counter()
        sequence = self._ledger.next_sequence()
        unsent = self._outputs.publish(done.occupancy, done.frame, sequence, wanted, job.ready.map_from_ego)
        if self._clouds is not None:
            self._clouds.hand_over(done.occupancy)
        if sequence == 0:
            self.get_logger().info("grids come")
        self._ledger.grid(done.occupancy, unsent)
        end_s = time.perf_counter()
        times_ms = {"queue": (begin_s - job.since_s) * 1e3, **done.times_ms, "publish": (end_s - stepped_s) * 1e3}
        self._record_times(done.occupancy.stamp_ns, times_ms | {READY_TO_OUTPUT: (end_s - job.since_s) * 1e3})

    def _record_times(self, stamp_ns: int, times_ms: dict[str, float]) -> None:
        stamp_age_s = (self._now_ns() - stamp_ns) * 1e-9
        if 0 <= stamp_age_s < MAX_STAMP_AGE_S:
            times_ms["stamp_to_output"] = stamp_age_s * 1e3
        self._times.add(times_ms)

    def _on_lost(self, lost: Lost) -> None:
        """Worker thread: a set gave no grid."""
        if lost.kind == "refused":
            self._ledger.refuse(lost.camera, lost.text)
            self._log.error("refused", f"set refused: {lost.text}")
        else:
            self._ledger.fail(lost.text)
            self._log.error("failed", f"the step failed: {lost.text}")

    def _on_failure(self, error: Exception) -> None:
        """Worker thread: something behind the step broke, e.g. a message that could not be made."""
        if rclpy.ok():
            text = error_text(error)
            self._ledger.fail(text)
            self._log.error("not sent", f"a grid could not be sent: {text}")

    def _report(self) -> None:
        """Say on /diagnostics, and in the log where it is bad, how things are."""
        healths = self._status.healths(
            self._assembler.status(self._now_ns()),
            self._arrivals,
            self._ledger.read(),
            self._worker,
            self._guard,
            self._inputs.problems(),
            self._times.summary(),
            self._outputs.subscribers,
        )
        self._diagnostics.publish(healths + ([] if self._clouds is None else [self._clouds.health()]))

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _log_start(self, facts: dict[str, str]) -> None:
        self.get_logger().info("{model} on {device} ({precision}) after {load_s} s".format(**facts))
        self.get_logger().info(f"the frame of the voxels is {self._assembler.network_frame}")
        self.get_logger().info("what tells things apart: {instances}".format(**facts))
        if self._settings.seeded_weights:
            self.get_logger().warning("the weights are seeded, not trained: the voxels mean nothing")

    def stop(self) -> bool:
        """End the worker; returns whether it ended in time."""
        ended = self._worker.close(STOP_S)
        if self._clouds is not None:
            ended = self._clouds.close(STOP_S) and ended
        self._assembler.close()
        return ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted; returns the exit code."""
    keep_freed_memory()
    node: OccupancyNode | None = None
    code, ended = 0, True
    try:
        with refusals_named():
            rclpy.init(args=arguments)
            node = OccupancyNode()
        rclpy.spin(node)
    except SettingsError as error:
        rclpy.logging.get_logger("panoocc").fatal(str(error))
        code = BAD_INPUT
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():
            raise  # else SIGTERM came in the middle of the start
    finally:
        ended = node is None or node.stop()
        rclpy.try_shutdown()
    if not ended:
        # The network is in the middle of a step of unknown length; an interpreter that ends under it may crash.
        sys.stdout.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
