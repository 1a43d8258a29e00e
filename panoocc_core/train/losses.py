"""Focal loss and cross-entropy over voxels, without one-hot targets; maths in float32 also for half precision."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

ALPHA = 0.25  # weight of positives in the focal loss, whose exponent is 2 throughout (arXiv 1708.02002)
# Logits that are worked on at once (the largest grids have 174 million): what a CPU's cache holds, or fills a GPU.
PART_ON_CPU, PART_ON_GPU = 1 << 18, 1 << 24


def full_precision(values: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are."""
    return values if values.dtype == torch.float64 else values.float()


def focal_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of the sigmoid focal loss over all logits [..., class].

    Args:
        logits: [..., class]; one channel for a yes-or-no decision.
        labels: integers [...]: the channel that is positive; `class` or more where none is.
    """
    return _FocalSum.apply(logits, labels)


def cross_entropy_sum(logits: Tensor, labels: Tensor, counts: Tensor | None, class_weights: Tensor | None) -> Tensor:
    """Sum of the cross-entropy of logits [n, class] with labels [n], where `counts` (bool [n], None: everywhere)."""
    target = labels.long()
    if counts is not None:
        target = target.masked_fill(~counts, -100)
    return functional.cross_entropy(
        full_precision(logits), target, weight=class_weights, ignore_index=-100, reduction="sum"
    )


def _negative(x: Tensor) -> Tensor:
    """Focal loss of logits whose target is 0."""
    return (1 - ALPHA) * x.sigmoid().square() * functional.softplus(x)


def _negative_slope(x: Tensor) -> Tensor:
    p = x.sigmoid()
    return (1 - ALPHA) * p.square() * (p + 2 * (1 - p) * functional.softplus(x))


def _positive(x: Tensor) -> Tensor:
    """Focal loss of logits whose target is 1: that of a negative, mirrored and weighted anew."""
    return ALPHA / (1 - ALPHA) * _negative(-x)


def _positive_slope(x: Tensor) -> Tensor:
    return -ALPHA / (1 - ALPHA) * _negative_slope(-x)


def _parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of tensors of one shape, piece by piece, split along the axes that are outermost in the first's memory."""
    first = tensors[0]
    limit = PART_ON_CPU if first.device.type == "cpu" else PART_ON_GPU
    if first.numel() <= limit:
        yield tensors
        return
    axis = max((i for i in range(first.dim()) if first.shape[i] > 1), key=first.stride)
    length = max(1, first.shape[axis] * limit // first.numel())
    for pieces in zip(*(tensor.split(length, axis) for tensor in tensors)):
        yield from _parts(*pieces)


def _positive_places(labels: Tensor, classes: int) -> tuple[Tensor, ...]:
    """Indices, one tensor a dimension, of the logits [..., class] whose target is 1."""
    places = (labels < classes).nonzero(as_tuple=True)
    return (*places, labels[places].long())


class _FocalSum(torch.autograd.Function):
    """Every logit counts as a negative first; the few positives, one a sample at most, are put right afterwards.

    The gradient is written out, so that nothing but the logits is kept between forward and backward.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        places = _positive_places(labels, logits.shape[-1])
        ctx.save_for_backward(logits, *places)
        positives = full_precision(logits[places])
        total = (_positive(positives) - _negative(positives)).sum(dtype=torch.float64)
        for (part,) in _parts(logits):
            total += _negative(full_precision(part)).sum()
        return total.to(positives.dtype)

    @staticmethod
    def backward(ctx, outer: Tensor):  # type: ignore[no-untyped-def]
        logits, *places = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for part, slope in _parts(logits, gradient):
            slope.copy_(_negative_slope(full_precision(part)) * outer)
        positives = full_precision(logits[tuple(places)])
        gradient[tuple(places)] = (_positive_slope(positives) * outer).to(gradient.dtype)
        return gradient, None
