"""How good a network is on drives with known truth: with the stream's history, and without any.

What is measured follows from what the truth holds: voxels (IoU, panoptic quality, rays), labelled LiDAR points, boxes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from .base.devices import full_float32
from .config import ModelConfig
from .geometry import Matrix
from .ground_truth import Drive, GroundTruth, TruePoints, naming_frame
from .labels import LIDARSEG, OCC3D
from .memory import VoxelMemory
from .metrics.confusion import Confusion, DistanceConfusion, distance_bins
from .metrics.detection import Detection
from .metrics.panoptic import MIN_VOXELS, PanopticQuality
from .metrics.ray_iou import RayIoU, ray_origins_m
from .metrics.report import Report, Score, Section, box_section, point_section, voxel_section
from .models.network_frame import moved_points, network_from_ego
from .models.point_labels import point_labels
from .network import Network, NonFiniteError, VoxelLogits
from .panoptic import connected_instances, detected_boxes
from .panoptic.fusion import claimed
from .stream import Encoded, Instances, classes, encode, instances, output_geometry
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


USUAL = Measures()


@dataclass(frozen=True, slots=True, eq=False)
class DriveScores:
    """What the frames of drives are worth: sums, a value; `+` returns a new one.  None: not measured."""

    frames: int = 0
    voxels: DistanceConfusion | None = None
    voxels_without_history: Confusion | None = None
    panoptic: PanopticQuality | None = None
    components: PanopticQuality | None = None  # of the same classes, with connected voxels as instances
    rays: RayIoU | None = None
    points: PanopticQuality | None = None
    boxes: Detection | None = None

    def __add__(self, other: "DriveScores") -> "DriveScores":
        def total(name: str):  # type: ignore[no-untyped-def]
            mine, theirs = getattr(self, name), getattr(other, name)
            return theirs if mine is None else mine if theirs is None else mine + theirs

        names = [field.name for field in fields(self) if field.name != "frames"]
        return DriveScores(self.frames + other.frames, **{name: total(name) for name in names})


@torch.inference_mode()
@full_float32()
def evaluate_drive(
    network: Network, drive: Drive, measures: Measures = USUAL, on_frame: Callable[[], object] = lambda: None
) -> DriveScores:
    """Drive through all frames in their order, as the node would, and compare every result with the truth.

    Raises:
        ValueError: no frame has truth that is measured; frames or truth cannot be read or do not fit the network; the
            message names drive and frame.
    """
    _check_measurable(network.config, drive, measures)
    memory, total = VoxelMemory(), DriveScores()
    poses = _poses(drive) if measures.rays else None  # rays start at all places of the drive
    for index in range(len(drive)):
        with naming_frame(drive, index):
            frame, truth = drive.frame(index), drive.truth(index)
            origins = None if poses is None else ray_origins_m(poses, index)
            try:
                step = encode(network, frame, memory)
                things = instances(network, frame, step, *classes(network, step.fused))
                total = total + scores_of_frame(network, step, things, truth, measures, origins)
            except NonFiniteError as error:
                raise ValueError(str(error)) from error
        memory = things.memory
        on_frame()
    return total


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
    things: Instances,
    truth: GroundTruth,
    measures: Measures,
    ray_origins: Matrix | None,
) -> DriveScores:
    """One frame's share of the sums.

    Raises:
        ValueError: the truth's grid or classes are not the network's.
        NonFiniteError: a logit is not finite.
    """
    config, scores = step.config, DriveScores(frames=1)
    if truth.class_id is not None:
        # The same frame and motion, fused with no state.
        alone = classes(network, network.fuse([], step.current))[0] if measures.without_history else None
        scores = _voxel_scores(config, things, alone, truth, measures, ray_origins)
    found = detected_boxes(network, step.fused, config) if config.panoptic.instances == "boxes" else None
    if measures.points and truth.points is not None and config.truth == "points":
        logits = network.decode(step.fused)
        scores = replace(scores, points=_point_scores(config, logits, truth.points, found))
    if measures.boxes and truth.boxes is not None and found is not None:
        scores = replace(scores, boxes=Detection().add(found, truth.boxes))
    return scores


def _voxel_scores(
    config: ModelConfig,
    things: Instances,
    without_history: torch.Tensor | None,
    truth: GroundTruth,
    measures: Measures,
    ray_origins: Matrix | None,
) -> DriveScores:
    labels, count = config.labels, len(config.labels.names)
    assert truth.class_id is not None
    geometry = output_geometry(config)
    _check_truth(config, truth, geometry)
    mask, predicted = truth.camera_mask, things.class_id.cpu().numpy()
    voxels = DistanceConfusion.empty(count).add(predicted, truth.class_id, distance_bins(geometry), mask)
    alone = panoptic = components = rays = None
    if without_history is not None:
        alone = Confusion.empty(count).add(without_history.cpu().numpy(), truth.class_id, mask)
    if measures.panoptic and truth.instance_id is not None:
        nothing = PanopticQuality.empty(count, (), MIN_VOXELS)
        true = (truth.class_id, truth.instance_id, mask)
        components = nothing.add(predicted, connected_instances(predicted, labels), *true)
        if things.instance_id is not None:
            panoptic = nothing.add(predicted, things.instance_id.numpy(), *true)
    if ray_origins is not None and len(ray_origins):
        rays = RayIoU.empty(count).add_frame(predicted, truth.class_id, labels, geometry, ray_origins)
    return DriveScores(1, voxels, alone, panoptic, components, rays)


def _check_truth(config: ModelConfig, truth: GroundTruth, geometry: GridGeometry) -> None:
    if config.labels.names != OCC3D.names:
        raise ValueError(f"{config.name} has the classes {config.labels.key}, the true voxels those of {OCC3D.key}")
    assert truth.geometry is not None
    if difference := truth.geometry.differs_from(geometry):
        raise ValueError(f"the true voxels are not those of {config.name}: {difference}")


def _point_scores(
    config: ModelConfig, logits: VoxelLogits, points: TruePoints, found: ScoredBoxes | None
) -> PanopticQuality:
    """Classes of points from the volume, instances from the boxes around them; none without boxes."""
    predicted = classes_at_points(logits, points, config)
    quality = PanopticQuality.empty(len(LIDARSEG.names), NOISE)
    if found is None:
        nothing = np.zeros(len(predicted), np.int32)
        return quality.add(predicted, nothing, points.class_id, points.instance_id)
    claims = claimed(points.position_m, predicted, found, LIDARSEG, config.panoptic)
    return quality.add(claims.class_id, claims.box, points.class_id, points.instance_id)


def classes_at_points(logits: VoxelLogits, points: TruePoints, config: ModelConfig) -> NDArray[np.uint8]:
    """Class [p] that the volume gives to each point."""
    position_m = moved_points(points.position_m, network_from_ego(config.grid)).astype(np.float32)
    position = torch.as_tensor(position_m, device=logits.classes.device)
    return point_labels(logits.classes, position, config.grid, config.points).cpu().numpy()


def evaluate(
    network: Network,
    drives: Iterable[Drive],
    measures: Measures = USUAL,
    on_frame: Callable[[], object] = lambda: None,
) -> DriveScores:
    """The sums over all drives; each begins without history.

    Raises:
        ValueError: see `evaluate_drive`; also when there is no frame.
    """
    total = DriveScores()
    for drive in drives:
        total = total + evaluate_drive(network, drive, measures, on_frame)
    if not total.frames:
        raise ValueError("there is no frame to evaluate")
    return total


def report(scores: DriveScores, config: ModelConfig, title: str, facts: dict[str, str | int | float]) -> Report:
    """Everything that was measured, section by section."""
    sections: list[Section] = []
    if scores.voxels is not None:
        sections.append(voxel_section(config.labels, scores.voxels, scores.panoptic, scores.rays))
        if scores.voxels_without_history is not None:
            alone = scores.voxels_without_history
            values = (
                Score("mIoU of present classes", alone.miou_of_present(config.labels)),
                Score("geometric IoU", alone.geometric_iou(config.labels)),
            )
            sections.append(Section("voxels without history", values, ()))
    if scores.points is not None:
        sections.append(point_section(LIDARSEG, scores.points))
    if scores.boxes is not None:
        sections.append(box_section(scores.boxes.scores()))
    return Report(title, tuple(sections), facts)
