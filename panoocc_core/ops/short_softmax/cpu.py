"""Softmax along the rows.

On a CPU the usual kernel works along the last axis, which is shorter than a vector register is worth; along the rows
it is several times faster.
"""

from torch import Tensor


def short_softmax(logits: Tensor) -> Tensor:
    """See `panoocc_core.ops.short_softmax`."""
    return logits.permute(1, 2, 0).softmax(dim=1).permute(2, 0, 1).contiguous()
