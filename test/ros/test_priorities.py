"""Priorities of threads: who gives way does so alone, and what the system refuses is told."""

import os
import sys
import threading

import pytest

from panoocc_ros.load import priorities
from panoocc_ros.load.priorities import NICER, give_way, go_first

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads have no niceness of their own")


def in_a_thread(work):
    found = []

    def run():
        outcome = work()
        found.append((outcome, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_that_gives_way_does_so_alone():
    ours = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert in_a_thread(give_way)[1] == min(ours + NICER, 19)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == ours


def test_the_system_decides_unless_it_is_asked_otherwise():
    ours = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert in_a_thread(lambda: go_first("system")) == (None, ours)


@pytest.mark.parametrize(
    ("asked", "call", "limit"), [("nice", "setpriority", "nice"), ("realtime", "sched_setscheduler", "rtprio")]
)
def test_a_refusal_names_the_parameter_and_the_remedy(asked, call, limit, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(priorities.os, call, refuse)
    text = go_first(asked)
    assert f"thread_priorities {asked}" in text and "Operation not permitted" in text and f"`{limit}`" in text


def test_what_is_allowed_is_done(monkeypatch):
    done = []
    monkeypatch.setattr(priorities.os, "setpriority", lambda *arguments: done.append(arguments))
    monkeypatch.setattr(priorities.os, "sched_setscheduler", lambda *arguments: done.append(arguments))
    assert go_first("nice") is None and go_first("realtime") is None
    tid = threading.get_native_id()
    ours = os.getpriority(os.PRIO_PROCESS, tid)
    assert done[0] == (os.PRIO_PROCESS, tid, ours + priorities.LESS_NICE)
    assert done[1][:2] == (tid, os.SCHED_RR)
