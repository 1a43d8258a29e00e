"""Lovász-softmax: a convex surrogate of the mean intersection over union (arXiv 1705.08790)."""

import numpy as np
import torch
from torch import Tensor


def lovasz_softmax(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Mean of the classes' Lovász losses, over the classes that occur; 0 where there is no sample.

    Args:
        probabilities: [n, class], softmaxed over the classes.
        labels: integers [n] in 0..class-1.
    """
    counts = torch.bincount(labels, minlength=probabilities.shape[1])
    present = counts.nonzero().flatten().tolist()
    if not present:
        return probabilities.sum() * 0
    losses = [_class_loss(probabilities[:, k], labels == k) for k in present]
    return torch.stack(losses).mean()


def _class_loss(probability: Tensor, inside: Tensor) -> Tensor:
    """Loss of one class from its probability [n] and the samples [n] that belong to it."""
    errors = torch.where(inside, 1 - probability, probability)
    return errors @ lovasz_weights(errors.detach(), inside)


def lovasz_weights(errors: Tensor, inside: Tensor) -> Tensor:
    """Gradient [n] of one class's loss by its errors [n]: constant as long as their order is.

    Down the order of the errors, every sample adds what the Jaccard loss 1 - I / U grows by: 1 / U at one of the
    class, I / (U (U - 1)) at another, with intersection and union as they are afterwards.  Both are written out, since
    the difference of two near ratios would cancel.
    """
    order = _descending(errors)
    mine = inside[order]
    others = (~mine).cumsum(0).to(errors.dtype)  # [n], up to and with each sample
    total = mine.sum()
    left = total - mine.cumsum(0)  # [n], the intersection after each sample
    union = total + others
    step = torch.where(mine, 1 / union, left / (union * (union - 1)).clamp(min=1))
    return torch.empty_like(errors).index_copy_(0, order, step)


def _descending(values: Tensor) -> Tensor:
    """Indices [n] that sort `values` downwards, in any order among equals."""
    if values.device.type != "cpu":
        return values.argsort(descending=True)
    # NumPy sorts with vector instructions, about twice as fast as PyTorch on one core.
    return torch.from_numpy(np.argsort(-values.numpy()))
