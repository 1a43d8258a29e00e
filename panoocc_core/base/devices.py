"""Which devices networks and renderers can run on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .host_memory import give_back_freed_memory


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
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device!r} is not on this machine: torch {torch.__version__} sees {torch.cuda.device_count()} "
            "CUDA devices; use device cpu, or install a CUDA build of torch"
        )
    return target


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
