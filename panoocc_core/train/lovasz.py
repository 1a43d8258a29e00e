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
    columns = probabilities.unbind(1)  # one gradient for all, where indexing would make one a class
    return torch.stack([_class_loss(columns[k], labels == k) for k in present]).mean()


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
    others = (~mine).cumsum(0, dtype=torch.int32)  # [n], up to and with each sample
    total = mine.sum(dtype=torch.int32)
    left = total - mine.cumsum(0, dtype=torch.int32)  # [n], the intersection after each sample
    union = (total + others).to(errors.dtype)
    step = torch.where(mine, 1 / union, left / (union * (union - 1)).clamp(min=1))
    return torch.empty_like(errors).scatter_(0, order, step)


def _descending(values: Tensor) -> Tensor:
    """Indices [n] that sort `values` of 0 or more downwards."""
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return values.argsort(descending=True)
    # Floats of 0 or more are ordered as their bits are, and NumPy sorts 16-bit integers by radix: two stable passes,
    # the low half first, take a quarter of the time of PyTorch's sort on one core.
    keys = ~values.numpy().view(np.uint32)
    low = np.argsort(keys.astype(np.uint16), kind="stable")
    high = np.argsort((keys >> 16).astype(np.uint16)[low], kind="stable")
    return torch.from_numpy(low[high])
