"""The classes of voxels as CUDA kernels: the MLP's hidden features stay in registers and shared memory.

A program takes a block of voxels through all layers, unless the gate of each is closed: a branch that it takes as a
whole.  Where voxels between those of the MLP are asked for, its logits are written once, class by class, and a second
kernel reads the eight around each.
"""
# mypy: allow-untyped-defs

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .rule import ClassRule, Mlp

# Voxels and warps of a program by the bytes of a number: float32 is multiplied exactly, without matrix units.
SIZES = {2: (64, 4), 4: (32, 8)}
HIDDEN_AT_ONCE = 32  # features of the first hidden layer
MAX_HIDDEN = 2  # layers
MAX_FEATURES = 128  # of a layer: more do not fit into registers
BETWEEN = 256  # voxels of a program of the second kernel


def fits(mlp: Mlp) -> bool:
    """Whether the kernels take an MLP."""
    widths = [weight.shape[1] for weight, _ in mlp]
    return len(mlp) <= MAX_HIDDEN + 1 and max(widths) <= MAX_FEATURES and len(mlp[-1][0]) <= MAX_FEATURES


def voxel_classes(
    points: Tensor,
    mlp: Mlp,
    gate: Tensor | None,
    rule: ClassRule,
    factors: tuple[int, int, int] = (1, 1, 1),
) -> tuple[Tensor, Tensor]:
    """See `panoocc_core.ops.voxel_classes`; of an MLP that `fits`."""
    weights, biases = [weight for weight, _ in mlp], [bias for _, bias in mlp]
    return _voxel_classes(points, weights, biases, gate, rule.sigmoids, rule.threshold, rule.free_id, list(factors))


@torch.library.custom_op("panoocc::voxel_classes", mutates_args=())
def _voxel_classes(
    points: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    gate: Tensor | None,
    sigmoids: bool,
    threshold: float | None,
    free_id: int | None,
    factors: Sequence[int],
) -> tuple[Tensor, Tensor]:
    return launched(points, weights, biases, gate, ClassRule(sigmoids, threshold, free_id), factors)


@_voxel_classes.register_fake
def _(points, weights, biases, gate, sigmoids, threshold, free_id, factors):
    shape = [size * factor for size, factor in zip(points.shape, factors)]
    return points.new_empty(shape, dtype=torch.uint8), points.new_empty(shape, dtype=torch.float32)


def launched(
    points: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    gate: Tensor | None,
    rule: ClassRule,
    factors: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Launches one kernel, or two where there are factors."""
    shape = [size * factor for size, factor in zip(points.shape, factors)]
    class_id = torch.empty(shape, dtype=torch.uint8, device=points.device)
    probability = torch.empty(shape, dtype=torch.float32, device=points.device)
    decides = rule.threshold is not None and rule.free_id is not None
    # What the kernels know of the rule; without a threshold, everything is above it.
    decision = (rule.threshold if decides else float("-inf"), rule.free_id if decides else 0)
    between = tuple(factors) != (1, 1, 1)
    depth, rows, columns, channels = points.shape
    count, classes = depth * rows * columns, len(weights[-1])
    logits = torch.empty(classes, count, dtype=torch.float32, device=points.device) if between else None
    widths = [weight.shape[0] for weight in weights[:-1]] + [0] * (MAX_HIDDEN + 1 - len(weights))
    hidden = [part.contiguous() for pair in zip(weights[:-1], biases[:-1]) for part in pair]
    hidden += [points] * (2 * MAX_HIDDEN - len(hidden))  # stand-ins that are not read
    voxels, warps = SIZES[points.element_size()]
    with torch.cuda.device_of(points):
        _mlp[(triton.cdiv(count, voxels),)](
            points.contiguous(),
            *hidden,
            weights[-1].contiguous(),
            biases[-1].contiguous(),
            None if rule.sigmoids or not decides or gate is None else gate.contiguous(),
            logits,
            class_id,
            probability,
            count,
            *decision,
            CHANNELS=channels,
            FIRST=widths[0],
            SECOND=widths[1],
            CLASSES=classes,
            CHANNEL_BLOCK=_block(channels),
            SECOND_BLOCK=_block(widths[1]),
            CLASS_BLOCK=_block(classes),
            HIDDEN_AT_ONCE=HIDDEN_AT_ONCE,
            VOXELS=voxels,
            SIGMOIDS=rule.sigmoids,
            num_warps=warps,
        )
        if between:
            _between[(triton.cdiv(shape[2], BETWEEN), shape[1], shape[0])](
                logits,
                class_id,
                probability,
                depth,
                rows,
                columns,
                *decision,
                *factors,
                CLASSES=classes,
                SIGMOIDS=rule.sigmoids,
                BLOCK=BETWEEN,
                num_warps=4,
            )
    return class_id, probability


def _block(size: int) -> int:
    """The least that a matrix product of a kernel takes at once."""
    return max(16, triton.next_power_of_2(size))


@triton.jit
def _softplus(x):
    return tl.maximum(x, 0.0) + 0.6931471805599453 * tl.log2(1 + tl.exp2(-1.4426950408889634 * tl.abs(x)))


@triton.jit
def _linear(x, weight, bias, first, inputs, outputs, IN: tl.constexpr, OUT: tl.constexpr):
    """[voxel, IN] -> float32 [voxel, OUT]: outputs `first`, ... of a layer whose weight is [outputs, inputs]."""
    into, out = tl.arange(0, IN), first + tl.arange(0, OUT)
    mask = (into < inputs)[:, None] & (out < outputs)[None, :]
    kernel = tl.load(weight + out[None, :] * inputs + into[:, None], mask, 0.0)
    product = tl.dot(x.to(kernel.dtype), kernel, input_precision="ieee")
    return product + tl.load(bias + out, out < outputs, 0.0).to(tl.float32)[None, :]


@triton.jit
def _mlp(
    points,  # [voxel, channel]
    weight_1,  # [FIRST, channel]
    bias_1,
    weight_2,  # [SECOND, FIRST]
    bias_2,
    weight_out,  # [class, features of the last hidden layer, or channels]
    bias_out,
    gate,  # [voxel], or None: none decides
    logits,  # float32 [class, voxel], which then is all that is written; or None
    class_id,
    probability,
    count,
    threshold,
    free_id,
    CHANNELS: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    CLASSES: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    SECOND_BLOCK: tl.constexpr,
    CLASS_BLOCK: tl.constexpr,
    HIDDEN_AT_ONCE: tl.constexpr,
    VOXELS: tl.constexpr,
    SIGMOIDS: tl.constexpr,
):
    voxel = tl.program_id(0) * VOXELS + tl.arange(0, VOXELS)
    exists = voxel < count
    is_open, occupied = exists, exists.to(tl.float32)
    if gate is not None:
        occupied = tl.sigmoid(tl.load(gate + voxel, exists, float("-inf")).to(tl.float32))
        is_open = occupied >= threshold  # not where the gate is NaN; then the probability tells
    if tl.max(is_open.to(tl.int32), 0) == 0:
        tl.store(class_id + voxel, tl.full([VOXELS], free_id, tl.uint8), exists)
        tl.store(probability + voxel, 1 - occupied, exists)
    else:
        channel = tl.arange(0, CHANNEL_BLOCK)
        at = points + voxel.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
        x = tl.load(at, exists[:, None] & (channel < CHANNELS)[None, :], 0.0)
        if FIRST == 0:
            found = _linear(x, weight_out, bias_out, 0, CHANNELS, CLASSES, CHANNEL_BLOCK, CLASS_BLOCK)
        else:
            OUTPUTS: tl.constexpr = SECOND if SECOND else CLASSES
            OUT_BLOCK: tl.constexpr = SECOND_BLOCK if SECOND else CLASS_BLOCK
            weight = weight_2 if SECOND else weight_out
            bias = bias_2 if SECOND else bias_out
            out = tl.arange(0, OUT_BLOCK)
            found = tl.zeros([VOXELS, OUT_BLOCK], tl.float32)
            for first in range(0, FIRST, HIDDEN_AT_ONCE):
                features = _linear(x, weight_1, bias_1, first, CHANNELS, FIRST, CHANNEL_BLOCK, HIDDEN_AT_ONCE)
                into = first + tl.arange(0, HIDDEN_AT_ONCE)
                mask = (into < FIRST)[:, None] & (out < OUTPUTS)[None, :]
                kernel = tl.load(weight + out[None, :] * FIRST + into[:, None], mask, 0.0)
                found = tl.dot(_softplus(features).to(kernel.dtype), kernel, found, input_precision="ieee")
            found += tl.load(bias + out, out < OUTPUTS, 0.0).to(tl.float32)[None, :]
            if SECOND:
                found = _linear(_softplus(found), weight_out, bias_out, 0, SECOND, CLASSES, SECOND_BLOCK, CLASS_BLOCK)
        number = tl.arange(0, CLASS_BLOCK)
        is_class = (number < CLASSES)[None, :]
        if logits is not None:
            to = logits + number.to(tl.int64)[None, :] * count + voxel[:, None]
            tl.store(to, found, exists[:, None] & is_class)
        else:
            found = tl.where(is_class, found, float("-inf"))
            best, best_class = tl.max(found, 1), tl.argmax(found, 1)
            if SIGMOIDS:
                occupied = tl.sigmoid(tl.where(_has_nan(found), float("nan"), best))
                sure, is_open = occupied, occupied >= threshold
            else:
                sure = 1 / tl.sum(tl.exp(found - best[:, None]), 1)
            tl.store(class_id + voxel, tl.where(is_open, best_class, free_id).to(tl.uint8), exists)
            tl.store(probability + voxel, tl.where(is_open, sure, 1 - occupied), exists)


@triton.jit
def _has_nan(x):
    return tl.max((x != x).to(tl.int32), 1) > 0


@triton.jit
def _neighbours(output, factor, size):
    """Of voxels `output` of a finer axis: the neighbours among `size` voxels, and the weight of the upper one."""
    place = tl.maximum((output + 0.5) / factor - 0.5, 0.0)
    lower = place.to(tl.int32)
    return lower, tl.minimum(lower + 1, size - 1), place - lower


@triton.jit
def _between(
    logits,  # float32 [class, layer, row, column]
    class_id,  # [output layer, output row, output column]
    probability,
    depth,
    rows,
    columns,
    threshold,
    free_id,
    factor_z,
    factor_y,
    factor_x,
    CLASSES: tl.constexpr,
    SIGMOIDS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    x = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = x < columns * factor_x
    left, right, share_x = _neighbours(x, factor_x, columns)
    left, right = tl.minimum(left, columns - 1), tl.minimum(right, columns - 1)
    upper, lower, share_y = _neighbours(tl.program_id(1), factor_y, rows)
    below, above, share_z = _neighbours(tl.program_id(2), factor_z, depth)
    best = tl.full([BLOCK], float("-inf"), tl.float32)
    best_class = tl.zeros([BLOCK], tl.int32)
    others = tl.zeros([BLOCK], tl.float32)  # sum of exp(logit - best)
    poison = tl.zeros([BLOCK], tl.float32)
    volume = logits
    for number in range(CLASSES):
        found = tl.zeros([BLOCK], tl.float32)
        for corner in tl.static_range(4):
            layer = above if corner // 2 else below
            row = lower if corner % 2 else upper
            share = (share_z if corner // 2 else 1 - share_z) * (share_y if corner % 2 else 1 - share_y)
            line = volume + (layer * rows + row) * columns
            found += share * ((1 - share_x) * tl.load(line + left) + share_x * tl.load(line + right))
        is_best = found > best
        poison += tl.where(found != found, found, 0.0)
        if not SIGMOIDS:
            higher = tl.maximum(best, found)
            others = others * tl.exp(best - higher) + tl.exp(found - higher)
        best = tl.where(is_best, found, best)
        best_class = tl.where(is_best, number, best_class)
        volume += depth * rows * columns
    is_open = exists
    if SIGMOIDS:
        sure = tl.sigmoid(best) + poison
        is_open = sure >= threshold
    else:
        sure = 1 / others + poison
    at = (tl.program_id(2) * (rows * factor_y) + tl.program_id(1)).to(tl.int64) * (columns * factor_x) + x
    tl.store(class_id + at, tl.where(is_open, best_class, free_id).to(tl.uint8), exists)
    tl.store(probability + at, tl.where(is_open, sure, 1 - sure), exists)
