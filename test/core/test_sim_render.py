"""Images of the simulator: deterministic, and in agreement with the solids they show."""

import math

import numpy as np
import pytest

from panoocc_core.geometry import invert, rigid
from panoocc_core.labels import OCC3D
from panoocc_core.sim import Renderer, Scene, SimCamera, nuscenes_rig
from panoocc_core.sim.rays import cast
from panoocc_core.sim.rig import mounted, pinhole
from panoocc_core.sim.shapes import Kind, enter, hull_planes, inside

RIG = nuscenes_rig(0.1)
FRONT = RIG[0]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(seed=3, seconds=6)


@pytest.fixture(scope="module")
def renderer(scene: Scene) -> Renderer:
    return Renderer(scene)


def test_rig_has_the_published_arrangement() -> None:
    names = [camera.name for camera in RIG]
    assert names == ["CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"]
    for camera, yaw_deg, fov_deg in zip(RIG, (0, -55, 55, 180, 110, -110), (70, 70, 70, 110, 70, 70)):
        ahead = camera.ego_from_camera[:3, 2]
        assert math.degrees(math.atan2(ahead[1], ahead[0])) % 360 == pytest.approx(yaw_deg % 360)
        assert camera.ego_from_camera[2, 1] == pytest.approx(-1)  # the image's down is the world's down
        assert 2 * math.degrees(math.atan(camera.width / 2 / camera.intrinsics[0, 0])) == pytest.approx(fov_deg)


@pytest.mark.parametrize("scale", [0, -1, 5])
def test_rig_refuses_useless_scales(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        nuscenes_rig(scale)


def test_camera_refuses_bad_calibration() -> None:
    with pytest.raises(ValueError, match="camera c: intrinsics"):
        SimCamera("c", 10, 10, np.zeros((3, 3)), np.eye(4))
    with pytest.raises(ValueError, match="camera c: ego_from_camera"):
        SimCamera("c", 10, 10, pinhole(10, 10, 90), np.eye(4) * 2)


def test_scaling_a_camera_keeps_its_edges() -> None:
    fine = FRONT.scaled(3)
    for corner, fine_corner in ((-0.5, -0.5), (FRONT.width - 0.5, fine.width - 0.5)):
        coarse_ray = (corner - FRONT.intrinsics[0, 2]) / FRONT.intrinsics[0, 0]
        fine_ray = (fine_corner - fine.intrinsics[0, 2]) / fine.intrinsics[0, 0]
        assert fine_ray == pytest.approx(coarse_ray)


def test_same_seed_gives_the_same_pictures_and_another_seed_others() -> None:
    first, again, other = (Renderer(Scene(seed, 4)).picture(FRONT, 1.0) for seed in (7, 7, 8))
    assert np.array_equal(first.rgb, again.rgb) and np.array_equal(first.depth_m, again.depth_m)
    assert (first.rgb != other.rgb).mean() > 0.3


@pytest.mark.parametrize("kind", list(Kind))
def test_rays_enter_a_solid_exactly_where_its_inside_begins(kind: Kind) -> None:
    random = np.random.default_rng(0)
    planes = hull_planes(np.array([[0.5, 0.2, 0.8]], np.float32))[0]
    origin = random.uniform(-4, 4, (3, 4000)).astype(np.float32)
    origin = origin[:, ~inside(kind, planes, origin)]
    direction = random.uniform(-1.5, 1.5, origin.shape).astype(np.float32) - origin
    times = enter(kind, planes, origin, direction)
    hit = np.isfinite(times)
    assert 0.3 < hit.mean() < 1
    step = np.float32(1e-3)
    assert inside(kind, planes, (origin + direction * (times + step))[:, hit]).mean() > 0.99  # but for grazing rays
    assert not inside(kind, planes, (origin + direction * (times - step))[:, hit]).any()
    along = np.linspace(0, 2, 80, dtype=np.float32)[:, None, None]
    sampled = inside(kind, planes, (origin + along * direction)[:, :, ~hit].transpose(1, 0, 2).reshape(3, -1))
    assert not sampled.any()


def test_every_solid_is_painted_where_its_own_rays_meet_it(scene: Scene) -> None:
    """The windows in which solids are looked for hide nothing: single rays at all solids agree with the image."""
    shapes = scene.shapes_at(2.0)
    for camera in RIG[:4]:
        world_from_camera = scene.world_from_ego(2.0) @ camera.ego_from_camera
        hits = cast(camera, world_from_camera, shapes)
        for v, u in [(40, 20), (50, 80), (42, 140), (30, 60), (60, 100), (45, 0), (47, 159)]:
            ray = hits.direction[:, v, u][:, None]
            times = []
            for i in range(len(shapes)):
                origin = shapes.local_from_world[i] @ (hits.origin - shapes.centre_m[i])
                local = shapes.local_from_world[i] @ ray
                times.append(enter(shapes.kind[i], shapes.planes[i], origin[:, None], local)[0])
            nearest = min(times)
            if hits.shape[v, u] >= 0:
                assert times[hits.shape[v, u]] == pytest.approx(nearest, rel=1e-4)
                assert hits.depth_m[v, u] == pytest.approx(nearest, rel=1e-4)
            else:
                assert nearest >= min(hits.depth_m[v, u], 160) - 1e-3


def test_a_known_point_lies_in_its_pixel(scene: Scene, renderer: Renderer) -> None:
    """Middles of unhidden vehicles, projected with the calibration, fall on pixels of their instance."""
    time_s, checked = 1.0, 0
    shapes = scene.shapes_at(time_s)
    picture = renderer.picture(FRONT, time_s)
    image_from_world = FRONT.intrinsics @ invert(scene.world_from_ego(time_s) @ FRONT.ego_from_camera)[:3]
    for i in np.flatnonzero((shapes.instance_id > 0) & (shapes.half_m.min(axis=1) > 0.3)):
        u, v, depth = image_from_world @ np.append(shapes.centre_m[i], 1)
        if depth < 1:
            continue
        column, row = round(u / depth), round(v / depth)
        if not (0 <= column < FRONT.width and 0 <= row < FRONT.height):
            continue
        reach = np.linalg.norm(shapes.half_m[i])
        if picture.depth_m[row, column] > depth - reach and depth < 40:  # nothing stands before it
            assert picture.class_id[row, column] == shapes.class_id[i]
            checked += 1
            assert picture.depth_m[row, column] < depth
    assert checked >= 3


def test_depth_of_the_ground_follows_from_the_mounting(renderer: Renderer) -> None:
    picture = renderer.picture(FRONT, 0.0)
    ground = picture.class_id[-1] == OCC3D.names.index("driveable_surface")
    row = FRONT.height - 1
    expected = FRONT.ego_from_camera[2, 3] * FRONT.intrinsics[1, 1] / (row - FRONT.intrinsics[1, 2])
    assert ground.any()
    np.testing.assert_allclose(picture.depth_m[-1][ground], expected, rtol=1e-3)


def test_the_sky_is_free_and_endless(renderer: Renderer) -> None:
    picture = renderer.picture(FRONT, 0.0)
    sky = ~np.isfinite(picture.depth_m)
    assert sky.any()
    assert (picture.class_id[sky] == OCC3D.free_id).all()
    assert (picture.class_id[~sky] != OCC3D.free_id).all()
    assert (picture.instance_id[sky] == 0).all()


def test_each_camera_has_its_own_shutter_time(renderer: Renderer) -> None:
    late = next(camera for camera in RIG if camera.shutter_offset_s > 0.03)
    together = renderer.pictures((late,), 1.0)[late.name]
    alone = renderer.picture(late, 1.0 + late.shutter_offset_s)
    assert np.array_equal(together.rgb, alone.rgb)
    assert not np.array_equal(together.depth_m, renderer.picture(late, 1.0).depth_m)


def test_supersampling_changes_colours_only(scene: Scene, renderer: Renderer) -> None:
    plain, fine = renderer.picture(FRONT, 1.0), Renderer(scene, supersample=2).picture(FRONT, 1.0)
    assert np.array_equal(plain.class_id, fine.class_id) and np.array_equal(plain.depth_m, fine.depth_m)
    difference = np.abs(plain.rgb.astype(int) - fine.rgb)
    assert 0 < difference.mean() < 12


def test_a_shadow_lies_on_the_far_side_of_the_sun(scene: Scene, renderer: Renderer) -> None:
    lamps = scene.shapes_at(0.0)
    walls = np.flatnonzero((lamps.half_m[:, 2] > 3) & (lamps.half_m[:, 0] > 3))
    foot = lamps.centre_m[walls] * (1, 1, 0)
    away = -scene.to_sun * (1, 1, 0)
    away /= np.linalg.norm(away)
    reach = lamps.half_m[walls].max(axis=1, keepdims=True) * 1.05
    shaded = renderer._still_shadows.lit(foot + away * reach)
    sunny = renderer._still_shadows.lit(foot - away * (reach + 30))
    assert shaded.mean() < 0.3 < 0.55 < sunny.mean()


def test_a_camera_that_looks_down_sees_the_road(renderer: Renderer) -> None:
    ego_from_camera = rigid(np.array([[0, -1, 0], [-1, 0, 0], [0, 0, -1.0]]), np.array([1.0, 0, 30.0]))
    down = SimCamera("DOWN", 64, 64, pinhole(64, 64, 20), ego_from_camera)
    picture = renderer.picture(down, 0.0)
    assert picture.class_id[32, 32] == OCC3D.names.index("driveable_surface")
    assert picture.depth_m[32, 32] == pytest.approx(30, rel=1e-3)
    assert mounted((0, 0, 1), 0)[2, 3] == 1


def test_cropped_shadows_are_the_same_shadows(scene: Scene, renderer: Renderer) -> None:
    middle = scene.world_from_ego(0.0)[:3, 3]
    points = (middle + np.random.default_rng(0).uniform((-20, -20, 0), (20, 20, 4), (3000, 3))).astype(np.float32)
    whole = renderer._still_shadows.lit(points)
    assert 0.1 < whole.mean() < 0.95
    crop = renderer._still_shadows.around(middle, 40)
    assert crop.rise_m.size < renderer._still_shadows.rise_m.size
    assert np.abs(crop.lit(points) - whole).mean() < 1e-3
    assert renderer._still_shadows.around(middle + 1e5, 40).rise_m.size > 0
