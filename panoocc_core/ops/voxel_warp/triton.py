"""The voxel warp as a CUDA kernel: every state is read once and written to where the fusion reads it."""
# mypy: allow-untyped-defs

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..bilinear import cell_and_fraction, read

THREADS = 128  # of a program
READ_BYTES = 16  # of a thread at once


def voxel_warp(
    states: Sequence[Tensor],
    motions: Tensor,
    shape_hwz: tuple[int, int, int],
    current: Tensor | None,
    slots: int,
) -> Tensor:
    """See `panoocc_core.ops.voxel_warp`; for inference, without gradients."""
    return _voxel_warp(list(states), motions, list(shape_hwz), current, slots)


@torch.library.custom_op("panoocc::voxel_warp", mutates_args=())
def _voxel_warp(
    states: Sequence[Tensor], motions: Tensor, shape_hwz: Sequence[int], current: Tensor | None, slots: int
) -> Tensor:
    return launched(states, motions, shape_hwz, current, slots)


@_voxel_warp.register_fake
def _(states, motions, shape_hwz, current, slots):
    first = states[0] if states else current
    return first.new_empty(len(first), slots * first.shape[1])


def launched(
    states: Sequence[Tensor], motions: Tensor, shape_hwz: Sequence[int], current: Tensor | None, slots: int
) -> Tensor:
    """Launches the kernel once a state."""
    first = states[0] if states else current
    assert first is not None
    count, channels = first.shape
    out = first.new_empty(count, slots * channels)
    missing = slots - len(states) - (current is not None)
    if current is not None:
        begin = 0 if not states else (slots - 1) * channels
        out[:, begin:].unflatten(1, (-1, channels)).copy_(current[:, None].expand(-1, slots if not states else 1, -1))
    motions = motions.contiguous()
    channel_block = triton.next_power_of_2(channels)
    block = max(1, THREADS * READ_BYTES // (channel_block * first.element_size()))
    for number, state in enumerate(states):
        copies = missing + 1 if number == 0 else 1
        slot = 0 if number == 0 else missing + number
        with torch.cuda.device_of(first):
            _warp[(triton.cdiv(count, block),)](
                state.contiguous(),
                motions[number],
                out[:, slot * channels :],
                count,
                *shape_hwz,
                copies,
                out.stride(0),
                CHANNELS=channels,
                CHANNEL_BLOCK=channel_block,
                BLOCK=block,
                num_warps=THREADS // 32,
            )
    return out


@triton.jit
def _along(motion, axis, x, y, z):
    """Places [BLOCK] along one axis of voxels after a motion, float32."""
    row = motion + 4 * axis
    place = x * tl.load(row) + y * tl.load(row + 1) + z * tl.load(row + 2) + tl.load(row + 3)
    return place.to(tl.float32)


@triton.jit
def _warp(
    tokens,  # [row, column, layer, channel]
    motion,  # [3, 4]
    out,  # [voxel, copy, channel], with a stride
    count,
    rows,
    columns,
    layers,
    copies,
    stride,
    CHANNELS: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    z = voxel % layers
    x = (voxel // layers) % columns
    y = voxel // (layers * columns)
    column, right, in_left, in_right = cell_and_fraction(_along(motion, 0, x, y, z), columns)
    row, down, in_upper, in_lower = cell_and_fraction(_along(motion, 1, x, y, z), rows)
    layer, above, in_low, in_high = cell_and_fraction(_along(motion, 2, x, y, z), layers)
    channel = tl.arange(0, CHANNEL_BLOCK)
    exists = voxel < count
    total = tl.zeros([BLOCK, CHANNEL_BLOCK], tl.float32)
    for corner in tl.static_range(8):  # (y, x, z)
        inside = exists & (in_lower if corner // 4 else in_upper)
        inside = inside & (in_right if corner // 2 % 2 else in_left) & (in_high if corner % 2 else in_low)
        weight = (down if corner // 4 else 1 - down) * (right if corner // 2 % 2 else 1 - right)
        weight = weight * (above if corner % 2 else 1 - above)
        cell = ((row + corner // 4) * columns + column + corner // 2 % 2) * layers + layer + corner % 2
        pointers = tokens + (cell.to(tl.int64) * CHANNELS)[:, None] + channel[None, :]
        total += weight[:, None] * read(pointers, inside, channel, CHANNELS, CHANNEL_BLOCK).to(tl.float32)
    target = out + (voxel.to(tl.int64) * stride)[:, None] + channel[None, :]
    mask = exists[:, None] & (channel < CHANNELS)[None, :]
    for copy in range(copies):
        tl.store(target + copy * CHANNELS, total.to(out.dtype.element_ty), mask)
