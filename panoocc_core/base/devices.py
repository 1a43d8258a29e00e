"""Which devices networks and renderers can run on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .host_memory import give_back_freed_memory
from .processors import multiplies_natively

TENSOR_CORES_CAPABILITY, BF16_CAPABILITY = 7, 8  # the first major ones of CUDA that have them


def usable_device(device: str | torch.device) -> torch.device:
    """The torch device of a name; `auto` is cuda where there is one, else cpu.

    Raises:
        ValueError: unknown, or not on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is unknown; use cpu, cuda, cuda:<index> or auto") from error
    if target.type not in ("cpu", "cuda"):
        raise ValueError(f"device {device!r} is not supported; use cpu, cuda, cuda:<index> or auto")
    if target.type == "cuda":
        if (why := why_no_gpu()) is not None:
            raise ValueError(f"device {str(device)!r} cannot be used: {why}; or use device cpu")
        count = torch.cuda.device_count()
        if (target.index or 0) >= count:
            there = ", ".join(f"cuda:{index}" for index in range(count))
            raise ValueError(f"device {str(device)!r} is not on this machine: it has {there}")
    return target


def with_index(device: torch.device) -> torch.device:
    """The same device with its number, as its tensors name it."""
    is_open = device.type == "cuda" and device.index is None
    return torch.device("cuda", torch.cuda.current_device()) if is_open else device


def why_no_gpu() -> str | None:
    """Why torch can use no GPU, and what to do about it; None where it can."""
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built without CUDA: install a CUDA build (https://pytorch.org)"
    try:
        torch.cuda.init()
        reason = "no CUDA GPUs are available"
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [""])[0].split(". ")[0].rstrip(".")
    if "too old" in reason:
        return f"{reason}: update the driver, or install torch for an older CUDA than {torch.version.cuda}"
    if "driver" in reason:
        return f"{reason}: install it; in a container, start that with --gpus all"
    return f"{reason}: nvidia-smi must list one; look at CUDA_VISIBLE_DEVICES, and in a container at --gpus all"


def check_precision(device: torch.device, precision: str) -> str | None:
    """What is to be known of a precision on a device; None: nothing.

    Raises:
        ValueError: the device does not have it.
    """
    if precision == "fp32":
        return None
    if device.type == "cpu":
        if precision == "fp16":  # torch's fused layers and the compiled loops do not have it
            return "precision fp16 saves no time on a CPU: fp32 is faster, and bf16 where the processor multiplies it"
        if multiplies_natively("bf16"):
            return None
        return f"precision {precision} saves no time here: the processor does not multiply it natively; fp32 is faster"
    major, minor = torch.cuda.get_device_capability(device)
    name = torch.cuda.get_device_name(device)
    if precision == "bf16" and major < BF16_CAPABILITY:
        raise ValueError(
            f"precision bf16 needs compute capability {BF16_CAPABILITY}.0 or later, and {name} has {major}.{minor}: "
            "use fp16 or fp32"
        )
    if major < TENSOR_CORES_CAPABILITY:
        return f"precision {precision} saves little here: {name} (capability {major}.{minor}) has no tensor cores"
    return None


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch or NumPy did not get the memory that it asked for, on the device or the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # of torch's allocator on the CPU


def give_back_memory(device: torch.device) -> None:
    """Let other processes have what nobody holds any more."""
    give_back_freed_memory()
    if device.type == "cuda":
        torch.cuda.empty_cache()


class _FullFloat32:
    """Torch's switches for TF32, which are set when the first one enters and set back when the last one leaves."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before: list[Any] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Float32 means float32 while it lasts: by default cuDNN rounds what it convolves to the ten bits of TF32.

        The switches belong to the process: what other threads compute on CUDA meanwhile has them too.
        """
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        exact: str | bool
        if hasattr(cudnn, "conv"):  # since torch 2.9; the older switches may not be read where a program uses these
            switches, name, exact = (cudnn.conv, matmul), "fp32_precision", "ieee"
        else:
            switches, name, exact = (cudnn, matmul), "allow_tf32", False
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before = [getattr(switch, name) for switch in switches]
                for switch in switches:
                    setattr(switch, name, exact)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    for switch, value in zip(switches, self._before):
                        setattr(switch, name, value)


full_float32 = _FullFloat32()  # a context manager, for any number of threads at once
