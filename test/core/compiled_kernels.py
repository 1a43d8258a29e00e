"""What becomes of CUDA C++ for a GPU that is not there: NVRTC compiles it, and tells registers, stack and spills."""

import re
from functools import lru_cache
from typing import NamedTuple

import pytest

from panoocc_core.cuda.kernels import OPTIONS, source

ARCHITECTURES = (80, 87, 90, 100)  # A100; Orin; H100, H200; B200
_RESOURCES = re.compile(
    r"Function properties for (\w+)\s*\n.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers",
    re.DOTALL,
)


class Compiled(NamedTuple):
    """One kernel in machine code."""

    name: str
    registers: int
    stack_bytes: int
    spill_bytes: int


@lru_cache
def compiled(name: str, architecture: int) -> list[Compiled]:
    """The kernels of a source file for an architecture; the test is skipped where NVRTC is not installed."""
    pytest.importorskip("cupy", reason="install requirements/kernels.txt")
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(source(name), name, (), ())
    try:
        options = (*OPTIONS, f"--gpu-architecture=sm_{architecture}", "--ptxas-options=-v")
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError:
            pytest.fail(nvrtc.getProgramLog(program))
        log = nvrtc.getProgramLog(program)
    finally:
        nvrtc.destroyProgram(program)
    found = [
        Compiled(kernel, int(registers), int(stack), int(stores) + int(loads))
        for kernel, stack, stores, loads, registers in _RESOURCES.findall(log)
    ]
    assert len(found) == source(name).count("__global__"), log
    return found
