"""Kernels in CUDA C++, compiled when they are first wanted, and launched on torch's stream."""

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import torch

from ..base.devices import with_index

# As the host counts: without fused products and sums.
OPTIONS = ("--fmad=false", "-std=c++17")
INSTALL = "install it: pip install 'panoocc[cuda]', or the cupy-cuda package of the machine's CUDA"
Triple = tuple[int, int, int]


class CudaError(RuntimeError):
    """CuPy, the driver or the compiler is missing, or refuses; the text says what to do."""


class Kernels(Protocol):
    """The kernels of one source file on one device."""

    def launch(self, name: str, grid: Triple, block: Triple, arguments: Sequence[Any]) -> None:
        """Run a kernel after what has been given to torch's current stream; tensors and NumPy scalars go in."""


def source(name: str) -> str:
    """The text of a file of kernels of this package."""
    return (files(__package__) / name).read_text()


def has_cupy() -> bool:
    """Whether CuPy is installed, of whatever use it may be."""
    return find_spec("cupy") is not None


def import_cupy() -> Any:
    """The module.

    Raises:
        CudaError: it is not installed, or cannot be used.
    """
    try:
        import cupy
    except ImportError as error:
        raise CudaError(f"kernels for images and voxels need CuPy ({error}): {INSTALL}") from error
    return cupy


@lru_cache
def kernels_on(device: torch.device, name: str) -> Kernels:
    """The kernels of a source file, compiled for a CUDA device.

    Raises:
        CudaError: CuPy is missing, does not fit the driver, or the compiler refuses.
    """
    return _RawKernels(device, name)


class _RawKernels:
    def __init__(self, device: torch.device, name: str) -> None:
        self._cupy, self._device = import_cupy(), device
        try:
            self._on_device = self._cupy.cuda.Device(with_index(device).index)
            with self._on_device:
                self._module = self._cupy.RawModule(code=source(name), options=OPTIONS, backend="nvrtc")
                self._module.compile()
        except Exception as error:  # CuPy has several of its own, by driver, runtime and compiler
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            raise CudaError(
                f"{name} cannot be compiled for {device} by CuPy {self._cupy.__version__}: {text}"
            ) from error

    def launch(self, name: str, grid: Triple, block: Triple, arguments: Sequence[Any]) -> None:
        stream = torch.cuda.current_stream(self._device)
        with self._on_device, self._cupy.cuda.ExternalStream(stream.cuda_stream, self._on_device.id):
            self._module.get_function(name)(grid, block, tuple(map(self._argument, arguments)))

    def _argument(self, value: Any) -> Any:
        # Torch's memory as it is.  The stream is the same on both sides: nobody has to wait.
        if not isinstance(value, torch.Tensor):
            return value
        plain = value.view(torch.int16) if value.dtype == torch.bfloat16 else value
        return self._cupy.from_dlpack(plain.detach())


def address(tensor: torch.Tensor) -> np.uint64:
    """Where a tensor's memory begins, for records that kernels read."""
    return np.uint64(tensor.data_ptr())
