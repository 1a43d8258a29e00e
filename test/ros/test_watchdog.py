"""A thread that hangs is told once, with its stack, and again when it hangs anew."""

import threading

import pytest

from panoocc_ros.health import watchdog
from panoocc_ros.health.watchdog import CALLBACK_LATE_S, STACKS_S, Watchdog, Watched, stack_of, why_late
from panoocc_ros.ros.callbacks import Guard
from panoocc_ros.ros.progress import Progress
from panoocc_ros.ros.throttle import RateLimit


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def hanging():
    """(clock, progress) of a thread that hangs in `a_function_that_hangs`."""
    clock, release, there = Clock(), threading.Event(), threading.Event()
    progress = Progress(clock)

    def a_function_that_hangs():
        progress.begin("/tf")
        there.set()
        release.wait()

    thread = threading.Thread(target=a_function_that_hangs, daemon=True)
    thread.start()
    there.wait()
    yield clock, progress
    release.set()
    thread.join()


def test_a_callback_that_hangs_is_told_once_with_its_stack_and_alarmed_while_it_does(hanging):
    clock, progress = hanging
    told, alarms = [], []
    dog = Watchdog([Watched(progress, why_late, alarms.append)], told.append)
    dog.look()
    assert not told and not alarms
    clock.now_s += CALLBACK_LATE_S + 1
    for _ in range(3):
        dog.look()
    assert len(told) == 1 and len(alarms) == 3
    assert "in one callback, /tf, for 6 s" in told[0] and "a_function_that_hangs" in told[0]
    assert "a_function_that_hangs" not in alarms[0]


def test_stacks_are_told_seldom_but_every_hang_that_lasts_is(hanging, monkeypatch):
    clock, progress = hanging
    monkeypatch.setattr(watchdog, "RateLimit", lambda rate_hz: RateLimit(rate_hz, clock))
    told = []
    dog = Watchdog([Watched(progress, why_late)], told.append)

    def look_in(seconds):
        clock.now_s += seconds
        dog.look()

    look_in(CALLBACK_LATE_S + 1)
    progress.begin("/tf_static")  # that hang is over, and another one begins
    look_in(1)
    look_in(CALLBACK_LATE_S)
    assert len(told) == 1 and "/tf," in told[0]  # within a minute of the first
    look_in(STACKS_S)
    look_in(STACKS_S)
    assert len(told) == 2 and f"/tf_static, for {STACKS_S + CALLBACK_LATE_S + 1:.0f} s" in told[1]


def test_a_watchdog_that_fails_says_so_once_and_goes_on(hanging, monkeypatch):
    monkeypatch.setattr(watchdog, "LOOK_S", 0.001)
    clock, progress = hanging
    clock.now_s += CALLBACK_LATE_S + 1
    told, alarms, often = [], [], threading.Event()

    def alarm(text):
        alarms.append(text)
        if len(alarms) == 3:
            often.set()
        raise RuntimeError("nothing can be sent")

    dog = Watchdog([Watched(progress, why_late, alarm)], told.append)
    dog.start()
    assert often.wait(30)
    dog.close()
    (failed,) = [text for text in told if "the watchdog failed" in text]
    assert failed.endswith("RuntimeError: nothing can be sent")


def test_it_looks_by_itself_until_it_is_closed(hanging, monkeypatch):
    monkeypatch.setattr(watchdog, "LOOK_S", 0.001)
    clock, progress = hanging
    clock.now_s += CALLBACK_LATE_S + 1
    seen = threading.Event()
    dog = Watchdog([Watched(progress, why_late, lambda text: seen.set())], lambda text: None)
    dog.start()
    assert seen.wait(30)
    dog.close()
    assert not any(thread.name == "watchdog" for thread in threading.enumerate())


def test_the_guard_says_which_callback_is_in_work_also_after_one_that_failed():
    class Log:
        def error(self, kind, text):
            pass

    guard, seen = Guard(Log(), lambda: True), []

    def callback(fails):
        seen.append(guard.progress.now[0])
        if fails:
            raise ValueError("no")

    for fails in (False, True):
        guard(callback, "/tf")(fails)
        assert guard.progress.now is None
    assert seen == ["/tf", "/tf"] and guard.progress.thread_id == threading.get_ident()


def test_a_thread_that_is_gone_has_no_stack():
    assert "not there" in stack_of(None)
