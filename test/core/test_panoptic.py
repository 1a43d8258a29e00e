"""Instances as connected parts of thing classes."""

import numpy as np
import pytest

from panoocc_core.config import PanopticConfig
from panoocc_core.labels import BOX_CLASSES, LIDARSEG, OCC3D
from panoocc_core.panoptic import connected_instances
from panoocc_core.panoptic.fusion import claimed
from panoocc_core.types import ScoredBoxes

CAR, PEDESTRIAN, ROAD, FREE = (OCC3D.names.index(n) for n in ("car", "pedestrian", "driveable_surface", "free"))


def volume(*voxels):
    """Free space with (class, x, y, z) in it."""
    class_id = np.full((6, 5, 4), FREE, np.uint8)
    for one, *place in voxels:
        class_id[tuple(place)] = one
    return class_id


def test_corners_join_and_a_gap_parts():
    ids = connected_instances(volume((CAR, 0, 0, 0), (CAR, 1, 1, 1), (CAR, 3, 1, 1)), OCC3D)
    assert ids.dtype == np.int32 and ids[0, 0, 0] == ids[1, 1, 1] != ids[3, 1, 1]
    assert ids[3, 1, 1] > 0 and np.count_nonzero(ids) == 3


def test_classes_do_not_join_nor_share_ids():
    ids = connected_instances(volume((CAR, 2, 2, 2), (PEDESTRIAN, 2, 2, 3), (PEDESTRIAN, 5, 0, 0)), OCC3D)
    assert sorted(ids[ids > 0].tolist()) == [1, 2, 3]


def test_stuff_and_free_space_are_no_things():
    class_id = volume((CAR, 0, 0, 0))
    class_id[:, :, 1] = ROAD
    assert np.argwhere(connected_instances(class_id, OCC3D)).tolist() == [[0, 0, 0]]


def test_ids_do_not_depend_on_the_byte_order_of_memory():
    rng = np.random.default_rng(3)
    class_id = rng.choice(np.array([CAR, PEDESTRIAN, FREE, FREE, FREE], np.uint8), size=(9, 7, 5))
    turned = np.asfortranarray(class_id)
    assert np.array_equal(connected_instances(class_id, OCC3D), connected_instances(turned, OCC3D))


def test_points_are_refused():
    with pytest.raises(ValueError, match="volume"):
        connected_instances(np.zeros(5, np.uint8), OCC3D)


def test_boxes_claim_the_points_of_their_class_best_first():
    position = np.array([[0, 0, 0], [0.5, 0, 0], [0.9, 0, 0], [5, 0, 0], [0, 0.2, 0]], np.float32)
    car, walker = LIDARSEG.names.index("car"), LIDARSEG.names.index("pedestrian")
    classes = np.array([car, car, car, car, walker], np.uint8)
    boxes = ScoredBoxes(
        centre_m=np.array([[0, 0, 0], [0.1, 0, 0], [5, 0, 0], [5, 0, 0]], np.float32),
        size_m=np.full((4, 3), 2.0, np.float32),
        yaw_rad=np.array([0, 0, np.pi / 4, 0], np.float32),
        velocity_mps=np.zeros((4, 2), np.float32),
        class_id=np.array([BOX_CLASSES.index("car")] * 4),
        score=np.array([0.9, 0.8, 0.5, 0.1], np.float32),
    )
    # The second box finds its points taken, the last one is too unsure.
    found = claimed(position, classes, boxes, LIDARSEG, PanopticConfig(min_voxels=1))
    assert found.box.tolist() == [1, 1, 1, 2, 0] and found.kept.tolist() == [0, 2]
