"""True boxes hold what is drawn, and move as fast as they say."""

import numpy as np
import pytest

from panoocc_core.geometry import invert
from panoocc_core.labels import BOX_CLASSES, OCC3D
from panoocc_core.sim import Renderer, Scene, nuscenes_rig
from panoocc_core.sim.boxes import true_boxes

RIG, TIME_S = nuscenes_rig(0.08), 2.0


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(seed=5, seconds=6)


def corners_m(boxes, row: int) -> np.ndarray:
    """[8, 3] in the ego frame."""
    signs = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    local = signs * boxes.size_m[row]
    cosine, sine = np.cos(boxes.yaw_rad[row]), np.sin(boxes.yaw_rad[row])
    turned = local @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1.0]])
    return turned + boxes.centre_m[row]


def test_pixels_of_an_instance_lie_in_its_projected_box(scene):
    renderer = Renderer(scene)
    checked = 0
    for camera in RIG[:3]:
        boxes = true_boxes(scene, TIME_S)
        picture = renderer.picture(camera, TIME_S)
        camera_from_ego = invert(camera.ego_from_camera)
        for row, instance in enumerate(boxes.instance_id):
            pixels = np.argwhere(picture.instance_id == instance)
            points = corners_m(boxes, row) @ camera_from_ego[:3, :3].T + camera_from_ego[:3, 3]
            if not len(pixels) or points[:, 2].min() < 0.5:
                continue
            u, v = (points / points[:, 2:] @ camera.intrinsics.T)[:, :2].T
            inside = (pixels >= np.floor((v.min(), u.min()))) & (pixels <= np.ceil((v.max(), u.max())))
            assert inside.all(), (camera.name, instance)
            seen = int(picture.class_id[tuple(pixels[0])])
            assert OCC3D.names[seen] == BOX_CLASSES[boxes.class_id[row]]
            checked += 1
    assert checked >= 5


def test_points_of_an_instance_lie_in_its_box(scene):
    """In depth too: the surface that a pixel sees is in the box, to 5 cm."""
    renderer, boxes, checked = Renderer(scene), true_boxes(scene, TIME_S), 0
    for camera in RIG[:3]:
        picture = renderer.picture(camera, TIME_S)
        v, u = np.nonzero(picture.instance_id)
        depth = picture.depth_m[v, u][:, None].astype(float)
        rays = np.stack((u, v, np.ones(len(u))), axis=1) @ np.linalg.inv(camera.intrinsics).T
        points = rays * depth @ camera.ego_from_camera[:3, :3].T + camera.ego_from_camera[:3, 3]
        for row, instance in enumerate(boxes.instance_id):
            own = points[picture.instance_id[v, u] == instance] - boxes.centre_m[row]
            cosine, sine = np.cos(boxes.yaw_rad[row]), np.sin(boxes.yaw_rad[row])
            local = own @ np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
            assert (np.abs(local) <= boxes.size_m[row] / 2 + 0.05).all() or BOX_CLASSES[boxes.class_id[row]] == (
                "pedestrian"  # whose legs swing beyond the box at rest
            )
            checked += len(own)
    assert checked > 200


def test_velocities_are_the_way_over_half_a_second(scene):
    before, now, after = (true_boxes(scene, TIME_S + step, reach_m=200.0) for step in (-0.25, 0.0, 0.25))
    assert np.array_equal(before.instance_id, now.instance_id) and np.array_equal(now.instance_id, after.instance_id)
    poses = [scene.world_from_ego(TIME_S + step) for step in (-0.25, 0.25)]
    start, end = (
        boxes.centre_m @ pose[:3, :3].T + pose[:3, 3] for boxes, pose in zip((before, after), poses)
    )  # world frame
    over_ground = (end - start) / 0.5 @ scene.world_from_ego(TIME_S)[:3, :3]
    assert np.allclose(now.velocity_mps, over_ground[:, :2], atol=0.15)
    speed = np.hypot(*now.velocity_mps.T)
    assert (speed < 0.01).sum() > 5 and (speed > 3).sum() >= 1


def test_moving_things_face_where_they_go(scene):
    boxes = true_boxes(scene, TIME_S)
    cars = np.isin(boxes.class_id, [BOX_CLASSES.index(name) for name in ("car", "truck", "bus")])
    fast = cars & (np.hypot(*boxes.velocity_mps.T) > 3)
    heading = np.arctan2(boxes.velocity_mps[:, 1], boxes.velocity_mps[:, 0])[fast] - boxes.yaw_rad[fast]
    assert fast.any() and (np.cos(heading) > 0.99).all()


def test_the_reach_bounds_the_boxes(scene):
    near, far = true_boxes(scene, TIME_S, 15.0), true_boxes(scene, TIME_S, 80.0)
    assert 0 < len(near) < len(far)
    assert np.hypot(*near.centre_m[:, :2].T).max() <= 15.0
    assert len(true_boxes(scene, TIME_S, 0.0)) == 0
    assert len(set(far.instance_id.tolist())) == len(far)
