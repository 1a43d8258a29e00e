"""One instant of a scene as a rig records it: images in the rig's order, and the truth when it is asked for."""

import cv2
import numpy as np
import pytest

from panoocc_core.geometry import rigid
from panoocc_core.sim import Renderer, Scene, nuscenes_rig, truth
from panoocc_core.sim.boxes import true_boxes
from panoocc_core.sim.capture import capture
from panoocc_core.sim.lidar import Lidar, true_points
from panoocc_core.sim.visibility import camera_mask
from panoocc_core.types import GridGeometry

GRID = GridGeometry((32, 32, 8), (1.6, 1.6, 0.8), rigid(np.eye(3), np.array([-25.6, -25.6, -1.6])))
RIG = nuscenes_rig(0.04)
TIME_S = 1.5


@pytest.fixture(scope="module")
def renderer():
    return Renderer(Scene(4, 4.0))


def test_images_are_those_of_the_rig_in_its_order(renderer):
    taken = capture(renderer, RIG, TIME_S, None, jpeg_quality=95)
    assert taken.truth is None and len(taken.jpegs) == len(RIG)
    pictures = renderer.pictures(RIG, TIME_S)
    for camera, jpeg in zip(RIG, taken.jpegs):
        image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1].astype(int)
        error = {name: np.abs(image - one.rgb).mean() for name, one in pictures.items()}
        assert min(error, key=error.get) == camera.name and error[camera.name] < 12
    smaller = capture(renderer, RIG, TIME_S, None, jpeg_quality=40)
    assert all(len(low) < len(high) for low, high in zip(smaller.jpegs, taken.jpegs))


@pytest.mark.parametrize("delay_s", [0.0, 0.4])
def test_the_truth_holds_at_its_own_time_and_the_cameras_see_at_theirs(renderer, delay_s):
    found = capture(renderer, RIG, TIME_S, GRID, truth_delay_s=delay_s, lidar=Lidar()).truth
    scene, truth_s = renderer.scene, TIME_S + delay_s
    solid, boxes = truth(scene, GRID, truth_s), true_boxes(scene, truth_s)
    assert found.stamp_ns == round(truth_s * 1e9)
    assert np.array_equal(found.class_id, solid.class_id) and np.array_equal(found.instance_id, solid.instance_id)
    assert np.array_equal(found.camera_mask, camera_mask(scene, RIG, solid, TIME_S))
    assert np.array_equal(found.boxes.centre_m, boxes.centre_m) and len(boxes)
    points = true_points(scene, truth_s)
    assert np.array_equal(found.points.position_m, points.position_m) and len(points.position_m)
    assert capture(renderer, RIG, TIME_S, GRID).truth.points is None
    alone = capture(renderer, RIG, TIME_S, None, truth_delay_s=delay_s, lidar=Lidar()).truth
    assert alone.class_id is None and np.array_equal(alone.points.position_m, points.position_m) and len(alone.boxes)
    if delay_s:
        assert not np.array_equal(found.class_id, truth(scene, GRID, TIME_S).class_id)


def test_a_grid_that_is_too_large_is_refused(renderer):
    with pytest.raises(ValueError, match="larger than"):
        capture(renderer, RIG, TIME_S, GridGeometry((4096, 4096, 64), (0.1,) * 3, np.eye(4)))
