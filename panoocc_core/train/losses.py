"""Focal loss and cross-entropy over voxels, without one-hot targets; maths in float32 also for half precision."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

ALPHA = 0.25  # weight of positives in the focal loss, whose exponent is 2 throughout (arXiv 1708.02002)
CHUNK = 1 << 22  # elements that are worked on at once: the largest grids have 174 million logits


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


def _chunks(logits: Tensor) -> Iterator[tuple[int, int, int]]:
    """(axis, start, length) of slices of about CHUNK elements, along the axis that is outermost in memory."""
    axis = max(range(logits.dim()), key=lambda i: (logits.stride(i), -i))
    size = logits.shape[axis]
    length = max(1, CHUNK * size // max(logits.numel(), 1))
    for start in range(0, size, length):
        yield axis, start, min(length, size - start)


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
        ctx.save_for_backward(logits, labels)
        total = logits.new_zeros((), dtype=torch.float64)
        for part in _chunks(logits):
            total += _negative(full_precision(logits.narrow(*part))).sum()
        positives = full_precision(logits[_positive_places(labels, logits.shape[-1])])
        total += (_positive(positives) - _negative(positives)).sum()
        return total.to(positives.dtype)

    @staticmethod
    def backward(ctx, outer: Tensor):  # type: ignore[no-untyped-def]
        logits, labels = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for part in _chunks(logits):
            gradient.narrow(*part).copy_(_negative_slope(full_precision(logits.narrow(*part))) * outer)
        places = _positive_places(labels, logits.shape[-1])
        gradient[places] = (_positive_slope(full_precision(logits[places])) * outer).to(gradient.dtype)
        return gradient, None
