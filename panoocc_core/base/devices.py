"""Which devices networks and renderers can run on."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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


@contextmanager
def full_float32() -> Iterator[None]:
    """Float32 means float32 while it lasts: by default cuDNN rounds the inputs of convolutions to the ten bits of TF32.

    The switches are torch's and belong to the process: what other threads compute on CUDA meanwhile has them too.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    exact: str | bool
    if hasattr(cudnn, "conv"):  # since torch 2.9; the older switches may not be read where a program uses these
        switches, name, exact = (cudnn.conv, matmul), "fp32_precision", "ieee"
    else:
        switches, name, exact = (cudnn, matmul), "allow_tf32", False
    before = [getattr(switch, name) for switch in switches]
    for switch in switches:
        setattr(switch, name, exact)
    try:
        yield
    finally:
        for switch, value in zip(switches, before):
            setattr(switch, name, value)
