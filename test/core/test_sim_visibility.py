"""What cameras see: the first surface and the air before it, nothing behind."""

from dataclasses import replace

import numpy as np

from panoocc_core.geometry import invert, rigid
from panoocc_core.labels import OCC3D
from panoocc_core.sim import Renderer, Scene, SimCamera, nuscenes_rig, truth
from panoocc_core.sim.camera import mounted, pinhole
from panoocc_core.sim.visibility import View, camera_mask, mask_from_views
from panoocc_core.types import GridGeometry

FREE = OCC3D.names.index("free")
GRID = GridGeometry((40, 20, 8), (0.5, 0.5, 0.5), rigid(np.eye(3), np.array([0.0, -5.0, -1.0])))
CAMERA = SimCamera("ahead", 64, 48, pinhole(64, 48, 90.0), mounted((0.0, 0.0, 1.0), 0.0))


def wall_view(depth_m: float) -> View:
    """A camera at the origin, 1 m up, that looks ahead at a wall."""
    depth = np.full((48, 64), depth_m, np.float32)
    return View(CAMERA, CAMERA.ego_from_camera, depth)


def test_a_wall_hides_what_is_behind_it():
    seen = mask_from_views([wall_view(8.0)], GRID, np.eye(4))  # 8 m: the face between voxels 15 and 16
    middle = seen[:, 10, 4]  # beside the optical axis
    assert middle[2:16].all() and not middle[17:].any()
    assert seen[:16].any() and not seen[17:].any()


def test_the_voxel_of_the_surface_is_seen_and_the_next_one_is_not():
    for depth_m in (7.6, 7.9, 8.1, 8.4):
        middle = mask_from_views([wall_view(depth_m)], GRID, np.eye(4))[:, 10, 4]
        surface = int(depth_m / 0.5)
        assert middle[surface] and not middle[surface + 2 :].any(), depth_m


def test_the_sky_hides_nothing_and_what_lies_aside_is_not_seen():
    seen = mask_from_views([wall_view(np.inf)], GRID, np.eye(4))
    assert seen[10:, 10, 4].all()
    assert not seen[:6, 0, :].any()  # beyond 45 degrees to the right
    behind = View(CAMERA, mounted((0.0, 0.0, 1.0), 180.0), wall_view(np.inf).depth_m)
    assert not mask_from_views([behind], GRID, np.eye(4)).any()


def test_cameras_add_up_and_the_rigs_pose_does_not_matter():
    left = View(CAMERA, mounted((0.0, 0.0, 1.0), 60.0), wall_view(6.0).depth_m)
    both = mask_from_views([wall_view(8.0), left], GRID, np.eye(4))
    alone = [mask_from_views([view], GRID, np.eye(4)) for view in (wall_view(8.0), left)]
    assert np.array_equal(both, alone[0] | alone[1]) and both.sum() > max(mask.sum() for mask in alone)
    assert not mask_from_views([], GRID, np.eye(4)).any()
    cosine, sine = np.cos(0.3), np.sin(0.3)
    pose = rigid(np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]), np.array([100.0, -50.0, 0.0]))
    moved = [View(CAMERA, pose @ view.world_from_camera, view.depth_m) for view in (wall_view(8.0), left)]
    assert (mask_from_views(moved, GRID, pose) != both).mean() < 1e-3


def middles_in_image(camera: SimCamera, geometry: GridGeometry) -> np.ndarray:
    """Bool [X, Y, Z]: voxels whose middle lies in the camera's image, whatever stands before it."""
    middles = geometry.centres_m(np.indices(geometry.shape_xyz).reshape(3, -1).T)
    camera_from_ego = invert(camera.ego_from_camera)
    points = middles @ camera_from_ego[:3, :3].T + camera_from_ego[:3, 3]
    u, v = (points / np.maximum(points[:, 2:], 1e-3) @ camera.intrinsics[:2].T).T
    inside = (points[:, 2] > 0.05) & (u >= 0) & (v >= 0) & (u <= camera.width - 1) & (v <= camera.height - 1)
    return inside.reshape(geometry.shape_xyz)


def test_occupied_voxels_that_pixels_hit_are_seen():
    """All but those whose middle lies beyond the image's edge, or deep behind the corner that the pixel hits."""
    shape, size_m = (100, 100, 16), 0.4
    geometry = GridGeometry(shape, (size_m,) * 3, rigid(np.eye(3), np.array([-20.0, -20.0, -1.0])))
    scene, time_s = Scene(seed=4, seconds=5), 2.0
    rig = tuple(replace(camera, shutter_offset_s=0.0) for camera in nuscenes_rig(0.1))
    true = truth(scene, geometry, time_s)
    mask = camera_mask(scene, rig, true, time_s)
    renderer = Renderer(scene)
    hit, in_image = np.zeros(shape, int), np.zeros(shape, bool)
    for camera in rig:
        depth_m = renderer.picture(camera, time_s).depth_m
        v, u = np.nonzero(np.isfinite(depth_m))
        rays = np.stack((u, v, np.ones(len(u))), axis=1) @ np.linalg.inv(camera.intrinsics).T
        points = rays * (depth_m[v, u][:, None].astype(float) + 2e-3)
        grid_from_camera = invert(geometry.ego_from_grid) @ camera.ego_from_camera
        index = np.floor((points @ grid_from_camera[:3, :3].T + grid_from_camera[:3, 3]) / size_m)
        index = index[((index >= 0) & (index < shape)).all(axis=1)].astype(int)
        np.add.at(hit, tuple(index.T), 1)
        in_image |= middles_in_image(camera, geometry)
    pixels = hit * (true.class_id != FREE)
    assert pixels.sum() > 5000
    assert (pixels * mask).sum() / pixels.sum() > 0.9
    assert (pixels * mask * in_image).sum() / (pixels * in_image).sum() > 0.97
    assert not (mask & ~in_image).any() and 0.1 < mask.mean() < 0.95
