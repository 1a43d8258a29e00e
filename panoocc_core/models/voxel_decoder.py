"""From coarse voxel features to class logits on the output grid, with an occupancy gate or a thing head."""

from torch import Tensor, nn
from torch.nn import functional

from ..config import DecoderConfig, ModelConfig, UpsampleConfig
from ..network import VoxelLogits
from ..ops.scalar_conv3d import scalar_conv3d
from ..ops.voxel_classes import ClassRule, Mlp, decided, voxel_classes
from ..voxels import (
    grid_to_volume,
    layers_to_points,
    layers_to_volume,
    points_to_grid,
    points_to_layers,
    shape_hwz,
    stacked_points,
    token_order_volume,
    token_order_volume_to_tokens,
    tokens_to_layers,
    volume_to_grid,
    volume_to_layers,
)


class TransposedConv(nn.ConvTranspose3d):
    """Transposed 3-D convolution of layers [Z, C, Y, X].

    Where the kernel is as high as its vertical stride, no two layers meet in an output layer: then every layer is an
    image of its own, whose output channels are those of the layers that become of it.  This runs several times faster
    on a CPU than the 3-D convolution does, and as a product of matrices where pixels do not meet either.
    """

    def __init__(self, channels: int, stage: UpsampleConfig):
        super().__init__(channels, stage.channels, stage.kernel, stage.stride, stage.padding)
        self.by_layer = stage.kernel[0] == stage.stride[0] and stage.padding[0] == 0
        self.by_voxel = self.by_layer and stage.kernel[1:] == (1, 1) and not any(stage.padding)
        self.flat_stride, self.flat_padding = stage.stride[1:], stage.padding[1:]

    def forward(self, layers: Tensor) -> Tensor:  # type: ignore[override]
        """[Z, C, Y, X] -> [Z', C', Y', X']."""
        if not self.by_layer:
            return volume_to_layers(super().forward(layers_to_volume(layers)))
        assert self.bias is not None
        height = self.kernel_size[0]
        kernel, bias = self.weight.transpose(1, 2).flatten(1, 2), self.bias.repeat(height)  # [C, height * C', ky, kx]
        if self.by_voxel:
            points = functional.linear(layers_to_points(layers), kernel[..., 0, 0].t(), bias)
        else:
            flat = functional.conv_transpose2d(layers, kernel, bias, self.flat_stride, self.flat_padding)
            points = layers_to_points(flat)
        return points_to_layers(stacked_points(points, height))


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

    def merged(self) -> Mlp:
        """Weights and biases of its linear layers; the last two, between which there is no Softplus, are one."""
        linears = [module for module in self if isinstance(module, nn.Linear)]
        *hidden, features, classifier = [(linear.weight, linear.bias) for linear in linears]
        weight = classifier[0].float() @ features[0].float()
        bias = classifier[0].float() @ features[1].float() + classifier[1].float()
        return [*hidden, (weight.to(classifier[0].dtype), bias.to(classifier[0].dtype))]


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

        What `classify` makes of the logits of `forward`, which here are never held for the whole grid, nor made where
        a gate tells that a voxel is free.
        """
        points, rule = self._points(tokens), class_rule(self.config, free_id)
        gate = None if self.gate is None or rule.sigmoids else self.gate(points)
        class_id, probability = voxel_classes(points, self.mlp.merged(), gate, rule, self.config.logit_upsample)
        return points_to_grid(class_id), points_to_grid(probability)

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


def class_rule(config: DecoderConfig, free_id: int | None) -> ClassRule:
    """How the logits of a decoder become classes; `free_id` None: no voxel is called free for want of occupancy."""
    return ClassRule(config.empty_below is not None, config.free_below, free_id)


def classify(logits: VoxelLogits, config: DecoderConfig, free_id: int | None) -> tuple[Tensor, Tensor]:
    """Classes and their probabilities of logits of any shape [..., class], uint8 and float32 [...]; see `ClassRule`."""
    return decided(logits.classes, logits.gate, class_rule(config, free_id))
