"""The compiled operators for CPUs: `make setup`, pip and colcon build a library of `native.c` beside this file."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

ABI = 1  # of native.c
FEWEST_QUERIES = 64  # of a thread
_POINTER, _INT, _INT64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_ARGUMENTS = {
    "panoocc_deform_attn": [
        *(_POINTER, _INT, ctypes.c_int32),  # values
        *(_INT, _POINTER),  # levels
        *(_INT, _INT, _INT64, _INT),  # heads, points, channels, slots
        *(_POINTER, _POINTER),  # positions, source
        *(_POINTER, _POINTER, _INT64, _POINTER),  # offsets, weights
        *(_POINTER, _INT64, _INT64),  # out, begin, end
    ],
}


@cache
def library() -> ctypes.CDLL:
    """The compiled operators.

    Raises:
        OSError: they were not built, or for another version of this package; the text says what to do.
    """
    build = "build it with a C compiler at hand: `make setup`, `pip install .` or `colcon build`"
    files = sorted(Path(__file__).parent.glob("_native*.so"))
    if not files:
        raise OSError(f"the library of compiled operators is not there; {build}")
    operators = ctypes.CDLL(str(files[0]))
    if operators.panoocc_abi() != ABI:
        raise OSError(f"{files[0]} is of another version of panoocc; {build}")
    for name, arguments in _ARGUMENTS.items():
        function = getattr(operators, name)
        function.argtypes, function.restype = arguments, None
    return operators


def pointer(tensor: Tensor | None) -> int | None:
    """Where the numbers of a tensor lie."""
    return None if tensor is None else tensor.data_ptr()


def in_parts(queries: int, work: Callable[[int, int], object]) -> None:
    """Do the work from a query to another one, with as many threads as torch has."""
    threads = max(1, min(torch.get_num_threads(), queries // FEWEST_QUERIES))
    if threads == 1:
        work(0, queries)
        return
    bounds = [queries * thread // threads for thread in range(threads + 1)]
    list(_pool(threads).map(work, bounds, bounds[1:]))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "panoocc operators")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not outlive a fork
