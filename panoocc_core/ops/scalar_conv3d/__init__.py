"""3-D convolution to a single channel."""

from torch import Tensor

from ..reference_mode import wants_reference
from . import reference, tuned


def scalar_conv3d(points: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution of a volume to one number a voxel, with zeros around.

    Args:
        points: [layer, row, column, channel].
        weight: [1, channel, k, k, k] of (z, y, x); k is odd.
        bias: [1].

    Returns:
        float32 [layer, row, column].
    """
    operator = reference.scalar_conv3d if wants_reference() else tuned.scalar_conv3d
    return operator(points, weight, bias)
