"""Bilinear interpolation inside Triton kernels, with zeros outside the map."""
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
    position = tl.minimum(tl.where(position > -2.0, position, -2.0), size + 1.0)
    low = tl.floor(position)
    index = low.to(tl.int32)
    return index, position - low, (index >= 0) & (index < size), (index >= -1) & (index < size - 1)


@triton.jit
def ringed_cell_and_fraction(position, size):
    """The same for maps with a ring of zeros around them, in which the first cell has the index 1: every index in
    0..size and the one after it can be read."""
    position = tl.minimum(tl.where(position > -1.0, position + 1.0, 0.0), size + 1.0)  # zero for what is not a number
    low = tl.minimum(tl.floor(position), size.to(tl.float32))
    return low.to(tl.int32), position - low


@triton.jit
def read(pointers, inside, channel, CHANNELS: tl.constexpr, CHANNEL_BLOCK: tl.constexpr):
    """What pointers [row, channel] point to; zeros in rows that are outside and beyond the channels."""
    if CHANNELS % CHANNEL_BLOCK == 0:
        return tl.load(pointers, inside[:, None], 0.0)
    else:
        return tl.load(pointers, inside[:, None] & (channel < CHANNELS)[None, :], 0.0)
