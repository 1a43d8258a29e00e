"""Child processes of the demo: nothing hangs, failures show the log."""

import os
import signal
import sys
import time

import pytest

from panoocc_ros.processes import Children, ProcessError


def python(code):
    return [sys.executable, "-c", code]


def test_a_failing_child_shows_the_end_of_its_log(tmp_path):
    with Children(os.environ, tmp_path) as children:
        child = children.start("node", python("print('the reason'); raise SystemExit(3)"))
        with pytest.raises(ProcessError, match="node ended with exit code 3(?s:.*)the reason"):
            children.wait(child, 10)


def test_waiting_ends_when_another_child_fails(tmp_path):
    with Children(os.environ, tmp_path) as children:
        player = children.start("player", python("import time; time.sleep(30)"))
        children.start("node", python("raise SystemExit('no weights')"))
        start = time.monotonic()
        with pytest.raises(ProcessError, match="node ended(?s:.*)no weights"):
            children.wait(player, 20)
        assert time.monotonic() - start < 10


def test_waiting_has_a_limit(tmp_path):
    with Children(os.environ, tmp_path) as children:
        child = children.start("slow", python("import time; time.sleep(30)"))
        with pytest.raises(ProcessError, match=r"slow did not end within 0\.3 s(?s:.*)wrote nothing"):
            children.wait(child, 0.3)


def test_all_children_end_with_the_block_even_a_stubborn_one(tmp_path):
    ignore = "import signal, time; signal.signal(2, signal.SIG_IGN); print('up', flush=True); time.sleep(30)"
    with Children(os.environ, tmp_path) as children:
        child = children.start("stubborn", python(ignore))
        while "up" not in child.log.read_text():
            time.sleep(0.02)
        assert child.stop(timeout_s=0.3) == -signal.SIGTERM
    assert child.code is not None
