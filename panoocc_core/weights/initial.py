"""Where training starts: weights of a network that nothing has been learned by yet."""

import math

import torch
from torch import Tensor, nn

from ..config import GridConfig
from ..models.attention import SLOTS, VoxelAttention
from ..models.box_head import BevAttention, BoxHead
from ..models.internimage import DeformableAggregation
from ..models.queries import VoxelQueries
from ..models.resnet import DeformConv2d
from ..models.view_encoder import CrossAttention, ViewEncoder
from ..models.voxel_decoder import OccupancyGate
from ..network import Network
from ..voxels import centres_m, extent_m

RARE = 0.01  # probability that heads of rare events start with (arXiv 1708.02002)


def initialise(model: Network, seed: int) -> None:
    """Set every parameter anew, the same for the same seed."""
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        with torch.no_grad():
            for module in model.modules():
                _reset(module)
            for module in model.modules():
                _sampling(module)
            for module in model.modules():
                _place(module)
            for module in model.modules():
                _own_weights(module)


def _reset(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, mode="fan_in" if isinstance(module, nn.ConvTranspose3d) else "fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm)):
        module.reset_parameters()
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight)


def _own_weights(module: nn.Module) -> None:
    """Weights that stand in no layer of their own."""
    if isinstance(module, nn.MultiheadAttention):  # query, key and value in one matrix
        nn.init.xavier_uniform_(module.in_proj_weight)
        nn.init.zeros_(module.in_proj_bias)
    elif isinstance(module, DeformConv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")


def _sampling(module: nn.Module) -> None:
    """Deformable attention starts by looking evenly in all directions, farther with every point (arXiv 2010.04159)."""
    if isinstance(module, CrossAttention):
        _ring(module.sampling_offsets, *module.shape)
    elif isinstance(module, VoxelAttention):
        points = module.sampling_offsets.out_features // (2 * SLOTS * module.heads)
        _ring(module.sampling_offsets, module.heads, SLOTS, points)
    elif isinstance(module, BevAttention):
        _ring(module.sampling_offsets, module.heads, 1, module.points)
    elif isinstance(module, DeformableAggregation):  # starts at the plain kernel's places (arXiv 2211.05778)
        nn.init.zeros_(module.sampling_offsets.weight)
    elif isinstance(module, DeformConv2d):  # starts as half a plain convolution (arXiv 1811.11168)
        nn.init.zeros_(module.conv_offset.weight)
        return
    else:
        return
    nn.init.zeros_(module.attention_weights.weight)


def _ring(offsets: nn.Linear, heads: int, levels: int, points: int) -> None:
    angle = torch.arange(heads) * (2 * math.pi / heads)
    direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
    direction = direction / direction.abs().amax(dim=-1, keepdim=True)  # to the border of a square
    steps = torch.arange(points) + (0.0 if points > 1 else 0.5)  # the first of several points is the place itself
    ring = direction[:, None, None] * steps[:, None]  # [head, 1, point, 2]
    nn.init.zeros_(offsets.weight)
    offsets.bias.copy_(ring.expand(heads, levels, points, 2).flatten())


def place_features(grid: GridConfig, channels: int) -> Tensor:
    """Waves over x, y, z, bearing and range of the voxel centres, of unit variance: float32 [N, channels]."""
    points = torch.as_tensor(centres_m(grid), dtype=torch.float64)
    low, size = points.new_tensor(grid.range_m[:3]), points.new_tensor(extent_m(grid))
    x, y, z = ((points - low) / size * 2 - 1).unbind(-1)  # -1..1
    reach = torch.hypot(points[:, 0], points[:, 1])
    bearing = torch.atan2(points[:, 1], points[:, 0]) / math.pi
    nearness = torch.log(reach.clamp(min=1.0)) / math.log(max(size[:2].max().item(), 2.0))
    waves: list[Tensor] = []
    octave = 0
    while len(waves) < channels:
        for value in (x, y, z, bearing, nearness):
            turn = value * (math.pi * (octave + 1) / 2 if value is not bearing else math.pi * (octave + 1))
            waves += [turn.sin(), turn.cos()]
        octave += 1
    features = torch.stack(waves[:channels], dim=-1)
    features = (features - features.mean(0)) / features.std(0).clamp(min=1e-3)
    return features.float()


def _place(module: nn.Module) -> None:
    """Queries start as smooth functions of the place, so that neighbours learn from each other; rare events as rare."""
    if isinstance(module, VoxelQueries):
        channels = module.embedding.weight.shape[1]
        module.embedding.weight.copy_(place_features(module.grid, channels))
        for embedding in (module.row, module.column, module.layer):
            embedding.weight.mul_(3**-0.5)  # three are added
    elif isinstance(module, ViewEncoder):
        nn.init.normal_(module.camera_embedding, std=0.1)
        nn.init.normal_(module.level_embedding, std=0.1)
    elif isinstance(module, OccupancyGate) and module.bias is not None:
        nn.init.zeros_(module.bias)
    elif isinstance(module, BoxHead):
        last = module.class_branch[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias, -math.log((1 - RARE) / RARE))
        nn.init.xavier_uniform_(module.reference_points.weight)  # box queries start all over the grid
        nn.init.zeros_(module.reference_points.bias)
