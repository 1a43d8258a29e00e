"""The node `panoocc`: surround cameras, their calibrations and transforms in, voxel grids out.

Its lifecycle: `configure` checks the parameters, loads the network, warms it up and announces the classes
(`loaded.py`); `activate` subscribes and begins to work (`session.py`); `deactivate` ends that and keeps the network;
`cleanup` lets go of everything.
"""

import dataclasses
import gc
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import rclpy
import yaml
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import SetBool, Trigger

from panoocc_core.base.host_memory import keep_freed_memory, kept_by_environment
from panoocc_core.base.memory_use import memory_in_use
from panoocc_core.cuda.giving_back import give_back_all
from panoocc_core.geometry import NS_PER_S

from ..bags.bag import BagWriteError
from ..bags.saved_set import SaveRefused
from ..health.ledger import Accounts
from ..health.publisher import Report
from ..health.verdicts import ERROR, OUTPUT, WARN, Health, model_health
from ..health.watchdog import Watchdog, Watched, why_late
from ..ros.callbacks import Guard
from ..ros.exit_codes import BAD_INPUT
from ..ros.parameter_fields import SettingsError, changed
from ..ros.parameters import declared, on_changes, refusals_named
from ..ros.progress import Progress
from ..ros.throttle import ProblemLog
from .loaded import Loaded, load, take_limits, with_settings
from .publishers import Publishers
from .session import Session
from .settings import NodeSettings

TICK_S = 0.05  # how often waiting sets look for what they lack
FOLLOW_S = 0.2  # how often the types of the topics are looked up
LOOK_S = 0.2  # how often the node looks whether the level of a status has changed


class NotYet(RuntimeError):
    """A transition that will be possible soon; the message says why it is not yet."""


class OccupancyNode(LifecycleNode):
    """See the module; `options` are those of rclpy's Node.

    Raises:
        SettingsError: a parameter cannot be used, whatever the network.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("panoocc", **options)
        self._settings = declared(self, NodeSettings, are_fixed=False)
        self._guard = Guard(ProblemLog(self.get_logger()), self.context.ok)
        self._loaded: Loaded | None = None
        self._outputs: Publishers | None = None
        self._session: Session | None = None
        self._grids = 0  # of all sessions that are over
        self._has_ended_in_time = True
        self._is_still_working: Callable[[], bool] = lambda: False  # the worker of the last session
        self._is_starting = False
        self.failure: Exception | None = None  # why the last transition failed, or the node deactivated itself
        self._report = Report(self, self._settings.diagnostics_period_s)
        self._working = Progress()  # what the worker is at
        watched = Watched(self._guard.progress, why_late, self._report.alarm), Watched(self._working, self._why_late)
        self._watchdog = Watchdog(watched, self.get_logger().error)
        on_changes(self, self._on_parameters)
        self._serve()

    @property
    def settings(self) -> NodeSettings:
        """The parameters as they are now."""
        return self._settings

    def _serve(self) -> None:
        for kind, name, callback in (
            (Trigger, "reset_history", self._on_reset_history),
            (SetBool, "set_enabled", self._on_set_enabled),
            (Trigger, "save", self._on_save),
        ):
            self.create_service(kind, f"~/{name}", self._guard.service(callback, name))
        # What cannot be done in a state is an exception of rclpy's own callback, which would end the node.
        change = self._service_change_state
        change.callback = partial(self._on_change_state, change.callback)
        # A steady clock: waiting and reporting go on when simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(TICK_S, self._guard(self._poll, "poll"), clock=steady)
        self.create_timer(FOLLOW_S, self._guard(self._follow, "follow"), clock=steady)
        self._looking = self.create_timer(LOOK_S, self._guard(self._look, "look"), clock=steady)
        self._take_period()
        self._watchdog.start()

    # Transitions

    def start(self) -> None:
        """Configure and activate.

        Raises:
            Exception: a transition failed; a SettingsError where a parameter is why.
        """
        self._is_starting = True
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                raise self.failure or RuntimeError("a transition of the lifecycle failed")
        self._is_starting = False

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network, announce its classes."""
        return self._attempt(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and work."""
        return self._attempt(self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hear and send nothing more; the network stays."""
        return self._attempt(self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the network."""
        return self._attempt(self._clean_up)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything, for good."""
        return self._attempt(self._let_go)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an unexpected failure: let go of everything, so that the node can be configured anew."""
        why = self.failure
        outcome = self._attempt(self._let_go)
        self.failure = why
        return outcome

    def _attempt(self, transition: Callable[[], None]) -> TransitionCallbackReturn:
        """Failure where it is known why, and the state stays; error where it is anything else."""
        self.failure = None
        try:
            transition()
        except (SettingsError, NotYet) as error:
            self.failure = error
            if not self._is_starting:  # else the process ends with it
                self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self.failure = error
            if self.context.ok():  # else the process is ending
                self.get_logger().error("".join(traceback.format_exception(error)).rstrip())
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        loading = "no grid: the node is configuring: the network is loaded and warmed up"
        self._report.tell([Health(OUTPUT, WARN, loading, {"state": self.state})])  # no timer runs meanwhile
        loaded = load(self._settings, self.get_logger())
        config = loaded.network.config
        self._outputs = Publishers(
            self, loaded.settings, loaded.all_cameras, loaded.rig.base_frame, config.panoptic.instances, config.labels
        )
        self._loaded = loaded
        gc.collect()
        gc.freeze()  # what stays is not looked at by each collection, which took a third of a second
        self._outputs.announce()
        told = "{model} on {device} ({precision}) after {load_s} s, and {warm_up_s} s to warm up"
        self.get_logger().info(told.format(**loaded.facts))
        self.get_logger().info("what tells things apart: {instances}".format(**loaded.facts))
        if self._settings.seeded_weights:
            self.get_logger().warning("the weights are seeded, not trained: the voxels mean nothing")

    def _activate(self) -> None:
        assert self._loaded is not None and self._outputs is not None  # the lifecycle's order
        if self._is_still_working():
            raise NotYet("a step of the last session has not ended; try again in a moment")
        self._session = Session(self, self._loaded, self._outputs, self._guard, self._working, self._grids)

    def _deactivate(self) -> None:
        if (session := self._session) is None or self._loaded is None:
            return
        self._has_ended_in_time &= session.close()
        self._grids, self._session = session.grids, None
        self._is_still_working = session.worker_is_alive
        del session
        give_back_all(self._loaded.network.device)

    def _clean_up(self) -> None:
        if self._outputs is not None:
            self._outputs.close()
        device = None if self._loaded is None else self._loaded.network.device
        self._outputs = self._loaded = None
        gc.unfreeze()
        gc.collect()  # of everything that a network may be part of
        if device is not None:
            give_back_all(device)

    def _let_go(self) -> None:
        self._deactivate()
        self._clean_up()

    def _on_change_state(self, change: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
        try:
            return change(request, response)
        except Exception as error:
            name = request.transition.label or f"number {request.transition.id}"
            self.get_logger().error(f"transition {name} is not possible while the node is {self.state}: {error}")
            response.success = False
            return response

    @property
    def state(self) -> str:
        """What the lifecycle calls it."""
        label: str = self._state_machine.current_state[1]  # rclpy has no public way to it
        return label

    # Requests

    def _on_parameters(self, values: Mapping[str, Any]) -> None:
        """Take parameters that were set, or raise SettingsError."""
        name = self.get_fully_qualified_name()
        remedy = (
            f"taken when the node is configured: `ros2 lifecycle set {name}` deactivate and cleanup, set it, then "
            "configure and activate"
        )
        settings = changed(self._settings, values, None if self._loaded is None else remedy)
        if self._loaded is not None and self._outputs is not None:
            loaded = with_settings(self._loaded, settings)
            take_limits(loaded.network, loaded.own_limits, settings)
            self._loaded = loaded
            self._outputs.take(settings)
            if self._session is not None:
                self._session.take(settings)
        self._settings = settings
        self._take_period()

    def _on_reset_history(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._session is not None:
            self._session.request_reset("requested by service")
        response.success = self._session is not None
        response.message = "the memory is cleared before the next set" if response.success else self._why_silent
        return response

    def _on_save(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = False
        if self._session is None:
            response.message = self._why_silent
            return response
        if not self._session.is_enabled:
            response.message = "no set is worked on: call ~/set_enabled with data: true before"
            return response
        parameters = {self.get_name(): {"ros__parameters": dataclasses.asdict(self._settings)}}
        texts = {
            "status": self._report.last_text,
            "parameters": yaml.safe_dump(parameters, sort_keys=False),
            "rig": yaml.safe_dump(dataclasses.asdict(self._session.saving.rig), sort_keys=False),
        }
        try:
            path = self._session.saving.request(self._settings.save_dir, texts)
        except (BagWriteError, SaveRefused) as error:
            response.message = str(error)
            return response
        response.success, response.message = True, f"the next set is written to {path}; the log says when"
        return response

    def _on_set_enabled(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if self._session is not None:
            self._session.enable(request.data)
        response.success = self._session is not None
        told = "sets become grids" if request.data else "sets are counted and dropped; the memory stays"
        response.message = told if response.success else self._why_silent
        return response

    # From time to time

    def _poll(self) -> None:
        if self._session is None:
            return
        self._session.poll()
        if self._session is not None and (why := self._session.failure) is not None:
            self.get_logger().error(f"the node deactivates itself: {why}")
            self.trigger_deactivate()
            self.failure = RuntimeError(why)
            self._look()

    def _follow(self) -> None:
        if self._session is not None:
            self._session.follow()

    def _look(self) -> None:
        """Say on /diagnostics and ~/status, and in the log where it is bad, how things are."""
        is_due = self._report.is_due
        self._report.tell(self._silent_healths() if self._session is None else self._session.healths(is_due))

    def _take_period(self) -> None:
        self._report.period_s = self._settings.diagnostics_period_s
        self._looking.timer_period_ns = round(min(LOOK_S, self._report.period_s) * NS_PER_S)

    def _why_late(self, _: tuple[str, float]) -> str | None:
        """A sentence about a set that hangs; of the watchdog's thread."""
        session = self._session
        return session.step_time.text if session is not None and session.step_time.is_late else None

    def _silent_healths(self) -> list[Health]:
        """The statuses of a node that is not active."""
        level = WARN if self.failure is None else ERROR
        why, state = f"no grid: {self._why_silent}", {"state": self.state}
        healths = [Health(OUTPUT, level, why, state, self._what_to_do.replace("`", ""))]
        if self._loaded is not None:
            memory = memory_in_use(self._loaded.network.device)
            healths.append(model_health(self._loaded.facts, self._settings.seeded_weights, Accounts(), memory))
        return healths

    @property
    def _why_silent(self) -> str:
        """Why no grid comes of a node that is not active, and what to do."""
        why = "" if self.failure is None else f", since {self.failure}"
        return f"the node is {self.state}{why}: {self._what_to_do}"

    @property
    def _what_to_do(self) -> str:
        name = self.get_fully_qualified_name()
        return {
            "finalized": "start it anew",
            "inactive": f"`ros2 lifecycle set {name} activate`",
            "unconfigured": f"`ros2 lifecycle set {name} configure`, then activate",
        }.get(self.state, "")

    def stop(self) -> bool:
        """Let go of everything; returns whether the worker ended in time."""
        self._watchdog.close()
        self._let_go()
        return self._has_ended_in_time


def _keep_freed_memory() -> None:
    try:
        keep_freed_memory(kept_by_environment())
    except ValueError as error:
        raise SettingsError(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted; returns the exit code."""
    node: OccupancyNode | None = None
    code, ended = 0, True
    try:
        _keep_freed_memory()
        with refusals_named():
            rclpy.init(args=arguments)
            node = OccupancyNode()
            if node.settings.autostart:
                node.start()
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
