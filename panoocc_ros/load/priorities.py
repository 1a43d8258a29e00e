"""Which threads go first where the processors are busy: the worker before what decodes images of sets to come."""

import os
import threading
from contextlib import suppress
from typing import Literal

Priorities = Literal["system", "nice", "realtime"]

NICER = 5  # more niceness of threads that give way: allowed everywhere
LESS_NICE, REALTIME = -5, 1  # more niceness of the worker, or its priority: the system may refuse either


def give_way() -> None:
    """Let other threads go before the calling one, where the system has priorities of threads."""
    with suppress(OSError):
        _add_to_niceness(NICER)


def go_first(priorities: Priorities) -> str | None:
    """Let the calling thread, and those that it starts (OpenMP's too), go before others; returns why not, if so."""
    if priorities == "system":
        return None
    try:
        if priorities == "nice":
            _add_to_niceness(LESS_NICE)
        else:
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_RR, os.sched_param(REALTIME))
    except (OSError, AttributeError) as error:  # no permission; a system without it
        wanted = f"{-LESS_NICE} less niceness" if priorities == "nice" else f"real-time priority {REALTIME}"
        limit = "nice" if priorities == "nice" else "rtprio"
        return (
            f"thread_priorities {priorities}: the system refuses {wanted} to the worker ({error}): allow it with "
            f"`{limit}` in /etc/security/limits.conf or the capability SYS_NICE, or set thread_priorities to system"
        )
    return None


def _add_to_niceness(more: int) -> None:
    thread = threading.get_native_id()  # on Linux a thread has a niceness of its own
    os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + more)
