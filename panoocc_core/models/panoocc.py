"""The whole network as five stages that `stream.advance` calls in turn."""

import torch
from torch import Tensor, nn

from ..config import ModelConfig, ResNetConfig
from ..voxels import reference_points_m
from .box_head import BoxHead, BoxPrediction, bev_map
from .internimage import InternImage
from .neck import FeaturePyramid
from .queries import VoxelQueries
from .resnet import ResNet
from .temporal import build_fusion
from .view_encoder import Projection, ViewEncoder, project
from .voxel_decoder import VoxelDecoder, VoxelLogits


class PanoOcc(nn.Module):
    """Camera-only 3-D occupancy (Wang et al., CVPR 2024, arXiv 2306.10013), without state: history comes in aligned."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        backbone = config.backbone
        self.backbone = ResNet(backbone) if isinstance(backbone, ResNetConfig) else InternImage(backbone)
        self.neck = FeaturePyramid(backbone.output_channels, config.embed, config.levels)
        self.queries = VoxelQueries(config.grid, config.embed)
        self.encoder = ViewEncoder(
            config.encoder, config.grid, len(config.cameras), config.embed, config.heads, config.ffn, config.levels
        )
        self.fusion = build_fusion(config)
        self.decoder = VoxelDecoder(config)
        self.boxes = BoxHead(config)
        points = reference_points_m(config.grid, config.encoder.reference_heights)
        # Coordinates stay in float32 when the weights are cast, so this is no buffer; `reference_points` moves it.
        self._reference_points = torch.as_tensor(points, dtype=torch.float32)

    @property
    def device(self) -> torch.device:
        return self.queries.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and features; coordinates are float32 always."""
        return self.queries.embedding.weight.dtype

    def reference_points(self) -> Tensor:
        """float32 [N, 3] (x, y, z) in the network frame, on the network's device."""
        if self._reference_points.device != self.device:
            self._reference_points = self._reference_points.to(self.device)
        return self._reference_points

    def project(self, image_from_network: Tensor) -> Projection:
        """Where the voxels appear; float32 [camera, 3, 4] into the padded images."""
        return project(self.reference_points(), image_from_network, self.config.images.padded_hw)

    def encode_images(self, images: Tensor) -> list[Tensor]:
        """[camera, 3, row, column], normalised and padded -> feature pyramid, finest first."""
        return self.neck(self.backbone(images.to(self.dtype, memory_format=torch.channels_last)))

    def encode_voxels(self, maps: list[Tensor], projection: Projection, ego_motion: Tensor) -> Tensor:
        """Feature pyramid, projection and ego-motion vector [18] -> unfused voxel features [N, C]."""
        return self.encoder(self.queries(ego_motion), self.queries.position(), maps, projection)

    def fuse(self, history: list[Tensor], current: Tensor) -> Tensor:
        """Aligned volumes [N, C], oldest first, and the current one -> fused [N, C]."""
        return self.fusion(history, current, self.queries.position())

    def decode(self, fused: Tensor) -> VoxelLogits:
        """Fused voxel features [N, C] -> logits on the output grid."""
        return self.decoder(fused)

    def occupancy(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Fused voxel features [N, C] -> class and probability of every voxel, uint8 and float32 [X, Y, Z]."""
        return self.decoder.occupancy(fused, self.config.labels.free_id)

    def detect(self, fused: Tensor, logits: VoxelLogits) -> BoxPrediction:
        """Fused voxel features [N, C] -> boxes of every decoder layer."""
        return self.boxes(bev_map(fused, logits.things, self.config.grid))
