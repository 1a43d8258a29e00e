"""View encoder: voxel queries gather image features where they project to (paper section 3.2)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import EncoderConfig, GridConfig
from ..ops.deform_attn import deform_attn
from ..ops.interpolation import ring_cells
from ..optics import Projections
from .attention import VoxelAttention
from .layers import Dense, Freezable, Linear, runs_in_blocks
from .queries import Position
from .sampling import Samples, in_blocks, joint


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Where the voxels' reference points appear in the images."""

    uv: Tensor  # float32 [camera, N, 2], in 0..1 over the padded image
    visible: Tensor  # bool [camera, N]


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """Every voxel with every camera, whether that sees it or not: shapes do not depend on what is seen."""

    uv: Tensor  # float32 [N, camera, 2]
    camera: Tensor  # int32 [N, camera], -1 where the camera does not see the voxel

    def of(self, rows: slice) -> "Sightings":
        """Those of some voxels."""
        return Sightings(self.uv[rows], self.camera[rows])


@dataclass(frozen=True, slots=True, eq=False)
class CameraTokens:
    """Feature maps of all cameras as lists of tokens, a ring of zeros around each map."""

    tokens: Tensor  # [camera, cell, C], levels one after the other, finest first
    shapes: tuple[tuple[int, int], ...]  # (rows, columns) of the levels

    @property
    def ring(self) -> Tensor:
        """Which cells, int64, are of the rings."""
        return ring_cells(self.shapes, self.tokens.device)


def project(points_m: Tensor, projections: Projections, image_hw: tuple[int, int]) -> Projection:
    """Project points [N, 3] of the network frame into images of one padded size."""
    uv, seen = projections.pixels(points_m)
    uv[..., 0] /= image_hw[1]
    uv[..., 1] /= image_hw[0]
    inside = (uv > 0).all(-1) & (uv < 1).all(-1)
    return Projection(uv, inside & seen)


def sightings(projection: Projection) -> Sightings:
    """The sightings of a projection."""
    seen = projection.visible.t()
    place = torch.arange(seen.shape[1], dtype=torch.int32, device=seen.device)
    return Sightings(projection.uv.transpose(0, 1).contiguous(), torch.where(seen, place, -1))


class CrossAttention(Freezable):
    """Every voxel attends to the cameras that see its reference point; the mean over those cameras is taken."""

    def __init__(self, embed: int, heads: int, points: int, levels: int):
        super().__init__()
        self.shape = (heads, levels, points)
        self.sampling_offsets = Linear(embed, heads * levels * points * 2)
        self.attention_weights = Linear(embed, heads * levels * points)
        self.value_proj = Linear(embed, embed)
        self.output_proj = Linear(embed, embed)

    @property
    def samples(self) -> int:
        """Of a voxel in a camera."""
        return math.prod(self.shape)

    def values(self, cameras: CameraTokens) -> Tensor:
        """What voxels may sample: bordered value maps [camera, cell, head, channel] of all levels."""
        return self.value_proj(cameras.tokens).index_fill_(1, cameras.ring, 0).unflatten(-1, (self.shape[0], -1))

    def forward(self, values: Tensor, shapes: tuple[tuple[int, int], ...], query: Tensor, seen: Sightings) -> Tensor:
        """Queries [n, C] of some voxels -> attended ones [n, C] with their residual.

        Args:
            values: from `values`; shapes: of the levels.
            seen: of these voxels.
        """
        samples = Samples((self._kept or joint(self.sampling_offsets, self.attention_weights))(query))
        heads, levels, points = self.shape
        weights = samples.weights(heads, levels * points).unflatten(-1, (levels, points))
        attended = deform_attn(values, shapes, seen.uv, samples.offsets(*self.shape), weights, seen.camera)
        return self.output_proj(attended, residual=query)

    def _made(self) -> Dense:
        return joint(self.sampling_offsets, self.attention_weights).frozen()


class FeedForward(nn.Sequential):
    """Two linear layers with a ReLU between, and the residual."""

    def __init__(self, embed: int, hidden: int):
        super().__init__(Linear(embed, hidden), nn.ReLU(), Linear(hidden, embed))

    def forward(self, x: Tensor) -> Tensor:
        return self[2](self[0](x, relu=True), residual=x)


class EncoderLayer(nn.Module):
    def __init__(self, config: EncoderConfig, grid: GridConfig, embed: int, heads: int, ffn: int, levels: int):
        super().__init__()
        self.self_attention = VoxelAttention(embed, heads, config.self_points, grid, config.self_memory)
        self.cross_attention = CrossAttention(embed, heads, config.cross_points, levels)
        self.ffn = FeedForward(embed, ffn)
        self.norms = nn.ModuleList(nn.LayerNorm(embed) for _ in range(3))

    def forward(self, query: Tensor, position: Position, cameras: CameraTokens, seen: Sightings) -> Tensor:
        """[N, C] -> [N, C], block by block of voxels: all that they have in common are the values that they sample."""
        own, images = self.self_attention.values(query), self.cross_attention.values(cameras)

        def of(rows: slice) -> Tensor:
            x = self.norms[0](self.self_attention(own, query, position, rows))
            x = self.norms[1](self.cross_attention(images, cameras.shapes, x, seen.of(rows)))
            return self.norms[2](self.ffn(x))

        if not runs_in_blocks(self.cross_attention, query):
            return of(slice(0, len(query)))
        samples = max(self.self_attention.samples, self.cross_attention.samples)
        return in_blocks(of, len(query), samples, len(position.layers))


class ViewEncoder(nn.Module):
    def __init__(
        self, config: EncoderConfig, grid: GridConfig, cameras: int, embed: int, heads: int, ffn: int, levels: int
    ):
        super().__init__()
        self.camera_embedding = nn.Parameter(torch.zeros(cameras, embed))
        self.level_embedding = nn.Parameter(torch.zeros(levels, embed))
        self.layers = nn.ModuleList(EncoderLayer(config, grid, embed, heads, ffn, levels) for _ in range(config.layers))

    def camera_tokens(self, pyramids: Iterable[list[Tensor]]) -> CameraTokens:
        """Feature maps [camera, C, row, column] of some cameras after the other -> tokens knowing camera and level."""
        tokens: Tensor | None = None
        shapes: tuple[tuple[int, int], ...] = ()
        done = 0
        for maps in pyramids:
            if tokens is None:
                shapes = tuple((level.shape[2], level.shape[3]) for level in maps)
                cells = sum((rows + 2) * (columns + 2) for rows, columns in shapes)
                tokens = maps[0].new_empty(len(self.camera_embedding), cells, maps[0].shape[1])
            cameras = slice(done, done + len(maps[0]))
            self._write(tokens[cameras], maps, self.camera_embedding[cameras])
            done = cameras.stop
        assert tokens is not None
        return CameraTokens(tokens.index_fill_(1, ring_cells(shapes, tokens.device), 0), shapes)

    def _write(self, tokens: Tensor, maps: list[Tensor], camera_embedding: Tensor) -> None:
        """Maps of some cameras into their tokens [camera, cell, C]."""
        begin = 0
        for level, embedding in zip(maps, self.level_embedding):
            rows, columns = level.shape[2] + 2, level.shape[3] + 2
            part = tokens.narrow(1, begin, rows * columns)  # not of a split, into which gradients do not flow
            cells = part.unflatten(1, (rows, columns))[:, 1:-1, 1:-1]
            cells.copy_(level.permute(0, 2, 3, 1)).add_((camera_embedding + embedding)[:, None, None])
            begin += rows * columns

    def forward(self, query: Tensor, position: Position, cameras: CameraTokens, projection: Projection) -> Tensor:
        """Voxel features [N, C] of this instant, not yet fused with history."""
        seen = sightings(projection)
        for layer in self.layers:
            query = layer(query, position, cameras, seen)
        return query
