"""From coarse voxel features to class logits on the output grid, with an occupancy gate or a thing head."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import DecoderConfig, ModelConfig, UpsampleConfig
from ..network import VoxelLogits
from ..ops.scalar_conv3d import scalar_conv3d
from ..voxels import (
    grid_to_volume,
    layers_to_points,
    layers_to_volume,
    points_to_grid,
    points_to_layers,
    shape_hwz,
    token_order_volume,
    token_order_volume_to_tokens,
    tokens_to_layers,
    volume_to_grid,
    volume_to_layers,
)


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
        if len(outputs) == 1:
            return outputs[0]
        return points_to_layers(torch.stack([layers_to_points(output) for output in outputs], dim=1).flatten(0, 1))


class Upsample(nn.Sequential):
    """Transposed convolutions, each with batch norm and ReLU: layers [Z, C, Y, X] -> [Z', C', Y', X']."""

    def __init__(self, config: ModelConfig):
        layers: list[nn.Module] = []
        channels = config.embed
        for stage in config.decoder.upsample:
            layers += [TransposedConv(channels, stage), nn.BatchNorm2d(stage.channels), nn.ReLU(inplace=True)]
            channels = stage.channels
        super().__init__(*layers)
        self.norm_pairs = tuple((str(i), str(i + 1)) for i in range(0, len(layers), 3))


class ClassMlp(nn.Sequential):
    """Linear layers with Softplus between, then a linear classifier."""

    def __init__(self, widths: tuple[int, ...], classes: int):
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths, widths[1:]):
            layers += [nn.Linear(inputs, outputs), nn.Softplus()]
        super().__init__(*layers[:-1], nn.Linear(widths[-1], classes))


class OccupancyGate(nn.Conv3d):
    """3-D convolution of points [Z, Y, X, C] to one logit [Z, Y, X] with zeros around."""

    def __init__(self, channels: int, kernel: int):
        super().__init__(channels, 1, kernel, padding=kernel // 2)

    def forward(self, points: Tensor) -> Tensor:
        assert self.bias is not None
        return scalar_conv3d(points, self.weight, self.bias)


class VoxelDecoder(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config, self.shape = config.decoder, shape_hwz(config.grid)
        channels, kernel = config.decoder.mlp[0], config.decoder.gate_kernel
        self.upsample = Upsample(config)
        self.mlp = ClassMlp(config.decoder.mlp, config.class_count)
        gated = config.decoder.gate_threshold is not None
        self.gate = OccupancyGate(channels, kernel) if gated else None
        self.things = nn.Conv3d(config.embed, 2, 1) if config.decoder.thing_head else None

    def forward(self, tokens: Tensor) -> VoxelLogits:
        """Fused voxel features [N, C] -> logits."""
        points = self._points(tokens)
        return VoxelLogits(
            classes=self._resized(points_to_grid(self.mlp(points))),
            gate=None if self.gate is None else points_to_grid(self.gate(points)),
            things=self.thing_logits(tokens),
        )

    def occupancy(self, tokens: Tensor, free_id: int | None) -> tuple[Tensor, Tensor]:
        """Fused voxel features [N, C] -> class and probability of every voxel, uint8 and float32 [X, Y, Z].

        What `classify` makes of the logits of `forward`; class logits are made only where the gate is open, and most of
        the space is free.
        """
        threshold = self.config.gate_threshold
        if self.gate is None or threshold is None or free_id is None or self.config.logit_upsample != (1, 1, 1):
            return classify(self(tokens), self.config, free_id)
        points = self._points(tokens)
        occupied = self.gate(points).sigmoid().flatten()
        is_open = (occupied >= threshold).nonzero().squeeze(1)
        open_class, open_probability = _most_probable(self.mlp(points.flatten(0, 2).index_select(0, is_open)))
        class_id = torch.full_like(occupied, free_id, dtype=torch.uint8).index_copy(0, is_open, open_class)
        probability = (1 - occupied).index_copy(0, is_open, open_probability)
        return points_to_grid(class_id.view(points.shape[:3])), points_to_grid(probability.view(points.shape[:3]))

    def thing_logits(self, tokens: Tensor) -> Tensor | None:
        """Fused voxel features [N, C] -> logits [N, 2] of the coarse voxels; None without a thing head."""
        if self.things is None:
            return None
        return token_order_volume_to_tokens(self.things(token_order_volume(tokens, self.shape)))

    def _points(self, tokens: Tensor) -> Tensor:
        """Fused voxel features [N, C] -> features [Z, Y, X, C'] on the fine grid."""
        return layers_to_points(self.upsample(tokens_to_layers(tokens, self.shape)))

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
    occupied: Tensor | None = None
    threshold: float | None = None
    if config.empty_below is not None:
        best, index = logits.classes.max(-1)
        class_id, probability = index.to(torch.uint8), best.float().sigmoid()
        occupied, threshold = probability, config.empty_below
    else:
        class_id, probability = _most_probable(logits.classes)
        if logits.gate is not None:
            occupied, threshold = logits.gate.float().sigmoid(), config.gate_threshold
    if free_id is None or occupied is None or threshold is None:
        return class_id, probability
    is_open = occupied >= threshold  # not where the gate is NaN; then the probability tells
    return class_id.masked_fill(~is_open, free_id), torch.where(is_open, probability, 1 - occupied)


def _most_probable(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [..., class] -> best class, uint8, and its softmax probability, float32."""
    best, class_id = logits.max(-1)
    return class_id.to(torch.uint8), (best.float() - logits.float().logsumexp(-1)).exp()
