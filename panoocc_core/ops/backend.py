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
_told: set[str] = set()  # which reasons for running none


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
    if kernels == "torch" or device.type not in ("cpu", "cuda"):
        return "torch"
    if device.type == "cuda" and kernels == "triton":
        return kernels
    reason = _why_none(device)
    if reason is None:
        return "native" if device.type == "cpu" else "triton"
    if reason not in _told:
        warnings.warn(reason, RuntimeWarning, stacklevel=2)
        _told.add(reason)
    return "torch"


def why_no_kernels(device: torch.device) -> str | None:
    """Why a device runs operators without kernels although nobody chose that; None: it has them.

    For whoever says it himself: no warning follows.
    """
    reason = _why_none(device) if chosen_kernels() == "auto" and not wants_reference() else None
    if reason is not None:
        _told.add(reason)
    return reason


def gradient_flows(*tensors: Tensor) -> bool:
    """Whether a gradient is to flow to one of them: what is made for inference alone would cut it."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


@cache
def _why_none(device: torch.device) -> str | None:
    why = _why_not_native() if device.type == "cpu" else _why_not_triton(device)
    return None if why is None else f"{device} runs operators without kernels, {why}. {VARIABLE}=torch chooses that"


def _why_not_native() -> str | None:
    try:
        native_library.library()
    except OSError as error:
        return f"attention takes two to three times as long: {error}"
    return None


def _why_not_triton(device: torch.device) -> str | None:
    capability = torch.cuda.get_device_capability(device)
    if not find_spec("triton"):
        return "several times slower: the package triton is not installed"
    if capability < OLDEST_CAPABILITY:
        return f"several times slower: its compute capability is {capability[0]}.{capability[1]}, older than 8.0"
    return None
