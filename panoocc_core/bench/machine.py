"""What a measurement runs on: names, threads, and the most memory that a process has taken."""

import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import torch

from ..base.memory_use import host_memory_in_use
from ..ops.backend import running_kernels

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5)


@contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """Inside, torch and OpenCV compute with so many threads."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def hardware(device: torch.device) -> str:
    """What the numbers were measured on."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{cpu_name()}, {torch.get_num_threads()} threads"
    return f"{name}, kernels: {running_kernels(device)}, torch {torch.__version__}"


def cpu_name() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def forget_peak(device: torch.device) -> None:
    """From here on `most_mb` counts anew, where the system can."""
    with suppress(OSError):
        _CLEAR_REFS.write_text(_RESET_PEAK)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)


def memory_mb(device: torch.device) -> float:
    """What is taken now: by tensors on CUDA, else by the process."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 1e6
    return host_memory_in_use() / 1e6


def most_mb(device: torch.device) -> float:
    """The most that was taken at once: by tensors on CUDA, else by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
