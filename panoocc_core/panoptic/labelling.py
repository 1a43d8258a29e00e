"""Class, instance and confidence of any points around the vehicle, read from an occupancy.

A point takes what its voxel has, by the published rounding (`models/point_labels.py`).  Of a network that learns from
LiDAR points the class is that of its logits, where they were kept: its voxels are free where no class is sure, but
where a point is, something is.  Where boxes tell things apart they claim the points themselves; a thing's points that
none claims take the instance of their voxel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import PanopticConfig, PointConfig
from ..geometry import Matrix
from ..models.point_labels import cells_at, logits_at, read_cells
from ..network import NonFiniteError
from ..types import GridGeometry, Occupancy
from .fusion import claimed

Outside = Literal["unknown", "clamp"]
UNKNOWN = 255  # class id of points of which nothing can be said


@dataclass(frozen=True, slots=True, eq=False)
class PointRules:
    """How points are labelled.

    `outside` is for points beyond the grid: they are unknown, or take the border voxel as the published metric has it
    (then a point far away may become a car).
    """

    outside: Outside = "unknown"
    points: PointConfig = PointConfig()
    panoptic: PanopticConfig = PanopticConfig()


@dataclass(frozen=True, slots=True, eq=False)
class PointLabels:
    """What p points are of."""

    class_id: NDArray[np.uint8]  # [p]; UNKNOWN for those that are not finite, or outside of the grid
    instance_id: NDArray[np.uint16]  # [p], as in Occupancy.instance_id
    confidence: NDArray[np.uint8]  # [p], 255 * probability of class_id; 0 where that is UNKNOWN

    @property
    def unknown(self) -> int:
        """How many points nothing can be said of."""
        return int((self.class_id == UNKNOWN).sum())


def label_points(
    position_m: NDArray[np.floating], ego_from_points: Matrix, occupancy: Occupancy, rules: PointRules = PointRules()
) -> PointLabels:
    """Labels of points [p, 3] of any frame.

    Args:
        ego_from_points: [4, 4], from that frame at the time of the points to the ego frame at the occupancy's stamp.

    Raises:
        ValueError: the positions are not [p, 3].
        NonFiniteError: a logit at a point is not finite.
    """
    if position_m.ndim != 2 or position_m.shape[1] != 3:
        raise ValueError(f"points must be [p, 3], not {position_m.shape}")
    with np.errstate(invalid="ignore"):
        in_ego_m = _turned(position_m, ego_from_points[:3, :3]) + ego_from_points[:3, 3]
    known = np.asarray(np.isfinite(in_ego_m).all(axis=1))
    points_m, voxels, inside = _placed(in_ego_m[known], occupancy.geometry, occupancy.geometry.shape_xyz)
    if rules.outside == "unknown":
        known[np.flatnonzero(known)[~inside]] = False
        points_m, voxels = points_m[inside], voxels[inside]
    if occupancy.logits is None:
        class_id, confidence = _of_voxels(occupancy, voxels)
    else:
        class_id, confidence = classes_at(occupancy.logits, occupancy.geometry, points_m, rules.points)
    class_id, instance_id = _things(occupancy, points_m, voxels, class_id, rules.panoptic)
    return PointLabels(
        _spread(class_id, known, UNKNOWN),
        _spread(instance_id.astype(np.uint16), known, 0),
        _spread(confidence, known, 0),
    )


def classes_at(
    logits: Tensor, geometry: GridGeometry, in_ego_m: NDArray[np.floating], rule: PointConfig
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Of logits [X, Y, Z, class] the best class at points [p, 3] of the ego frame, and 255 * its probability: [p].

    The points are finite; beyond the grid they take the border cells.

    Raises:
        NonFiniteError: a logit there is not finite.
    """
    _, cells, _ = _placed(in_ego_m, geometry, read_cells(rule, logits.shape[:3]))
    best, class_id = logits_at(logits, cells.to(logits.device), rule).max(-1)
    if not torch.isfinite(best).all():
        raise NonFiniteError("the class logits at points are not finite; the memory or an image is broken")
    confidence = (best.float().sigmoid() * 255).round()
    return class_id.to(torch.uint8).cpu().numpy(), confidence.to(torch.uint8).cpu().numpy()


def _placed(
    in_ego_m: NDArray[np.floating], geometry: GridGeometry, cells_xyz: Sequence[int]
) -> tuple[NDArray[np.floating], Tensor, NDArray[np.bool_]]:
    """The points, their cells [p, 3] when the grid is divided into so many, and whether they lie in it."""
    turn, corner_m = geometry.ego_from_grid[:3, :3], geometry.ego_from_grid[:3, 3]
    size_m = [size * count / cells for size, count, cells in zip(geometry.voxel_size_m, geometry.shape_xyz, cells_xyz)]
    # Along the grid's axes, not from its corner: the subtraction, too, is the published one, in float32.
    along_m = torch.from_numpy(_turned(in_ego_m, turn.T).astype(np.float32))
    cells, inside = cells_at(along_m, (corner_m @ turn).tolist(), size_m, cells_xyz)
    return in_ego_m, cells, inside.numpy()


def _turned(position_m: NDArray[np.floating], target_from_source: Matrix) -> NDArray[np.float64]:
    """Points [p, 3] turned by [3, 3], without the threads that a matrix product would wake for so little."""
    return np.einsum("pi,ji->pj", position_m, target_from_source, dtype=np.float64)


def _of_voxels(occupancy: Occupancy, voxels: Tensor) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    class_id = _at(occupancy.class_id, voxels)
    confidence = np.full_like(class_id, 255) if occupancy.confidence is None else _at(occupancy.confidence, voxels)
    return class_id, confidence


def _things(
    occupancy: Occupancy,
    points_m: NDArray[np.floating],
    voxels: Tensor,
    class_id: NDArray[np.uint8],
    rules: PanopticConfig,
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Classes, which boxes may have refined, and instances [p]."""
    if occupancy.instance_id is None:
        return class_id, np.zeros(len(class_id), np.int32)
    is_thing = np.append(np.array(occupancy.labels.is_thing), False)
    is_of_voxel = is_thing[class_id] & (_at(occupancy.class_id, voxels) == class_id)  # logits may see another thing
    of_voxel = np.where(is_of_voxel, _at(occupancy.instance_id, voxels), 0)
    boxes = occupancy.boxes
    if occupancy.instances != "boxes" or boxes is None or boxes.instance_id is None:
        return class_id, of_voxel
    margin_m = [rules.margin_voxels * size for size in occupancy.geometry.voxel_size_m]
    # Whether a box is one at all was decided on the voxels.
    claims = claimed(points_m, class_id, boxes, occupancy.labels, replace(rules, min_voxels=1), margin_m)
    number = np.concatenate(([0], boxes.instance_id[claims.kept]))[claims.box]
    return claims.class_id, np.where(claims.box > 0, number, of_voxel)


def _at(volume: Tensor, voxels: Tensor) -> NDArray[Any]:
    x, y, z = voxels.to(volume.device).unbind(-1)
    return volume[x, y, z].cpu().numpy()


def _spread(values: NDArray[Any], known: NDArray[np.bool_], otherwise: int) -> NDArray[Any]:
    out = np.full(len(known), otherwise, values.dtype)
    out[known] = values
    return out
