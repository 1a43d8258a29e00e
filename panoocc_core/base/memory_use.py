"""What the process has taken of host and device memory."""

import os
import resource
import sys
from pathlib import Path

import torch

STATM, MEMINFO = Path("/proc/self/statm"), Path("/proc/meminfo")


def memory_in_use(device: torch.device) -> dict[str, int]:
    """Bytes by kind: `host` (resident), and on CUDA `device` (tensors), `device_most` (so far), `device_reserved`."""
    found = {"host": host_memory_in_use()}
    if device.type == "cuda":
        found["device"] = torch.cuda.memory_allocated(device)
        found["device_most"] = torch.cuda.max_memory_allocated(device)
        found["device_reserved"] = torch.cuda.memory_reserved(device)
    return found


def free_memory(device: torch.device) -> int | None:
    """Bytes that a device, or the host, has left for this process; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else None


def host_memory_in_use() -> int:
    """Resident bytes of this process; where the system does not tell, the most that there ever were."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
