"""PanoOcc as the stages that `stream.encode` calls in turn."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..base.constants import Constant
from ..config import ModelConfig, ResNetConfig
from ..network import Network, VoxelLogits
from ..optics import Projections
from ..step import BoxPrediction
from ..voxels import reference_points_m
from .box_head import BoxHead, NoBoxes, bev_map
from .internimage import InternImage
from .layers import runs_in_blocks
from .neck import FeaturePyramid
from .queries import VoxelQueries
from .resnet import ResNet
from .sparse_decoder import build_decoder
from .temporal import build_fusion
from .view_encoder import CameraTokens, Projection, ViewEncoder, project

# Of images, on a CPU: all of small networks, as small products are slow; of large ones a few, as maps are large.
PIXELS_AT_ONCE = 3_000_000


class PanoOcc(Network):
    """Camera-only 3-D occupancy (Wang et al., CVPR 2024, arXiv 2306.10013)."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        backbone = config.backbone
        self.backbone = ResNet(backbone) if isinstance(backbone, ResNetConfig) else InternImage(backbone)
        self.neck = FeaturePyramid(backbone.output_channels, config.embed, config.levels)
        self.queries = VoxelQueries(config.grid, config.embed)
        self.encoder = ViewEncoder(
            config.encoder, config.grid, len(config.cameras), config.embed, config.heads, config.ffn, config.levels
        )
        self.fusion = build_fusion(config)
        self.decoder = build_decoder(config)
        self.boxes = BoxHead(config) if config.boxes.classes else NoBoxes()
        points = reference_points_m(config.grid, config.encoder.reference_heights)
        self.reference_points_m = Constant(torch.as_tensor(points, dtype=torch.float32))  # [N, 3], network frame

    def project(self, projections: Projections) -> Projection:
        """Where the voxels appear in the padded images."""
        return project(self.reference_points_m.value, projections, self.config.images.padded_hw)

    def cameras_per_voxel(self, projections: Projections) -> Tensor:
        """How many cameras see each voxel, float32 [N]."""
        return self.project(projections).visible.float().sum(0)

    def encode_images(self, images: Tensor) -> CameraTokens:
        """The feature pyramid of all cameras."""
        images = images.to(self.dtype, memory_format=torch.channels_last)
        return self.encoder.camera_tokens(self.neck(self.backbone(part)) for part in self._parts(images))

    def _parts(self, images: Tensor) -> Sequence[Tensor]:
        """Images whose maps lie in memory at one time."""
        if not runs_in_blocks(self.neck, images):
            return [images]
        return images.split(max(1, PIXELS_AT_ONCE // math.prod(images.shape[2:])))

    def encode_voxels(self, features: CameraTokens, projections: Projections, ego_motion: Tensor) -> Tensor:
        projection = self.project(projections)
        return self.encoder(self.queries(ego_motion), self.queries.position(), features, projection)

    def fuse(self, states: Sequence[Tensor], motions: Tensor, current: Tensor) -> Tensor:
        return self.fusion(states, motions, current, self.queries.position())

    def state(self, current: Tensor, fused: Tensor) -> Tensor:
        return current if self.config.temporal.kind == "concat" else fused

    def decode(self, fused: Tensor) -> VoxelLogits:
        return self.decoder(fused)

    def occupancy(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        return self.decoder.occupancy(fused, self.config.labels.free_id)

    def box_map(self, fused: Tensor) -> Tensor:
        return bev_map(fused, self.decoder.thing_logits(fused), self.config.grid)

    def boxes_in(self, box_map: Tensor) -> BoxPrediction:
        return self.boxes(box_map)

    @property
    def classifier(self) -> nn.Linear:
        layer = self.decoder.mlp[-1]
        assert isinstance(layer, nn.Linear)
        return layer
