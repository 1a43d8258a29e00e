"""What the demo's picture takes from recorded grids: numbers that last, boxes around them, who found what is true."""

from types import SimpleNamespace

import numpy as np
import pytest

from panoocc_core.geometry import rigid
from panoocc_core.labels import OCC3D
from panoocc_core.pictures.voxel_view import VoxelVolume
from panoocc_core.types import GridGeometry
from panoocc_ros.demo.animation import found_numbers
from panoocc_ros.view.numbers import MIN_FOLLOWED_S, boxes_of, followed_numbers

GRID = GridGeometry((20, 20, 4), (1.0, 1.0, 0.5), rigid(np.eye(3), np.array([-10.0, -10.0, -1.0])))
CAR, ROAD, FREE = (OCC3D.names.index(name) for name in ("car", "driveable_surface", "free"))


def street(**numbers):
    """Two cars of 4 m x 2 m x 1 m, at x = 2 and -8 m, y = 3 m."""
    class_id, instance_id = np.full(GRID.shape_xyz, FREE, np.uint8), np.zeros(GRID.shape_xyz, np.int32)
    class_id[..., 0] = ROAD
    for x, number in ((12, numbers.get("ahead", 7)), (2, numbers.get("behind", 9))):
        class_id[x : x + 4, 13:15, 2:4] = CAR
        instance_id[x : x + 4, 13:15, 2:4] = number
    return VoxelVolume(class_id, GRID, OCC3D, instance_id=instance_id)


def test_boxes_lie_around_the_voxels_of_the_numbers_that_are_asked_for():
    boxes = boxes_of(street(), [7, 100])
    assert boxes is not None and boxes.instance_id.tolist() == [7]
    assert boxes.centre_m[0] == pytest.approx([4, 4, 0.5], abs=1e-4)
    assert boxes.size_m[0] == pytest.approx([4, 2, 1], abs=1e-4) and boxes.yaw_rad[0] == pytest.approx(0, abs=1e-4)
    assert boxes_of(street(), [7, 9]).instance_id.tolist() == [7, 9] == boxes_of(street()).instance_id.tolist()
    assert len(boxes_of(street(), [])) == 0 == len(boxes_of(street(ahead=0, behind=0), [0]))


def test_without_ids_there_are_no_boxes():
    unnumbered = VoxelVolume(street().class_id, GRID, OCC3D)
    assert boxes_of(unnumbered, [7]) is None


def test_a_true_thing_has_the_number_that_most_of_its_voxels_have():
    true, predicted = street(ahead=1, behind=2).instance_id, street(ahead=30, behind=0).instance_id
    predicted[12, 13:15, 2:4] = 31  # a quarter of the car ahead
    found = found_numbers(true, predicted)
    assert (found[true == 1] == 30).all() and not found[true != 1].any()
    assert found_numbers(None, predicted) is found_numbers(true, None) is None
    assert found_numbers(true, predicted[:10]) is None


def test_numbers_that_last_are_followed_the_longest_first():
    """7 lasts longest though it is hidden in between, 8 a little shorter, 9 comes for a moment."""
    seen = [(0.0, [0, 7]), (1.0, [0, 7, 8, 9]), (1.5, [9]), (2.0, [8]), (1.0 + MIN_FOLLOWED_S, [7, 8])]
    grids = [SimpleNamespace(header=stamped(time_s), instance_id=numbers) for time_s, numbers in seen]
    assert followed_numbers(grids) == [7, 8] and followed_numbers([]) == []


def stamped(time_s):
    seconds = int(time_s)
    return SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=round((time_s - seconds) * 1e9)))
