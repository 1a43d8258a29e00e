"""Everything that the node says about itself in one go: on /diagnostics, and in the log where it is bad."""

from collections.abc import Mapping
from time import monotonic

from ..frames.rig import Rig
from ..frames.sets import AssemblerStatus
from ..health.arrivals import Arrivals
from ..health.latency import Summary
from ..health.ledger import Accounts
from ..health.running_time import RunningTime
from ..health.verdicts import (
    OK,
    READY_TO_OUTPUT,
    Health,
    Lately,
    StepTime,
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
from ..ros.callbacks import Guard
from ..ros.throttle import ProblemLog, RateLimit
from .settings import NodeSettings
from .worker import Worker

SHIPPED = "shipped with the package"
OUTPUT_LOG_PERIOD_S = 30.0  # that no grid comes is logged this often while it lasts
START_S = 5.0  # of the node, in which it is not: what the node needs may still be starting


def model_facts(settings: NodeSettings, name: str, device: str, load_s: float) -> dict[str, str]:
    """What does not change while the node runs, as values of its status `model`."""
    weights = "seeded" if settings.seeded_weights else settings.checkpoint or SHIPPED
    return {
        "model": name,
        "weights": weights,
        "device": device,
        "precision": settings.precision,
        "load_s": f"{load_s:.1f}",
    }


class StatusReport:
    """Makes the statuses: clock, every camera, transforms, sets, geometry, model, callbacks, timing, output."""

    def __init__(
        self, rig: Rig, settings: NodeSettings, facts: Mapping[str, str], time: RunningTime, log: ProblemLog
    ) -> None:
        self._rig, self._settings, self._facts, self._time, self._log = rig, settings, facts, time, log
        self._lately = Lately(time)
        self._output_log, self._quiet_until_s = RateLimit(1 / OUTPUT_LOG_PERIOD_S), monotonic() + START_S
        self._grids_come = False
        self._odd_pictures: Mapping[str, str] = {}

    def healths(
        self,
        status: AssemblerStatus,
        arrivals: Arrivals,
        accounts: Accounts,
        worker: Worker,
        guard: Guard,
        problems: Mapping[str, list[str]],
        summary: Summary,
        subscribers: int,
    ) -> list[Health]:
        """All statuses.

        Args:
            problems: topic -> what is wrong with its publishers.
            subscribers: of the grids.
        """
        lately, settings = self._lately, self._settings
        lately.look(status, guard.errors)
        clock, inputs = clock_health(self._time), self._inputs(status, arrivals, problems)
        step = StepTime(worker.busy_s, summary[READY_TO_OUTPUT]["p95_ms"] * 1e-3 if summary else None)
        output = output_health(status, accounts, step, not worker.busy, subscribers, clock, inputs)
        self._log_bad(inputs[-1], output)
        self._log_pictures(status.pictures)
        return [
            clock,
            *inputs,
            geometry_health(status),
            model_health(self._facts, settings.seeded_weights, accounts),
            callbacks_health(guard.errors, lately.failed_callbacks, guard.last_error),
            timing_health(summary, settings.latency_warn_ms, settings.latency_error_ms),
            output,
        ]

    def _inputs(self, status: AssemblerStatus, arrivals: Arrivals, problems: Mapping[str, list[str]]) -> list[Health]:
        rig, lost, timeout_s = self._rig, self._lately.lost_sets, self._settings.camera_timeout_s
        cameras = [
            camera_health(
                camera,
                arrivals,
                status,
                lost,
                [*problems[camera.topic], *problems[camera.info_topic]],
                self._time(),
                timeout_s,
            )
            for camera in rig.cameras
        ]
        transforms = transforms_health(status, lost, [*problems[rig.tf_topic], *problems[rig.tf_static_topic]])
        return [*cameras, transforms, sets_health(status, lost, self._lately.incomplete_sets)]

    def _log_bad(self, sets: Health, output: Health) -> None:
        """Sets that are lost, and grids that stop and come: the log alone must tell why nothing comes out."""
        if sets.level != OK:
            self._log.warn("sets", f"sets {sets.message}")
        if output.level == OK:
            if not self._grids_come:
                self._log.info("grids come")
        elif self._grids_come or (monotonic() > self._quiet_until_s and self._output_log.open()):
            self._log.warn("output", output.message)
        self._grids_come = output.level == OK

    def _log_pictures(self, odd: Mapping[str, str]) -> None:
        for camera in odd.keys() - self._odd_pictures.keys():
            self._log.warn(f"pictures {camera}", f"camera {camera}: {odd[camera]}")
        self._odd_pictures = odd
