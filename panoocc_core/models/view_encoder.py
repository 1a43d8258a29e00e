"""View encoder: voxel queries gather image features where they project to (paper section 3.2)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import EncoderConfig, GridConfig
from ..ops.deform_attn import deform_attn
from ..ops.short_softmax import short_softmax
from ..optics import Projections
from .attention import VoxelAttention


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Where the voxels' reference points appear in the images."""

    uv: Tensor  # float32 [camera, N, 2], in 0..1 over the padded image
    visible: Tensor  # bool [camera, N]


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """Every voxel with every camera that sees it, voxel by voxel."""

    voxel: Tensor  # int64 [sighting]
    camera: Tensor  # int64 [sighting]
    uv: Tensor  # float32 [sighting, 2]
    begin: Tensor  # int64 [N], where the sightings of each voxel begin

    def mean(self, values: Tensor) -> Tensor:
        """[sighting, C] -> mean over the cameras that see each voxel [N, C]; zero where none does."""
        order = torch.arange(values.shape[0], device=values.device)
        return functional.embedding_bag(order, values, self.begin, mode="mean")


@dataclass(frozen=True, slots=True, eq=False)
class CameraTokens:
    """Feature maps of all cameras as one list of tokens."""

    tokens: Tensor  # [camera, token, C], levels one after the other, finest first
    shapes: tuple[tuple[int, int], ...]  # (rows, columns) of the levels


def project(points_m: Tensor, projections: Projections, image_hw: tuple[int, int]) -> Projection:
    """Project points [N, 3] of the network frame into images of one padded size."""
    uv, seen = projections.pixels(points_m)
    uv[..., 0] /= image_hw[1]
    uv[..., 1] /= image_hw[0]
    inside = (uv > 0).all(-1) & (uv < 1).all(-1)
    return Projection(uv, inside & seen)


def sightings(projection: Projection) -> Sightings:
    """The sightings of a projection."""
    voxel, camera = projection.visible.t().nonzero().unbind(1)
    count = projection.visible.sum(0)
    return Sightings(voxel, camera, projection.uv[camera, voxel], count.cumsum(0) - count)


class CrossAttention(nn.Module):
    """Every voxel attends to the cameras that see its reference point; the mean over those cameras is taken."""

    def __init__(self, embed: int, heads: int, points: int, levels: int):
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(embed, heads * levels * points * 2)
        self.attention_weights = nn.Linear(embed, heads * levels * points)
        self.value_proj = nn.Linear(embed, embed)
        self.output_proj = nn.Linear(embed, embed)

    def forward(self, query: Tensor, cameras: CameraTokens, seen: Sightings) -> Tensor:
        """[N, C] -> attended query [N, C] with its residual."""
        values = self.value_proj(cameras.tokens).unflatten(-1, (self.heads, -1))
        shape = (self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(query).float().unflatten(-1, (*shape, 2))
        weights = short_softmax(self.attention_weights(query).float().unflatten(-1, (self.heads, -1)))
        attended = deform_attn(
            values, cameras.shapes, seen.uv, offsets, weights.unflatten(-1, shape[1:]), seen.voxel, seen.camera
        )
        return self.output_proj(seen.mean(attended)) + query


class FeedForward(nn.Sequential):
    """Two linear layers with a ReLU between, and the residual."""

    def __init__(self, embed: int, hidden: int):
        super().__init__(nn.Linear(embed, hidden), nn.ReLU(), nn.Linear(hidden, embed))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x


class EncoderLayer(nn.Module):
    def __init__(self, config: EncoderConfig, grid: GridConfig, embed: int, heads: int, ffn: int, levels: int):
        super().__init__()
        self.self_attention = VoxelAttention(embed, heads, config.self_points, grid, config.self_memory)
        self.cross_attention = CrossAttention(embed, heads, config.cross_points, levels)
        self.ffn = FeedForward(embed, ffn)
        self.norms = nn.ModuleList(nn.LayerNorm(embed) for _ in range(3))

    def forward(self, query: Tensor, position: Tensor, cameras: CameraTokens, seen: Sightings) -> Tensor:
        query = self.norms[0](self.self_attention(query, position))
        query = self.norms[1](self.cross_attention(query, cameras, seen))
        return self.norms[2](self.ffn(query))


class ViewEncoder(nn.Module):
    def __init__(
        self, config: EncoderConfig, grid: GridConfig, cameras: int, embed: int, heads: int, ffn: int, levels: int
    ):
        super().__init__()
        self.camera_embedding = nn.Parameter(torch.zeros(cameras, embed))
        self.level_embedding = nn.Parameter(torch.zeros(levels, embed))
        self.layers = nn.ModuleList(EncoderLayer(config, grid, embed, heads, ffn, levels) for _ in range(config.layers))

    def camera_tokens(self, maps: list[Tensor]) -> CameraTokens:
        """Feature maps [camera, C, row, column] -> tokens that know their camera and level."""
        tokens = [
            level.flatten(2).transpose(1, 2) + self.camera_embedding[:, None] + embedding
            for level, embedding in zip(maps, self.level_embedding, strict=True)
        ]
        return CameraTokens(torch.cat(tokens, dim=1), tuple((level.shape[2], level.shape[3]) for level in maps))

    def forward(self, query: Tensor, position: Tensor, maps: list[Tensor], projection: Projection) -> Tensor:
        """Voxel features [N, C] of this instant, not yet fused with history."""
        cameras, seen = self.camera_tokens(maps), sightings(projection)
        for layer in self.layers:
            query = layer(query, position, cameras, seen)
        return query
