"""Freed memory stays with the process."""

import os
import platform
import resource
import subprocess
import sys

import pytest

from panoocc_core import keep_freed_memory
from panoocc_core.base.host_memory import kept_by_environment
from panoocc_ros.commands.cli import main

KEPT = """
import os
import numpy as np
from panoocc_core.base.host_memory import give_back_freed_memory, keep_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
keep_freed_memory()
held = [np.ones(5 << 20, np.uint8) for _ in range(40)]
last = np.ones(5 << 20, np.uint8)
del held
before = resident()
give_back_freed_memory()
print(before - resident())
"""
PAGE_FAULTS = """
import resource, sys
import torch
from panoocc_core.base.host_memory import keep_freed_memory
assert keep_freed_memory(sys.argv[1]) == (sys.argv[1] != "none")
for round in range(20):
    if round == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.ones(int(sys.argv[2]), dtype=torch.uint8) for _ in range(5)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


@glibc
@pytest.mark.parametrize("size", [5 << 20, 41 << 20], ids=["5 MB", "41 MB"])  # of single tensors of nano, of the others
def test_memory_that_was_freed_is_not_taken_anew(size: int):
    def faults(how: str) -> int:
        command = [sys.executable, "-c", PAGE_FAULTS, how, str(size)]
        plain = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240, env=plain)
        return int(done.stdout)

    pages = 10 * 5 * size // resource.getpagesize()
    assert faults("all") < pages // 20
    assert faults("none") > pages // 2 or size < 32 << 20  # glibc keeps what is smaller after a few rounds
    assert faults("small") < pages // 10  # what is large is taken anew, in huge pages


@glibc
def test_memory_that_was_kept_can_be_given_back_though_some_above_it_is_held():
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True, timeout=240)
    assert int(done.stdout) > 150 << 20


def test_what_is_kept_is_said_by_the_environment(monkeypatch):
    monkeypatch.delenv("PANOOCC_KEEP_FREED", raising=False)
    assert kept_by_environment() == "all" and not keep_freed_memory("none")
    monkeypatch.setenv("PANOOCC_KEEP_FREED", "small")
    assert kept_by_environment() == "small"
    monkeypatch.setenv("PANOOCC_KEEP_FREED", "some")
    with pytest.raises(ValueError, match="PANOOCC_KEEP_FREED is 'some'.*all, small, none"):
        kept_by_environment()
    assert main(["models"]) == 2
