"""From coarse voxel features to class logits on the output grid, with an occupancy gate or a thing head."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import DecoderConfig, ModelConfig, UpsampleConfig
from ..voxels import (
    grid_to_volume,
    layers_to_points,
    layers_to_volume,
    points_to_grid,
    shape_hwz,
    token_order_volume,
    token_order_volume_to_tokens,
    tokens_to_layers,
    volume_to_grid,
    volume_to_layers,
)


@dataclass(frozen=True, slots=True, eq=False)
class VoxelLogits:
    """What the voxel decoder gives."""

    classes: Tensor  # [X, Y, Z, class]
    gate: Tensor | None  # [X, Y, Z], logit of being occupied
    things: Tensor | None  # [N, 2], logits of the coarse voxels


class TransposedConv(nn.ConvTranspose3d):
    """Transposed 3-D convolution of layers [Z, C, Y, X].

    Where the kernel is as high as its vertical stride, no two layers meet in an output layer: then every layer is an
    image of its own, which runs several times faster on a CPU than the 3-D convolution does.
    """

    def __init__(self, channels: int, stage: UpsampleConfig):
        super().__init__(channels, stage.channels, stage.kernel, stage.stride, stage.padding)
        self.by_layer = stage.kernel[0] == stage.stride[0] and stage.padding[0] == 0
        self.flat_stride, self.flat_padding = stage.stride[1:], stage.padding[1:]

    def forward(self, layers: Tensor) -> Tensor:  # type: ignore[override]
        """[Z, C, Y, X] -> [Z', C', Y', X']."""
        if not self.by_layer:
            return volume_to_layers(super().forward(layers_to_volume(layers)))
        outputs = [
            functional.conv_transpose2d(layers, kernel, self.bias, self.flat_stride, self.flat_padding)
            for kernel in self.weight.unbind(dim=2)
        ]
        return outputs[0] if len(outputs) == 1 else torch.stack(outputs, dim=1).flatten(0, 1)


class Upsample(nn.Sequential):
    """Transposed convolutions, each with batch norm and ReLU: layers [Z, C, Y, X] -> [Z', C', Y', X']."""

    def __init__(self, config: ModelConfig):
        layers: list[nn.Module] = []
        channels = config.embed
        for stage in config.decoder.upsample:
            layers += [TransposedConv(channels, stage), nn.BatchNorm2d(stage.channels), nn.ReLU(inplace=True)]
            channels = stage.channels
        super().__init__(*layers)


class ClassMlp(nn.Sequential):
    """Linear layers with Softplus between, then a linear classifier."""

    def __init__(self, widths: tuple[int, ...], classes: int):
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths, widths[1:]):
            layers += [nn.Linear(inputs, outputs), nn.Softplus()]
        super().__init__(*layers[:-1], nn.Linear(widths[-1], classes))


class VoxelDecoder(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config, self.shape = config.decoder, shape_hwz(config.grid)
        channels, kernel = config.decoder.mlp[0], config.decoder.gate_kernel
        self.upsample = Upsample(config)
        self.mlp = ClassMlp(config.decoder.mlp, config.class_count)
        gated = config.decoder.gate_threshold is not None
        self.gate = nn.Conv3d(channels, 1, kernel, padding=kernel // 2) if gated else None
        self.things = nn.Conv3d(config.embed, 2, 1) if config.decoder.thing_head else None

    def forward(self, tokens: Tensor) -> VoxelLogits:
        """Fused voxel features [N, C] -> logits."""
        fine = self.upsample(tokens_to_layers(tokens, self.shape))  # [Z, C', Y, X]
        classes = points_to_grid(self.mlp(layers_to_points(fine)))
        return VoxelLogits(
            classes=self._resized(classes),
            gate=None if self.gate is None else volume_to_grid(self.gate(layers_to_volume(fine))).squeeze(-1),
            things=None if self.things is None else self._thing_logits(self.things, tokens),
        )

    def _thing_logits(self, head: nn.Conv3d, tokens: Tensor) -> Tensor:
        return token_order_volume_to_tokens(head(token_order_volume(tokens, self.shape)))

    def _resized(self, logits: Tensor) -> Tensor:
        if self.config.logit_upsample == (1, 1, 1):
            return logits
        volume = grid_to_volume(logits).contiguous()
        factors = [float(factor) for factor in self.config.logit_upsample]
        return volume_to_grid(functional.interpolate(volume, scale_factor=factors, mode="trilinear"))


def classify(logits: VoxelLogits, config: DecoderConfig, free_id: int | None) -> tuple[Tensor, Tensor]:
    """Final classes and their probabilities, uint8 and float32 [X, Y, Z].

    The best class wins; a voxel is free where the occupancy gate's probability stays below its threshold, or where no
    class reaches `empty_below`.  The probability of such a voxel is that of being free.
    """
    scores = logits.classes
    best, classes = scores.max(-1)
    sigmoid_classes = config.empty_below is not None
    probability = best.float().sigmoid() if sigmoid_classes else (best.float() - scores.float().logsumexp(-1)).exp()
    occupied, threshold = None, None
    if sigmoid_classes:
        occupied, threshold = probability, config.empty_below
    elif logits.gate is not None:
        occupied, threshold = logits.gate.float().sigmoid(), config.gate_threshold
    classes = classes.to(torch.uint8)
    if free_id is None or occupied is None or threshold is None:
        return classes, probability
    is_free = occupied < threshold
    return classes.masked_fill(is_free, free_id), torch.where(is_free, 1 - occupied, probability)
