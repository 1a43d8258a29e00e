"""What the softmax of short rows computes."""

from torch import Tensor


def short_softmax(logits: Tensor) -> Tensor:
    """See `panoocc_core.ops.short_softmax`."""
    return logits.softmax(dim=-1)
