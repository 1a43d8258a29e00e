"""What operators run on: torch's own operations, or kernels.

`auto`, the default, takes kernels where they can run: on CPUs the compiled ones of `native.c`, on CUDA devices from
compute capability 8.0 on those of Triton, which CUDA builds of torch bring along on Linux.  Elsewhere it takes torch,
and warns once.
`PANOOCC_KERNELS` or `use_kernels` name another choice for the whole process, which then has to be possible.
"""

import os
import warnings
from functools import cache
from importlib.util import find_spec
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from . import native_library
from .reference_mode import wants_reference

Kernels = Literal["auto", "torch", "triton", "deformops"]
OLDEST_CAPABILITY = (8, 0)  # for which the tests compile the kernels
VARIABLE = "PANOOCC_KERNELS"

_chosen: Kernels | None = None


def use_kernels(kernels: Kernels) -> None:
    """Choose for the whole process; `deformops` is its multi-scale deformable attention, and Triton for the rest.

    Raises:
        ValueError: unknown, or its package is not installed.
    """
    global _chosen
    if kernels not in get_args(Kernels):
        raise ValueError(f"kernels {kernels!r} are unknown; use one of {', '.join(get_args(Kernels))}")
    if kernels == "deformops" and not find_spec("deformops"):
        raise ValueError("kernels 'deformops' need the package deformops (Python 3.12): pip install deformops")
    if kernels == "triton" and not find_spec("triton"):
        raise ValueError("kernels 'triton' need the package triton, which CUDA builds of torch for Linux bring along")
    _chosen = kernels


def chosen_kernels() -> Kernels:
    """What `use_kernels` or the environment chose."""
    if _chosen is None:
        use_kernels(cast(Kernels, os.environ.get(VARIABLE, "auto")))
    return cast(Kernels, _chosen)


def running_kernels(
    device: torch.device, has_deformops: bool = False
) -> Literal["reference", "torch", "native", "triton", "deformops"]:
    """What operators run on a device: to be asked by operators, benchmarks and diagnostics.

    `has_deformops`: of the operator that this package replaces.
    """
    if wants_reference():
        return "reference"
    kernels = chosen_kernels()
    if kernels == "deformops" and has_deformops:
        return kernels
    if kernels == "torch":
        return kernels
    if device.type == "cpu":
        return "native" if _can_run_native() else "torch"
    if device.type != "cuda":
        return "torch"
    return "triton" if kernels == "triton" or _can_run_triton(device) else "torch"


def gradient_flows(*tensors: Tensor) -> bool:
    """Whether a gradient is to flow to one of them: what is made for inference alone would cut it."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


@cache
def _can_run_native() -> bool:
    try:
        native_library.library()
    except OSError as error:
        warnings.warn(
            f"operators on the CPU run without compiled loops, a third slower: {error}. {VARIABLE}=torch chooses that.",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


@cache
def _can_run_triton(device: torch.device) -> bool:
    capability = torch.cuda.get_device_capability(device)
    if not find_spec("triton"):
        reason = "the package triton is not installed"
    elif capability < OLDEST_CAPABILITY:
        reason = f"its compute capability is {capability[0]}.{capability[1]}, older than 8.0"
    else:
        return True
    warnings.warn(
        f"{device} runs operators without kernels, several times slower: {reason}. {VARIABLE}=torch chooses that.",
        RuntimeWarning,
        stacklevel=2,
    )
    return False
