"""RayIoU: rays against a slow march through the same voxels, depths and scores worked by hand."""

import math
import time

import numpy as np
import pytest

from panoocc_core.geometry import invert, rigid
from panoocc_core.labels import LIDARSEG, label_set
from panoocc_core.metrics import RayHits, RayIoU, cast_rays, ray_directions, ray_origins_m
from panoocc_core.metrics.ray_iou import pitches_rad
from panoocc_core.types import GridGeometry

from .conftest import heading

LABELS = label_set("street", ("car", "terrain", "free"))
CAR, TERRAIN, FREE = 0, 1, 2


def tilted(degrees: float) -> np.ndarray:
    """Rotation [3, 3] about y."""
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])


def geometry_of(shape, size, rotation=None) -> GridGeometry:
    """A grid around the ego origin."""
    rotation = np.eye(3) if rotation is None else rotation
    return GridGeometry(shape, size, rigid(rotation, -rotation @ (np.array(shape) * size / 2)))


GRIDS = {
    "cubes": geometry_of((20, 18, 8), (0.5, 0.5, 0.5)),
    "turned": geometry_of((15, 20, 9), (0.7, 0.4, 0.3), heading(37)),
    "tilted": geometry_of((12, 13, 14), (0.5, 0.9, 0.6), heading(-110) @ tilted(20)),
    "one layer": geometry_of((30, 30, 1), (0.4, 0.4, 0.4)),
}


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def slow_hit(class_id, free_id, geometry, origin, direction) -> tuple[int, float]:
    """Where the ray crosses any plane between voxels it may change voxels: look at the middle between two crossings."""
    grid_from_ego = invert(geometry.ego_from_grid)
    start = grid_from_ego[:3, :3] @ origin + grid_from_ego[:3, 3]
    ahead = grid_from_ego[:3, :3] @ direction
    crossings = [0.0]
    for axis in range(3):
        if ahead[axis] != 0:
            faces = np.arange(geometry.shape_xyz[axis] + 1) * geometry.voxel_size_m[axis]
            crossings += [float(t) for t in (faces - start[axis]) / ahead[axis] if t > 0]
    crossings.sort()
    for near, far in zip(crossings, crossings[1:]):
        middle = start + ahead * (near + far) / 2
        index = np.floor(middle / geometry.voxel_size_m).astype(int)
        if (index >= 0).all() and (index < geometry.shape_xyz).all() and class_id[tuple(index)] != free_id:
            return int(class_id[tuple(index)]), near
    return free_id, math.inf


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("share", [0.01, 0.2])
def test_hits_are_those_of_a_slow_march(name, share):
    geometry, draw = GRIDS[name], np.random.default_rng(4)
    class_id = np.where(draw.random(geometry.shape_xyz) < share, draw.integers(0, 17, geometry.shape_xyz), 17)
    origins = np.concatenate((draw.uniform(-2, 2, (4, 3)), draw.uniform(-9, 9, (4, 3)), [[0.01, 0.02, 0.03]]))
    directions = np.concatenate((unit(draw.normal(size=(60, 3))), np.eye(3), -np.eye(3)))
    hits = cast_rays(class_id.astype(np.uint8), 17, geometry, origins, directions)
    slow = [slow_hit(class_id, 17, geometry, o, d) for o in origins for d in directions]
    assert hits.class_id.tolist() == [c for c, _ in slow]
    assert hits.depth_m == pytest.approx([depth for _, depth in slow], abs=1e-9)
    met = (hits.class_id != 17).mean()
    assert 0.03 < met < 0.95  # both kinds are there


def test_depth_is_where_the_voxel_is_entered():
    geometry = GridGeometry((10, 10, 4), (0.5, 0.5, 0.5), rigid(np.eye(3), np.array([0.0, -2.5, -1.0])))
    class_id = np.full((10, 10, 4), FREE, np.uint8)
    class_id[6, :, :] = CAR  # a wall from x = 3 m
    origin = np.array([[0.1, 0.1, 0.1]])
    hits = cast_rays(
        class_id, FREE, geometry, origin, unit(np.array([[1, 0, 0], [1, 0.5, 0], [-1, 0, 0], [0, 0, 1.0]]))
    )
    assert hits.class_id.tolist() == [CAR, CAR, FREE, FREE]
    assert hits.depth_m[:2] == pytest.approx([2.9, 2.9 * math.sqrt(1.25)])
    assert np.isinf(hits.depth_m[2:]).all()
    inside = cast_rays(class_id, FREE, geometry, np.array([[3.2, 0.1, 0.1]]), np.array([[1.0, 0, 0]]))
    assert inside.class_id.tolist() == [CAR] and inside.depth_m.tolist() == [0]
    ahead_of_grid = cast_rays(
        class_id, FREE, geometry, np.array([[-5.0, 0.1, 0.1], [-5, 9, 0.1]]), np.array([[1.0, 0, 0]])
    )
    assert ahead_of_grid.class_id.tolist() == [CAR, FREE] and ahead_of_grid.depth_m[0] == pytest.approx(8)


@pytest.mark.parametrize("place", [0.0, 1.0, 0.3])
def test_diagonals_through_edges_and_corners_find_their_way(place):
    """Along 45 degrees every crossing is one of an edge, or of a corner."""
    geometry = GridGeometry((8, 8, 8), (1.0, 1.0, 1.0), np.eye(4))
    class_id = np.full((8, 8, 8), FREE, np.uint8)
    class_id[5, 5, 5] = CAR
    for direction in ([1, 1, 1], [1, 1, 0]):
        hits = cast_rays(
            class_id,
            FREE,
            geometry,
            np.array([[place, place, place if direction[2] else 5.5]]),
            unit(np.array([direction])),
        )
        assert hits.class_id.tolist() == [CAR]
        assert hits.depth_m == pytest.approx((5 - place) * math.sqrt(sum(direction)))


def test_a_turned_world_gives_the_same_hits():
    draw = np.random.default_rng(5)
    class_id = np.where(draw.random((20, 18, 8)) < 0.03, CAR, FREE).astype(np.uint8)
    turn = heading(123) @ tilted(31)
    origins, directions = draw.uniform(-2, 2, (3, 3)), unit(draw.normal(size=(500, 3)))
    straight = cast_rays(class_id, FREE, GRIDS["cubes"], origins, directions)
    there = geometry_of((20, 18, 8), (0.5, 0.5, 0.5), turn)
    turned = cast_rays(class_id, FREE, there, origins @ turn.T, directions @ turn.T)
    assert np.array_equal(straight.class_id, turned.class_id)
    assert straight.depth_m == pytest.approx(turned.depth_m, abs=1e-6)


def test_the_rays_of_the_protocol():
    directions = ray_directions()
    assert directions.shape == (39 * 360, 3)
    assert np.linalg.norm(directions, axis=1) == pytest.approx(1)
    pitches = np.array(pitches_rad())
    assert 1 / np.tan(-pitches[:10]) == pytest.approx(np.arange(1, 11))  # distance on the ground per height
    assert np.diff(pitches[9:]) == pytest.approx(np.deg2rad(0.6296), abs=1e-5)
    assert pitches[-2] < 0.21 <= pitches[-1]
    assert (np.diff(pitches) > 0).all()
    assert directions[90] == pytest.approx([0, math.cos(pitches[0]), math.sin(pitches[0])])  # azimuth 90: to the left


def test_ground_is_met_where_the_rays_look():
    geometry = GridGeometry((200, 200, 16), (0.4, 0.4, 0.4), rigid(np.eye(3), np.array([-40, -40, -1.0])))
    class_id = np.full(geometry.shape_xyz, FREE, np.uint8)
    class_id[:, :, 2] = TERRAIN  # up to z = 0.2 m
    origin = np.array([[1.0, 0.0, 1.84]])
    hits = cast_rays(class_id, FREE, geometry, origin, ray_directions())
    pitch = np.repeat(pitches_rad(), 360)
    assert (hits.class_id[pitch < -0.05] == TERRAIN).all() and (hits.class_id[pitch > 0] == FREE).all()
    down = pitch < -0.05
    assert hits.depth_m[down] == pytest.approx(1.64 / np.sin(-pitch[down]))


def test_origins_are_those_of_the_drive_that_are_near():
    turn = heading(30)
    poses = [rigid(turn, np.array([100.0, 50.0, 2.0]) + turn @ np.array([2.0 * i, 0, 0])) for i in range(41)]
    origins = ray_origins_m(poses, 20, (1.0, 0.0, 1.8))
    assert len(origins) == 8
    # Of x = 1 + 2 (i - 20) m those within 39 m: from -37 (i = 1) to 37 (i = 38), eight of 38 taken evenly.
    steps = np.round(np.linspace(0, 37, 8))
    assert origins == pytest.approx(np.stack((-37 + 2 * steps, 0 * steps, 1.8 + 0 * steps), axis=1))
    assert ray_origins_m(poses[:3], 0, (1.0, 0.0, 1.8)) == pytest.approx(
        np.array([[1, 0, 1.8], [3, 0, 1.8], [5, 0, 1.8]])
    )
    assert len(ray_origins_m(poses, 20, (1.0, 0.0, 1.8), limit_m=4)) == 4  # -3, -1, 1, 3 m


def rays(*hits: tuple[int, float]) -> RayHits:
    return RayHits(np.array([c for c, _ in hits], np.uint8), np.array([d for _, d in hits], float))


NOTHING = (FREE, math.inf)


def test_scores_worked_by_hand():
    true = rays((CAR, 10), (CAR, 10), (CAR, 10), (TERRAIN, 5), (TERRAIN, 5), NOTHING)
    predicted = rays((CAR, 10.5), (CAR, 13), (TERRAIN, 10), (TERRAIN, 6), NOTHING, (CAR, 3))
    found = RayIoU.empty(3).add(predicted, true, FREE)
    assert found.true_rays.tolist() == [3, 2, 0] and found.predicted_rays.tolist() == [2, 2, 0]
    # car: 1, 1, 2 hits; terrain: error of exactly 1 m is none at 1 m, one at 2 and 4 m.
    assert found.hits.tolist() == [[1, 0, 0], [1, 1, 0], [2, 1, 0]]
    assert found.iou()[:, :2] == pytest.approx(np.array([[1 / 4, 0], [1 / 4, 1 / 3], [2 / 3, 1 / 3]]))
    assert np.isnan(found.iou()[:, FREE]).all()
    assert found.means() == pytest.approx([1 / 8, 7 / 24, 1 / 2])
    assert found.mean() == pytest.approx((1 / 8 + 7 / 24 + 1 / 2) / 3)
    doubled = found + found
    assert doubled.iou() == pytest.approx(found.iou(), nan_ok=True) and doubled.true_rays.sum() == 10


def test_an_invented_class_costs_unless_only_present_ones_are_asked_for():
    found = RayIoU.empty(3).add(rays((CAR, 1), (TERRAIN, 1)), rays((CAR, 1), (CAR, 1)), FREE)
    assert found.mean() == pytest.approx(0.25) and found.mean_of_present() == pytest.approx(0.5)


def test_a_perfect_frame_scores_one_and_a_shifted_one_by_its_shift():
    geometry = GridGeometry((40, 40, 8), (0.8, 0.8, 0.8), rigid(np.eye(3), np.array([-16, -16, -1.0])))
    true = np.full(geometry.shape_xyz, FREE, np.uint8)
    true[30:, :, :], true[:30, :, 0] = CAR, TERRAIN  # a wall from x = 8 m
    nearer = true.copy()
    nearer[28:, :, :] = CAR  # 1.6 m nearer
    origins = np.array([[0.1, 0.2, 1.8]])
    level = ray_directions((0.0,), 36)
    perfect = RayIoU.empty(3).add_frame(true, true, LABELS, geometry, origins, level)
    assert perfect.means() == (1, 1, 1) and perfect.true_rays.tolist()[TERRAIN] == 0
    moved = RayIoU.empty(3).add_frame(nearer, true, LABELS, geometry, origins, ray_directions((0.0,), 360)[:1])
    assert moved.iou()[:, CAR].tolist() == [0, 1, 1]


def test_bad_input_is_refused():
    class_id = np.full((20, 18, 8), FREE, np.uint8)
    some = np.zeros((1, 3)), np.eye(3)
    with pytest.raises(ValueError, match="class_id has the shape"):
        cast_rays(class_id[:-1], FREE, GRIDS["cubes"], *some)
    with pytest.raises(ValueError, match=r"within 0\.\.253"):
        cast_rays(np.full((20, 18, 8), 255, np.uint8), FREE, GRIDS["cubes"], *some)
    with pytest.raises(ValueError, match="rays cannot pass"):
        RayIoU.empty(17).add_frame(class_id, class_id, LIDARSEG, GRIDS["cubes"], some[0])
    with pytest.raises(ValueError, match="1 predicted rays, 2 true ones"):
        RayIoU.empty(3).add(rays(NOTHING), rays(NOTHING, NOTHING), FREE)
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        RayIoU.empty(2).add(rays((CAR, 1)), rays((2, 1)), 1)
    with pytest.raises(ValueError, match="other thresholds"):
        RayIoU.empty(3) + RayIoU.empty(3, (1,))


def test_a_frame_takes_less_than_a_second():
    geometry = GridGeometry((200, 200, 16), (0.4, 0.4, 0.4), rigid(np.eye(3), np.array([-40, -40, -1.0])))
    true = np.full(geometry.shape_xyz, FREE, np.uint8)
    true[:, :, 2] = TERRAIN
    true[np.random.default_rng(0).random(true.shape) < 0.003] = CAR
    labels = label_set("street", ("car", "terrain", "free"))
    origins = np.stack((np.linspace(-20, 20, 8), np.zeros(8), np.full(8, 1.84)), axis=1)
    start = time.perf_counter()
    found = RayIoU.empty(3).add_frame(np.roll(true, 1, axis=0), true, labels, geometry, origins)
    assert time.perf_counter() - start < 3  # 0.4 s on a free core
    assert found.true_rays.sum() > 50_000
