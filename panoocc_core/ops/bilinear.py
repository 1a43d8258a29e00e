"""Bilinear interpolation inside Triton kernels, with zeros outside the map: masked loads need no border around it."""
# mypy: allow-untyped-defs

import triton
import triton.language as tl


@triton.jit
def cell_and_fraction(position, size):
    """The cells on both sides of positions along one axis, 0 at the centre of the first of `size` cells.

    Returns:
        int32 index of the lower cell, the weight in [0, 1] of the upper one, whether the lower cell is inside, and
        whether the upper one is.  What is not a number is outside.
    """
    position = tl.minimum(tl.maximum(position, -2.0), size + 1.0)
    low = tl.floor(position)
    index = low.to(tl.int32)
    return index, position - low, (index >= 0) & (index < size), (index >= -1) & (index < size - 1)


@triton.jit
def read(pointers, inside, channel, CHANNELS: tl.constexpr):
    """What [row, channel] pointers point to in the rows that are inside, zeros in the others."""
    if channel.shape[0] == CHANNELS:
        return tl.load(pointers, inside[:, None], 0.0)
    else:
        return tl.load(pointers, inside[:, None] & (channel < CHANNELS)[None, :], 0.0)
