"""What the node has while it is active: subscriptions, sets of images in the making, a stream, the worker.

The executor's thread only takes messages in and asks the assembler for complete sets; images are decoded by a pool as
they come, and the network runs in one worker thread, which always takes the newest set.
"""

import time
from collections.abc import Callable, Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu
from tf2_msgs.msg import TFMessage

from panoocc_core import OccupancyStream, Wanted
from panoocc_core.base.memory_use import memory_in_use
from panoocc_core.cuda.front_end import uploads_to

from ..frames.assembler import FrameAssembler
from ..frames.sets import ReadySet
from ..health.arrivals import Arrivals
from ..health.latency import StageTimes, Summary
from ..health.ledger import Ledger
from ..health.running_time import RunningTime
from ..health.stages import (
    ARRIVAL_TO_OUTPUT,
    ARRIVAL_TO_READY,
    BESIDE_NETWORK,
    DECODE,
    PUBLISH,
    QUEUE,
    READY_TO_OUTPUT,
    STAMP_TO_OUTPUT,
)
from ..health.verdicts import Health, StepTime
from ..load.governor import Governor
from ..load.priorities import go_first
from ..load.worker import Worker
from ..messages.fields import stamp_ns
from ..outputs.catalogue import GRID_2D, INSTANCES, LABELLED_POINTS, LEFT_OUT_FIRST, STAGES_OF, VISIBLE
from ..ros.callbacks import Guard
from ..ros.progress import Progress
from ..ros.throttle import ProblemLog
from ..streams.cloud_queue import reads_logits
from .cloud_output import CloudOutput
from .inputs import Inputs
from .loaded import Loaded
from .publishers import Publishers, Sent, StageTopics
from .saving import Saving
from .settings import NodeSettings
from .status import Seen, StatusReport
from .step import Lost, Step, error_text, step

STOP_S = 2.0
LOGITS = "logits"  # the stage that only labelled clouds need
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


class Session:
    """From activation to deactivation; methods are of the executor's thread unless they say otherwise.

    Args:
        outputs: where grids go.
        progress: what the worker is at.
        grids: how many there have been in earlier sessions.

    Raises:
        SettingsError: the rig, or `label_points_topic`, has a name that is no topic; nothing was subscribed to.
    """

    def __init__(
        self, node: Node, loaded: Loaded, outputs: Publishers, guard: Guard, progress: Progress, grids: int
    ) -> None:
        settings, config = loaded.settings, loaded.network.config
        self._settings = settings
        self._node, self._outputs, self._first_grid = node, outputs, grids
        self.is_enabled = True
        self.failure: str | None = None  # why no further set would become a grid
        self._is_closed = False
        self._progress = progress
        self._stream = OccupancyStream(loaded.steps, on_stage=self._progress.begin)
        self._now_ns = partial(_now_ns, node)  # not a method, by which the session would hold itself
        self._time = RunningTime(self._now_ns)
        self._log = ProblemLog(node.get_logger())
        self._guard = guard
        self._assembler = FrameAssembler(
            loaded.rig,
            settings,
            loaded.calibration,
            config,
            settings.grid_frame,
            gives_way=settings.thread_priorities != "system",
            uploads=uploads_to(loaded.network.device),
        )
        self._arrivals = Arrivals(loaded.rig.names, self._time, loaded.rig.period_ns)
        self._ledger, self._times = Ledger(self._time, grids), StageTimes()
        self._governor = Governor(LEFT_OUT_FIRST, STAGES_OF, settings.frame_budget_ms)
        self._summary: Summary = {}  # of these times, and
        self._problems: Mapping[str, list[str]] = {}  # ... topic -> what is wrong with its publishers, and
        self._deaf: Mapping[str, str] = {}  # ... output -> why a subscriber gets nothing of it, as seen last
        self._reads_logits = reads_logits(config)
        self._requested_reset: str | None = None
        name = node.get_fully_qualified_name()
        self._status = StatusReport(name, loaded.rig, settings, loaded.facts, self._time, node.get_logger())
        self._clouds: CloudOutput | None = None
        with ExitStack() as undo:  # whatever fails below, nothing of what was made before stays
            undo.callback(self._assembler.close)
            self._inputs = Inputs(node, loaded.rig, settings, self, guard)
            undo.callback(self._inputs.close)
            if settings.label_points_topic:
                self._clouds = CloudOutput(node, settings, config, self._assembler, guard, self._time)
                undo.callback(self._clouds.close, STOP_S)
            self._stage_topics = StageTopics(node)
            undo.callback(self._stage_topics.close)
            self.saving = Saving(node, loaded.rig, settings, self._log)
            self._worker = Worker(self._work, self._on_failure, keep_reset, "inference", on_begin=self._go_first)
            undo.pop_all()
        node.get_logger().info(f"the frame of the voxels is {self._assembler.network_frame}")

    @property
    def grids(self) -> int:
        """How many grids there have been, with those of earlier sessions."""
        return self._ledger.sequences

    def on_image(self, camera: str, message: Image | CompressedImage) -> None:
        """Take an image of a camera."""
        self._arrivals.on_image(camera, stamp_ns(message.header.stamp))
        self._assembler.on_image(camera, message, self._now_ns())
        self.poll()

    def on_camera_info(self, camera: str, message: CameraInfo) -> None:
        """Take the calibration of a camera."""
        self._assembler.on_camera_info(camera, message)
        self._poll_for_waiting()

    def on_transforms(self, message: TFMessage, static: bool) -> None:
        """Take transforms of /tf or /tf_static."""
        self._assembler.on_transforms(message, static)
        self._poll_for_waiting()

    def on_odometry(self, message: Odometry) -> None:
        """Take the vehicle's pose and twist."""
        self._assembler.on_odometry(message)
        self._poll_for_waiting()

    def on_imu(self, message: Imu) -> None:
        """Take the vehicle's acceleration and rotation rate."""
        self._assembler.on_imu(message)
        self._poll_for_waiting()

    def request_reset(self, reason: str) -> None:
        """Have the memory cleared before the next set."""
        self._requested_reset = reason

    def enable(self, is_enabled: bool) -> None:
        """Work on sets, or only count them."""
        if is_enabled and not self.is_enabled:
            self._ledger.enable()
        self.is_enabled = is_enabled

    def take(self, settings: NodeSettings) -> None:
        """Go on by other dynamic parameters."""
        self._assembler.take_options(settings)
        self._governor.take_budget(settings.frame_budget_ms)
        self._settings = self._status.settings = settings

    def poll(self) -> None:
        """Hand complete sets to the worker; call it from time to time."""
        self._time()  # a clock that is seldom looked at seems to jump
        self._inputs.drain()  # what a set needs may have come already, and wait behind images
        wants_map = self._outputs.has_listener(GRID_2D)
        while (ready := self._assembler.poll(self._now_ns(), wants_map)) is not None:
            reset = ready.reset or self._requested_reset
            if not self.is_enabled:
                self._requested_reset = reset
                self._ledger.disable()
                continue
            self._requested_reset = None
            self._ledger.complete()
            if self._worker.submit(Job(ready, reset, time.perf_counter())) is not None:
                self._ledger.replace()
        self._ledger.formed(self._assembler.sets_formed)
        if self._clouds is not None:
            self._clouds.poll(self._now_ns())

    def _poll_for_waiting(self) -> None:
        if self._assembler.has_waiting and not self._inputs.is_draining:  # it goes on as soon as it has what it lacked
            self.poll()

    def follow(self) -> None:
        """Take the types that the topics have; call it from time to time."""
        self._inputs.follow()

    @property
    def step_time(self) -> StepTime:
        """For how long the worker has been at what; from any thread."""
        usual_s = self._summary[READY_TO_OUTPUT]["p95_ms"] * 1e-3 if READY_TO_OUTPUT in self._summary else None
        return StepTime(self._worker.busy_s, usual_s, self._progress.now)

    def healths(self, is_full: bool = True) -> list[Health]:
        """How things are; what is bad goes into the log too.

        Args:
            is_full: look anew at what is dear: who publishes on the topics and who listens, and percentiles.
        """
        if is_full or not self._problems:
            self._problems, self._summary = self._inputs.problems(), self._times.summary()
            self._deaf = self._outputs.deaf()
        seen = Seen(
            assembler=self._assembler.status(self._now_ns()),
            arrivals=self._arrivals,
            accounts=self._ledger.read(),
            guard=self._guard,
            problems=self._problems,
            step=self.step_time,
            is_idle=not self._worker.busy,
            summary=self._summary,
            times=self._times,
            spending=self._governor.spending(),
            memory_bytes=memory_in_use(self._stream.network.device),
            subscribers=self._outputs.subscribers,
            deaf=self._deaf,
            is_enabled=self.is_enabled,
        )
        healths = self._status.healths(seen)
        return healths + ([] if self._clouds is None else [self._clouds.health()])

    def close(self) -> bool:
        """Hear nothing more, end the worker; returns whether it ended in time.

        Where it did not, what it is at comes to nothing.
        """
        self._is_closed = True
        self._inputs.close()
        ended = self._worker.close(STOP_S)
        if self._clouds is not None:
            ended = self._clouds.close(STOP_S) and ended
        ended = self.saving.close(STOP_S) and ended
        self._stage_topics.close()
        self._assembler.close()
        return ended

    @property
    def worker_is_alive(self) -> Callable[[], bool]:
        """Asks whether the worker has not ended yet, also when the session is no more."""
        return self._worker.is_alive

    def _go_first(self) -> None:
        """Worker thread, before its first set."""
        if (refusal := go_first(self._settings.thread_priorities)) is not None:
            self._node.get_logger().warning(refusal)

    def _work(self, job: Job) -> None:
        """Worker thread: one set from messages to grids."""
        self._ledger.begin()
        try:
            self._work_on(job)
        finally:
            self._progress.end()
            self._ledger.end()

    def _work_on(self, job: Job) -> None:
        begin_s = time.perf_counter()
        if self._is_outdated(job, begin_s):
            return
        is_saved = self.saving.is_wanted
        wanted, left_out = self._wanted(job.ready.stamp_ns, is_saved)
        self._progress.begin(DECODE)
        done = step(self._assembler, self._stream, job.ready, job.reset, _without(wanted, left_out))
        if self._has_ended:
            return
        for number, text in enumerate(done.geometry or ()):
            self._log.warn(f"geometry {number}", text)
        if isinstance(done, Lost):
            self._on_lost(done)
            self.saving.take(job.ready, [], done.text)
            return
        if (reason := done.occupancy.history.reset) is not None:
            self._log.warn(f"reset {reason}", f"the memory is cleared: {reason}")
        stepped_s = time.perf_counter()
        sequence = self._ledger.next_sequence()
        sent = self._outputs.publish(
            done.occupancy, done.frame, sequence, wanted, job.ready.map_from_ego, self._on_topic, left_out
        )
        if self._clouds is not None and LABELLED_POINTS not in left_out:
            self._clouds.hand_over(done.occupancy)
        self._ledger.grid(done.occupancy, sent.failures)
        if is_saved:
            self.saving.take(job.ready, self._outputs.made(done.occupancy, done.frame, sequence))
        if sequence == self._first_grid:
            self._node.get_logger().info("grids come")
        end_s = time.perf_counter()
        self._governor.record((end_s - begin_s) * 1e3, _costs_ms(done, sent))
        self._record_times(job, done, begin_s, stepped_s, end_s)

    def _is_outdated(self, job: Job, begin_s: float) -> bool:
        """Whether a set is too old to be begun with; then it is counted, and its reset is done."""
        limit_s = self._settings.max_set_age_s
        age_s = max(begin_s - job.ready.arrived_s, self._stamp_age_s(job.ready.stamp_ns))
        if not limit_s or age_s <= limit_s:
            return False
        if job.reset is not None:
            self._stream.reset(job.reset)
        text = f"its set was {age_s:.2f} s old when the worker came to it: older than max_set_age_s, {limit_s:g} s"
        self._ledger.outdate(text)
        self._log.warn("outdated", f"a set is not worked on: {text}")
        return True

    def _wanted(self, stamp_ns: int, is_saved: bool) -> tuple[Wanted, frozenset[str]]:
        """What is asked of a set, and which topics and stages a budget of time leaves out."""
        wanted, (asked, due) = self._outputs.wanted(stamp_ns), self._outputs.asked(stamp_ns)
        if self._clouds is not None and self._clouds.has_listener:
            wanted = replace(wanted, instances=True, logits=self._reads_logits)
            asked, due = asked | {LABELLED_POINTS, INSTANCES}, due | {LABELLED_POINTS, INSTANCES}
        if is_saved:
            wanted, due = replace(wanted, instances=True, visible=True), due - {INSTANCES, VISIBLE}
        return wanted, self._governor.left_out(asked, due)

    def _record_times(self, job: Job, done: Step, begin_s: float, stepped_s: float, end_s: float) -> None:
        arrived_s = job.ready.arrived_s
        network_ms, arrival_to_output_ms = sum(done.occupancy.timings_ms.values()), (end_s - arrived_s) * 1e3
        times_ms = {
            ARRIVAL_TO_READY: (job.since_s - arrived_s) * 1e3,
            QUEUE: (begin_s - job.since_s) * 1e3,
            **done.times_ms,
            PUBLISH: (end_s - stepped_s) * 1e3,
            READY_TO_OUTPUT: (end_s - job.since_s) * 1e3,
            ARRIVAL_TO_OUTPUT: arrival_to_output_ms,
            BESIDE_NETWORK: arrival_to_output_ms - network_ms,
        }
        if stamp_age_s := self._stamp_age_s(done.occupancy.stamp_ns):
            times_ms[STAMP_TO_OUTPUT] = stamp_age_s * 1e3
        self._times.add(times_ms)
        self._stage_topics.publish(times_ms)

    def _stamp_age_s(self, stamp_ns: int) -> float:
        """The age of a stamp; 0 where it is of another clock than ours."""
        age_s = (self._now_ns() - stamp_ns) * 1e-9
        return age_s if 0 <= age_s < MAX_STAMP_AGE_S else 0.0

    def _on_topic(self, topic: str) -> None:
        self._progress.begin(f"{PUBLISH} ~/{topic}")

    def _on_lost(self, lost: Lost) -> None:
        """Worker thread: a set gave no grid."""
        if lost.kind == "refused":
            self._ledger.refuse(lost.text)
            self._log.error("refused", f"set refused: {lost.text}")
            return
        self._ledger.fail(lost.text)
        self._log.error("failed", f"the step failed: {lost.text}")
        if lost.is_hopeless:
            self.failure = lost.text

    def _on_failure(self, error: Exception) -> None:
        """Worker thread: something behind the step broke, e.g. a message that could not be made."""
        if not self._has_ended:
            text = error_text(error)
            self._ledger.fail(text)
            self._log.error("not sent", f"a grid could not be sent: {text}")

    @property
    def _has_ended(self) -> bool:
        return self._is_closed or not self._node.context.ok()


def _without(wanted: Wanted, left_out: Set[str]) -> Wanted:
    return Wanted(
        instances=wanted.instances and INSTANCES not in left_out,
        visible=wanted.visible and VISIBLE not in left_out,
        logits=wanted.logits and LABELLED_POINTS not in left_out,
    )


def _costs_ms(done: Step, sent: Sent) -> dict[str, float]:
    """What the optional work on a set took, by topic and stage."""
    stages_ms, costs_ms = done.occupancy.timings_ms, dict(sent.costs_ms)
    costs_ms |= {stage: stages_ms[stage] for stage in (INSTANCES, VISIBLE) if stage in stages_ms}
    if LOGITS in stages_ms:
        costs_ms[LABELLED_POINTS] = stages_ms[LOGITS]
    return costs_ms


def _now_ns(node: Node) -> int:
    return node.get_clock().now().nanoseconds
