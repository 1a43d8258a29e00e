"""The node `panoocc`: surround cameras, their calibrations and transforms in, voxel grids out.

The executor's thread only takes messages in and asks the assembler for complete sets; images are decoded and the
network runs in one worker thread, which always takes the newest set.
"""

import functools
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
from ..frames.rig import RigCamera
from ..frames.sets import AssemblerOptions, ReadySet
from ..health.arrivals import CameraWatch
from ..health.latency import StageTimes
from ..health.ledger import Ledger
from ..health.publisher import Diagnostics, on_mismatch
from ..health.report import Books, ModelFacts, healths
from ..health.verdicts import READY_TO_OUTPUT
from ..ros.graph import qos
from ..ros.parameter_fields import SettingsError
from ..ros.parameters import declared
from .load import chosen_config, chosen_rig, loaded_network, rig_for
from .publishers import Publishers
from .settings import NodeSettings
from .step import Lost, error_text, step
from .worker import Worker

TICK_S = 0.05  # how often waiting sets look for what they lack
TF_QUEUE = 500
STOP_S = 2.0
LOG_PERIOD_S = 5.0  # a problem that comes with every set is logged this often
MAX_STAMP_AGE_S = 60.0  # older stamps are of another clock (a bag played without /clock)
EXIT_BAD_START = 2


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
        rig = chosen_rig(settings.rig, settings.base_frame, settings.fixed_frame, settings.sync_spread_ms)
        config = chosen_config(settings.model)
        self._rig = rig_for(config, rig)
        self.get_logger().info(f"loading {config.name}")
        network = loaded_network(
            config,
            settings.checkpoint,
            settings.seeded_weights,
            settings.device,
            settings.precision,
            settings.threads,
        )
        self._stream = OccupancyStream(network)
        limits = AssemblerOptions(tf_timeout_s=settings.tf_timeout_s, camera_timeout_s=settings.camera_timeout_s)
        self._assembler = FrameAssembler(self._rig, limits)
        self._cameras, self._ledger, self._times = CameraWatch(self._rig), Ledger(), StageTimes()
        self._publishers = Publishers(self, settings, rig.names, self._rig.base_frame)
        self._publishers.publish_labels(config.labels)
        self._worker = Worker(self._work, self._on_failure, keep_reset, name="inference")
        self._requested_reset: str | None = None
        self._facts = ModelFacts(config.name, str(network.device), time.perf_counter() - begin_s)
        self._begun_s = time.monotonic()
        self._subscribe()
        self._log_start()

    def _subscribe(self) -> None:
        for camera in self._rig.cameras:
            self._subscribe_camera(camera)
        on_tf, on_tf_static = (functools.partial(self._on_transforms, static=static) for static in (False, True))
        self.create_subscription(TFMessage, "/tf", on_tf, qos(depth=TF_QUEUE))
        self.create_subscription(TFMessage, "/tf_static", on_tf_static, qos(latched=True, depth=TF_QUEUE))
        self.create_service(Trigger, "~/reset_history", self._on_reset_history)
        self._diagnostics = Diagnostics(self)
        # Steady clocks: waiting and reporting go on when simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(TICK_S, self._poll, clock=steady)
        self.create_timer(self._settings.diagnostics_period_s, self._publish_diagnostics, clock=steady)

    def _subscribe_camera(self, camera: RigCamera) -> None:
        profile = qos(reliable=self._settings.image_reliability == "reliable", depth=self._settings.image_queue)
        topics: tuple[tuple[type, str, Any], ...] = (
            (CompressedImage if camera.is_compressed else Image, camera.topic, self._on_image),
            (CameraInfo, camera.info_topic, self._on_camera_info),
        )
        for kind, topic, callback in topics:
            events = on_mismatch(functools.partial(self._on_mismatch, camera.name, topic))
            callback = functools.partial(callback, camera.name)
            self.create_subscription(kind, topic, callback, profile, event_callbacks=events)

    def _on_image(self, camera: str, message: Image | CompressedImage) -> None:
        self._cameras.on_image(camera)
        self._assembler.on_image(camera, message, self._now_ns())
        self._poll()

    def _on_camera_info(self, camera: str, message: CameraInfo) -> None:
        self._assembler.on_camera_info(camera, message)

    def _on_transforms(self, message: TFMessage, static: bool) -> None:
        self._assembler.on_transforms(message, static)

    def _on_mismatch(self, camera: str, topic: str, text: str) -> None:
        self._cameras.on_mismatch(camera, f"{topic}: {text}")

    def _on_reset_history(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._requested_reset = "requested by service"
        response.success, response.message = True, "the memory is cleared before the next set"
        return response

    def _poll(self) -> None:
        """Hand complete sets to the worker."""
        while (ready := self._assembler.poll(self._now_ns())) is not None:
            reset, self._requested_reset = ready.reset or self._requested_reset, None
            if reset is not None:
                self.get_logger().warning(f"the memory is cleared: {reset}")
            replaced = self._worker.submit(Job(ready, reset, time.perf_counter()))
            if replaced is not None:
                self._ledger.drop("busy", "a newer set came before the worker was free")

    def _work(self, job: Job) -> None:
        """Worker thread: one set from messages to grids."""
        begin_s = time.perf_counter()
        done = step(self._assembler, self._stream, job.ready, job.reset)
        if isinstance(done, Lost):
            self._on_lost(done)
            return
        stepped_s = time.perf_counter()
        self._publishers.publish(done.occupancy, self._ledger.grid(done.occupancy))
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
        if not rclpy.ok():
            return  # the node ended during the step
        if lost.kind == "refused":
            self._ledger.refuse(lost.text)
            self.get_logger().error(f"set refused: {lost.text}", throttle_duration_sec=LOG_PERIOD_S)
        else:
            self._ledger.fail(lost.text)
            self.get_logger().error(
                f"the step failed, the memory is cleared: {lost.text}", throttle_duration_sec=LOG_PERIOD_S
            )

    def _on_failure(self, error: Exception) -> None:
        """Worker thread: something behind the step broke, e.g. a message that could not be made."""
        if rclpy.ok():
            text = error_text(error)
            self._ledger.fail(text)
            self.get_logger().error(f"a grid could not be sent: {text}", throttle_duration_sec=LOG_PERIOD_S)

    def _publish_diagnostics(self) -> None:
        status = self._assembler.status(self._now_ns())
        books = Books(
            status=status,
            cameras=self._cameras.reports(status),
            accounts=self._ledger.read(),
            summary=self._times.summary(),
            busy=self._worker.busy,
            subscribers=self._publishers.subscribers,
            node_age_s=time.monotonic() - self._begun_s,
            clock_stands=self._now_ns() == 0,
        )
        self._diagnostics.publish(healths(self._settings, self._facts, books))

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _log_start(self) -> None:
        settings, facts = self._settings, self._facts
        self.get_logger().info(f"{facts.name} on {facts.device} ({settings.precision}) after {facts.load_s:.1f} s")
        if settings.seeded_weights:
            self.get_logger().warning("the weights are seeded, not trained: the voxels mean nothing")

    def stop(self) -> bool:
        """End the worker; returns whether it ended in time."""
        return self._worker.close(STOP_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted; returns the exit code."""
    keep_freed_memory()
    rclpy.init(args=arguments)
    node: OccupancyNode | None = None
    code = 0
    try:
        node = OccupancyNode()
        rclpy.spin(node)
    except SettingsError as error:
        rclpy.logging.get_logger("panoocc").fatal(str(error))
        code = EXIT_BAD_START
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():
            raise  # else SIGTERM came in the middle of the start
    ended = node is None or node.stop()
    rclpy.try_shutdown()
    if not ended:
        # The network is in the middle of a step of unknown length; an interpreter that ends under it may crash.
        sys.stdout.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
