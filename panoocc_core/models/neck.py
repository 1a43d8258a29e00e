"""Feature pyramid (arXiv 1612.03144)."""

from torch import Tensor, nn
from torch.nn import functional

from .layers import Conv2d


class FeaturePyramid(nn.Module):
    """Lateral 1x1 and output 3x3 convolutions; further levels are strided convolutions of the last output."""

    def __init__(self, in_channels: tuple[int, ...], channels: int, levels: int):
        super().__init__()
        self.lateral = nn.ModuleList(Conv2d(inputs, channels, 1) for inputs in in_channels)
        self.output = nn.ModuleList(
            Conv2d(channels, channels, 3, stride=1 if i < len(in_channels) else 2, padding=1) for i in range(levels)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Backbone maps, finest first -> `levels` maps [camera, channel, row, column], finest first."""
        outputs: list[Tensor] = []  # coarsest first, of what the backbone gives
        above: Tensor | None = None
        for lateral, conv, x in zip(
            reversed(self.lateral), reversed(self.output[: len(maps)]), reversed(maps), strict=True
        ):
            above = lateral(x, None if above is None else functional.interpolate(above, size=x.shape[2:]))
            outputs.append(conv(above))
        outputs.reverse()
        for conv in self.output[len(maps) :]:
            outputs.append(conv(outputs[-1]))
        return outputs
