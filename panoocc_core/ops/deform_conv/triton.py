"""Modulated deformable convolution on CUDA: a kernel samples all taps into a matrix, cuBLAS multiplies it.

A program has a row for each of its output pixels and goes through the taps, whose cells overlap and stay in the L1
cache; a thread reads 16 bytes of a cell at a time.  For inference alone: a training takes `tuned.py`, also on CUDA.
"""
# mypy: allow-untyped-defs

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from ..bilinear import cell_and_fraction, read

THREADS = 256  # of a program
READ_BYTES = 16  # of a thread at once
CHANNELS_AT_ONCE = 64


def deform_conv(x: Tensor, offsets: Tensor, masks: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """See `panoocc_core.ops.deform_conv`.  Any strides; x is copied unless its channels lie last in memory."""
    columns = _sampled_taps(x, offsets, masks, weight.shape[3], stride, padding)
    out = functional.linear(columns, weight.permute(0, 2, 3, 1).flatten(1))
    return out.view(x.shape[0], *offsets.shape[2:], -1).permute(0, 3, 1, 2)


@torch.library.custom_op("panoocc::sampled_taps", mutates_args=())
def _sampled_taps(x: Tensor, offsets: Tensor, masks: Tensor, kernel_columns: int, stride: int, padding: int) -> Tensor:
    return sampled_taps(x, offsets, masks, kernel_columns, stride, padding)


@_sampled_taps.register_fake
def _(x, offsets, masks, kernel_columns, stride, padding):
    return x.new_empty(masks.numel() // masks.shape[1], masks.shape[1] * x.shape[1])


def sampled_taps(x: Tensor, offsets: Tensor, masks: Tensor, kernel_columns: int, stride: int, padding: int) -> Tensor:
    """[image * out row * out column, tap * channel]: what the taps see, scaled by their masks."""
    images, channels, rows, columns = x.shape
    taps, out_rows, out_columns = masks.shape[1:]
    x = x.contiguous(memory_format=torch.channels_last)
    pixels = images * out_rows * out_columns
    out = x.new_empty(pixels, taps * channels)
    channel_block = min(CHANNELS_AT_ONCE, triton.next_power_of_2(channels))
    pixel_block = max(1, THREADS * READ_BYTES // (channel_block * x.element_size()))
    if pixels:
        with torch.cuda.device_of(x):
            _sample[(triton.cdiv(pixels, pixel_block), triton.cdiv(channels, channel_block))](
                x,
                offsets,
                masks,
                out,
                pixels,
                rows,
                columns,
                out_rows,
                out_columns,
                taps,
                kernel_columns,
                stride,
                padding,
                *(x.stride(0), x.stride(2), x.stride(3)),
                *offsets.stride(),
                *masks.stride(),
                CHANNELS=channels,
                CHANNEL_BLOCK=channel_block,
                PIXELS=pixel_block,
                num_warps=THREADS // 32,
            )
    return out


@triton.jit
def _sample(
    x,  # [image, row, column, channel], with strides
    offsets,  # [image, 2 * tap, out row, out column], with strides
    masks,  # [image, tap, out row, out column], with strides
    out,  # [pixel, tap, channel]
    pixels,
    rows,
    columns,
    out_rows,
    out_columns,
    taps,
    kernel_columns,
    stride,
    padding,
    x_image,
    x_row,
    x_column,
    offset_image,
    offset_tap,
    offset_row,
    offset_column,
    mask_image,
    mask_tap,
    mask_row,
    mask_column,
    CHANNELS: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    PIXELS: tl.constexpr,
):
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    exists = pixel < pixels
    out_column, line = pixel % out_columns, pixel // out_columns
    out_row, image = line % out_rows, (line // out_rows).to(tl.int64)
    channel = tl.program_id(1) * CHANNEL_BLOCK + tl.arange(0, CHANNEL_BLOCK)
    own_offsets = offsets + image * offset_image + out_row * offset_row + out_column * offset_column
    own_masks = masks + image * mask_image + out_row * mask_row + out_column * mask_column
    own_image = x + image * x_image
    target = (out + pixel.to(tl.int64) * (taps * CHANNELS))[:, None] + channel[None, :]
    for tap in range(taps):
        move_y = tl.load(own_offsets + 2 * tap * offset_tap, exists, 0.0).to(tl.float32)
        move_x = tl.load(own_offsets + (2 * tap + 1) * offset_tap, exists, 0.0).to(tl.float32)
        mask = tl.load(own_masks + tap * mask_tap, exists, 0.0).to(tl.float32)
        y = move_y + (out_row * stride - padding + tap // kernel_columns)
        x_position = move_x + (out_column * stride - padding + tap % kernel_columns)
        row, down, in_upper, in_lower = cell_and_fraction(y, rows)
        column, right, in_left, in_right = cell_and_fraction(x_position, columns)
        cells = (own_image + row * x_row + column * x_column)[:, None] + channel[None, :]
        below = cells + x_row
        upper_left = read(cells, in_upper & in_left, channel, CHANNELS, CHANNEL_BLOCK)
        upper_right = read(cells + x_column, in_upper & in_right, channel, CHANNELS, CHANNEL_BLOCK)
        lower_left = read(below, in_lower & in_left, channel, CHANNELS, CHANNEL_BLOCK)
        lower_right = read(below + x_column, in_lower & in_right, channel, CHANNELS, CHANNEL_BLOCK)
        lower, upper = mask * down, mask - mask * down
        total = (upper - upper * right)[:, None] * upper_left.to(tl.float32)
        total += (upper * right)[:, None] * upper_right.to(tl.float32)
        total += (lower - lower * right)[:, None] * lower_left.to(tl.float32)
        total += (lower * right)[:, None] * lower_right.to(tl.float32)
        tl.store(target + tap * CHANNELS, total, exists[:, None] & (channel < CHANNELS)[None, :])
