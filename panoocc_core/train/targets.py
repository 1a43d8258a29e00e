"""What a network should have said: the ground truth of a frame as tensors in the network's grid, frame and classes."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import ModelConfig
from ..ground_truth import GroundTruth, TrueBoxes, TruePoints
from ..labels import BOX_CLASSES, LIDARSEG, LabelSet, counterparts
from ..models.network_frame import box_codes, moved_points, network_from_ego
from ..models.point_labels import cells_of
from ..stream import output_geometry
from ..voxels import token_count, token_index

NOT_A_THING, THING, UNLABELLED_THING = 0, 1, 2  # of a coarse voxel


@dataclass(frozen=True, slots=True, eq=False)
class BoxTargets:
    """True boxes of the classes that the network knows, n of them, possibly none."""

    codes: Tensor  # float32 [n, 10], as BoxPrediction.codes
    labels: Tensor  # int64 [n], index into BoxConfig.classes


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Targets of one frame; None where the truth or the network has no such thing."""

    voxel_classes: Tensor | None = None  # uint8 [X, Y, Z], dense truth in the network's classes
    camera_mask: Tensor | None = None  # bool [X, Y, Z]; None: every voxel counts as seen
    point_classes: Tensor | None = None  # uint8 [X, Y, Z], majority of the LiDAR points; the class count where none is
    thing_classes: Tensor | None = None  # uint8 [N], coarse voxels: THING, NOT_A_THING or UNLABELLED_THING
    boxes: BoxTargets | None = None


def make_targets(truth: GroundTruth, config: ModelConfig, device: torch.device | str) -> Targets:
    """Targets of a frame for a network: dense voxels or labelled points, and boxes.

    Raises:
        ValueError: the truth lacks what the network learns from, lies on another grid than the network's
            output, or has a class that the network does not know.
    """
    boxes = None
    if truth.boxes is not None and config.boxes.classes:
        boxes = box_targets(truth.boxes, config, device)
    if config.truth == "voxels":
        classes, mask = dense_targets(truth, config)
        return Targets(_tensor(classes, device), None if mask is None else _tensor(mask, device), boxes=boxes)
    if truth.points is None:
        raise ValueError(f"truth: {config.name} learns from labelled LiDAR points, and this frame has none")
    fine, coarse = point_targets(truth.points, config)
    return Targets(point_classes=_tensor(fine, device), thing_classes=_tensor(coarse, device), boxes=boxes)


def _tensor(values: NDArray, device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


def dense_targets(truth: GroundTruth, config: ModelConfig) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """True classes in the network's ids, and what a camera sees, both [X, Y, Z]; None: every voxel counts as seen.

    Raises:
        ValueError: see `make_targets`.
    """
    if truth.class_id is None or truth.geometry is None:
        raise ValueError(f"truth: {config.name} learns from dense voxels, and this frame has none")
    difference = truth.geometry.differs_from(output_geometry(config))
    if difference:
        raise ValueError(f"truth: its grid is not that of the output of {config.name}: {difference}")
    return renamed(truth.class_id, truth.labels, config), truth.camera_mask


def renamed(class_id: NDArray[np.uint8], labels: LabelSet, config: ModelConfig) -> NDArray[np.uint8]:
    """Ids of `labels` as ids of the network's classes, by their counterparts.

    Raises:
        ValueError: one of the ids is of no class that the network knows.
    """
    names = config.labels.names[: config.class_count]
    if names == labels.names and int(class_id.max(initial=0)) < len(names):
        return class_id
    unknown = 255
    table = np.full(256, unknown, np.uint8)
    for i, theirs in enumerate(counterparts(labels, config.labels)):
        if theirs is not None and theirs < len(names):
            table[i] = theirs
    renamed = table[class_id]
    strange = np.unique(class_id[renamed == unknown])
    if len(strange):
        k = int(strange[0])
        title = labels.names[k] if k < len(labels.names) else "unknown"
        raise ValueError(f"truth: class {k} ({title}) is not one of the classes of {config.name}: {', '.join(names)}")
    return renamed


def box_targets(boxes: TrueBoxes, config: ModelConfig, device: torch.device | str) -> BoxTargets:
    """Codes of the boxes whose class the network knows and whose centre lies in its x, y range."""
    names = config.boxes.classes
    table = np.array([names.index(name) if name in names else -1 for name in BOX_CLASSES])
    centre_m = moved_points(boxes.centre_m, network_from_ego(config.grid))
    low, high = np.array(config.grid.range_m[:2]), np.array(config.grid.range_m[3:5])
    inside = ((centre_m[:, :2] > low) & (centre_m[:, :2] < high)).all(axis=1)
    kept = np.flatnonzero(inside & (table[boxes.class_id] >= 0))
    codes = box_codes(boxes, config.grid)[kept]
    return BoxTargets(_tensor(codes, device), _tensor(table[boxes.class_id[kept]].astype(np.int64), device))


def point_targets(points: TruePoints, config: ModelConfig) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Majority class of the points in every fine voxel, uint8 [X, Y, Z], and thing labels of the coarse ones, [N].

    Voxels without points get the class count and UNLABELLED_THING; points outside the range are dropped.
    """
    grid, labels = config.grid, config.labels
    position_m = moved_points(points.position_m, network_from_ego(grid)).astype(np.float32)
    low, high = np.array(grid.range_m[:3], np.float32), np.array(grid.range_m[3:], np.float32)
    inside = ((position_m >= low) & (position_m < high)).all(axis=1)
    position = torch.from_numpy(position_m[inside])
    classes = renamed(points.class_id[inside], LIDARSEG, config)

    shape = config.output_shape_xyz
    fine = np.full(shape, config.class_count, np.uint8)
    cells_xyz = cells_of(position, grid, shape).numpy()
    voxels, winners = majority(np.ravel_multi_index(tuple(cells_xyz.T), shape), classes)
    fine.reshape(-1)[voxels] = winners

    coarse = np.full(token_count(grid), UNLABELLED_THING, np.uint8)
    coarse_cells = cells_of(position, grid, (grid.columns, grid.rows, grid.layers))
    tokens, winners = majority(token_index(coarse_cells, grid).numpy(), classes)
    coarse[tokens] = np.where(np.array(labels.is_thing)[winners], THING, NOT_A_THING)
    return fine, coarse


def majority(cells: NDArray[np.int64], classes: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The cells that occur, [m], and the most frequent class in each, [m]; of equally frequent ones the lowest."""
    keys, counts = np.unique(cells * 256 + classes, return_counts=True)
    cell, kind = keys // 256, (keys % 256).astype(np.uint8)
    order = np.lexsort((kind, -counts, cell))
    cell, kind = cell[order], kind[order]
    first = np.ones(len(cell), bool)
    first[1:] = cell[1:] != cell[:-1]
    return cell[first], kind[first]
