"""The node `simulator`: a drive through a simulated street over DDS, in real time, with the truth beside it."""

import time
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock

from panoocc_core.base.processors import processor_count
from panoocc_core.sim.drive_renderer import MAX_WORKERS, Drive, RenderPool, frame_id
from panoocc_core.sim.pool import WORKER_KILLED

from ..health.publisher import Diagnostics
from ..messages.fields import set_stamp
from ..messages.truth import TYPES
from ..messages.types import CAMERA_INFO, COMPRESSED_IMAGE, IMU, ODOMETRY, TRANSFORMS, typestore
from ..ros.exit_codes import BAD_INPUT, FAILED, OK
from ..ros.graph import message_class, qos
from ..ros.parameter_fields import SettingsError
from ..ros.parameters import declared, refusals_named
from ..ros.signals import stopped_by_signals
from .faults import TF_TOPIC, Event
from .live import LiveDrive, RenderError, live_healths
from .messages import IMU_TOPIC, ODOMETRY_TOPIC, START_NS
from .settings import SimSettings
from .setup import drive_of, faults_of, setup_of

SENSOR_DEPTH, TRUTH_DEPTH, TF_DEPTH = 10, 2, 100
LAST_MESSAGES_S = 0.2  # they leave before the publishers are destroyed


class SimulatorNode(Node):
    """See the module; `options` are those of rclpy's Node.

    Raises:
        SettingsError: a parameter cannot be used.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("simulator", **options)
        self._settings = settings = _read_settings(self)
        self._setup = setup_of(settings)
        self._faults = faults_of(settings, self._setup)
        drive_of(settings, 0)  # refuses what cannot be driven before workers start
        self._pool = RenderPool(self._setup, settings.workers or min(max(1, processor_count() - 1), MAX_WORKERS))
        zero_ns = START_NS if settings.use_clock else None
        self._live = LiveDrive(
            self._setup, self._pool, self._faults, self._drive, zero_ns=zero_ns, waits=settings.use_clock
        )
        self._senders = self._publishers_by_topic()
        self._time_sender = self.create_publisher(Clock, "/clock", qos(depth=1)) if settings.use_clock else None
        self._diagnostics = Diagnostics(self)
        self._next_diagnostics_s = time.monotonic()
        self._told_ns: int | None = None  # on /clock
        self._is_slow = False
        self.get_logger().info("rendering the first images")

    def _drive(self, number: int) -> Drive | None:
        return drive_of(self._settings, number) if number == 0 or self._settings.is_endless else None

    def _publishers_by_topic(self) -> dict[str, Publisher]:
        topics = [("/tf_static", TRANSFORMS, qos(latched=True, depth=1)), (TF_TOPIC, TRANSFORMS, qos(depth=TF_DEPTH))]
        topics += [(ODOMETRY_TOPIC, ODOMETRY, qos(depth=TF_DEPTH)), (IMU_TOPIC, IMU, qos(depth=TF_DEPTH))]
        for name in map(frame_id, self._setup.rig):
            topics.append((f"/{name}/image_raw/compressed", COMPRESSED_IMAGE, qos(depth=SENSOR_DEPTH)))
            topics.append((f"/{name}/camera_info", CAMERA_INFO, qos(depth=SENSOR_DEPTH)))
        if self._setup.grid is not None:
            for topic, kind in TYPES.items():
                is_latched = kind.endswith("LabelSet")
                topics.append((topic, kind, qos(latched=is_latched, depth=1 if is_latched else TRUTH_DEPTH)))
        return {topic: self.create_publisher(message_class(kind), topic, profile) for topic, kind, profile in topics}

    @property
    def is_over(self) -> bool:
        """Whether the drive has come to its end."""
        return self._live.is_over

    def step(self) -> float:
        """Send what is due; returns the seconds until something else is."""
        had_begun, wall_s = self._live.has_begun, time.monotonic()
        events = self._live.step(wall_s, time.time_ns())
        if self._live.has_begun:
            self._set_clock()
            if not had_begun:
                self.get_logger().info("driving")
        for event in events:
            self._send(event)
        if wall_s >= self._next_diagnostics_s:
            self._next_diagnostics_s = wall_s + self._settings.diagnostics_period_s
            self._report(wall_s)
        return self._live.wait_s()

    def _send(self, event: Event) -> None:
        # Bytes, as the player sends them: rclpy would look at every item of every array.
        self._senders[event.topic].publish(bytes(typestore().serialize_cdr(event.message, event.type)))

    def _set_clock(self) -> None:
        now_ns = self._live.clock_ns
        if self._time_sender is not None and now_ns != self._told_ns:
            message = Clock()
            set_stamp(message.clock, now_ns)
            self._time_sender.publish(message)
            self._told_ns = now_ns

    def _report(self, wall_s: float) -> None:
        healths = live_healths(self._live, self._faults, self._settings.rate_hz, self._pool.workers, wall_s)
        self._diagnostics.publish(healths)
        slow = next(health for health in healths if health.subject == "renderer")
        if slow.level and not self._is_slow:
            self.get_logger().warning(slow.message)
        self._is_slow = bool(slow.level)

    def stop(self) -> None:
        """End the workers."""
        self._pool.close()


def _read_settings(node: Node) -> SimSettings:
    return declared(node, SimSettings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until the drive is over or it is interrupted; returns the exit code."""
    with stopped_by_signals() as stop:  # once or many times: a second Ctrl-C does not disturb the end
        node: SimulatorNode | None = None
        try:
            with refusals_named():
                rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
                node = SimulatorNode()
            while not stop.is_set() and not node.is_over:
                rclpy.spin_once(node, timeout_sec=node.step())
            if node.is_over:
                node.get_logger().info("the drive is over")
                time.sleep(LAST_MESSAGES_S)
        except SettingsError as error:
            rclpy.logging.get_logger("simulator").fatal(str(error))
            return BAD_INPUT
        except BrokenExecutor:
            rclpy.logging.get_logger("simulator").fatal(f"{WORKER_KILLED}; fewer `workers` need less")
            return FAILED
        except RenderError as error:
            rclpy.logging.get_logger("simulator").fatal(str(error))
            return FAILED
        finally:
            if node is not None:
                node.stop()
            rclpy.try_shutdown()
    return OK


if __name__ == "__main__":
    raise SystemExit(main())
