"""The things of one frame: voxels that belong together, and a box for each."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import ModelConfig
from ..labels import InstanceSource
from ..models.box_head import decode_boxes
from ..models.network_frame import ego_boxes
from ..network import NonFiniteError
from ..step import BoxPrediction
from ..types import GridGeometry, ScoredBoxes
from .components import MAX_INSTANCES, boxes_around, connected_instances
from .fusion import claimed


@dataclass(frozen=True, slots=True, eq=False)
class Things:
    """Instances of a class volume, not yet followed from frame to frame."""

    class_id: Tensor  # uint8 [X, Y, Z], changed where boxes refined it
    indices: NDArray[np.int64]  # [v, 3], voxels (x, y, z) that belong to an instance
    owner: NDArray[np.int32]  # [v], 1 + the row of their box
    boxes: ScoredBoxes
    source: InstanceSource

    def numbered(self, number: NDArray[np.int32]) -> Tensor:
        """Instance ids, int32 [X, Y, Z], on the CPU, with the numbers [n] of the boxes; 0 elsewhere."""
        instance_id = np.zeros(self.class_id.shape, np.int32)
        instance_id[tuple(self.indices.T)] = number[self.owner - 1]
        return torch.from_numpy(instance_id)


def detected_boxes(prediction: BoxPrediction, config: ModelConfig) -> ScoredBoxes:
    """All boxes [n] of the box branch in the ego frame, without a threshold.

    Raises:
        NonFiniteError: one is not finite.
    """
    last = BoxPrediction(prediction.class_logits[-1:].cpu(), prediction.codes[-1:].cpu())
    if not torch.isfinite(last.class_logits.sum() + last.codes.sum()):
        raise NonFiniteError("the boxes are not finite; the memory or an image is broken")
    return ego_boxes(decode_boxes(last, config.boxes), config)


def find_things(
    detected: ScoredBoxes | None, class_id: Tensor, confidence: Tensor, geometry: GridGeometry, config: ModelConfig
) -> Things | None:
    """The things in a volume of classes [X, Y, Z] by the source that the configuration names; None for none.

    Args:
        detected: all boxes of the frame, where boxes are the source.
        config: the network's, with the frame that its voxels lie in.
    """
    if detected is not None:
        return from_boxes(detected, class_id, geometry, config)
    if config.panoptic.instances == "components":
        return from_components(class_id, confidence, geometry, config)
    return None


def from_boxes(boxes: ScoredBoxes, class_id: Tensor, geometry: GridGeometry, config: ModelConfig) -> Things:
    """Boxes joined with the classes of the voxels; see `fusion`."""
    classes = class_id.cpu().numpy()
    indices = np.argwhere(np.array(config.labels.is_thing)[classes])
    kinds = classes[tuple(indices.T)]
    margin_m = [config.panoptic.margin_voxels * size for size in geometry.voxel_size_m]
    claims = claimed(geometry.centres_m(indices), kinds, boxes, config.labels, config.panoptic, margin_m)
    if (claims.class_id != kinds).any():
        classes = classes.copy()
        classes[tuple(indices.T)] = claims.class_id
        class_id = torch.from_numpy(classes).to(class_id.device)
    owned = claims.box > 0
    return Things(class_id, indices[owned], claims.box[owned], boxes.select(claims.kept), "boxes")


def from_components(class_id: Tensor, confidence: Tensor, geometry: GridGeometry, config: ModelConfig) -> Things:
    """Connected voxels of one class; see `components`."""
    classes = class_id.cpu().numpy()
    instance_id = connected_instances(classes, config.labels)
    indices = np.argwhere(instance_id)
    places = tuple(indices.T)
    owner = instance_id[places]
    size = np.bincount(owner)
    size[np.argsort(-size, kind="stable")[MAX_INSTANCES:]] = 0
    large = size[owner] >= config.panoptic.min_voxels
    indices, places = indices[large], tuple(indices[large].T)
    owner = np.unique(owner[large], return_inverse=True)[1].astype(np.int32) + 1
    boxes = boxes_around(indices, owner, classes[places], confidence.cpu().numpy()[places], geometry, config.labels)
    return Things(class_id, indices, owner, boxes, "components")
