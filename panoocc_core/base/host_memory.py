"""How the process handles host memory while a network runs on the CPU."""

import ctypes
from contextlib import suppress

# glibc's numbers for mallopt(3), and what they are set to.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_NEVER = -1
_STEP = 64 << 20


def keep_freed_memory() -> bool:
    """Let freed tensors' memory wait for the next tensors; returns whether the C library can.

    By default glibc gives the memory of every large tensor back to the kernel and takes it anew, zeroed, for the next
    one: a fifth of the time of a network whose tensors have a hundred megabytes.  With this the process stays as large
    as it ever was, until `give_back_freed_memory`; and a little larger than else, since what is freed has gaps.  It
    holds for the whole process and cannot be undone.  Threads share one pool, so this is to be called before they
    start.  Networks on CUDA gain nothing by it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not glibc
        return False
    settings = {
        _ARENA_MAX: 1,
        _MMAP_MAX: 0,  # else what is larger than 32 MB is mapped anew each time, whatever the threshold
        _TRIM_THRESHOLD: _NEVER,
        _TOP_PAD: _STEP,
    }
    taken = [mallopt(number, value) == 1 for number, value in settings.items()]
    return all(taken)


def give_back_freed_memory() -> None:
    """Let the kernel have what was freed, whatever was kept; where the C library cannot, nothing happens."""
    with suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
