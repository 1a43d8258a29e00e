"""Compiles kernels for GPUs that are not there, exactly as the product launches them.

Inside `compiling(arch)` the product's own code may be called with tensors on the device "meta", at the sizes of
published networks: each Triton kernel that it would launch is specialised and compiled by its launcher, and not run.
What the compiler made is kept with its registers and its stack, as NVIDIA's `cuobjdump`, which comes with Triton, reads
them from the binary.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

ARCHS = (80, 87, 90, 100)  # A100, Orin, H100 and H200, B200


@dataclass(frozen=True)
class Compiled:
    """One kernel for one architecture."""

    name: str
    arch: int
    warps: int
    registers: int  # of a thread
    stack_bytes: int  # of a thread: spilled registers, and arrays that registers could not hold
    shared_bytes: int  # of a program
    binary: bytes

    def __str__(self) -> str:
        return (
            f"{self.name} for sm_{self.arch}, {self.warps} warps: {self.registers} registers, "
            f"{self.stack_bytes} bytes of stack, {self.shared_bytes} of shared memory"
        )

    def instructions(self) -> list[str]:
        """The machine's instructions in their order, to see what a loop costs."""
        return re.findall(r"^\s*/\*[0-9a-f]{4,}\*/\s+(.+?);", dumped(self.binary, "-sass"), re.MULTILINE)


def dumped(binary: bytes, option: str) -> str:
    """What `cuobjdump` prints of a binary."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, option, file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def resources(binary: bytes) -> dict[str, int]:
    """REG, STACK, SHARED and LOCAL of the only function of a binary."""
    found = re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", dumped(binary, "-res-usage"))
    return {name: int(value) for name, value in found}


class _AbsentGpu:
    """As much of a Triton driver as its launcher asks before it runs anything."""

    def __init__(self, arch: int):
        self._arch = arch

    def get_current_device(self) -> int:
        return self._arch  # what is compiled is kept by device

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._arch, 32)


@contextmanager
def compiling(arch: int) -> Iterator[list[Compiled]]:
    """Inside, kernels are compiled for `arch` (90: sm_90) in place of being run, and added to the list."""
    found: dict[str, Compiled] = {}
    kernels: list[Compiled] = []
    run, active = JITFunction.run, driver._active

    def compile_only(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        if kernel.hash not in found:
            found[kernel.hash] = _compiled(kernel, arch)
            kernels.append(found[kernel.hash])
        return kernel

    with tempfile.TemporaryDirectory() as cache, knobs.cache.scope():
        knobs.cache.dir = cache
        JITFunction.run = compile_only
        driver.set_active(_AbsentGpu(arch))
        try:
            yield kernels
        finally:
            JITFunction.run = run
            driver._active = active


def _compiled(kernel: Any, arch: int) -> Compiled:
    binary = kernel.asm["cubin"]
    used = resources(binary)
    return Compiled(
        name=kernel.name,
        arch=arch,
        warps=kernel.metadata.num_warps,
        registers=used["REG"],
        stack_bytes=used["STACK"] + used["LOCAL"],
        shared_bytes=kernel.metadata.shared,
        binary=binary,
    )


def assert_fits(kernels: list[Compiled], registers: int = 255) -> None:
    """Kernels were compiled, none spills, and none needs more registers than it may: these limit what runs at once."""
    assert kernels, "nothing was launched"
    for kernel in kernels:
        print(kernel)
        assert kernel.stack_bytes == 0 and kernel.registers <= registers, str(kernel)
