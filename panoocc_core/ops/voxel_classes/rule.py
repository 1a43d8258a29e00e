"""How class logits become a class: the rule that every implementation follows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Mlp = Sequence[tuple[Tensor, Tensor]]  # weight [out, in] and bias [out] of every linear layer


@dataclass(frozen=True, slots=True)
class ClassRule:
    """The best class wins, unless the voxel is free.

    It is free where the probability of being occupied stays below the threshold, and then has the probability of being
    free.  That of being occupied comes from the gate, or with `sigmoids` from the best class.
    """

    sigmoids: bool = False  # a sigmoid for every class, of which none is free space; else a softmax over all
    threshold: float | None = None  # None: the best class alone decides
    free_id: int | None = None  # the class of free voxels; None: the best class alone decides


def decided(logits: Tensor, gate: Tensor | None, rule: ClassRule) -> tuple[Tensor, Tensor]:
    """Class and probability, uint8 and float32 [...], of logits [..., class] and those of the gate [...].

    Where the gate is NaN, so is the probability.
    """
    best, class_id = logits.max(-1)
    best, class_id = best.float(), class_id.to(torch.uint8)
    if rule.sigmoids:
        probability = best.sigmoid()
        occupied: Tensor | None = probability
    else:
        probability = (best - logits.float().logsumexp(-1)).exp()
        occupied = None if gate is None else gate.float().sigmoid()
    if rule.free_id is None or rule.threshold is None or occupied is None:
        return class_id, probability
    is_open = occupied >= rule.threshold
    return class_id.masked_fill(~is_open, rule.free_id), torch.where(is_open, probability, 1 - occupied)
