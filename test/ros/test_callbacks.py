"""Callbacks that fail: counted and logged, but not once ROS has been shut down."""

from types import SimpleNamespace

from panoocc_ros.ros.callbacks import Guard
from panoocc_ros.ros.throttle import ProblemLog


def test_what_fails_after_the_shutdown_is_no_failure():
    lines, running = [], [True]
    guard = Guard(ProblemLog(SimpleNamespace(error=lines.append)), lambda: running[0])

    def fail():
        raise RuntimeError("publisher's context is invalid")

    report = guard(fail, "report")
    report()
    assert guard.errors == 1 and "report: RuntimeError: publisher's context is invalid" in lines[0]
    running[0] = False
    report()
    assert guard.errors == 1 and len(lines) == 1
