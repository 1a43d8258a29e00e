"""Which query answers for which true box: the cheapest assignment of one to one (arXiv 2005.12872)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..step import BoxPrediction
from .losses import ALPHA
from .targets import BoxTargets

MATCHED_CODES = 8  # all but the velocity
EPSILON = 1e-12  # in the logarithms of the class cost


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """Pairs of one decoder layer, min(queries, boxes) of them."""

    queries: Tensor  # int64 [m], ascending
    boxes: Tensor  # int64 [m], rows of BoxTargets


class NotFiniteError(ValueError):
    """Boxes that cannot be compared with true ones, because the network has lost its numbers."""


def match_boxes(
    prediction: BoxPrediction, targets: BoxTargets, layers: list[int], class_cost: float, l1_cost: float
) -> list[Match]:
    """One match for each of the decoder layers.

    Raises:
        NotFiniteError: predictions that are not finite.
        ImportError: SciPy is not installed.
    """
    device = targets.codes.device
    if not len(targets.labels):
        none = torch.zeros(0, dtype=torch.long, device=device)
        return [Match(none, none) for _ in layers]
    costs = match_costs(prediction.class_logits[layers], prediction.codes[layers], targets, class_cost, l1_cost)
    costs_on_host = costs.cpu()
    if not costs_on_host.isfinite().all():
        raise NotFiniteError(
            "the box predictions are not finite: the training has diverged, or a half precision overflowed"
        )
    pairs = [_assignment(cost) for cost in costs_on_host]
    return [Match(queries.to(device), boxes.to(device)) for queries, boxes in pairs]


@torch.no_grad()
def match_costs(logits: Tensor, codes: Tensor, targets: BoxTargets, class_cost: float, l1_cost: float) -> Tensor:
    """Costs [layer, query, box] from class logits [layer, query, class] and codes [layer, query, 10]."""
    p = logits.float().sigmoid()[..., targets.labels]  # [layer, query, box]
    positive = -ALPHA * (1 - p).square() * (p + EPSILON).log()
    negative = -(1 - ALPHA) * p.square() * (1 - p + EPSILON).log()
    true = targets.codes[:, :MATCHED_CODES].expand(len(codes), -1, -1).contiguous()
    distance = torch.cdist(codes[..., :MATCHED_CODES].float().contiguous(), true, p=1)
    return class_cost * (positive - negative) + l1_cost * distance


def _assignment(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the cheapest assignment of a cost matrix [query, box] on the host."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError("matching boxes in training needs SciPy: pip install scipy") from error
    rows, columns = linear_sum_assignment(cost.numpy())
    return torch.from_numpy(rows), torch.from_numpy(columns)
