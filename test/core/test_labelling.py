"""Points take class, instance and confidence of their voxel, by the published rounding; boxes and logits say more."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from panoocc_core import OccupancyStream, Wanted, load_model, model_config
from panoocc_core.config import PointConfig
from panoocc_core.geometry import rigid
from panoocc_core.labels import BOX_CLASSES, LIDARSEG_FREE, OCC3D
from panoocc_core.models.network_frame import moved_points, network_from_ego
from panoocc_core.models.point_labels import cells_of, point_labels
from panoocc_core.network import NonFiniteError
from panoocc_core.panoptic.labelling import UNKNOWN, PointRules, label_points
from panoocc_core.stream import output_geometry
from panoocc_core.types import GridGeometry, HistoryReport, Occupancy, ScoredBoxes

from .conftest import street_frame
from .toy_training import NETWORK, write_network

HERE = np.eye(4)
PEDESTRIAN, CAR, FREE = (OCC3D.names.index(name) for name in ("pedestrian", "car", "free"))


def turned(degrees, place=(0.0, 0.0, 0.0)):
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return rigid(turn, np.array(place, dtype=np.float64))


def occupancy(geometry, class_id, labels=OCC3D, **more):
    return Occupancy(
        stamp_ns=0,
        oldest_image_stamp_ns=0,
        newest_image_stamp_ns=0,
        class_id=class_id,
        confidence=more.pop("confidence", None),
        instance_id=more.pop("instance_id", None),
        geometry=geometry,
        labels=labels,
        cameras=(),
        history=HistoryReport(),
        **more,
    )


def noise(shape, top, seed=0, kind=torch.uint8):
    return torch.randint(0, top, shape, generator=torch.Generator().manual_seed(seed)).to(kind)


def random_grid(ego_from_grid, shape=(12, 9, 5), size=(0.8, 0.8, 0.4)):
    return occupancy(
        GridGeometry(shape, size, ego_from_grid),
        noise(shape, 18),
        confidence=noise(shape, 256, 1),
        instance_id=noise(shape, 65_536, 2, torch.int32),
    )


@pytest.mark.parametrize("pose", [turned(0, (-4.8, -3.6, -1.0)), turned(63, (1.0, -2.0, 0.3))])
@pytest.mark.parametrize("ego_from_points", [HERE, turned(-20, (3.0, 1.0, 1.84))])
def test_points_inside_a_voxel_have_what_the_voxel_has(pose, ego_from_points):
    grid = random_grid(pose)
    indices = np.argwhere(np.ones(grid.geometry.shape_xyz))
    inner = indices + np.random.default_rng(0).uniform(-0.45, 0.45, indices.shape)
    in_ego_m = grid.geometry.centres_m(inner)
    in_cloud_m = (in_ego_m - ego_from_points[:3, 3]) @ ego_from_points[:3, :3]
    found = label_points(in_cloud_m, ego_from_points, grid)
    np.testing.assert_array_equal(found.class_id, grid.class_id.numpy().ravel())
    np.testing.assert_array_equal(found.confidence, grid.confidence.numpy().ravel())
    is_thing = np.array(OCC3D.is_thing)[found.class_id]
    np.testing.assert_array_equal(found.instance_id, np.where(is_thing, grid.instance_id.numpy().ravel(), 0))
    assert found.instance_id.dtype == np.uint16 and found.unknown == 0 and is_thing.any() and not is_thing.all()


@pytest.mark.parametrize("name", ["pano_small_occ3d", "nano"])
def test_points_on_the_faces_of_voxels_fall_where_the_published_rule_puts_them(name):
    grid = model_config(name).grid
    geometry = output_geometry(model_config(name))
    count = geometry.shape_xyz[0]
    faces = np.float32(grid.range_m[0]) + np.arange(count, dtype=np.float32) * np.float32(geometry.voxel_size_m[0])
    points_m = np.stack((faces, np.zeros_like(faces), np.zeros_like(faces)), axis=1)
    cells = cells_of(torch.from_numpy(points_m), grid, geometry.shape_xyz)
    class_id = torch.arange(count).remainder(17).to(torch.uint8)[:, None, None].expand(geometry.shape_xyz)
    found = label_points(points_m, HERE, occupancy(geometry, class_id))
    np.testing.assert_array_equal(found.class_id, cells[:, 0].numpy() % 17)


def test_points_beyond_the_grid_are_unknown_or_take_the_border_voxel_as_asked():
    grid = random_grid(turned(0, (-4.8, -3.6, -1.0)))
    points_m = np.array([(-80.0, 0.0, 0.0), (4.79, 3.59, 0.99), (4.81, 3.59, 0.99), (0.0, 0.0, 9.0), (1e30, 0, 0)])
    unknown = label_points(points_m, HERE, grid)
    assert (unknown.class_id == UNKNOWN).tolist() == [True, False, True, True, True] and unknown.unknown == 4
    assert unknown.instance_id[[0, 2, 3, 4]].tolist() == unknown.confidence[[0, 2, 3, 4]].tolist() == [0] * 4
    clamped = label_points(points_m, HERE, grid, PointRules("clamp"))
    class_id = grid.class_id.numpy()
    assert clamped.class_id.tolist() == [
        class_id[0, 4, 2],
        class_id[-1, -1, -1],
        class_id[-1, -1, -1],
        class_id[6, 4, -1],
        class_id[-1, 4, 2],
    ]


@pytest.mark.parametrize("outside", ["unknown", "clamp"])
def test_points_that_are_not_finite_are_unknown(outside):
    grid = random_grid(turned(0, (-4.8, -3.6, -1.0)))
    points_m = np.array([(np.nan, 0, 0), (0, 0, 0), (0, np.inf, 0), (0, 0, -np.inf)], np.float32)
    found = label_points(points_m, turned(10), grid, PointRules(outside))
    assert (found.class_id == UNKNOWN).tolist() == [True, False, True, True]


def test_no_points_have_no_labels_and_a_wrong_shape_is_named():
    grid = random_grid(turned(0))
    assert len(label_points(np.zeros((0, 3)), HERE, grid).class_id) == 0
    with pytest.raises(ValueError, match=r"\[p, 3\], not \(4, 2\)"):
        label_points(np.zeros((4, 2)), HERE, grid)


def boxes(*rows):
    """(class, x, y, length, width, score, number)"""
    n = len(rows)
    return ScoredBoxes(
        centre_m=np.array([(x, y, 0.5) for _, x, y, *_ in rows], np.float32),
        size_m=np.array([(row[3], row[4], 2.0) for row in rows], np.float32),
        yaw_rad=np.zeros(n, np.float32),
        velocity_mps=np.zeros((n, 2), np.float32),
        class_id=np.array([BOX_CLASSES.index(row[0]) for row in rows], np.int64),
        score=np.array([row[5] for row in rows], np.float32),
        instance_id=np.array([row[6] for row in rows], np.int32),
    )


def test_boxes_part_the_points_of_one_voxel_and_the_rest_take_its_instance():
    geometry = GridGeometry((4, 4, 1), (1.0, 1.0, 1.0), np.eye(4))
    class_id = torch.full((4, 4, 1), FREE, dtype=torch.uint8)
    class_id[1:3, 1] = PEDESTRIAN
    class_id[3, 3] = CAR
    instance_id = torch.zeros((4, 4, 1), dtype=torch.int32)
    instance_id[1:3, 1], instance_id[3, 3] = 7, 9
    # Two people who share the voxel 1, 1; margins reach half a voxel further, so that the better one has the middle.
    two = boxes(("pedestrian", 1.05, 1.5, 0.1, 0.5, 0.9, 7), ("pedestrian", 2.2, 1.5, 0.2, 0.5, 0.8, 8))
    grid = occupancy(geometry, class_id, instance_id=instance_id, boxes=two, instances="boxes")
    x_m = np.array([1.1, 1.5, 1.9, 2.3, 2.95, 3.5, 0.5])
    y_m = np.array([1.5, 1.5, 1.5, 1.5, 1.5, 3.5, 1.5])
    points_m = np.stack((x_m, y_m, np.full(7, 0.5)), axis=1)
    found = label_points(points_m, HERE, grid)
    assert found.instance_id.tolist() == [7, 7, 8, 8, 7, 9, 0]  # no box has the fifth and sixth: their voxels have
    by_voxels = label_points(points_m, HERE, replace(grid, instances="components"))
    assert by_voxels.instance_id.tolist() == [7, 7, 7, 7, 7, 9, 0]


def test_logits_say_of_a_point_what_it_is_where_its_voxel_is_free():
    shape = (8, 8, 4)
    geometry = GridGeometry(shape, (0.5, 0.5, 0.5), rigid(np.eye(3), np.array([-2.0, -2.0, -1.0])))
    logits = torch.randn((*shape, 17), generator=torch.Generator().manual_seed(3))
    free = torch.full(shape, LIDARSEG_FREE.names.index("free"), dtype=torch.uint8)
    indices = np.argwhere(np.ones(shape))
    grid = occupancy(geometry, free, LIDARSEG_FREE, logits=logits)
    found = label_points(geometry.centres_m(indices), HERE, grid)
    best, best_class = logits.flatten(0, 2).max(-1)
    np.testing.assert_array_equal(found.class_id, best_class.numpy())
    np.testing.assert_array_equal(found.confidence, (best.sigmoid() * 255).round().numpy())


def test_logits_that_are_not_finite_are_no_class():
    shape = (4, 4, 2)
    logits = torch.zeros((*shape, 17))
    logits[1, 1, 1, 5] = torch.nan
    geometry = GridGeometry(shape, (1.0, 1.0, 1.0), np.eye(4))
    grid = occupancy(geometry, torch.zeros(shape, dtype=torch.uint8), LIDARSEG_FREE, logits=logits)
    assert label_points(np.array([(2.5, 1.5, 1.5)]), HERE, grid).confidence.tolist() == [128]
    with pytest.raises(NonFiniteError, match="logits at points are not finite"):
        label_points(np.array([(2.5, 1.5, 1.5), (1.5, 1.5, 1.5)]), HERE, grid)


def test_the_high_resolution_rule_is_that_of_the_published_metric():
    config = model_config("pano_large_4f_hr")
    grid = replace(config.grid, rows=5, columns=5, layers=2, ego_from_network=type(config.grid.ego_from_network)())
    rule = PointConfig("high_resolution", (23, 19, 11))
    shape = (10, 10, 4)
    size = [(high - low) / count for low, high, count in zip(grid.range_m, grid.range_m[3:], shape)]
    geometry = GridGeometry(shape, tuple(size), rigid(np.eye(3), np.array(grid.range_m[:3])))
    with torch.inference_mode():  # as the stream makes them, for a thread that is not in that mode
        logits = torch.randn((*shape, 17), generator=torch.Generator().manual_seed(4))
    points_m = np.random.default_rng(5).uniform(grid.range_m[:3], grid.range_m[3:], (500, 3)).astype(np.float32)
    seen = occupancy(geometry, torch.zeros(shape, dtype=torch.uint8), LIDARSEG_FREE, logits=logits)
    found = label_points(points_m, HERE, seen, PointRules(points=rule))
    published = point_labels(logits, torch.from_numpy(points_m), grid, rule)
    np.testing.assert_array_equal(found.class_id, published.numpy())
    direct = label_points(points_m, HERE, seen)
    assert (direct.class_id != found.class_id).any()


@pytest.mark.parametrize("rule", [{}, {"points": {"rule": "high_resolution", "cells_xyz": [29, 23, 13]}}])
def test_a_stream_of_a_network_that_learns_from_points_labels_them_as_the_metric_does(tmp_path, rule):
    on_points = {"truth": "points", "label_key": "nuscenes_lidarseg_free", "panoptic": {"instances": "none"}}
    decoder = {**NETWORK["decoder"], "gate_threshold": None, "empty_below": 0.3}
    network = load_model(str(write_network(tmp_path, **on_points, decoder=decoder, **rule)), seeded_weights=True)
    mount = turned(3, (0.9, 0.1, 1.8))
    frame = replace(street_frame(1.0), ego_from_network=mount)
    frame = replace(frame, cameras=tuple(c for c in frame.cameras if c.name in network.config.cameras))
    seen = OccupancyStream(network).step(frame, Wanted(logits=True))
    config = network.config.placed(mount)
    low, high = np.array(config.grid.range_m[:3]), np.array(config.grid.range_m[3:])
    points_m = np.random.default_rng(6).uniform(1.3 * low, 1.3 * high, (2000, 3)).astype(np.float32)
    found = label_points(points_m, HERE, seen, PointRules("clamp", config.points))
    there_m = torch.from_numpy(moved_points(points_m, network_from_ego(config.grid)).astype(np.float32))
    published = point_labels(seen.logits, there_m, config.grid, config.points).numpy()
    assert (found.class_id == published).mean() > 0.999 and len(np.unique(published)) > 3
    assert seen.labels.free_id not in found.class_id and OccupancyStream(network).step(frame).logits is None
