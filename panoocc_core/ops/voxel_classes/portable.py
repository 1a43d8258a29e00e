"""The classes of voxels without bytes, which TensorRT has at the border of a network only."""

import torch
from torch import Tensor
from torch.nn import functional

from .rule import ClassRule, Mlp


def voxel_classes(
    points: Tensor, mlp: Mlp, gate: Tensor | None, rule: ClassRule, factors: tuple[int, int, int] = (1, 1, 1)
) -> tuple[Tensor, Tensor]:
    """See `panoocc_core.ops.voxel_classes`; the classes are float32, to become bytes at the very end."""
    logits = points
    for number, (weight, bias) in enumerate(mlp):
        logits = functional.linear(logits if number == 0 else functional.softplus(logits), weight, bias)
    if factors != (1, 1, 1):
        volume = logits.permute(3, 0, 1, 2)[None]
        logits = functional.interpolate(volume, scale_factor=[float(f) for f in factors], mode="trilinear")[0]
        logits = logits.permute(1, 2, 3, 0)
    best, index = logits.max(-1)
    best, class_id = best.float(), index.float()
    if rule.sigmoids:
        probability = best.sigmoid()
        occupied: Tensor | None = probability
    else:
        probability = 1 / (logits.float() - best[..., None]).exp().sum(-1)
        occupied = None if gate is None else gate.float().sigmoid()
    if rule.free_id is None or rule.threshold is None or occupied is None:
        return class_id, probability
    is_open = occupied >= rule.threshold
    return torch.where(is_open, class_id, float(rule.free_id)), torch.where(is_open, probability, 1 - occupied)
