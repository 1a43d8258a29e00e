"""Tensors that belong to a network and are not learned."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Constant(nn.Module):
    """A tensor made once that moves with its network from device to device.

    It is no part of the weights and keeps its dtype when these are cast: coordinates need float32.
    """

    value: Tensor

    def __init__(self, value: Tensor):
        super().__init__()
        self.register_buffer("value", value, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        kept = self.value
        super()._apply(fn, recurse)
        if self.value.dtype != kept.dtype:
            self.value = kept.to(self.value.device)
        return self
