"""Everything that the node says about itself in one go: on /diagnostics, and in the log where it is bad."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from ..frames.rig import Rig
from ..frames.sets import AssemblerStatus
from ..health.arrivals import Arrivals
from ..health.health_log import HealthLog
from ..health.latency import Excess, StageTimes, Summary
from ..health.ledger import Accounts
from ..health.running_time import RunningTime
from ..health.stages import READY_TO_OUTPUT
from ..health.verdicts import (
    ERROR,
    OUTPUT,
    WARN,
    Health,
    Lately,
    StepTime,
    budget_health,
    callbacks_health,
    camera_health,
    clock_health,
    geometry_health,
    model_health,
    output_health,
    sets_health,
    timing_health,
    transforms_health,
)
from ..load.governor import Spending
from ..ros.callbacks import Guard
from .settings import NodeSettings

SWITCHED_OFF = "no new grid: switched off by ~/set_enabled; call it with data: true"
OF_THE_NODE = ("clock", OUTPUT)  # what is not well with them is logged even where no image comes at all


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to say about a session at one moment."""

    assembler: AssemblerStatus
    arrivals: Arrivals
    accounts: Accounts
    guard: Guard
    problems: Mapping[str, list[str]]  # topic -> what is wrong with its publishers
    step: StepTime
    is_idle: bool  # the worker has nothing to do
    summary: Summary  # of these ...
    times: StageTimes
    spending: Spending
    memory_bytes: Mapping[str, int]  # what the process has taken, by kind
    subscribers: int  # of the grids
    deaf: Mapping[str, str]  # output -> why a subscriber gets nothing of it
    is_enabled: bool = True  # sets are worked on


class StatusReport:
    """Makes the statuses: clock, every camera, transforms, sets, geometry, model, callbacks, timing, budget, output.

    Args:
        name: of the node, with its namespace.
    """

    def __init__(
        self, name: str, rig: Rig, settings: NodeSettings, facts: Mapping[str, str], time: RunningTime, logger: Any
    ) -> None:
        self.settings = settings
        self._switch_on = f"ros2 service call {name}/set_enabled std_srvs/srv/SetBool '{{data: true}}'"
        self._rig, self._facts, self._time = rig, facts, time
        self._lately, self._log, self._logger = Lately(time), HealthLog(logger), logger
        self._converted: set[tuple[str, str]] = set()  # camera and encoding that were told
        self._begin_s, self._images_s = monotonic(), float("inf")  # when the node, and when its images began

    def healths(self, seen: Seen) -> list[Health]:
        """All statuses."""
        status, guard, lately, settings = seen.assembler, seen.guard, self._lately, self.settings
        lately.look(status, guard.errors)
        clock, inputs = clock_health(self._time), self._inputs(status, seen.arrivals, seen.problems)
        has_error = lately.has_error(inputs)
        output = output_health(
            status, seen.accounts, seen.step, seen.is_idle, seen.subscribers, seen.deaf, clock, inputs, has_error
        )
        if not seen.is_enabled:
            level = max(WARN, output.level)
            output = replace(output, level=level, message=SWITCHED_OFF, remedy=self._switch_on)
        timing = timing_health(seen.summary, self._exceeded(seen.times))
        budget = [budget_health(seen.spending)] if seen.spending.budget_ms else []
        self._log_bad(status, [clock, *inputs, timing, *budget, output])
        return [
            clock,
            *inputs,
            geometry_health(status),
            model_health(self._facts, settings.seeded_weights, seen.accounts, seen.memory_bytes),
            callbacks_health(guard.errors, lately.failed_callbacks, guard.last_error),
            timing,
            *budget,
            output,
        ]

    def _inputs(self, status: AssemblerStatus, arrivals: Arrivals, problems: Mapping[str, list[str]]) -> list[Health]:
        rig, lost, timeout_s = self._rig, self._lately.lost_sets, self.settings.camera_timeout_s
        cameras = [
            camera_health(
                camera,
                arrivals,
                status,
                self._lately,
                [*problems[camera.topic], *problems[camera.info_topic]],
                self._time(),
                timeout_s,
            )
            for camera in rig.cameras
        ]
        motion = filter(None, (self.settings.odometry_topic, self.settings.imu_topic))
        topics = (rig.tf_topic, rig.tf_static_topic, *motion)
        transforms = transforms_health(status, lost, [text for topic in topics for text in problems[topic]])
        return [*cameras, transforms, sets_health(status, lost, self._lately.incomplete_sets)]

    def _exceeded(self, times: StageTimes) -> dict[int, Excess | None]:
        """Level -> the newest run of sets that took longer than its limit."""
        settings = self.settings
        limits_ms = {WARN: settings.latency_warn_ms, ERROR: settings.latency_error_ms}
        return {
            level: times.excess(READY_TO_OUTPUT, limit_ms, settings.latency_consecutive_s)
            for level, limit_ms in limits_ms.items()
            if limit_ms
        }

    def _log_bad(self, status: AssemblerStatus, healths: Sequence[Health]) -> None:
        """Into the log, but for geometry, model and callbacks: these are logged where they arise."""
        for camera, encoding in status.converted.items() - self._converted:
            self._converted.add((camera, encoding))
            self._logger.info(f"camera {camera}: cv_bridge decodes its images, our own table lacks {encoding}")
        now_s = monotonic()
        if status.images:
            self._images_s = min(self._images_s, now_s)
        for health in healths:
            self._log.look(health, now_s - (self._begin_s if health.subject in OF_THE_NODE else self._images_s))
