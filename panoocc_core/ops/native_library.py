"""The compiled operators for CPUs: `make setup`, pip and colcon build a library of `native.c` beside this file."""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Thread

import torch
from torch import Tensor

NAME, ABI = "_native.so", 1  # as native.c has it
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
        OSError: they were not built, or not for this package and machine; the text says what to do.
    """
    path = Path(__file__).with_name(NAME)
    build = "build it with a C compiler at hand: `make setup`, `pip install .` or `colcon build`"
    if not path.is_file():
        raise OSError(f"the library of compiled operators, {path}, is not there; {build}")
    try:
        operators = ctypes.CDLL(str(path))
        is_ours = operators.panoocc_abi() == ABI
        for name, arguments in _ARGUMENTS.items():
            function = getattr(operators, name)
            function.argtypes, function.restype = arguments, None
    except (OSError, AttributeError) as error:
        raise OSError(f"{path} cannot be used ({error}): delete it, and {build}") from error
    if not is_ours:
        raise OSError(f"{path} is of another version of panoocc: delete it, and {build}")
    return operators


def pointer(tensor: Tensor | None) -> int | None:
    """Where the numbers of a tensor lie."""
    return None if tensor is None else tensor.data_ptr()


def in_parts(queries: int, work: Callable[[int, int], object]) -> None:
    """Do the work from a query to another one, with as many threads as torch has.

    They are made for each call, which takes a few hundredths of a millisecond: so they have the caller's priority, and
    a fork or the end of the interpreter finds none.
    """
    threads = max(1, min(torch.get_num_threads(), queries // FEWEST_QUERIES))
    bounds = [queries * thread // threads for thread in range(threads + 1)]
    others = [Thread(target=work, args=part, daemon=True) for part in zip(bounds[1:], bounds[2:])]
    for other in others:
        other.start()
    work(bounds[0], bounds[1])
    for other in others:
        other.join()
