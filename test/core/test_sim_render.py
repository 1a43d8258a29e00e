"""Images of the simulator: deterministic, and in agreement with the solids they show."""

import math

import numpy as np
import pytest
import torch

from panoocc_core.geometry import invert, rigid
from panoocc_core.labels import OCC3D
from panoocc_core.sim import Picture, Renderer, Rig, Scene, SimCamera, nuscenes_rig, solids, truth, waymo_rig
from panoocc_core.sim.rays import GROUND, Hits, cast
from panoocc_core.sim.rig import mounted, pinhole
from panoocc_core.sim.shadow import ShadowMap
from panoocc_core.sim.shapes import Kind, ShapeTable, hull_planes, inside
from panoocc_core.sim.solids import enter
from panoocc_core.types import GridGeometry

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


def entered(kind: Kind, planes: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    return enter(
        kind, torch.from_numpy(planes)[..., None], torch.from_numpy(origin), torch.from_numpy(direction)
    ).numpy()


@pytest.mark.parametrize("kind", list(Kind))
def test_rays_enter_a_solid_exactly_where_its_inside_begins(kind: Kind) -> None:
    random = np.random.default_rng(0)
    planes = hull_planes(np.array([[0.5, 0.2, 0.8]], np.float32))[0]
    origin = random.uniform(-4, 4, (3, 4000)).astype(np.float32)
    origin = origin[:, ~inside(kind, planes, origin)]
    direction = random.uniform(-1.5, 1.5, origin.shape).astype(np.float32) - origin
    times = entered(kind, planes, origin, direction)
    hit = np.isfinite(times)
    assert 0.3 < hit.mean() < 1
    step = np.float32(1e-3)
    assert inside(kind, planes, (origin + direction * (times + step))[:, hit]).mean() > 0.99  # but for grazing rays
    assert not inside(kind, planes, (origin + direction * (times - step))[:, hit]).any()
    along = np.linspace(0, 2, 80, dtype=np.float32)[:, None, None]
    sampled = inside(kind, planes, (origin + along * direction)[:, :, ~hit].transpose(1, 0, 2).reshape(3, -1))
    assert not sampled.any()


def reference_depth(shapes: ShapeTable, i: int, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Where rays [3, n] from one point enter solid i, in float64: the chord's first end, if it is a chord at all."""
    o = (shapes.local_from_world[i].astype(float) @ (origin - shapes.centre_m[i]))[:, None]
    d = shapes.local_from_world[i].astype(float) @ rays
    first, last = np.full(rays.shape[1], -np.inf), np.full(rays.shape[1], np.inf)
    round_axes = {Kind.HULL: 0, Kind.CYLINDER: 2, Kind.ELLIPSOID: 3}[Kind(shapes.kind[i])]
    if round_axes:
        a, b = (d[:round_axes] ** 2).sum(axis=0), (o[:round_axes] * d[:round_axes]).sum(axis=0)
        root = np.sqrt(b * b - a * ((o[:round_axes] ** 2).sum() - 1))
        first, last = (-b - root) / a, (-b + root) / a
    for plane in shapes.planes[i].astype(float)[{0: slice(0, 6), 2: slice(4, 6), 3: slice(0, 0)}[round_axes]]:
        speed, gap = plane[:3] @ d, plane[3] - plane[:3] @ o
        first = np.where(speed < 0, np.maximum(first, gap / speed), np.where((speed == 0) & (gap < 0), np.inf, first))
        last = np.where(speed > 0, np.minimum(last, gap / speed), last)
    return np.where((first < last) & (first > 0.05), first, np.inf)


def reference_depths(hits: Hits, shapes: ShapeTable) -> tuple[np.ndarray, np.ndarray]:
    """Least depth [n] of every pixel, by trying every solid on every ray, and the depth of the solid that was found."""
    rays, found = hits.direction.reshape(3, -1).astype(float), hits.shape.ravel()
    with np.errstate(all="ignore"):
        ground = np.where(rays[2] < 0, -hits.origin[2] / rays[2], np.inf)
        least, painted = ground.copy(), np.where(found == GROUND, ground, np.inf)
        for i in range(len(shapes)):
            own = reference_depth(shapes, i, hits.origin.astype(float), rays)
            least = np.minimum(least, own)
            painted = np.where(found == i, own, painted)
    return least, painted


@pytest.mark.parametrize("camera", [nuscenes_rig(0.0444)[i] for i in (0, 3)], ids=lambda camera: camera.name)
def test_every_solid_is_painted_where_its_own_rays_meet_it(scene: Scene, camera: SimCamera) -> None:
    """Windows, order and pieces hide nothing: all solids on all rays, in float64, agree with the image."""
    shapes = scene.shapes_at(2.0)
    hits = cast(camera, scene.world_from_ego(2.0) @ camera.ego_from_camera, shapes)
    least, painted = reference_depths(hits, shapes)
    near = least < 150  # beyond, solids are left out
    assert 0.5 < near.mean() < 1
    for found in (hits.depth_m.ravel(), painted):  # where faces lie in one plane, either solid will do
        assert (np.abs(found[near] - least[near]) < 1e-3 + 2e-5 * least[near]).mean() > 0.999


def test_the_size_of_the_pieces_does_not_matter(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU works on millions of rays at a time, a CPU on thousands; odd pieces cut windows in two."""
    usual = Renderer(scene, noise=0).picture(FRONT, 1.0)
    for size in (997, 10_000_000):
        monkeypatch.setattr(solids, "_PIECE", {"cpu": size})
        assert_alike(Renderer(scene, noise=0).picture(FRONT, 1.0), usual)


def test_every_device_paints_the_same_pictures(scene: Scene, renderer: Renderer, device: torch.device) -> None:
    assert_alike(Renderer(scene, device=device).picture(FRONT, 1.0), renderer.picture(FRONT, 1.0))


def assert_alike(picture: Picture, other: Picture) -> None:
    """Equal to the eye, and in all labels but those of single pixels on edges."""
    same = (picture.class_id == other.class_id) & (picture.instance_id == other.instance_id)
    assert same.mean() > 0.999
    with np.errstate(invalid="ignore"):
        apart = np.abs(picture.depth_m - other.depth_m) > 1e-3 + 2e-5 * other.depth_m
    assert (apart & same).mean() < 0.001
    assert (np.abs(picture.rgb.astype(int) - other.rgb) <= 2).all(axis=2).mean() > 0.999


FINE = GridGeometry((280, 280, 14), (0.2, 0.2, 0.2), rigid(np.eye(3), np.array([-28.0, -28.0, -0.2])))


def spread(values: np.ndarray) -> np.ndarray:
    """[3, 3, h, w]: an image and its eight neighbours, pixel by pixel."""
    padded = np.pad(values, 1, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, values.shape)


def voxels_in_picture(scene: Scene, camera: SimCamera, picture: Picture, time_s: float) -> tuple[int, float]:
    """Number of true voxels in the image whose middles project into it, and the share of them that agrees with it.

    It agrees when something hides it, or when the picture shows its class there and does not see past it; both within
    one pixel.
    """
    true = truth(scene, FINE, time_s)
    standing = true.class_id != OCC3D.free_id
    standing[:, :, :4] = False  # the ground, and what touches it
    index = np.argwhere(standing)
    class_id = true.class_id[tuple(index.T)]
    points = FINE.centres_m(index) - camera.ego_from_camera[:3, 3]
    x, y, depth = camera.intrinsics @ (points @ camera.ego_from_camera[:3, :3]).T
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = np.rint(x / depth), np.rint(y / depth)
    there = (depth > 8) & (depth < 28) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    u, v, depth, class_id = u[there].astype(int), v[there].astype(int), depth[there], class_id[there]
    near, seen = spread(picture.depth_m)[:, :, v, u], spread(picture.class_id)[:, :, v, u]
    hidden = (near < depth - 0.3).any(axis=(0, 1))
    shown = ((seen == class_id) & (near < depth + 0.3)).any(axis=(0, 1))
    return len(depth), float((hidden | shown).mean())


@pytest.mark.parametrize("rig", [nuscenes_rig(0.1), waymo_rig(0.06)], ids=["nuscenes", "waymo"])
def test_true_voxels_fall_on_the_pixels_that_show_them(scene: Scene, renderer: Renderer, rig: Rig) -> None:
    """While the vehicle drives, every camera at its own shutter time; a fifth of a second of error would be seen."""
    time_s, error_s = 2.0, 0.2
    assert scene.drive.speed_at(time_s) > 4
    pictures = renderer.pictures(rig, time_s)
    wrong = []
    for camera in rig:
        shutter_s = time_s + camera.shutter_offset_s
        count, share = voxels_in_picture(scene, camera, pictures[camera.name], shutter_s)
        assert count > 100 and share > 0.997, camera.name
        wrong.append(voxels_in_picture(scene, camera, pictures[camera.name], shutter_s + error_s)[1])
    assert np.mean(wrong) < 0.95


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


def lit(shadows: ShadowMap, points: np.ndarray) -> np.ndarray:
    """Share of sunlight [n] of points [n, 3]."""
    return shadows.lit(torch.from_numpy(np.ascontiguousarray(points.T, dtype=np.float32))).numpy()


def test_a_shadow_lies_on_the_far_side_of_the_sun(scene: Scene, renderer: Renderer) -> None:
    lamps = scene.shapes_at(0.0)
    walls = np.flatnonzero((lamps.half_m[:, 2] > 3) & (lamps.half_m[:, 0] > 3))
    foot = lamps.centre_m[walls] * (1, 1, 0)
    away = -scene.to_sun * (1, 1, 0)
    away /= np.linalg.norm(away)
    reach = lamps.half_m[walls].max(axis=1, keepdims=True) * 1.05
    shaded = lit(renderer._still_shadows, foot + away * reach)
    sunny = lit(renderer._still_shadows, foot - away * (reach + 30))
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
    whole = lit(renderer._still_shadows, points)
    assert 0.1 < whole.mean() < 0.95
    crop = renderer._still_shadows.around(middle, 40)
    assert crop.rise_m.numel() < renderer._still_shadows.rise_m.numel()
    assert np.abs(lit(crop, points) - whole).mean() < 1e-3
    assert renderer._still_shadows.around(middle + 1e5, 40).rise_m.numel() > 0
