"""InternImage-style backbone (arXiv 2211.05778): residual layers of grouped deformable aggregation, channels last."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base.constants import Constant
from ..config import InternImageConfig
from ..ops.deform_aggregate import deform_aggregate
from .layers import Linear


class _ChannelsLastNorm(nn.Module):
    """Layer norm over the channels of [image, channel, row, column], returned channels last."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1))


class DeformableAggregation(nn.Module):
    """Each pixel and head sums `kernel` x `kernel` displaced points of the projected map."""

    def __init__(self, channels: int, heads: int, kernel: int, offset_scale: float):
        super().__init__()
        points = kernel * kernel
        self.heads, self.points, self.offset_scale = heads, points, offset_scale
        depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.dw_conv = nn.Sequential(depthwise, _ChannelsLastNorm(channels), nn.GELU())
        self.sampling_offsets = Linear(channels, heads * points * 2)
        self.attention_weights = Linear(channels, heads * points)
        self.value_proj = Linear(channels, channels)
        self.output_proj = Linear(channels, channels)
        # The slow index of the kernel steps along x, as the offsets' first component does.
        steps = torch.arange(kernel) - kernel // 2
        base = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1).view(points, 2)
        self.base = Constant(base.float())

    def forward(self, x: Tensor) -> Tensor:
        """[image, row, column, channel] -> the same shape."""
        shape = x.shape[:3]
        conditioning = self.dw_conv(x.permute(0, 3, 1, 2))
        learned = self.sampling_offsets(conditioning).float().view(*shape, self.heads, self.points, 2)
        weights = self.attention_weights(conditioning).view(*shape, self.heads, self.points).float().softmax(-1)
        values = self.value_proj(x).view(*shape, self.heads, -1)
        offsets = (self.base.value + learned) * self.offset_scale
        return self.output_proj(deform_aggregate(values, offsets, weights))


class _Mlp(nn.Module):
    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = Linear(channels, hidden), Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Layer(nn.Module):
    def __init__(self, channels: int, heads: int, config: InternImageConfig):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn = DeformableAggregation(channels, heads, config.kernel, config.offset_scale)
        self.mlp = _Mlp(channels, channels * config.mlp_ratio)
        self.gamma1, self.gamma2 = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.gamma1 * self.attn(self.norm1(x))
        return x + self.gamma2 * self.mlp(self.norm2(x))


class _Downsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.reduction = nn.Conv2d(channels, 2 * channels, 3, 2, padding=1, bias=False)
        self.norm = nn.LayerNorm(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.reduction(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class Stage(nn.Module):
    """Layers of one resolution, and the step to the next one."""

    def __init__(self, channels: int, heads: int, blocks: int, config: InternImageConfig, last: bool):
        super().__init__()
        self.blocks = nn.Sequential(*(Layer(channels, heads, config) for _ in range(blocks)))
        self.downsample = None if last else _Downsample(channels)


class _Stem(nn.Module):
    """Two strided convolutions with batch norm; only the first is followed by an activation."""

    norm_pairs = (("proj.0", "proj.1"), ("proj.3", "proj.4"))

    def __init__(self, channels: int):
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(3, channels // 2, 3, 2, padding=1),
            nn.BatchNorm2d(channels // 2),
            nn.GELU(),
            nn.Conv2d(channels // 2, channels, 3, 2, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).permute(0, 2, 3, 1)


class InternImage(nn.Module):
    def __init__(self, config: InternImageConfig):
        super().__init__()
        self.config = config
        self.patch_embed = _Stem(config.width)
        stages = len(config.blocks)
        widths = [config.width * 2**i for i in range(stages)]
        self.levels = nn.ModuleList(
            Stage(widths[i], config.heads[i], config.blocks[i], config, last=i == stages - 1) for i in range(stages)
        )
        for i in range(1, stages):
            self.add_module(f"norm{i}", nn.LayerNorm(widths[i]))  # a second norm, after the one of the downsampling
        for stage in config.output_stages:
            self.add_module(f"final_norm{stage - 1}", nn.LayerNorm(widths[stage - 1]))

    def forward(self, images: Tensor) -> list[Tensor]:
        """[camera, 3, row, column] -> maps [camera, channel, row, column] of the output stages, finest first."""
        x = self.patch_embed(images)
        maps = []
        for i, stage in enumerate(cast(Iterable[Stage], self.levels)):
            x = stage.blocks(x)
            if i + 1 in self.config.output_stages:
                maps.append(self.get_submodule(f"final_norm{i}")(x).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x = self.get_submodule(f"norm{i + 1}")(stage.downsample(x))
        return maps
