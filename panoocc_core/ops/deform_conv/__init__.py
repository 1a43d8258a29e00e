"""Modulated deformable convolution (DCNv2, arXiv 1811.11168)."""

from collections.abc import Iterator

from torch import Tensor

from ..backend import gradient_flows, running_kernels
from . import reference, tuned


def deform_columns(
    x: Tensor, offsets: Tensor, masks: Tensor, kernel: tuple[int, int], stride: int = 1, padding: int = 1
) -> Iterator[Tensor]:
    """What the taps of `deform_conv` read: [pixel, tap * channel] of some pixels of the output after the other."""
    return tuned.deform_columns(x, offsets, masks, kernel, stride, padding)


def deform_conv(x: Tensor, offsets: Tensor, masks: Tensor, weight: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    """Convolution whose taps are moved and scaled at every output pixel; zeros outside the map, no bias.

    Its kernel has no gradients: on CUDA too, a training runs `tuned.py`.

    Args:
        x: [image, channel, row, column].
        offsets: float32 [image, 2 * tap, out row, out column], (dy, dx) interleaved tap by tap, in pixels.
        masks: [image, tap, out row, out column].
        weight: [out channel, channel, kernel row, kernel column].

    Returns:
        [image, out channel, out row, out column], channels last in memory.
    """
    kernels = running_kernels(x.device)
    if kernels == "triton" and not gradient_flows(x, offsets, masks, weight):
        from . import triton

        return triton.deform_conv(x, offsets, masks, weight, stride, padding)
    operator = reference.deform_conv if kernels == "reference" else tuned.deform_conv
    return operator(x, offsets, masks, weight, stride, padding)
