"""Processes end cleanly: nothing hangs, failures show the log, and who is told to go leaves nothing behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from panoocc_ros.demo.processes import Children, ProcessError
from panoocc_ros.ros.signals import Terminated, unwound_by_signals


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


@pytest.fixture
def default_signals():
    """pytest or who started it may ignore SIGHUP."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unwinds_once_and_is_what_it_was_afterwards(default_signals, number):
    cleaned = []
    with pytest.raises(Terminated, match=number.name) as caught, unwound_by_signals():
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGTERM)  # somebody is impatient
            cleaned.append(True)
    assert caught.value.exit_status == 128 + number and cleaned
    assert signal.getsignal(number) is signal.SIG_DFL


def test_handlers_of_others_stay(default_signals):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
    with unwound_by_signals():
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
    assert heard == [True]


def test_other_threads_go_without(default_signals):
    passed = []

    def work():
        with unwound_by_signals():
            passed.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert passed


def test_a_fork_ends_as_usual(default_signals):
    code = """
import os, signal
from panoocc_ros.ros.signals import unwound_by_signals
with unwound_by_signals():
    child = os.fork()
    if not child:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os._exit(3)
    print(os.waitpid(child, 0)[1])
"""
    assert int(subprocess.run(python(code), capture_output=True, timeout=60, check=True).stdout) == signal.SIGTERM


def group_is_there(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_command_that_is_told_to_end_leaves_no_files_and_no_processes(tmp_path):
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    out.mkdir()
    temporary.mkdir()
    words = ["sim", "--out", str(out / "a.mcap"), "--seconds", "100", "--rate", "10", "--scale", "0.05", "--no-truth"]
    command = subprocess.Popen(
        [sys.executable, "-m", "panoocc_ros.commands.cli", *words, "--workers", "2", "--no-progress"],
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        end_s = time.monotonic() + 60
        while not any(out.glob("a.mcap.part/*")):
            assert command.poll() is None and time.monotonic() < end_s
            time.sleep(0.02)
        command.terminate()
        _, told = command.communicate(timeout=60)
        assert command.returncode == 128 + signal.SIGTERM and told == "panoocc: ended by SIGTERM\n"
        assert not list(out.iterdir()) and not list(temporary.iterdir())
        end_s = time.monotonic() + 60
        while group_is_there(command.pid):  # its resource tracker ends by itself
            assert time.monotonic() < end_s
            time.sleep(0.02)
    finally:
        if group_is_there(command.pid):
            os.killpg(command.pid, signal.SIGKILL)
        command.wait()
