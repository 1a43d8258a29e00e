"""What the process has taken of host and device memory."""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

STATM, MEMINFO = Path("/proc/self/statm"), Path("/proc/meminfo")
CONTROL_GROUP = Path("/sys/fs/cgroup")


def memory_in_use(device: torch.device) -> dict[str, int]:
    """Bytes by kind: `host` (resident), and on CUDA `device` (tensors), `device_most` (so far), `device_reserved`."""
    found = {"host": host_memory_in_use()}
    if device.type == "cuda":
        found["device"] = torch.cuda.memory_allocated(device)
        found["device_most"] = torch.cuda.max_memory_allocated(device)
        found["device_reserved"] = torch.cuda.memory_reserved(device)
    return found


def free_memory(device: torch.device) -> int | None:
    """Bytes that a device has left, or the host within this process's control group; None where the system does not
    tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError):  # no limit is "max"
        limit, taken = (int((CONTROL_GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        found.append(max(limit - taken, 0))
    return min(found, default=None)


def host_memory_in_use() -> int:
    """Resident bytes of this process; where the system does not tell, the most that there ever were."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
