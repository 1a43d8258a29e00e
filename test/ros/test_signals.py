"""Ctrl-C while a program loads."""

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_ctrl_c_during_the_imports_leaves_no_traceback(tmp_path):
    (tmp_path / "slow.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(300)\n")
    words = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]\n"
    words += "from panoocc_ros.ros.signals import run_main; run_main('slow')"
    process = subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT and process.stderr.read() == ""
    finally:
        process.kill()


def test_every_executable_loads_so():
    for path in (ROOT / "scripts").iterdir():
        assert "run_main(" in path.read_text(), path.name
