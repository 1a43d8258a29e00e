"""What the operators of the published networks are called with: sizes without numbers ("meta"), or a scene of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

LEVELS = {  # rows and columns of the feature maps, finest first
    "Pano-small": ((108, 200), (54, 100), (27, 50), (14, 25), (7, 13)),
    "Pano-base": ((216, 400), (108, 200), (54, 100), (27, 50), (14, 25)),
    "Pano-small-4f": ((40, 100), (20, 50), (10, 25), (5, 13)),
    "nano": ((28, 64), (14, 32), (7, 16)),
}
SEEN = 1.1  # cameras that see a voxel, on average, on the vehicles of nuScenes


@dataclass(frozen=True)
class Attention:
    """Sizes of one call of multi-scale deformable attention."""

    name: str
    shapes: tuple[tuple[int, int], ...]
    grid: tuple[int, int, int]  # rows, columns, layers of the queries
    sources: int  # cameras, layers, or 1
    slots: int
    points: int = 8
    heads: int = 8
    channels: int = 32

    @property
    def queries(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def sizes(self) -> list[int]:
        return [size for shape in self.shapes for size in shape]

    def gathered_bytes(self, dtype: torch.dtype) -> float:
        """Four cells of a head for every sample; caches may have them."""
        pairs = self.queries * (SEEN if self.slots > 1 else 1)
        return pairs * self.heads * len(self.shapes) * self.points * 4 * self.channels * dtype.itemsize

    def inputs(self, dtype: torch.dtype, device: torch.device | str) -> tuple[Tensor, ...]:
        """Values, reference points, offsets, weights and sources as the networks give them, with numbers of a scene:
        cameras in a circle whose views overlap by a tenth, points some cells around where a voxel is seen."""
        draw = torch.Generator(device).manual_seed(0) if str(device) != "meta" else None
        cells = sum((rows + 2) * (columns + 2) for rows, columns in self.shapes)
        values = torch.randn(self.sources, cells, self.heads, self.channels, device=device, generator=draw).to(dtype)
        planes = torch.randn(self.queries, 3, self.heads, len(self.shapes), self.points, device=device, generator=draw)
        planes *= 4
        offsets, logits = planes[:, :2].movedim(1, -1), planes[:, 2].flatten(2)
        weights = logits.softmax(-1).unflatten(2, (len(self.shapes), self.points))
        points, source = self._seen(device)
        return values, points, offsets, weights, source if self.sources > 1 else None

    def _seen(self, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Reference points and sources of all slots."""
        rows, columns, layers = self.grid
        y, x, z = (torch.arange(size, device=device) + 0.5 for size in self.grid)
        y, x, z = (y / rows - 0.5)[:, None, None], (x / columns - 0.5)[None, :, None], (z / layers)[None, None, :]
        y, x, z = (axis.expand(self.grid).flatten() for axis in (y, x, z))
        if self.slots == 1:
            points = torch.stack((x + 0.5, y + 0.5), dim=-1)[:, None]
            return points.contiguous(), (z * self.sources).int()[:, None]
        turn = torch.atan2(y, x) / (2 * torch.pi) * self.slots  # in views
        camera = torch.arange(self.slots, device=device)
        u = (turn[:, None] - camera + self.slots / 2) % self.slots - self.slots / 2 + SEEN / 2
        v = (0.5 + (0.5 - z) * 0.2 / (x**2 + y**2).sqrt().clamp(min=0.05)).clamp(0.02, 0.98)
        u = u / SEEN
        points = torch.stack(torch.broadcast_tensors(u, v[:, None]), dim=-1)
        return points.contiguous(), torch.where((u > 0) & (u < 1), camera, -1).int()


ATTENTIONS = (
    Attention("Pano-small, cameras", LEVELS["Pano-small"], (50, 50, 16), sources=6, slots=6),
    Attention("Pano-base, cameras", LEVELS["Pano-base"], (100, 100, 16), sources=6, slots=6),
    Attention("Pano-small-4f, cameras", LEVELS["Pano-small-4f"], (50, 50, 16), sources=6, slots=6),
    Attention("Pano-small, voxels", ((50, 50),), (50, 50, 16), sources=1, slots=1, points=16),
    Attention("Pano-small-4f, history", ((50, 50), (50, 50)), (50, 50, 16), sources=1, slots=1, points=4),
    Attention("own layers", ((50, 50),), (50, 50, 16), sources=16, slots=1, points=16),
    Attention("nano, cameras", LEVELS["nano"], (32, 32, 8), sources=6, slots=6, points=4, heads=4, channels=16),
)


@dataclass(frozen=True)
class Convolution:
    """Sizes of one deformable 3x3 convolution, as many outputs as channels."""

    name: str
    channels: int
    rows: int
    columns: int
    images: int = 6

    def inputs(self, dtype: torch.dtype, device: torch.device | str) -> tuple[Tensor, ...]:
        """Input, offsets, masks and weight; channels last, offsets and masks of one tensor."""

        def last(*shape: int) -> Tensor:
            return torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)

        both = last(self.images, 27, self.rows, self.columns)
        x = last(self.images, self.channels, self.rows, self.columns).to(dtype)
        weight = last(self.channels, self.channels, 3, 3).to(dtype) / (3 * self.channels**0.5)
        return x, both[:, :18], both[:, 18:].sigmoid(), weight


CONVOLUTIONS = (
    Convolution("Pano-small, stage 3", 256, 27, 50),
    Convolution("Pano-small, stage 4", 512, 14, 25),
    Convolution("Pano-base, stage 3", 256, 54, 100),
    Convolution("Pano-base, stage 4", 512, 27, 50),
)
