"""How many processors there are for this process, and what they can."""

import os
from functools import cache
from pathlib import Path
from typing import Literal

CPU_INFO = Path("/proc/cpuinfo")
MULTIPLIES = {  # what /proc/cpuinfo calls the ability to multiply a number format: x86, ARM
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "fp16": {"avx512_fp16", "amx_fp16", "asimdhp"},
}


def processor_count() -> int:
    """Those it may run on, where the system tells (`taskset`, a container's set of processors); else all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def multiplies_natively(precision: Literal["bf16", "fp16"]) -> bool:
    """Whether the processor multiplies a format of half precision itself; not where the system does not tell."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.is_file() else []
    names = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return not MULTIPLIES[precision].isdisjoint(names)
