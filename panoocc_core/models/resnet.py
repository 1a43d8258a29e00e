"""ResNet with bottleneck blocks (arXiv 1512.03385); the 3x3 convolutions of some stages are deformable."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import ResNetConfig
from ..ops.deform_conv import deform_columns, deform_conv
from .layers import Conv2d, Dense, Freezable, conv_norm_relu

EXPANSION = 4


class DeformConv2d(Freezable):
    """3x3 modulated deformable convolution; offsets and masks come from a plain convolution of the same input."""

    def __init__(self, channels: int, outputs: int, stride: int):
        super().__init__()
        plain = nn.Conv2d(channels, outputs, 3, stride, padding=1, bias=False)
        self.stride, self.weight = stride, plain.weight
        self.conv_offset = Conv2d(channels, 27, 3, stride, padding=1)
        self.bias: nn.Parameter | None = None  # until a batch norm is folded in

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """[image, channel, row, column] -> the same with `outputs` channels."""
        conditioning = self.conv_offset(x).float()
        offsets, masks = conditioning[:, :18], conditioning[:, 18:].sigmoid()
        if self._kept is not None and residual is None:
            columns = deform_columns(x, offsets, masks, (3, 3), self.stride)
            pixels = torch.cat([self._kept(part, relu=relu) for part in columns])
            return pixels.view(len(x), *offsets.shape[2:], -1).permute(0, 3, 1, 2)
        out = deform_conv(x, offsets, masks, self.weight, stride=self.stride)
        out = out if self.bias is None else out + self.bias[:, None, None]
        out = out if residual is None else out + residual
        return functional.relu_(out) if relu else out

    def _made(self) -> Dense | None:
        """The product of the sampled columns, where it can be packed."""
        product = Dense(self.weight.permute(0, 2, 3, 1).flatten(1), self.bias).frozen()
        return None if product.packed is None else product


class Bottleneck(nn.Module):
    norm_pairs = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("downsample.0", "downsample.1"))

    def __init__(self, channels: int, width: int, stride: int, style: str, deformable: bool):
        super().__init__()
        first, second = (stride, 1) if style == "caffe" else (1, stride)
        outputs = width * EXPANSION
        self.conv1 = Conv2d(channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = (
            DeformConv2d(width, width, second) if deformable else Conv2d(width, width, 3, second, padding=1, bias=False)
        )
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(Conv2d(channels, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride != 1 or channels != outputs
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = conv_norm_relu(self.conv1, self.bn1, x)
        x = conv_norm_relu(self.conv2, self.bn2, x)
        return conv_norm_relu(self.conv3, self.bn3, x, shortcut)


class ResNet(nn.Module):
    norm_pairs = (("conv1", "bn1"),)

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.config = config
        self.conv1 = Conv2d(3, config.width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.width)
        channels = config.width
        for stage, blocks in enumerate(config.blocks, start=1):
            width = config.width * 2 ** (stage - 1)
            deformable = stage in config.deformable_stages
            layers = []
            for block in range(blocks):
                stride = 2 if block == 0 and stage > 1 else 1
                layers.append(Bottleneck(channels, width, stride, config.style, deformable))
                channels = width * EXPANSION
            self.add_module(f"layer{stage}", nn.Sequential(*layers))

    def forward(self, images: Tensor) -> list[Tensor]:
        """[camera, 3, row, column] -> maps of the output stages, finest first."""
        x = conv_norm_relu(self.conv1, self.bn1, images)
        x = functional.max_pool2d(x, 3, 2, padding=1)
        maps = []
        for stage in range(1, len(self.config.blocks) + 1):
            x = self.get_submodule(f"layer{stage}")(x)
            if stage in self.config.output_stages:
                maps.append(x)
        return maps
