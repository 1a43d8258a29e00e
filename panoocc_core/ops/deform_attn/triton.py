"""Multi-scale deformable attention as CUDA kernels, forward and backward.

A program works for a block of queries and one head.  It has a row for every query and sampling point, with the head's
channels along it; a thread reads 16 bytes of a row at a time.  Heads are the slower axis of the grid, so that what runs
at one time shares one head's values in the L2 cache.  A slot that no query of the block has is skipped by a branch that
the whole program takes.  Positions, interpolation weights and sums are float32 whatever the values are.
"""
# mypy: allow-untyped-defs

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from math import gcd
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..bilinear import cell_and_fraction, read, ringed_cell_and_fraction

THREADS = 256  # of a program
READ_BYTES = 16  # of a thread at once
MAX_POINTS = 8  # of a query at once; the next ones follow in a loop
FORWARD_REGISTERS, BACKWARD_REGISTERS = 64, 128  # of a thread; with fewer, which the compiler prefers, some spill
MAX_SLOTS = 31  # bits of an int32


def deform_attn(
    values: Tensor,
    shapes: tuple[tuple[int, int], ...],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    source: Tensor | None = None,
) -> Tensor:
    """See `panoocc_core.ops.deform_attn`.  Values may have any strides but along their channels."""
    return _deform_attn(
        values, [size for shape in shapes for size in shape], reference_points, offsets, weights, source
    )


@torch.library.custom_op("panoocc::deform_attn", mutates_args=())
def _deform_attn(
    values: Tensor,
    shapes: Sequence[int],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    source: Tensor | None,
) -> Tensor:
    return forward(values, shapes, reference_points, offsets, weights, source)


@torch.library.custom_op("panoocc::deform_attn_backward", mutates_args=())
def _deform_attn_backward(
    grad: Tensor,
    values: Tensor,
    shapes: Sequence[int],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    source: Tensor | None,
    moves_reference: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return backward(grad, values, shapes, reference_points, offsets, weights, source, moves_reference)


@_deform_attn.register_fake
def _(values, shapes, reference_points, offsets, weights, source):
    return values.new_empty(len(reference_points), values.shape[2] * values.shape[3])


@_deform_attn_backward.register_fake
def _(grad, values, shapes, reference_points, offsets, weights, source, moves_reference):
    empty = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (reference_points, offsets, weights))
    return torch.empty_like(values, memory_format=torch.contiguous_format), *empty


def _keep(ctx: Any, inputs: tuple, output: Tensor) -> None:
    values, ctx.shapes, *others = inputs
    ctx.save_for_backward(values, *others)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    values, *others = ctx.saved_tensors
    of_values, *of_others = _deform_attn_backward(grad, values, ctx.shapes, *others, ctx.needs_input_grad[2])
    return of_values, None, *of_others, None


_deform_attn.register_autograd(_gradients, setup_context=_keep)


def forward(
    values: Tensor,
    shapes: Sequence[int],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    source: Tensor | None,
) -> Tensor:
    """Launches the kernel; `shapes` are rows and columns of level after level."""
    heads, channels = values.shape[2:]
    out = values.new_empty(len(reference_points), heads * channels)
    call = _call(values, shapes, reference_points, offsets, weights, source)
    if len(out):
        with torch.cuda.device_of(values):
            _forward[call.grid](*call.inputs, out, *call.sizes, **call.constants, maxnreg=FORWARD_REGISTERS)
    return out


def backward(
    grad: Tensor,
    values: Tensor,
    shapes: Sequence[int],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    source: Tensor | None,
    moves_reference: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of values, reference points (zeros unless `moves_reference`), offsets and weights."""
    call = _call(values, shapes, reference_points, offsets, weights, source)
    of_values = torch.zeros(values.shape, dtype=torch.float32, device=values.device)  # summed by many programs
    of_reference = torch.zeros(reference_points.shape, dtype=torch.float32, device=values.device)
    of_offsets, of_weights = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (offsets, weights))
    if len(reference_points):
        grads = (grad.contiguous(), of_values, of_reference if moves_reference else None, of_offsets, of_weights)
        sizes = (*call.sizes, values.shape[1])
        with torch.cuda.device_of(values):
            _backward[call.grid](*call.inputs, *grads, *sizes, **call.constants, maxnreg=BACKWARD_REGISTERS)
    return of_values.to(values.dtype), of_reference.to(reference_points.dtype), of_offsets, of_weights


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """What both kernels are launched with."""

    grid: tuple[int, int]
    inputs: tuple[Tensor | None, ...]
    sizes: tuple[int, ...]
    constants: dict[str, int]


def _call(
    values: Tensor,
    shapes: Sequence[int],
    reference_points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    source: Tensor | None,
) -> _Call:
    heads, channels = values.shape[2:]
    levels, points = weights.shape[2:]
    queries, slots = reference_points.shape[:2]
    if slots > MAX_SLOTS:
        raise ValueError(f"a query has {slots} slots, the kernel takes at most {MAX_SLOTS}: kernels 'torch' take more")
    if values.stride(3) != 1:
        values = values.contiguous()
    offsets = offsets.flatten(1, 3)  # a view where the samples of a query have one stride, x and y may lie far apart
    channel_block = triton.next_power_of_2(channels)
    rows = max(1, THREADS * READ_BYTES // (channel_block * values.element_size()))
    points_at_once = gcd(points, MAX_POINTS)
    constants = {
        "CHANNELS": channels,
        "CHANNEL_BLOCK": channel_block,
        "QUERIES": max(1, rows // points_at_once),
        "POINTS": points_at_once,
        "SLOT_BLOCK": triton.next_power_of_2(slots),
        "num_warps": THREADS // 32,
    }
    return _Call(
        grid=(triton.cdiv(queries, constants["QUERIES"]), heads),
        inputs=(
            values,
            _level_table(tuple(shapes), values.device),
            reference_points.contiguous(),
            offsets,
            weights.contiguous(),
            None if source is None else source.contiguous(),
        ),
        sizes=(queries, slots, heads, levels, points, *values.stride()[:3], *offsets.stride()),
        constants=constants,
    )


@cache  # a network has a handful of shapes; graphs read it by its address, so that it must stay
@torch.inference_mode(False)  # kept from an inference, it serves a training too
def _level_table(shapes: tuple[int, ...], device: torch.device) -> Tensor:
    """int32 [level, 3]: rows, columns, first cell."""
    sizes = list(zip(shapes[::2], shapes[1::2], strict=True))
    begins = accumulate(((rows + 2) * (columns + 2) for rows, columns in sizes[:-1]), initial=0)
    return torch.tensor([(*size, begin) for size, begin in zip(sizes, begins)], dtype=torch.int32, device=device)


@triton.jit
def _either(a, b):
    return a | b


@triton.jit
def _slots_in_use(source, query, queries, slots, SLOT_BLOCK: tl.constexpr):
    """Bits of the slots that any query of a block has, and how many every one has (float32, at least 1)."""
    slot = tl.arange(0, SLOT_BLOCK)
    exists = (query < queries)[:, None] & (slot < slots)[None, :]
    if source is not None:
        exists = tl.load(source + query[:, None] * slots + slot[None, :], exists, -1) >= 0
    bits = tl.reduce(tl.reduce(tl.where(exists, 1 << slot[None, :], 0), 1, _either), 0, _either)
    return bits, tl.maximum(tl.sum(exists.to(tl.float32), 1), 1.0)


@triton.jit
def _source_of(source, query, slot, slots, exists):
    """Which source a slot of the queries has; -1: none."""
    if source is None:
        return tl.where(exists, 0, -1)
    else:
        return tl.load(source + query * slots + slot, exists, -1)


@triton.jit
def _forward(
    values,  # [source, cell, head, channel], with strides
    levels,  # int32 [level, 3]: rows, columns, first cell
    reference_points,  # [query, slot, 2]
    offsets,  # [query, sample, 2], with strides; the samples are head by head, level by level
    weights,  # [query, sample]
    source,  # int32 [query, slot] or None
    out,  # [query, head, channel]
    queries,
    slots,
    heads,
    level_count,
    points,
    source_stride,
    cell_stride,
    head_stride,
    offset_query,
    offset_sample,
    offset_xy,
    CHANNELS: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    QUERIES: tl.constexpr,
    POINTS: tl.constexpr,
    SLOT_BLOCK: tl.constexpr,
):
    head = tl.program_id(1)
    block_query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    in_use, count = _slots_in_use(source, block_query, queries, slots, SLOT_BLOCK)

    row = tl.arange(0, QUERIES * POINTS)
    query = tl.program_id(0) * QUERIES + row // POINTS
    exists = query < queries
    samples = level_count * points
    first_sample = head * samples + row % POINTS
    own_offsets, own_weights = (
        offsets + query.to(tl.int64) * offset_query,
        weights + query.to(tl.int64) * heads * samples,
    )
    channel = tl.arange(0, CHANNEL_BLOCK)
    head_values = values + head.to(tl.int64) * head_stride
    total = tl.zeros([QUERIES * POINTS, CHANNEL_BLOCK], tl.float32)
    for slot in range(slots):
        if (in_use >> slot) & 1:
            which = _source_of(source, query, slot, slots, exists)
            here = which >= 0
            reference = reference_points + 2 * (query * slots + slot)
            reference_x = tl.load(reference, here, 0.0)
            reference_y = tl.load(reference + 1, here, 0.0)
            maps = head_values + which.to(tl.int64) * source_stride
            for level in range(level_count):
                rows, columns = tl.load(levels + 3 * level), tl.load(levels + 3 * level + 1)
                first = tl.load(levels + 3 * level + 2)
                for first_point in range(0, points, POINTS):
                    sample = first_sample + (level * points + first_point)
                    at = own_offsets + sample * offset_sample
                    x = tl.load(at, here, 0.0).to(tl.float32) + reference_x * columns - 0.5
                    y = tl.load(at + offset_xy, here, 0.0).to(tl.float32) + reference_y * rows - 0.5
                    weight = tl.load(own_weights + sample, here, 0.0).to(tl.float32)
                    column, right = ringed_cell_and_fraction(x, columns)
                    line, down = ringed_cell_and_fraction(y, rows)
                    cells = (maps + (first + line * (columns + 2) + column) * cell_stride)[:, None] + channel[None, :]
                    below = cells + (columns + 2) * cell_stride
                    upper_left = read(cells, here, channel, CHANNELS, CHANNEL_BLOCK)
                    upper_right = read(cells + cell_stride, here, channel, CHANNELS, CHANNEL_BLOCK)
                    lower_left = read(below, here, channel, CHANNELS, CHANNEL_BLOCK)
                    lower_right = read(below + cell_stride, here, channel, CHANNELS, CHANNEL_BLOCK)
                    lower, upper = weight * down, weight - weight * down
                    total += (upper - upper * right)[:, None] * upper_left.to(tl.float32)
                    total += (upper * right)[:, None] * upper_right.to(tl.float32)
                    total += (lower - lower * right)[:, None] * lower_left.to(tl.float32)
                    total += (lower * right)[:, None] * lower_right.to(tl.float32)
    mean = tl.sum(tl.reshape(total, [QUERIES, POINTS, CHANNEL_BLOCK]), 1) / count[:, None]
    target = out + (block_query.to(tl.int64) * heads + head)[:, None] * CHANNELS + channel[None, :]
    tl.store(target, mean, (block_query < queries)[:, None] & (channel < CHANNELS)[None, :])


@triton.jit
def _backward(
    values,
    levels,
    reference_points,
    offsets,
    weights,
    source,
    grad,  # [query, head, channel], of the output
    grad_values,  # float32 [source, cell, head, channel], zeros before
    grad_reference_points,  # float32 [query, slot, 2], zeros before; None where nobody asks for it
    grad_offsets,
    grad_weights,
    queries,
    slots,
    heads,
    level_count,
    points,
    source_stride,
    cell_stride,
    head_stride,
    offset_query,
    offset_sample,
    offset_xy,
    cell_count,
    CHANNELS: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    QUERIES: tl.constexpr,
    POINTS: tl.constexpr,
    SLOT_BLOCK: tl.constexpr,
):
    head = tl.program_id(1)
    block_query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    in_use, count = _slots_in_use(source, block_query, queries, slots, SLOT_BLOCK)

    row = tl.arange(0, QUERIES * POINTS)
    query = tl.program_id(0) * QUERIES + row // POINTS
    exists = query < queries
    count = tl.reshape(tl.broadcast_to(count[:, None], [QUERIES, POINTS]), [QUERIES * POINTS])
    samples = level_count * points
    first_sample = head * samples + row % POINTS
    own_offsets, own_samples = offsets + query.to(tl.int64) * offset_query, query.to(tl.int64) * heads * samples
    channel = tl.arange(0, CHANNEL_BLOCK)
    arriving = grad + (query.to(tl.int64) * heads + head)[:, None] * CHANNELS + channel[None, :]
    arrived = read(arriving, exists, channel, CHANNELS, CHANNEL_BLOCK).to(tl.float32) / count[:, None]
    head_values = values + head.to(tl.int64) * head_stride
    stride = heads * CHANNELS  # from cell to cell of the values' gradient
    for level in range(level_count):
        rows, columns = tl.load(levels + 3 * level), tl.load(levels + 3 * level + 1)
        first = tl.load(levels + 3 * level + 2)
        for first_point in range(0, points, POINTS):
            sample = first_sample + (level * points + first_point)
            at = own_offsets + sample * offset_sample
            moved_x = tl.load(at, exists, 0.0).to(tl.float32) - 0.5
            moved_y = tl.load(at + offset_xy, exists, 0.0).to(tl.float32) - 0.5
            sample += own_samples
            weight = tl.load(weights + sample, exists, 0.0).to(tl.float32)
            grad_x = tl.zeros([QUERIES * POINTS], tl.float32)
            grad_y = tl.zeros([QUERIES * POINTS], tl.float32)
            grad_weight = tl.zeros([QUERIES * POINTS], tl.float32)
            for slot in range(slots):
                if (in_use >> slot) & 1:
                    which = _source_of(source, query, slot, slots, exists)
                    here = which >= 0
                    reference = 2 * (query * slots + slot)
                    x = moved_x + tl.load(reference_points + reference, here, 0.0) * columns
                    y = moved_y + tl.load(reference_points + reference + 1, here, 0.0) * rows
                    column, right, in_left, in_right = cell_and_fraction(x, columns)
                    line, down, in_upper, in_lower = cell_and_fraction(y, rows)
                    in_upper, in_lower = in_upper & here, in_lower & here
                    left, up = 1 - right, 1 - down
                    cell = first + (line + 1) * (columns + 2) + column + 1
                    cells = head_values + which.to(tl.int64) * source_stride + cell * cell_stride
                    cells = cells[:, None] + channel[None, :]
                    grads = grad_values + (which.to(tl.int64) * cell_count + cell) * stride + head * CHANNELS
                    grads = grads[:, None] + channel[None, :]
                    _give(grads, in_upper & in_left, weight * up * left, arrived, channel, CHANNELS, CHANNEL_BLOCK)
                    _give(
                        grads + stride,
                        in_upper & in_right,
                        weight * up * right,
                        arrived,
                        channel,
                        CHANNELS,
                        CHANNEL_BLOCK,
                    )
                    upper_left = _product(cells, in_upper & in_left, arrived, channel, CHANNELS, CHANNEL_BLOCK)
                    upper_right = _product(
                        cells + cell_stride, in_upper & in_right, arrived, channel, CHANNELS, CHANNEL_BLOCK
                    )
                    grads += (columns + 2) * stride
                    cells += (columns + 2) * cell_stride
                    _give(grads, in_lower & in_left, weight * down * left, arrived, channel, CHANNELS, CHANNEL_BLOCK)
                    _give(
                        grads + stride,
                        in_lower & in_right,
                        weight * down * right,
                        arrived,
                        channel,
                        CHANNELS,
                        CHANNEL_BLOCK,
                    )
                    lower_left = _product(cells, in_lower & in_left, arrived, channel, CHANNELS, CHANNEL_BLOCK)
                    lower_right = _product(
                        cells + cell_stride, in_lower & in_right, arrived, channel, CHANNELS, CHANNEL_BLOCK
                    )
                    along_x = weight * (up * (upper_right - upper_left) + down * (lower_right - lower_left))
                    along_y = weight * (left * (lower_left - upper_left) + right * (lower_right - upper_right))
                    grad_weight += up * (left * upper_left + right * upper_right)
                    grad_weight += down * (left * lower_left + right * lower_right)
                    grad_x += along_x
                    grad_y += along_y
                    if grad_reference_points is not None:
                        tl.atomic_add(grad_reference_points + reference, along_x * columns, here, sem="relaxed")
                        tl.atomic_add(grad_reference_points + reference + 1, along_y * rows, here, sem="relaxed")
            tl.store(grad_offsets + 2 * sample, grad_x, exists)
            tl.store(grad_offsets + 2 * sample + 1, grad_y, exists)
            tl.store(grad_weights + sample, grad_weight, exists)


@triton.jit
def _give(grads, inside, weight, arrived, channel, CHANNELS: tl.constexpr, CHANNEL_BLOCK: tl.constexpr):
    """Adds what a corner has contributed of the arriving gradient to the gradient of its cells."""
    mask = inside[:, None] & (channel < CHANNELS)[None, :]
    tl.atomic_add(grads, weight[:, None] * arrived, mask, sem="relaxed")


@triton.jit
def _product(cells, inside, arrived, channel, CHANNELS: tl.constexpr, CHANNEL_BLOCK: tl.constexpr):
    """Products [row] of the cells of a corner with the arriving gradient."""
    return tl.sum(read(cells, inside, channel, CHANNELS, CHANNEL_BLOCK).to(tl.float32) * arrived, 1)
