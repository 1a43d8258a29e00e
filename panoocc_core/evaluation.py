"""How good a network is on drives with known truth: with the stream's history, and without any.

What is measured follows from what the truth holds: voxels (IoU, panoptic quality, rays), what cameras see, labelled
LiDAR points, boxes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from .base.devices import full_float32
from .config import ModelConfig
from .geometry import Matrix
from .ground_truth import Drive, GroundTruth, TruePoints, naming_frame
from .labels import LIDARSEG, LabelSet
from .memory import VoxelMemory
from .metrics.attributes import attributes_by_speed
from .metrics.confusion import Confusion, DistanceConfusion, distance_bins
from .metrics.detection import Detection
from .metrics.panoptic import MIN_VOXELS, PanopticQuality
from .metrics.ray_iou import RayIoU, cast_rays, needed_free_id, ray_directions, ray_origins_m
from .metrics.ray_pq import RayPQ
from .metrics.report import Report, Score, Section, box_section, point_section, visible_section, voxel_section
from .metrics.seen_space import SeenSpace
from .metrics.tracking import TrackingQuality
from .network import Network, NonFiniteError
from .panoptic import PointLabels, PointRules, connected_instances, label_points, true_instance_ids
from .stream import Encoded, Instances, classes, encode, instances, no_instances, occupancy_of, output_geometry, visible
from .types import GridGeometry, ScoredBoxes

NOISE = (0,)  # classes of LiDAR points that no metric counts


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured besides voxels with history, where the truth allows it."""

    without_history: bool = True
    panoptic: bool = True
    rays: bool = True
    points: bool = True
    boxes: bool = True
    visible: bool = True


USUAL = Measures()


@dataclass(frozen=True, slots=True, eq=False)
class DriveScores:
    """What the frames of drives are worth: sums, a value.  `then` takes the next frames of the same drive, `+` other
    drives; both return a new one.  None: not measured."""

    frames: int = 0
    voxels: DistanceConfusion | None = None
    voxels_without_history: Confusion | None = None
    panoptic: PanopticQuality | None = None
    components: PanopticQuality | None = None  # connected voxels as instances, and the classes without boxes
    tracks: TrackingQuality | None = None
    rays: RayIoU | None = None
    ray_instances: RayPQ | None = None
    point_classes: Confusion | None = None
    points: PanopticQuality | None = None
    point_tracks: TrackingQuality | None = None
    boxes: Detection | None = None
    seen: SeenSpace | None = None

    def __add__(self, other: "DriveScores") -> "DriveScores":
        def total(name: str):  # type: ignore[no-untyped-def]
            mine, theirs = getattr(self, name), getattr(other, name)
            return theirs if mine is None else mine if theirs is None else mine + theirs

        names = [field.name for field in fields(self) if field.name != "frames"]
        return DriveScores(self.frames + other.frames, **{name: total(name) for name in names})

    def then(self, later: "DriveScores") -> "DriveScores":
        """These and those of the next frames of the same drive, whose ids go on."""

        def going_on(mine: TrackingQuality | None, theirs: TrackingQuality | None) -> TrackingQuality | None:
            return theirs if mine is None else mine if theirs is None else mine.then(theirs)

        others = replace(self, tracks=None, point_tracks=None) + replace(later, tracks=None, point_tracks=None)
        return replace(
            others,
            tracks=going_on(self.tracks, later.tracks),
            point_tracks=going_on(self.point_tracks, later.point_tracks),
        )


class PointResults(Protocol):
    """Who takes the labels of LiDAR points, those without truth, too."""

    def points_m(self, drive: Drive, index: int) -> NDArray[np.float32]:
        """The points [p, 3] of a frame, in the ego frame."""
        ...

    def add(self, drive: Drive, index: int, class_id: NDArray[np.uint8], instance_id: NDArray[np.int32]) -> None:
        """Take classes [p] of labels.LIDARSEG and numbers [p] of tracks, 0 for none; frame after frame."""
        ...


@torch.inference_mode()
@full_float32()
def evaluate_drive(
    network: Network,
    drive: Drive,
    measures: Measures = USUAL,
    on_frame: Callable[[], object] = lambda: None,
    results: PointResults | None = None,
) -> DriveScores:
    """Drive through all frames in their order, as the node would, and compare every result with the truth.

    Args:
        results: takes the labels of points, of a network that learns from them.

    Raises:
        ValueError: no frame has truth that is measured, and nobody takes results; frames or truth cannot be read or do
            not fit the network; the message names drive and frame.
    """
    if results is None:
        _check_measurable(network.config, drive, measures)
    memory, total = VoxelMemory(), DriveScores()
    follows = measures.panoptic or measures.boxes or results is not None or network.config.panoptic.refine
    poses = _poses(drive) if measures.rays else None  # rays start at all places of the drive
    for index in range(len(drive)):
        with naming_frame(drive, index):
            frame, truth = drive.frame(index), drive.truth(index)
            origins = None if poses is None else ray_origins_m(poses, index)
            position_m = _points_m(network.config, drive, index, truth, measures, results)
            try:
                step = encode(network, frame, memory)
                found = predict(network, step, truth.class_id is not None, position_m, follows)
                if measures.visible and truth.camera_mask is not None and found.things is not None:
                    found = replace(found, visible=visible(step, found.things.class_id))
                total = total.then(scores_of_frame(network, step, found, truth, measures, origins))
            except NonFiniteError as error:
                raise ValueError(str(error)) from error
            if results is not None and found.points is not None:
                results.add(drive, index, found.points.class_id, found.points.instance_id.astype(np.int32))
        memory = found.memory
        on_frame()
    return total


def _points_m(
    config: ModelConfig, drive: Drive, index: int, truth: GroundTruth, measures: Measures, results: PointResults | None
) -> NDArray[np.float32] | None:
    """The points [p, 3] that somebody wants labels of."""
    if config.truth != "points":
        return None
    if truth.points is not None and (measures.points or results is not None):
        return truth.points.position_m
    return None if results is None else results.points_m(drive, index)


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What a network says of one frame, at the places whose truth is known."""

    things: Instances | None  # of voxels
    points: PointLabels | None
    boxes: ScoredBoxes | None  # all of the box branch
    memory: VoxelMemory  # after the frame
    visible: torch.Tensor | None = None  # bool [X, Y, Z], where it is measured


def predict(
    network: Network,
    step: Encoded,
    at_voxels: bool,
    position_m: NDArray[np.float32] | None,
    with_instances: bool = True,
) -> Predicted:
    """What an encoded frame shows: its things, so that their tracks go on, and labels of points.

    These are labelled as by `panoocc label`; beyond the grid they take the border voxel, as in the published metric.

    Args:
        at_voxels: the classes of the voxels are wanted, whatever else is.
        position_m: points [p, 3] in the ego frame that are to be labelled.
        with_instances: False saves the box branch; tracks then are not seen.

    Raises:
        NonFiniteError: a logit or a box is not finite.
    """
    if not (at_voxels or with_instances or position_m is not None):
        return Predicted(None, None, None, step.memory)
    config = step.config
    class_id, confidence = classes(network, step.fused)
    things = no_instances(step, class_id)
    if with_instances:
        boxes = network.detect(step.fused) if config.panoptic.instances == "boxes" else None
        things = instances(step, class_id, confidence, boxes)
    points = None
    if position_m is not None:
        occupancy = occupancy_of(step, things, confidence, logits=network.decode(step.fused).classes)
        rules = PointRules("clamp", config.points, config.panoptic)
        points = label_points(position_m, np.eye(4), occupancy, rules)
    return Predicted(things, points, things.detected, things.memory)


def _check_measurable(config: ModelConfig, drive: Drive, measures: Measures) -> None:
    """Before hours go by: truth is read until a frame has some that is measured."""
    for index in range(len(drive)):
        with naming_frame(drive, index):
            truth = drive.truth(index)
        points = measures.points and truth.points is not None and config.truth == "points"
        boxes = measures.boxes and truth.boxes is not None and config.panoptic.instances == "boxes"
        if points or boxes or truth.class_id is not None:
            return
    if not len(drive):
        return
    if config.truth == "points":
        raise ValueError(
            f"{drive.name}: has no labelled LiDAR points for {config.name}; unpack nuScenes' lidarseg labels"
        )
    raise ValueError(f"{drive.name}: has no true voxels for {config.name}; give --gts FOLDER with Occ3D's labels")


def _poses(drive: Drive) -> list[Matrix]:
    poses = []
    for index in range(len(drive)):
        with naming_frame(drive, index):
            poses.append(drive.world_from_ego(index))
    return poses


def scores_of_frame(
    network: Network,
    step: Encoded,
    found: Predicted,
    truth: GroundTruth,
    measures: Measures,
    ray_origins: Matrix | None,
) -> DriveScores:
    """One frame's share of the sums.

    Raises:
        ValueError: the truth's grid or classes are not the network's.
        NonFiniteError: a logit is not finite.
    """
    scores = DriveScores(frames=1)
    if truth.class_id is not None and found.things is not None and found.points is None:
        # The same frame and motion, fused with no state.
        alone = classes(network, network.alone(step.current))[0] if measures.without_history else None
        scores = _voxel_scores(step.config, found, alone, truth, measures, ray_origins)
    if measures.points and truth.points is not None and found.points is not None:
        with_instances = measures.panoptic and step.config.panoptic.instances != "none"
        scores = replace(scores, **_point_scores(found.points, truth.points, with_instances))
    if measures.boxes and truth.boxes is not None and found.boxes is not None:
        guess = attributes_by_speed(found.boxes.class_id, found.boxes.velocity_mps)
        known = truth.boxes.attribute_id
        boxes = found.boxes if known is None else replace(found.boxes, attribute_id=guess)
        scores = replace(scores, boxes=Detection().add(boxes, truth.boxes, known, truth.bicycle_racks))
    return scores


def _voxel_scores(
    config: ModelConfig,
    said: Predicted,
    without_history: torch.Tensor | None,
    truth: GroundTruth,
    measures: Measures,
    ray_origins: Matrix | None,
) -> DriveScores:
    count = len(config.labels.names)
    geometry = output_geometry(config)
    truth = _comparable(config, truth, geometry)
    things = said.things
    assert truth.class_id is not None and things is not None
    mask, predicted, bins = truth.camera_mask, things.class_id.cpu().numpy(), distance_bins(geometry)
    voxels = DistanceConfusion.empty(count).add(predicted, truth.class_id, bins, mask)
    alone = None
    if without_history is not None:
        alone = Confusion.empty(count).add(without_history.cpu().numpy(), truth.class_id, mask)
    scores = DriveScores(1, voxels, alone)
    if said.visible is not None and mask is not None:
        is_free, is_occupied = predicted == config.labels.free_id, truth.class_id != config.labels.free_id
        seen = SeenSpace.empty().add(is_free, said.visible.cpu().numpy(), is_occupied, mask, bins)
        scores = replace(scores, seen=seen)
    found = None if things.instance_id is None else things.instance_id.numpy()
    there = true_instance_ids(truth) if measures.panoptic else None
    if there is not None:
        connected = None if things.source == "components" else things.unrefined.cpu().numpy()
        scores = scores + _instance_scores(config.labels, (predicted, found), connected, (truth.class_id, there), mask)
    if ray_origins is not None and len(ray_origins):
        scores = scores + _ray_scores(config.labels, geometry, (predicted, found), (truth.class_id, there), ray_origins)
    return scores


Voxels = tuple[NDArray[np.uint8], NDArray[np.int32] | None]  # classes and instances [X, Y, Z]


def _instance_scores(
    labels: LabelSet,
    predicted: Voxels,
    unrefined: NDArray[np.uint8] | None,
    true: tuple[NDArray[np.uint8], NDArray[np.int32]],
    mask: NDArray[np.bool_] | None,
) -> DriveScores:
    """`unrefined`: classes whose connected voxels are compared with, [X, Y, Z]; None: those were predicted."""
    class_id, instance_id = predicted
    nothing = PanopticQuality.empty(len(labels.names), (), MIN_VOXELS)
    scores = DriveScores()
    if instance_id is not None:
        scores = DriveScores(
            panoptic=nothing.add(class_id, instance_id, *true, mask),
            tracks=TrackingQuality.empty(labels).add(class_id, instance_id, *true, mask),
        )
    if unrefined is None:
        return replace(scores, components=scores.panoptic)
    return replace(scores, components=nothing.add(unrefined, connected_instances(unrefined, labels), *true, mask))


def _ray_scores(
    labels: LabelSet, geometry: GridGeometry, predicted: Voxels, true: Voxels, origins_m: Matrix
) -> DriveScores:
    free_id, directions, count = needed_free_id(labels), ray_directions(), len(labels.names)
    found, there = (
        cast_rays(class_id, free_id, geometry, origins_m, directions, instance_id)
        for class_id, instance_id in (predicted, true)
    )
    rays = RayIoU.empty(count).add(found, there, free_id)
    if found.instance_id is None or there.instance_id is None:
        return DriveScores(rays=rays)
    return DriveScores(rays=rays, ray_instances=RayPQ.empty(count).add(found, there, labels))


def _comparable(config: ModelConfig, truth: GroundTruth, geometry: GridGeometry) -> GroundTruth:
    """The truth in the network's classes."""
    try:
        truth = truth.in_classes_of(config.labels)
    except ValueError as error:
        raise ValueError(f"{config.name} has the classes {config.labels.key}: {error}") from error
    assert truth.geometry is not None
    if difference := truth.geometry.differs_from(geometry):
        raise ValueError(f"the true voxels are not those of {config.name}: {difference}")
    return truth


def _point_scores(found: PointLabels, true: TruePoints, with_instances: bool) -> dict[str, Any]:
    """Classes of points, and their instances where truth has them; points in several true boxes are in none."""
    count = len(LIDARSEG.names)
    scores: dict[str, Any] = {"point_classes": Confusion.empty(count).add(found.class_id, true.class_id)}
    if with_instances and true.instance_id is not None:
        class_id = true.class_id
        if true.is_ambiguous is not None:
            class_id = np.where(true.is_ambiguous, NOISE[0], class_id)
        labels = (found.class_id, found.instance_id.astype(np.int32), class_id, true.instance_id)
        scores["points"] = PanopticQuality.empty(count, NOISE).add(*labels)
        scores["point_tracks"] = TrackingQuality.empty(LIDARSEG, NOISE).add(*labels)
    return scores


def evaluate(
    network: Network,
    drives: Iterable[Drive],
    measures: Measures = USUAL,
    on_frame: Callable[[], object] = lambda: None,
    results: PointResults | None = None,
) -> DriveScores:
    """The sums over all drives; each begins without history; arguments as those of `evaluate_drive`.

    Raises:
        ValueError: see `evaluate_drive`; also when there is no frame.
    """
    total = DriveScores()
    for drive in drives:
        total = total + evaluate_drive(network, drive, measures, on_frame, results)
    if not total.frames:
        raise ValueError("there is no frame to evaluate")
    return total


def report(scores: DriveScores, config: ModelConfig, title: str, facts: dict[str, str | int | float]) -> Report:
    """Everything that was measured, section by section."""
    sections: list[Section] = []
    if scores.voxels is not None:
        of_things = (scores.tracks, scores.ray_instances, scores.components)
        sections.append(voxel_section(config.labels, scores.voxels, scores.panoptic, scores.rays, *of_things))
        if scores.voxels_without_history is not None:
            alone = scores.voxels_without_history
            values = (
                Score("mIoU of present classes", alone.miou_of_present(config.labels)),
                Score("geometric IoU", alone.geometric_iou(config.labels)),
            )
            sections.append(Section("voxels without history", values, ()))
    if scores.point_classes is not None:
        sections.append(point_section(LIDARSEG, scores.point_classes, NOISE, scores.points, scores.point_tracks))
    if scores.boxes is not None:
        sections.append(box_section(scores.boxes.scores()))
    if scores.seen is not None:
        sections.append(visible_section(scores.seen))
    return Report(title, tuple(sections), facts)
