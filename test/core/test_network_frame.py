"""The frame of the voxels on the vehicle: wherever it lies, the same street comes out in the vehicle's frame."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from panoocc_core import CameraImage, Frame, OccupancyStream, Wanted, load_model, model_config
from panoocc_core.config import ModelConfig
from panoocc_core.data.simulated import simulated_streets
from panoocc_core.data.street_plan import StreetPlan
from panoocc_core.geometry import NS_PER_S, invert, rigid
from panoocc_core.ground_truth import GroundTruth
from panoocc_core.memory import VoxelMemory
from panoocc_core.metrics.confusion import Confusion
from panoocc_core.models.view_encoder import project
from panoocc_core.network import Network, VoxelLogits
from panoocc_core.optics import Projections
from panoocc_core.panoptic import classes_at, detected_boxes
from panoocc_core.stream import advance, encode, output_geometry
from panoocc_core.types import GridGeometry, ScoredBoxes
from panoocc_core.voxels import centres_m

from .conftest import EGO_FROM_OPTICAL, heading, street_frame

SECTORS = 8
EYE_M = np.array([1.0, 0.5, 1.5])  # where all cameras are, in the vehicle frame
TURNED = rigid(heading(30), np.array([0.9, -0.4, 1.8]))
TILTED = TURNED @ rigid(EGO_FROM_OPTICAL @ heading(15) @ EGO_FROM_OPTICAL.T, np.zeros(3))  # about its x axis


def sector(points_m: np.ndarray) -> np.ndarray:
    """Which sector of azimuth points [n, 3] of the vehicle frame lie in, seen from the cameras; -1 near a border."""
    angle = np.arctan2(*(points_m - EYE_M)[:, 1::-1].T) / (2 * np.pi) * SECTORS
    return np.where(np.abs(angle - np.round(angle)) < 0.03, -1, np.floor(angle) % SECTORS).astype(int)


class Panorama(Network):
    """Takes the colour of the pixel that a voxel is seen at; of the past, where there is any, the oldest counts."""

    def encode_images(self, images: Tensor) -> list[Tensor]:
        return [images]

    def encode_voxels(self, maps: list[Tensor], projections: Projections, ego_motion: Tensor) -> Tensor:
        images = maps[0]
        hw = (images.shape[2], images.shape[3])
        points_m = torch.as_tensor(centres_m(self.config.grid), dtype=torch.float32)
        seen = project(points_m, projections, hw)
        colours = torch.zeros(len(points_m), SECTORS)
        for image, uv, visible in zip(images, seen.uv, seen.visible, strict=True):
            column, row = (uv[visible] * torch.tensor([hw[1], hw[0]])).round().long().unbind(-1)
            column, row = column.clamp(max=hw[1] - 1), row.clamp(max=hw[0] - 1)
            colours[visible] = torch.nn.functional.one_hot(
                (image[0, row, column] * 255).round().long(), SECTORS
            ).float()
        return colours

    def fuse(self, states: Sequence[Tensor], motions: Tensor, current: Tensor) -> Tensor:
        return self.align(states, motions)[0] if states else current

    def state(self, current: Tensor, fused: Tensor) -> Tensor:
        return current

    def occupancy(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        grid = self.config.grid
        volume = fused.view(grid.rows, grid.columns, grid.layers, -1).transpose(0, 1)
        best = volume.max(-1)
        return torch.where(best.values > 0.9, best.indices, SECTORS).to(torch.uint8), best.values

    def decode(self, fused: Tensor) -> VoxelLogits:
        raise NotImplementedError

    box_map = boxes_in = decode  # type: ignore[assignment]

    @property
    def classifier(self) -> torch.nn.Linear:
        raise NotImplementedError


@pytest.fixture(scope="module")
def panorama() -> Panorama:
    base = model_config("nano")
    images = replace(base.images, height=64, width=128, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
    kernel = replace(base.decoder.upsample[0], kernel=(1, 1, 1), stride=(1, 1, 1), padding=(0, 0, 0), channels=32)
    grid = replace(base.grid, rows=40, columns=40, range_m=(-16.0, -16.0, -3.0, 16.0, 16.0, 3.0))
    temporal = replace(base.temporal, ages_s=(0.5,))
    config = replace(
        base, images=images, grid=grid, temporal=temporal, decoder=replace(base.decoder, upsample=(kernel,))
    )
    config = replace(config, panoptic=replace(base.panoptic, instances="none"))  # sectors are no things
    network = Panorama(config)
    network.weight = torch.nn.Parameter(torch.zeros(1))
    return network


def painted_frame(config: ModelConfig, seconds: float, x_m: float, ego_from_network: np.ndarray | None) -> Frame:
    """Every pixel has the number of the sector that its ray points at."""
    height, width = config.images.height, config.images.width
    focal = 0.8 * width
    intrinsics = np.array([[focal, 0, width / 2 - 0.5], [0, focal, height / 2 - 0.5], [0, 0, 1.0]])
    rows, columns = np.indices((height, width))
    rays = np.stack((columns.ravel(), rows.ravel(), np.ones(height * width)), axis=1) @ np.linalg.inv(intrinsics).T
    world_from_ego, stamp_ns = rigid(np.eye(3), np.array([x_m, 0.0, 0.0])), round(seconds * NS_PER_S)
    cameras = []
    for k, name in enumerate(config.cameras):
        mount = rigid(heading(60 * k) @ EGO_FROM_OPTICAL, EYE_M)
        angle = np.arctan2(*(rays @ mount[:3, :3].T)[:, 1::-1].T) / (2 * np.pi) * SECTORS
        number = (np.floor(angle) % SECTORS).astype(np.uint8).reshape(height, width)
        image = torch.from_numpy(np.repeat(number[..., None], 3, axis=2))
        cameras.append(CameraImage(name, stamp_ns, image, intrinsics, mount, world_from_ego))
    return Frame(stamp_ns, world_from_ego, tuple(cameras), ego_from_network=ego_from_network)


@pytest.mark.parametrize("pose", [None, TURNED, TILTED], ids=["as trained", "turned", "tilted"])
def test_a_turned_grid_shows_the_same_street(panorama, pose):
    """What a voxel says belongs to its centre in the vehicle frame, now and when it comes from the past."""
    config, stream = panorama.config, OccupancyStream(panorama)
    now, then = (stream.step(painted_frame(config, *at, pose)) for at in ((0.0, 0.0), (0.5, 2.0)))
    assert then.history.ages_s == (0.5,) and then.history.reset is None
    for occupancy, moved_m in ((now, 0.0), (then, 2.0)):
        found = occupancy.class_id.numpy()
        indices = np.argwhere(found < SECTORS)
        expected = sector(occupancy.geometry.centres_m(indices) + (moved_m, 0.0, 0.0))
        certain = expected >= 0
        assert certain.sum() > 0.3 * found.size
        agree = found[tuple(indices[certain].T)] == expected[certain]
        assert agree.mean() > (0.999 if moved_m == 0 else 0.98)  # resampling mixes sectors near the cameras
    if pose is not None:
        corner = pose @ rigid(np.eye(3), np.array(config.grid.range_m[:3]))
        np.testing.assert_allclose(then.geometry.ego_from_grid, corner, atol=1e-9)


def in_vehicle_frame(frame: Frame, new_from_old: np.ndarray) -> Frame:
    """The same instant told with another vehicle frame."""
    old_from_new = invert(new_from_old)
    cameras = tuple(
        replace(
            camera,
            ego_from_camera=new_from_old @ camera.ego_from_camera,
            world_from_ego=camera.world_from_ego @ old_from_new,
        )
        for camera in frame.cameras
    )
    pose = None if frame.ego_from_network is None else new_from_old @ frame.ego_from_network
    return replace(frame, world_from_ego=frame.world_from_ego @ old_from_new, cameras=cameras, ego_from_network=pose)


def test_the_same_drive_with_another_origin_of_the_vehicle_gives_the_same_voxels(nano):
    """Where base_link lies is a convention: a network frame that is given with it keeps the voxels where they were."""
    lidar = model_config("pano_small_4f").grid.ego_from_network
    network = load_model(replace(nano, grid=replace(nano.grid, ego_from_network=lidar)), seeded_weights=True)
    new_from_old = rigid(np.eye(3), np.array([1.3, -0.4, 0.6]))
    position_m = np.random.default_rng(0).uniform(-20, 20, (500, 3)).astype(np.float32)
    memories, results = [VoxelMemory()] * 3, []
    for k in range(3):
        old = street_frame(0.5 * k, x_m=2.0 * k)
        new = in_vehicle_frame(replace(old, ego_from_network=lidar.matrix), new_from_old)
        frames = (old, new, replace(new, ego_from_network=None))
        stepped = [
            advance(network, frame, memory, wanted=Wanted(instances=False)) for frame, memory in zip(frames, memories)
        ]
        results, memories = [occupancy for occupancy, _ in stepped], [memory for _, memory in stepped]
    moved = (position_m, position_m + new_from_old[:3, 3].astype(np.float32))
    found = [labels_and_boxes(network, frame, points) for frame, points in zip(frames, (*moved, moved[1]))]
    labels, boxes = zip(*found)
    same, given, ignored = results
    assert all(result.history.ages_s == (1.0, 0.5) for result in results)
    np.testing.assert_allclose(given.geometry.ego_from_grid, new_from_old @ same.geometry.ego_from_grid, atol=1e-9)
    assert (same.class_id == given.class_id).float().mean() > 0.999
    assert (same.class_id == ignored.class_id).float().mean() < 0.9, "else the network's frame would not matter"
    assert (labels[0] == labels[1]).mean() > 0.99 > (labels[0] == labels[2]).mean()
    assert len(boxes[0]) == len(boxes[1]) > 50
    np.testing.assert_allclose(boxes[1].centre_m, boxes[0].centre_m + new_from_old[:3, 3], atol=1e-2)
    np.testing.assert_allclose(np.cos(boxes[1].yaw_rad - boxes[0].yaw_rad), 1, atol=1e-3)
    np.testing.assert_allclose(boxes[1].velocity_mps, boxes[0].velocity_mps, atol=1e-2)


@torch.inference_mode()
def labels_and_boxes(network: Network, frame: Frame, position_m: np.ndarray) -> tuple[np.ndarray, ScoredBoxes]:
    """Classes of points [n, 3] in the vehicle frame, and all boxes of the frame alone."""
    step = encode(network, frame, VoxelMemory())
    geometry, logits = output_geometry(step.config), network.decode(step.fused).classes
    classes, _ = classes_at(logits, geometry, position_m, step.config.points)
    return classes, detected_boxes(network.detect(step.fused), step.config)


def test_nano_recognises_a_street_in_a_grid_that_is_turned(tmp_path):
    """The shipped weights with their frame turned and shifted, against the truth where the voxels lie."""
    network = load_model("nano")
    geometry, plan = output_geometry(network.config), StreetPlan(seconds=2.0)
    drive = simulated_streets(tmp_path, (100,), geometry, plan, workers=1)[0]
    pose = rigid(heading(30), np.array([0.8, -0.6, 0.0]))
    trained, turned, misread = (Confusion.empty(18) for _ in range(3))
    streams = OccupancyStream(network), OccupancyStream(network)
    for index in range(len(drive)):
        frame, truth = drive.frame(index), drive.truth(index)
        plain, other = (
            stream.step(replace(frame, ego_from_network=given)) for stream, given in zip(streams, (None, pose))
        )
        trained = trained.add(plain.class_id.numpy(), truth.class_id, truth.camera_mask)
        turned = turned.add(other.class_id.numpy(), *at_centres(truth, other.geometry))
        misread = misread.add(other.class_id.numpy(), truth.class_id, truth.camera_mask)
    iou = [score.geometric_iou(network.config.labels) for score in (trained, turned, misread)]
    assert iou[1] > iou[0] - 0.1 and iou[2] < iou[0] - 0.1, iou


def at_centres(truth: GroundTruth, geometry: GridGeometry) -> tuple[np.ndarray, np.ndarray]:
    """True classes, and what a camera sees, where the voxels of another grid lie: both [X, Y, Z]."""
    indices = np.indices(geometry.shape_xyz).reshape(3, -1).T
    local = (geometry.centres_m(indices) - truth.geometry.ego_from_grid[:3, 3]) @ truth.geometry.ego_from_grid[:3, :3]
    cells = np.floor(local / np.array(truth.geometry.voxel_size_m)).astype(int)
    inside = ((cells >= 0) & (cells < truth.geometry.shape_xyz)).all(axis=1)
    cells = np.where(inside[:, None], cells, 0)
    classes = truth.class_id[tuple(cells.T)].reshape(geometry.shape_xyz)
    return classes, (truth.camera_mask[tuple(cells.T)] & inside).reshape(geometry.shape_xyz)
