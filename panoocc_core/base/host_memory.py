"""How the process handles host memory while a network runs on the CPU."""

import ctypes
from contextlib import suppress

# glibc's numbers for mallopt(3), and what they are set to.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_MAX_MMAP_THRESHOLD = 32 << 20  # glibc takes no more
_STEP = 64 << 20
_KEEP = 1 << 30


def keep_freed_memory() -> bool:
    """Let freed tensors' memory, up to a gigabyte, wait for the next tensors; returns whether the C library can.

    By default glibc gives the memory of every large tensor back to the kernel and takes it anew, zeroed, for the next
    one: a quarter of the time of a small network.  Threads share one pool, so this is to be called before they start.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not glibc
        return False
    settings = {
        _ARENA_MAX: 1,
        _MMAP_THRESHOLD: _MAX_MMAP_THRESHOLD,
        _TRIM_THRESHOLD: _KEEP,
        _TOP_PAD: _STEP,
    }
    taken = [mallopt(number, value) == 1 for number, value in settings.items()]
    return all(taken)


def give_back_freed_memory() -> None:
    """Let the kernel have what was freed, whatever was kept; where the C library cannot, nothing happens."""
    with suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
