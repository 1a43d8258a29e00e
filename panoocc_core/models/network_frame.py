"""Points and boxes between the ego frame and a network's own, in the network's convention of boxes.

The published networks predict the boxes of early mmdetection3d: width before length, and a yaw that runs clockwise from
-y.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ..config import GridConfig, ModelConfig
from ..geometry import Matrix, invert
from ..ground_truth import TrueBoxes
from ..labels import BOX_CLASSES
from ..types import ScoredBoxes
from .box_head import Boxes

SIZE_LIMITS_M = (1e-3, 1e3)  # of a box: untrained networks predict logarithms of anything


def network_from_ego(grid: GridConfig) -> Matrix:
    """Pose [4, 4] that maps ego coordinates to the network's."""
    return invert(grid.ego_from_network.matrix)


def moved_points(position_m: NDArray[np.floating], target_from_source: Matrix) -> NDArray[np.float64]:
    """Points [n, 3] of the source frame in the target frame."""
    return position_m.astype(np.float64) @ target_from_source[:3, :3].T + target_from_source[:3, 3]


def turned(vectors: NDArray[np.floating], target_from_source: Matrix) -> NDArray[np.float64]:
    """Horizontal vectors [n, 2] of the source frame, seen along the target frame's x and y, which may be tilted."""
    return vectors.astype(np.float64) @ target_from_source[:2, :2].T


def turned_yaw_rad(yaw_rad: NDArray[np.floating], target_from_source: Matrix) -> NDArray[np.float64]:
    """Headings [n], counter-clockwise from x, of the source frame in the target frame."""
    x, y = turned(np.stack((np.cos(yaw_rad), np.sin(yaw_rad)), axis=-1), target_from_source).T
    return np.arctan2(y, x)


def legacy_yaw_rad(yaw_rad: NDArray[np.floating]) -> NDArray[np.floating]:
    """Heading (counter-clockwise from x) to the yaw of the network's boxes and back: the same formula both ways."""
    return -yaw_rad - math.pi / 2


def box_codes(boxes: TrueBoxes, grid: GridConfig) -> NDArray[np.float32]:
    """Codes [n, 10] (cx, cy, log w, log l, cz, log h, sin yaw, cos yaw, vx, vy) in the network frame, not scaled.

    A velocity that is not known is 0.
    """
    pose = network_from_ego(grid)
    x, y, z = moved_points(boxes.centre_m, pose).T
    log_length, log_width, log_height = np.log(boxes.size_m.astype(np.float64)).T
    yaw = legacy_yaw_rad(turned_yaw_rad(boxes.yaw_rad, pose))
    vx, vy = turned(np.nan_to_num(boxes.velocity_mps), pose).T
    columns = (x, y, log_width, log_length, z, log_height, np.sin(yaw), np.cos(yaw), vx, vy)
    return np.stack(columns, axis=1).astype(np.float32)


def ego_boxes(found: Boxes, config: ModelConfig) -> ScoredBoxes:
    """Boxes of the network's frame and convention in the ego frame: the way back from `box_codes`."""
    boxes = found.boxes.double().cpu().numpy()
    pose = config.grid.ego_from_network.matrix
    kinds = np.array([BOX_CLASSES.index(name) for name in config.boxes.classes], np.int64)
    return ScoredBoxes(
        centre_m=moved_points(boxes[:, :3], pose).astype(np.float32),
        size_m=np.clip(boxes[:, [4, 3, 5]], *SIZE_LIMITS_M).astype(np.float32),  # w, l, h -> length, width, height
        yaw_rad=turned_yaw_rad(legacy_yaw_rad(boxes[:, 6]), pose).astype(np.float32),
        velocity_mps=turned(boxes[:, 7:9], pose).astype(np.float32),
        class_id=kinds[found.labels.cpu().numpy()],
        score=found.scores.float().cpu().numpy(),
    )
