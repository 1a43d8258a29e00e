"""How the process handles host memory while a network runs on the CPU."""

import ctypes
import os
from contextlib import suppress
from typing import Literal, cast, get_args

# glibc's numbers for mallopt(3), and what they are set to.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -2, -3, -4, -8
_NEVER = -1
_STEP = 64 << 20
_LARGE = 32 << 20  # the most that glibc takes for its threshold
_TORCHS_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"

Kept = Literal["all", "small", "none"]
VARIABLE = "PANOOCC_KEEP_FREED"


def keep_freed_memory(kept: Kept = "all") -> bool:
    """Let freed tensors' memory wait for the next tensors; returns whether the C library can.

    By default glibc gives the memory of every large tensor back to the kernel and takes it anew, zeroed, for the next
    one: a fifth of the time of a network whose tensors have a hundred megabytes.  With this the process stays as large
    as it ever was, until `give_back_freed_memory`; and larger than else, since what is freed has gaps.  It holds for
    the whole process and cannot be undone.  Threads share one pool, so this is to be called before they start, and
    before the first tensor.  Networks on CUDA gain nothing by it.

    Args:
        kept: "all"; "small": tensors of more than 32 MB are given back at once and taken in huge pages, for a process
            without such gaps that is some per cent slower; "none": nothing is changed.
    """
    if kept == "none":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not glibc
        return False
    settings = {_ARENA_MAX: 1, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _STEP}
    if kept == "all":
        settings[_MMAP_MAX] = 0  # else what is larger than 32 MB is mapped anew each time, whatever the threshold
    else:
        settings[_MMAP_THRESHOLD] = _LARGE
        os.environ.setdefault(_TORCHS_HUGE_PAGES, "1")
    taken = [mallopt(number, value) == 1 for number, value in settings.items()]
    return all(taken)


def kept_by_environment() -> Kept:
    """What PANOOCC_KEEP_FREED lets the node and the commands keep; all, where it is not set.

    Raises:
        ValueError: it has another value.
    """
    value = os.environ.get(VARIABLE) or "all"
    if value not in get_args(Kept):
        raise ValueError(f"{VARIABLE} is {value!r}: set it to {', '.join(get_args(Kept))}, or not at all")
    return cast(Kept, value)


def give_back_freed_memory() -> None:
    """Let the kernel have what was freed, whatever was kept; where the C library cannot, nothing happens."""
    with suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
