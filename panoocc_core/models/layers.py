"""Linear layers and convolutions with what follows them: y = relu(x * weight + bias + residual), in one operation where
torch offers it.

On a CPU that is oneDNN with packed weights, for networks whose weights are final (`freeze`): a third faster than the
usual matrix product, without a pass over memory for the residual, the bias and the ReLU each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..ops.backend import gradient_flows

_PACKED_DTYPES = (torch.float32, torch.bfloat16)


def can_pack(weight: Tensor) -> bool:
    """Whether torch has oneDNN's fused operators for such weights."""
    ops = torch.ops.mkldnn
    return (
        weight.device.type == "cpu"
        and weight.dtype in _PACKED_DTYPES
        and torch.backends.mkldnn.is_available()
        and all(hasattr(ops, name) for name in ("_linear_pointwise", "_convolution_pointwise"))
    )


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A linear map of rows."""

    weight: Tensor  # [outputs, inputs]
    bias: Tensor | None  # [outputs]
    packed: Tensor | None = None

    def frozen(self) -> "Dense":
        """The same with its weights packed, where they can be."""
        weight = self.weight.detach().contiguous()
        if not can_pack(weight):
            return Dense(weight, self.bias)
        return Dense(weight, self.bias, torch.ops.mkldnn._reorder_linear_weight(weight))

    def __call__(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        if self.packed is not None and not gradient_flows(x):
            pointwise = torch.ops.mkldnn._linear_pointwise  # overloads by name: to choose, torch would print tensors
            if residual is None:
                return pointwise.default(x, self.packed, self.bias, "relu" if relu else "none", [], "")
            out = pointwise.binary(x, residual, self.packed, self.bias, "add")
        else:
            out = functional.linear(x, self.weight, self.bias)
            out = out if residual is None else out + residual
        return functional.relu_(out) if relu else out


class Freezable(nn.Module):
    """A module that keeps what follows from its weights alone, once these are final.

    What is kept is made anew when the module moves to another device or dtype, is copied or gets other weights by
    `load_state_dict`; weights that are changed in place need another `freeze`.
    """

    is_frozen = False
    _kept: Any = None  # what `_made` made

    def freeze(self) -> None:
        """From now on the weights stay as they are."""
        if not self.is_frozen:
            self.register_load_state_dict_post_hook(_freeze_again)
        self.is_frozen, self._kept = True, self._made()

    def _made(self) -> Any:
        """What follows from the weights."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        if self.is_frozen:
            self._kept = self._made()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}  # packed weights cannot be copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.is_frozen:
            self._kept = self._made()


def _freeze_again(module: nn.Module, _: object) -> None:
    assert isinstance(module, Freezable)
    module.freeze()


def runs_in_blocks(module: nn.Module, x: Tensor) -> bool:
    """Whether a module takes a part of its input after the other: on a CPU, for its caches and its memory.

    Only with final weights: in a training the norm of a part is not that of the whole.
    """
    return x.device.type == "cpu" and any(isinstance(part, Freezable) and part.is_frozen for part in module.modules())


class Linear(nn.Linear, Freezable):
    """A linear layer, with an optional residual and ReLU."""

    def _made(self) -> Dense:
        return Dense(self.weight, self.bias).frozen()

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return (self._kept or Dense(self.weight, self.bias))(x, residual, relu)


class _Kernel:
    """Weights of a convolution as oneDNN wants them for maps of the size that the first input has.

    Others are right too.  Without a size the layout is a guess, with which small maps take up to six times as long.
    """

    def __init__(self, weight: Tensor, place: tuple[list[int], list[int], list[int], int]):
        self.weight, self.place = weight, place
        self.packed: Tensor | None = None

    def packed_for(self, x: Tensor) -> Tensor:
        if self.packed is None:
            pack = torch.ops.mkldnn._reorder_convolution_weight
            self.packed = pack(self.weight, *self.place, list(x.shape))
        return self.packed


class Conv2d(nn.Conv2d, Freezable):
    """A convolution with zeros around, with an optional residual and ReLU."""

    def _made(self) -> _Kernel | None:
        weight = self.weight.detach()
        return _Kernel(weight, self._place()) if can_pack(weight) else None

    def _place(self) -> tuple[list[int], list[int], list[int], int]:
        assert isinstance(self.padding, tuple)
        return list(self.padding), list(self.stride), list(self.dilation), self.groups

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """[image, channel, row, column] -> the same with `out_channels`.

        Args:
            residual: a frozen layer writes its result over it: what nobody needs any more.
        """
        if self._kept is None or gradient_flows(x):
            out = super().forward(x)
            out = out if residual is None else out + residual
            return functional.relu_(out) if relu else out
        ops, weight, rest = torch.ops.mkldnn, self._kept.packed_for(x), (self.bias, *self._place())
        if residual is None:
            return ops._convolution_pointwise.default(x, weight, *rest, "relu" if relu else "none", [], "")
        add = ops._convolution_pointwise_.binary
        return add(residual, x, weight, *rest, "add", 1.0, "relu" if relu else None, [], "")


def conv_norm_relu(conv: Callable[..., Tensor], norm: nn.Module, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """ReLU of a convolution, its batch norm and the residual: one operation where the norm is folded in."""
    if isinstance(norm, nn.Identity):
        return conv(x, residual, True)
    out = norm(conv(x))
    return functional.relu_(out if residual is None else out + residual)
