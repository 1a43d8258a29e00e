"""Runs the tests that ask for `kernel_device` in Triton's interpreter, where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="kernels need triton: pip install -r requirements/kernels.txt")
HERE = Path(__file__).parent
FILES = [
    path
    for path in sorted(HERE.glob("test_*.py"))
    if path.name != Path(__file__).name and "kernel_device" in path.read_text()
]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU runs them")
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_kernels_in_the_interpreter(file):
    """One process a file: Triton decides when a kernel is defined whether it is interpreted."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(file)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**inherited, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=HERE.parent.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
