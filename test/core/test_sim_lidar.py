"""A LiDAR in a scene: every ray's surface is the nearest one, and its points lie in the true voxels."""

import numpy as np
import pytest
import torch

from panoocc_core import model_config
from panoocc_core.geometry import NS_PER_S, invert, rigid
from panoocc_core.ground_truth import GroundTruth
from panoocc_core.labels import LIDARSEG, OCC3D
from panoocc_core.sim import Scene, SimCamera, truth
from panoocc_core.sim.camera import mounted
from panoocc_core.sim.lidar import Lidar, true_points
from panoocc_core.sim.rays import GROUND, cast
from panoocc_core.train.targets import make_targets
from panoocc_core.types import GridGeometry

TIME_S = 3.0
# No face between two layers at the height of the ground, which would lie in either.
FINE = GridGeometry((160, 160, 40), (0.2, 0.2, 0.2), rigid(np.eye(3), np.array([-16.0, -16.0, -2.1])))


@pytest.fixture(scope="module", params=[4, 10_000])
def scene(request) -> Scene:
    return Scene(request.param, 6.0)


@pytest.fixture(scope="module")
def points(scene):
    return true_points(scene, TIME_S)


def test_points_lie_on_the_rays_of_the_lidar_within_its_range(points):
    lidar = Lidar()
    ray = points.position_m.astype(float) - (0, 0, lidar.height_m)
    reach = np.linalg.norm(ray, axis=1)
    assert reach.max() <= lidar.range_m + 1e-4 and points.position_m[:, 2].min() > -1e-3
    beam = (np.degrees(np.arcsin(ray[:, 2] / reach)) + 30) / 40 * 31
    azimuth = np.arctan2(ray[:, 1], ray[:, 0]) / (2 * np.pi) * 480
    assert np.abs(beam - beam.round()).max() < 0.01 and np.abs(azimuth - azimuth.round()).max() < 0.01
    rays = beam.round() * 480 + azimuth.round() % 480
    assert len(np.unique(rays)) == len(rays) > 8000


def test_each_point_has_the_class_of_its_voxel_or_of_a_neighbour(scene, points):
    there = truth(scene, FINE, TIME_S).class_id
    names = {"others": "noise", **{name: name for name in LIDARSEG.names}}
    there = np.array([LIDARSEG.names.index(names[name]) if name in names else 255 for name in OCC3D.names])[there]
    cells = np.floor((points.position_m - FINE.ego_from_grid[:3, 3]) / 0.2).astype(int)
    inside = ((cells >= 1) & (cells < np.array(FINE.shape_xyz) - 1)).all(axis=1)
    steps = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3), axis=-1).reshape(-1, 3)
    around = np.stack([there[tuple((cells[inside] + step).T)] for step in steps], axis=1)
    own = there[tuple(cells[inside].T)]
    assert inside.sum() > 3000
    assert (around == points.class_id[inside, None]).any(axis=1).mean() >= 0.95
    assert (own == points.class_id[inside]).mean() > 0.8


@pytest.mark.parametrize("yaw_deg", [0, 90, 200])
def test_ranges_are_the_depths_that_a_camera_in_the_same_place_finds(scene, points, yaw_deg):
    """Where the camera's neighbouring pixels lie on one surface, the point lies on it too."""
    lens = np.array([[400.0, 0, 399.5], [0, 400, 299.5], [0, 0, 1]])
    camera = SimCamera("LIDAR", 800, 600, lens, mounted((0.0, 0.0, Lidar().height_m), yaw_deg))
    shapes = scene.shapes_at(TIME_S)
    hits = cast(camera, scene.world_from_ego(TIME_S) @ camera.ego_from_camera, shapes)
    local = points.position_m @ invert(camera.ego_from_camera)[:3, :3].T + invert(camera.ego_from_camera)[:3, 3]
    u, v, depth = *(local[:, :2] / local[:, 2:]).T * 400 + np.array([[399.5], [299.5]]), local[:, 2]
    seen = np.flatnonzero((depth > 0.1) & (u >= 1) & (u <= 798) & (v >= 1) & (v <= 598))
    column, row = u[seen].round().astype(int), v[seen].round().astype(int)
    near = np.stack([hits.shape[row + i, column + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    deep = np.stack([hits.depth_m[row + i, column + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    same = (near == near[0]).all(axis=0)
    assert same.sum() > 500
    assert ((depth[seen] >= deep.min(axis=0) - 0.02) & (depth[seen] <= deep.max(axis=0) + 0.02))[same].mean() > 0.99
    solid = same & (near[0] != GROUND)
    assert solid.sum() > 50
    assert (points.instance_id[seen][solid] == shapes.instance_id[near[0][solid]]).mean() > 0.98


def test_things_have_instances_and_stuff_has_none(scene, points):
    is_thing = np.array(LIDARSEG.is_thing)[points.class_id]
    assert ((points.instance_id > 0) == is_thing).all() and is_thing.any() and not is_thing.all()
    assert set(points.instance_id[is_thing]) <= set(scene.things.instance_id)
    assert (points.position_m.dtype, points.class_id.dtype, points.instance_id.dtype) == (
        np.float32,
        np.uint8,
        np.int32,
    )


def test_a_network_that_learns_from_points_finds_its_targets(points):
    config = model_config("pano_small_1f")
    targets = make_targets(GroundTruth(round(TIME_S * NS_PER_S), points=points), config, "cpu")
    labelled = targets.point_classes[targets.point_classes < config.class_count]
    assert len(labelled) > 1000 and len(torch.unique(labelled)) >= 6


def test_half_the_beams_meet_what_all_of_them_meet(scene):
    """Rays do not depend on each other, nor on the windows in which solids are looked for."""
    whole = true_points(scene, TIME_S, Lidar(beams=31, azimuths=360))
    part = true_points(scene, TIME_S, Lidar(beams=16, azimuths=90))
    places = {tuple(place): kind for place, kind in zip(whole.position_m.round(3), whole.class_id)}
    found = [places.get(tuple(place)) == kind for place, kind in zip(part.position_m.round(3), part.class_id)]
    assert len(found) > 800 and np.mean(found) > 0.99


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"beams": 1}, "beams"),
        ({"azimuths": 2}, "azimuths"),
        ({"lowest_deg": 20.0}, "20.0 to 10.0"),
        ({"highest_deg": 90.0}, "below 90"),
        ({"range_m": float("nan")}, "range_m"),
    ],
)
def test_a_lidar_that_cannot_be_is_refused(bad, words):
    with pytest.raises(ValueError, match=words):
        Lidar(**bad)
