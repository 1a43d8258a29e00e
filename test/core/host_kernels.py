"""CUDA C++ on a CPU: the very text of a kernel, compiled by g++, its blocks and threads one after another."""

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from panoocc_core.cuda.kernels import source

COMPILER = shutil.which("g++")
KEYWORDS = """
#include <math.h>
#include <stddef.h>
#define __device__
#define __global__
#define __host__
struct Index3 { unsigned x, y, z; };
static Index3 blockIdx, threadIdx, blockDim, gridDim;
"""
LAUNCHER = """
extern "C" void launch_{name}(const unsigned* grid, const unsigned* block, {parameters}) {{
    gridDim = {{grid[0], grid[1], grid[2]}}, blockDim = {{block[0], block[1], block[2]}};
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
    for (threadIdx.z = 0; threadIdx.z < blockDim.z; ++threadIdx.z)
    for (threadIdx.y = 0; threadIdx.y < blockDim.y; ++threadIdx.y)
    for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x)
        {name}({arguments});
}}
"""


class HostKernels:
    """The kernels of a source file as `panoocc_core.cuda.kernels.Kernels` has them.

    Args:
        signatures: kernel -> its parameters, as in the source.
    """

    def __init__(self, name: str, signatures: dict[str, str], folder: Path) -> None:
        launchers = "".join(
            LAUNCHER.format(
                name=kernel,
                parameters=parameters,
                arguments=", ".join(part.split()[-1].lstrip("*") for part in parameters.split(",")),
            )
            for kernel, parameters in signatures.items()
        )
        text, library = folder / f"{name}.cpp", folder / f"{name}.so"
        text.write_text(KEYWORDS + source(name) + launchers)
        flags = ("-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wno-unknown-pragmas", "-shared", "-fPIC")
        subprocess.run([COMPILER, *flags, str(text), "-o", str(library)], check=True)
        self._library = ctypes.CDLL(str(library))

    def launch(self, name: str, grid: Any, block: Any, arguments: Sequence[Any]) -> None:
        three = ctypes.c_uint * 3
        getattr(self._library, f"launch_{name}")(three(*grid), three(*block), *map(_argument, arguments))


def _argument(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        assert value.device.type == "cpu" and value.is_contiguous()
        return ctypes.c_void_p(value.data_ptr())
    return {np.int32: ctypes.c_int, np.float32: ctypes.c_float, np.int64: ctypes.c_longlong}[type(value)](value)
