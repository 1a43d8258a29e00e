"""Class and instance of points, such as a LiDAR's: read from the logits by the published rule, and from the boxes."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import ModelConfig
from ..labels import LIDARSEG
from ..models.network_frame import moved_points, network_from_ego
from ..models.point_labels import point_labels
from ..network import Network, VoxelLogits
from ..types import Frame, ScoredBoxes
from .fusion import claimed
from .tracks import Tracks, follow


@dataclass(frozen=True, slots=True, eq=False)
class PointThings:
    """What p points are of."""

    class_id: NDArray[np.uint8]  # [p], ids of labels.LIDARSEG
    instance_id: NDArray[np.int32]  # [p], numbers of tracks; 0 where no box claims a point
    tracks: Tracks  # after the frame


def classes_at_points(logits: VoxelLogits, position_m: NDArray[np.float32], config: ModelConfig) -> NDArray[np.uint8]:
    """Class [p] that the volume gives to each point [p, 3] of the ego frame."""
    there_m = moved_points(position_m, network_from_ego(config.grid)).astype(np.float32)
    position = torch.as_tensor(there_m, device=logits.classes.device)
    return point_labels(logits.classes, position, config.grid, config.points).cpu().numpy()


def things_at_points(
    network: Network,
    fused: Tensor,
    position_m: NDArray[np.float32],
    boxes: ScoredBoxes | None,
    tracks: Tracks,
    frame: Frame,
    config: ModelConfig,
) -> PointThings:
    """Classes and instances of the points [p, 3] of a frame, in the ego frame.

    Args:
        fused: voxel features [N, C] of a network that learns from points.
        boxes: all of the frame; None: no instances.
        tracks: of the frames before.
        config: the network's, with the frame that its voxels lie in.
    """
    class_id = classes_at_points(network.decode(fused), position_m, config)
    if boxes is None:
        return PointThings(class_id, np.zeros(len(class_id), np.int32), tracks)
    claims = claimed(position_m, class_id, boxes, LIDARSEG, config.panoptic)
    kept = boxes.select(claims.kept)
    tracks, kept = follow(tracks, kept, frame.stamp_ns, frame.world_from_ego, config.tracking, know_velocity=True)
    assert kept.instance_id is not None
    number = np.concatenate(([0], kept.instance_id)).astype(np.int32)
    return PointThings(claims.class_id, number[claims.box], tracks)
