"""How many processors there are for this process."""

import os


def processor_count() -> int:
    """Those it may run on, where the system tells (`taskset`, a container's set of processors); else all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
