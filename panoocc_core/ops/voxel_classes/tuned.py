"""The classes of voxels, a piece of the grid at a time: what lies between features and classes stays in the cache.

Logits are kept class by class, [class, voxel]: the best of them then is found along whole registers.
"""

import math
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from .rule import ClassRule, Mlp

VOXELS_AT_ONCE = 2000  # a thread; their 128 hidden features take a megabyte
_LOG2_E = math.log2(math.e)


def voxel_classes(
    points: Tensor,
    mlp: Mlp,
    gate: Tensor | None,
    rule: ClassRule,
    factors: tuple[int, int, int] = (1, 1, 1),
) -> tuple[Tensor, Tensor]:
    """See `panoocc_core.ops.voxel_classes`."""
    classes = _ClassLogits(mlp, points)
    if factors == (1, 1, 1):
        return _at_voxels(points, classes, gate, rule)
    return _between_voxels(points, classes, rule, factors)


class _ClassLogits:
    """The MLP of voxels [n, channel], a few at a time, to logits float32 [class, n].

    exp2 and log1p are the two functions of a softplus that run fastest, so in float32 the layers before are scaled by
    log2(e).  Beyond 88 that overflows, where the usual formula does not: then this is taken.
    """

    def __init__(self, mlp: Mlp, points: Tensor):
        self.plain, self.base_two = mlp, None
        self.step = VOXELS_AT_ONCE * torch.get_num_threads() if points.device.type == "cpu" else 1 << 17
        if points.device.type == "cpu" and points.dtype == torch.float32:
            self.base_two = [*((weight * _LOG2_E, bias * _LOG2_E) for weight, bias in mlp[:-1]), mlp[-1]]

    def pieces(self, voxels: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Which voxels, and their logits."""
        for start in range(0, len(voxels), self.step):
            piece = slice(start, start + self.step)
            yield piece, self._of(voxels[piece])

    def whole(self, voxels: Tensor) -> Tensor:
        """All logits at once: [class, n]."""
        logits = voxels.new_empty(len(self.plain[-1][0]), len(voxels), dtype=torch.float32)
        for piece, part in self.pieces(voxels):
            logits[:, piece] = part
        return logits

    def _of(self, voxels: Tensor) -> Tensor:
        if self.base_two is not None:
            logits = voxels
            for weight, bias in self.base_two[:-1]:
                logits = functional.linear(logits, weight, bias).exp2_().log1p_()
            logits = _transposed_linear(logits, *self.base_two[-1])
            if logits.sum().isfinite():
                return logits
        logits = voxels
        for weight, bias in self.plain[:-1]:
            logits = functional.softplus(functional.linear(logits, weight, bias))
        return _transposed_linear(logits, *self.plain[-1]).float()


def _transposed_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[n, in] -> [out, n]."""
    return torch.addmm(bias[:, None], weight, x.t())


def _at_voxels(points: Tensor, classes: _ClassLogits, gate: Tensor | None, rule: ClassRule) -> tuple[Tensor, Tensor]:
    """Of the points themselves; on a CPU of those alone whose gate is open, if there is one that decides."""
    voxels, shape = points.flatten(0, 2), points.shape[:3]
    class_id = torch.empty(len(voxels), dtype=torch.uint8, device=points.device)
    probability = torch.empty(len(voxels), device=points.device)
    if gate is None or rule.threshold is None or rule.free_id is None:
        for piece, logits in classes.pieces(voxels):
            class_id[piece], probability[piece] = _decided(logits, rule)
        return class_id.view(shape), probability.view(shape)
    occupied = gate.float().sigmoid().flatten()
    class_id.fill_(rule.free_id)
    torch.sub(1, occupied, out=probability)
    is_open = occupied >= rule.threshold
    if _waits_for_values(points.device):
        for piece, logits in classes.pieces(voxels):
            for kept, found in zip((class_id, probability), _decided(logits, rule)):
                kept[piece] = torch.where(is_open[piece], found, kept[piece])
        return class_id.view(shape), probability.view(shape)
    rows = is_open.nonzero().squeeze(1)
    for piece, logits in classes.pieces(voxels.index_select(0, rows)):
        best_class, best = _decided(logits, rule)
        class_id[rows[piece]], probability[rows[piece]] = best_class, best
    return class_id.view(shape), probability.view(shape)


def _waits_for_values(device: torch.device) -> bool:
    """Whether a shape that follows from values makes the host wait: then all voxels are taken through all layers."""
    return device.type != "cpu"


def _between_voxels(
    points: Tensor, classes: _ClassLogits, rule: ClassRule, factors: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """Of a grid that is finer than the points: an output layer at a time, which lies between two layers of logits.

    Voxels of a layer that lie alike between points are interpolated together.
    """
    depth, rows, columns, _ = points.shape

    @lru_cache(maxsize=2)  # layers
    def logits_of(layer: int) -> Tensor:
        logits = classes.whole(points[layer].flatten(0, 1)).view(1, -1, rows, columns)
        return functional.pad(logits, (1, 1, 1, 1), mode="replicate")[0]  # [class, row + 2, column + 2]

    shape = [size * factor for size, factor in zip(points.shape, factors)]
    class_id = torch.empty(shape, dtype=torch.uint8, device=points.device)
    probability = torch.empty(shape, device=points.device)
    for layer in range(depth):
        for z, (below, share) in enumerate(_between(factors[0])):
            lower, upper = (min(max(layer + below + i, 0), depth - 1) for i in (0, 1))
            logits = torch.lerp(logits_of(lower), logits_of(upper), share)
            for y, along_y in enumerate(_between(factors[1])):
                between_rows = _interpolated(logits, 1, *along_y)
                for x, along_x in enumerate(_between(factors[2])):
                    place = (layer * factors[0] + z, slice(y, None, factors[1]), slice(x, None, factors[2]))
                    class_id[place], probability[place] = _decided(_interpolated(between_rows, 2, *along_x), rule)
    return class_id, probability


def _between(factor: int) -> list[tuple[int, float]]:
    """Where the cells of a finer axis lie between those of a coarse one, of which each is `factor` of them wide.

    For every part of a coarse cell: how far below the cell its lower neighbour is, -1 or 0, and the weight of the upper
    one.
    """
    places = [(part + 0.5) / factor - 0.5 for part in range(factor)]
    return [(math.floor(place), place - math.floor(place)) for place in places]


def _interpolated(padded: Tensor, axis: int, below: int, share: float) -> Tensor:
    """Values between the cells of an axis that has one more cell at either end, which is not in the result."""
    size = padded.shape[axis] - 2
    lower = padded.narrow(axis, 1 + below, size)
    return torch.lerp(lower, padded.narrow(axis, 2 + below, size), share) if share else lower


def _decided(logits: Tensor, rule: ClassRule) -> tuple[Tensor, Tensor]:
    """Class and probability of logits [class, ...] without a gate."""
    best = logits.amax(0)
    probability = best.sigmoid() if rule.sigmoids else (logits - best).mul_(_LOG2_E).exp2_().sum(0).reciprocal_()
    count = len(logits)
    rank = torch.arange(count, 0, -1, dtype=logits.dtype, device=logits.device)
    is_best = torch.eq(logits, best, out=torch.empty_like(logits))  # 0 or 1: comparing to bool takes four times as long
    first = is_best.mul_(rank.view(-1, *[1] * best.dim())).amax(0)
    class_id = (count - first).to(torch.uint8)
    if rule.sigmoids and rule.threshold is not None and rule.free_id is not None:
        is_open = probability >= rule.threshold
        return class_id.masked_fill_(~is_open, rule.free_id), torch.where(is_open, probability, 1 - probability)
    return class_id, probability
