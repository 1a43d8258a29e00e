"""The terms of the training loss of one frame, weighted: their sum is the loss."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from ..config import ModelConfig
from ..network import StageOccupancy, VoxelLogits
from ..step import BoxPrediction
from ..voxels import grid_to_rows
from .loss_config import LossConfig
from .losses import cross_entropy_sum, focal_sum, full_precision
from .lovasz import lovasz_softmax
from .matching import Match, match_boxes
from .targets import UNLABELLED_THING, BoxTargets, Targets

Reduce = Callable[[Tensor], Tensor]
Terms = dict[str, Tensor]
T = TypeVar("T")


def loss_terms(
    logits: VoxelLogits,
    boxes: BoxPrediction | None,
    targets: Targets,
    config: LossConfig,
    model_config: ModelConfig,
    reduce: Reduce | None = None,
) -> Terms:
    """Scalars by name, those of the boxes with their decoder layer, "box_class.2"; terms of weight 0 are left out.

    Args:
        boxes: may be None where no box term is used.
        reduce: mean over the processes of the number of matched boxes, by which the box terms are divided.

    Raises:
        ValueError: a term lacks its logits or targets, or their shapes differ.
    """
    terms = {**_dense_terms(logits, targets, config, model_config), **_point_terms(logits, targets, config)}
    if config.sparse_focal:
        stages = _needed(logits.stages or None, "sparse_focal", "a network with occupancy heads")
        occupied = occupied_voxels(targets, model_config)
        total = torch.stack([_stage_loss(stage, occupied) for stage in stages]).sum()
        terms["sparse_focal"] = config.sparse_focal * total
    if config.uses_boxes:
        true = _needed(targets.boxes, "box_class and box_l1", "boxes in the truth")
        predicted = _needed(boxes, "box_class and box_l1", "a box prediction")
        terms |= box_terms(predicted, true, config, reduce)
    return terms


def _needed(value: T | None, term: str, what: str) -> T:
    if value is None:
        raise ValueError(f"losses: {term} needs {what}; set its weight to 0 to train without")
    return value


def _check_shapes(logits: Tensor, labels: Tensor, term: str) -> None:
    if logits.shape[: labels.dim()] != labels.shape:
        raise ValueError(f"losses: {term} has logits {tuple(logits.shape)} and targets {tuple(labels.shape)}")


def _dense_terms(logits: VoxelLogits, targets: Targets, config: LossConfig, model_config: ModelConfig) -> Terms:
    if not (config.occupancy_ce or config.occupancy_lovasz or config.gate_focal):
        return {}
    labels_xyz = _needed(targets.voxel_classes, "occupancy_ce, occupancy_lovasz or gate_focal", "dense voxel targets")
    labels = grid_to_rows(labels_xyz)
    seen = None if targets.camera_mask is None else grid_to_rows(targets.camera_mask)
    free_id = model_config.labels.free_id
    occupied = torch.ones_like(labels, dtype=torch.bool) if free_id is None else labels != free_id
    terms = {}
    if config.occupancy_ce or config.occupancy_lovasz:
        _check_shapes(logits.classes, labels_xyz, "occupancy_ce or occupancy_lovasz")
    if config.occupancy_ce:
        weights = _class_weights(config, model_config, labels.device)
        total = cross_entropy_sum(grid_to_rows(logits.classes), labels, seen, weights)
        count = labels.numel() if seen is None else seen.sum().clamp(min=1)
        terms["occupancy_ce"] = config.occupancy_ce * total / count
    if config.occupancy_lovasz:
        counted = _lovasz_voxels(occupied, seen, config.lovasz_voxels)
        terms["occupancy_lovasz"] = config.occupancy_lovasz * _lovasz(grid_to_rows(logits.classes), labels, counted)
    if config.gate_focal:
        gate = _needed(logits.gate, "gate_focal", "a network with an occupancy gate")
        _check_shapes(gate, labels_xyz, "gate_focal")
        positive = occupied if seen is None else occupied & seen
        # One channel: label 0 says that it is positive, 1 that none is.
        total = focal_sum(grid_to_rows(gate).unsqueeze(-1), (~positive).to(torch.uint8))
        terms["gate_focal"] = config.gate_focal * total / positive.sum().clamp(min=1)
    return terms


def _class_weights(config: LossConfig, model_config: ModelConfig, device: torch.device) -> Tensor | None:
    """Weights of the cross-entropy, float32 [class]."""
    names = model_config.labels.names[: model_config.class_count]
    config.check_classes(names)
    if not config.class_weights:
        return None
    return torch.tensor([float(config.class_weights.get(name, 1.0)) for name in names], device=device)


def _lovasz_voxels(occupied: Tensor, seen: Tensor | None, rule: str) -> Tensor:
    """Bool [n], the voxels that the rule counts."""
    if rule == "occupied":
        return occupied
    seen = torch.ones_like(occupied) if seen is None else seen
    return seen if rule == "camera" else occupied & seen


def _lovasz(logits: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
    """Lovász-softmax of logits [n, class] over the counted voxels."""
    index = counted.nonzero().flatten()
    selected = full_precision(logits.index_select(0, index))
    return lovasz_softmax(selected.softmax(dim=-1), labels.index_select(0, index))


def _point_terms(logits: VoxelLogits, targets: Targets, config: LossConfig) -> Terms:
    terms = {}
    if config.semantic_focal or config.semantic_lovasz:
        labels = _needed(targets.point_classes, "semantic_focal or semantic_lovasz", "labelled LiDAR points")
        _check_shapes(logits.classes, labels, "semantic_focal or semantic_lovasz")
        places = (labels < logits.classes.shape[-1]).nonzero(as_tuple=True)
        if config.semantic_focal:
            total = focal_sum(logits.classes, labels)
            terms["semantic_focal"] = config.semantic_focal * total / max(len(places[0]), 1)
        if config.semantic_lovasz:
            probabilities = full_precision(logits.classes[places]).softmax(dim=-1)
            terms["semantic_lovasz"] = config.semantic_lovasz * lovasz_softmax(probabilities, labels[places])
    if config.thing_focal:
        labels = _needed(targets.thing_classes, "thing_focal", "labelled LiDAR points")
        things = _needed(logits.things, "thing_focal", "a network with a thing head")
        _check_shapes(things, labels, "thing_focal")
        count = (labels != UNLABELLED_THING).sum().clamp(min=1)
        terms["thing_focal"] = config.thing_focal * focal_sum(things, labels) / count
    return terms


def occupied_voxels(targets: Targets, model_config: ModelConfig) -> Tensor:
    """What counts as occupied for a sparse decoder, bool [Z, Y, X]: as for the gate, what is not free and a camera
    sees; or, where the truth is points, voxels with points.

    Raises:
        ValueError: there are neither.
    """
    if targets.voxel_classes is None:
        classes = _needed(targets.point_classes, "sparse_focal", "dense voxel targets or labelled LiDAR points")
        return (classes < model_config.class_count).transpose(0, 2)
    free_id = model_config.labels.free_id
    assert free_id is not None  # a sparse decoder needs one
    occupied = targets.voxel_classes != free_id
    return (occupied if targets.camera_mask is None else occupied & targets.camera_mask).transpose(0, 2)


def _stage_loss(stage: StageOccupancy, occupied: Tensor) -> Tensor:
    """Focal loss of a head by the number of its voxels below which any of bool [Z, Y, X] is true."""
    depth, rows, columns = stage.shape
    below = occupied.reshape(depth, -1, rows, occupied.shape[1] // rows, columns, occupied.shape[2] // columns)
    positive = below.any(5).any(3).any(1).flatten().index_select(0, stage.index)
    return focal_sum(stage.logits[:, None], (~positive).to(torch.uint8)) / positive.sum().clamp(min=1)


def supervised_layers(prediction: BoxPrediction, config: LossConfig) -> list[int]:
    """Decoder layers whose boxes are compared with the truth."""
    count = len(prediction.class_logits)
    return list(range(count)) if config.supervised_layers == "all" else [count - 1]


def box_terms(prediction: BoxPrediction, targets: BoxTargets, config: LossConfig, reduce: Reduce | None) -> Terms:
    """Class and L1 term of every supervised layer, each layer matched for itself."""
    layers = supervised_layers(prediction, config)
    matches = match_boxes(prediction, targets, layers, config.match_class_cost, config.match_l1_cost)
    count = prediction.codes.new_tensor(float(len(matches[0].queries)))
    count = (count if reduce is None else reduce(count)).clamp(min=1)
    terms = {}
    for layer, match in zip(layers, matches):
        if config.box_class:
            total = _box_class_sum(prediction.class_logits[layer], targets, match)
            terms[f"box_class.{layer}"] = config.box_class * total / count
        if config.box_l1:
            total = _box_l1_sum(prediction.codes[layer], targets, match, config.code_weights)
            terms[f"box_l1.{layer}"] = config.box_l1 * total / count
    return terms


def _box_class_sum(logits: Tensor, targets: BoxTargets, match: Match) -> Tensor:
    """Focal loss of class logits [query, class]; a query without a box has no class."""
    labels = torch.full_like(logits[:, 0], logits.shape[1], dtype=torch.long)
    labels[match.queries] = targets.labels[match.boxes]
    return focal_sum(logits, labels)


def _box_l1_sum(codes: Tensor, targets: BoxTargets, match: Match, code_weights: tuple[float, ...]) -> Tensor:
    """Weighted distance of the codes [query, 10] of matched queries from those of their boxes."""
    distance = functional.l1_loss(codes[match.queries].float(), targets.codes[match.boxes], reduction="none")
    return (distance * distance.new_tensor(code_weights)).sum()
