"""Where an attention samples and how much it weighs: two linear layers of one input, computed as one."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layers import Dense

BLOCK_SAMPLES = 500_000  # on a CPU: what is computed of them, two megabytes a tensor, stays in the caches
# Numbers a row; on a CPU the softmax of shorter ones is several times faster across the rows than along them.
SHORT = 32


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Offsets and logits [N, sample] of N queries, the samples head by head."""

    planes: Tensor  # [N, 3 * sample]: all x, all y, all logits, so that each is read in rows

    def offsets(self, *shape: int) -> Tensor:
        """[N, *shape, 2] (x, y); a view, with x and y far apart."""
        return self.planes.unflatten(1, (3, *shape))[:, :2].movedim(1, -1)

    def weights(self, *shape: int) -> Tensor:
        """Softmax of the logits along the last axis of a shape, float32 [N, *shape]."""
        logits = self.planes.unflatten(1, (3, *shape))[:, 2].float()
        if logits.device.type == "cpu" and shape[-1] < SHORT:
            return logits.movedim(0, -1).softmax(-2).movedim(-1, 0).contiguous()
        return logits.softmax(-1)


def joint(offsets: nn.Linear, logits: nn.Linear) -> Dense:
    """Both layers as one, whose outputs are the planes of `Samples`."""
    return Dense(_planes(offsets.weight, logits.weight), _planes(offsets.bias, logits.bias))


def _planes(offsets: Tensor, logits: Tensor) -> Tensor:
    x, y = offsets.unflatten(0, (-1, 2)).unbind(1)
    return torch.cat((x, y, logits))


def in_blocks(of: Callable[[slice], Tensor], queries: int, samples: int, multiple: int) -> Tensor:
    """What a function gives [n, C] of some queries, of all of them: a part after the other, without gradients.

    Args:
        samples: of a query.
        multiple: number of queries of which every part has a multiple.
    """
    step = max(1, BLOCK_SAMPLES // (samples * multiple)) * multiple
    first = of(slice(0, min(step, queries)))
    if step >= queries:
        return first
    out = first.new_empty(queries, first.shape[1])
    out[:step] = first
    for start in range(step, queries, step):
        rows = slice(start, min(queries, start + step))
        out[rows] = of(rows)
    return out
