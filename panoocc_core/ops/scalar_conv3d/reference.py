"""What the 3-D convolution to a single channel computes."""

from torch import Tensor
from torch.nn import functional


def scalar_conv3d(points: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See `panoocc_core.ops.scalar_conv3d`."""
    volume = points.permute(3, 0, 1, 2)[None]
    return functional.conv3d(volume, weight, bias, padding=weight.shape[-1] // 2)[0, 0].float()
