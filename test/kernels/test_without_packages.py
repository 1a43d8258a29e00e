"""Beside an installed ROS 2 what `requirements/kernels.txt` names may be missing: tests skip with a reason there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("triton", "cupy", "onnx", "onnxruntime", "onnxscript")
WITHOUT_THEM = f"""
import sys
import pytest
sys.modules.update(dict.fromkeys({PACKAGES}))
pytest.main(["-q", "-rs", "-p", "no:cacheprovider", "-k", "not without_packages", *sys.argv[1:]])
"""


def test_tests_of_kernels_skip_with_a_reason():
    command = [sys.executable, "-c", WITHOUT_THEM, "test/kernels", "test/core/test_front_end.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    *_, last = done.stdout.strip().splitlines()
    assert re.search(r"passed, \d+ skipped", last) and not re.search("error|failed", last), done.stdout + done.stderr
    assert done.stdout.count("pip install -r requirements/kernels.txt") >= 7  # one a file


@pytest.mark.parametrize(("ros", "count"), [("wheels", 1), ("system", 0)])
def test_make_installs_them_for_the_tests_beside_wheels_alone(ros, count):
    """Where ROS 2 is installed they would replace the NumPy that its modules were built for."""
    command = ["make", "--dry-run", "--what-if=requirements/kernels.txt", "test"]
    environment = {**os.environ, "PANOOCC_ROS": ros}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(re.findall("install .*-r requirements/kernels.txt", done.stdout)) == count
