"""Fusion of the aligned history with the current volume (paper section 3.3)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from ..config import ModelConfig
from ..ops.voxel_warp import voxel_warp
from ..voxels import shape_hwz, token_order_volume, token_order_volume_to_tokens
from .attention import VoxelAttention
from .layers import Dense, Freezable, conv_norm_relu
from .queries import Position


class PointwiseConv3d(nn.Conv3d, Freezable):
    """A 1x1x1 convolution of tokens [N, C]: a linear map, for which no volume has to be laid out."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 1, bias=False)

    def _made(self) -> Dense:
        return Dense(self.weight.flatten(1), self.bias).frozen()

    def forward(self, tokens: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        return (self._kept or Dense(self.weight.flatten(1), self.bias))(tokens, residual, relu)


class ConcatFusion(nn.Module):
    """Channel concatenation of unfused volumes, then a 3-D convolutional bottleneck."""

    norm_pairs = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("downsample.0", "downsample.1"))

    def __init__(self, embed: int, slots: int, shape: tuple[int, int, int]):
        super().__init__()
        self.slots, self.shape = slots, shape
        self.conv1 = PointwiseConv3d(slots * embed, embed)
        self.bn1 = nn.BatchNorm1d(embed)
        self.conv2 = nn.Conv3d(embed, embed, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(embed)
        self.conv3 = PointwiseConv3d(embed, embed)
        self.bn3 = nn.BatchNorm1d(embed)
        self.downsample = nn.Sequential(PointwiseConv3d(slots * embed, embed), nn.BatchNorm1d(embed))

    def forward(self, states: Sequence[Tensor], motions: Tensor, current: Tensor, position: Position) -> Tensor:
        """States [N, C], oldest first, with their motions [state, 3, 4] and the current volume -> fused [N, C].

        Missing history is replaced by the oldest volume there is.
        """
        x = voxel_warp(states, motions, self.shape, current, self.slots)  # [N, slots * C]
        shortcut = self.downsample(x)
        x = conv_norm_relu(self.conv1, self.bn1, x)
        volume = functional.relu_(self.bn2(self._conv2(token_order_volume(x, self.shape))))
        x = token_order_volume_to_tokens(volume)
        return conv_norm_relu(self.conv3, self.bn3, x, shortcut)

    def _conv2(self, x: Tensor) -> Tensor:
        """The 3x3x3 convolution; its kernel is stored as (z, y, x), the volume lies as (y, x, z)."""
        return functional.conv3d(x, self.conv2.weight.permute(0, 1, 3, 4, 2), self.conv2.bias, padding=1)


class RecurrentFusion(VoxelAttention):
    """Voxel attention over the previous fused volume and the current one."""

    def __init__(self, config: ModelConfig):
        super().__init__(config.embed, config.heads, config.temporal.points, config.grid, config.temporal.memory)
        self.volume_shape = shape_hwz(config.grid)

    def forward(  # type: ignore[override]
        self, states: Sequence[Tensor], motions: Tensor, current: Tensor, position: Position
    ) -> Tensor:
        """States [N, C], of which the last one counts, their motions and the current volume -> fused [N, C]."""
        previous = voxel_warp(states[-1:], motions[-1:], self.volume_shape) if states else None
        return self.whole(current, position, previous)


def build_fusion(config: ModelConfig) -> ConcatFusion | RecurrentFusion:
    """The fusion that a configuration asks for."""
    temporal = config.temporal
    if temporal.kind == "concat":
        return ConcatFusion(config.embed, len(temporal.ages_s) + 1, shape_hwz(config.grid))
    return RecurrentFusion(config)
