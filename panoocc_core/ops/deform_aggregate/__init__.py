"""Grouped deformable aggregation, the core of DCNv3-style layers (InternImage, arXiv 2211.05778)."""

from torch import Tensor

from ..backend import running_kernels
from ..reference_mode import chosen
from . import portable, reference, tuned


def deform_aggregate(values: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Every pixel and group sums its points around the pixel; zeros outside the map.

    Args:
        values: [image, row, column, group, channel].
        offsets: float32 [image, row, column, group, point, 2], (dx, dy) from the pixel, in pixels.
        weights: [image, row, column, group, point], already normalised.

    Returns:
        [image, row, column, group * channel].
    """
    if running_kernels(values.device) == "triton":
        from . import triton

        return triton.deform_aggregate(values, offsets, weights)
    operator = chosen(tuned.deform_aggregate, reference.deform_aggregate, portable.deform_aggregate)
    return operator(values, offsets, weights)
