"""True voxels that only true boxes tell apart: each is of the box that it is nearest to, and no box is a guess."""

from dataclasses import replace

import numpy as np
import pytest

from panoocc_core.ground_truth import GroundTruth, TrueBoxes
from panoocc_core.labels import BOX_CLASSES, OCC3D, OCC3D_WAYMO
from panoocc_core.panoptic import true_instance_ids
from panoocc_core.types import GridGeometry

FREE, CAR = OCC3D.names.index("free"), OCC3D.names.index("car")
GRID = GridGeometry((20, 10, 4), (0.5, 0.5, 0.5), np.eye(4))


def true_boxes(*rows, size_m=(1.9, 1.5, 1.5)):
    """Boxes of (class name, x, number)."""
    n = len(rows)
    return TrueBoxes(
        centre_m=np.array([(x, 1.75, 0.75) for _, x, _ in rows], np.float32),
        size_m=np.tile(np.array(size_m, np.float32), (n, 1)),
        yaw_rad=np.zeros(n, np.float32),
        velocity_mps=np.full((n, 2), np.nan, np.float32),
        class_id=np.array([BOX_CLASSES.index(name) for name, *_ in rows]),
        instance_id=np.array([number for *_, number in rows], np.int32),
    )


def test_true_boxes_tell_true_voxels_apart_where_nothing_else_does():
    geometry, walker = GRID, OCC3D.names.index("pedestrian")
    class_id = np.full(geometry.shape_xyz, FREE, np.uint8)
    class_id[2:10, 2:5, :3] = CAR  # two cars bumper to bumper, x from 1 to 3 and from 3 to 5 m
    class_id[15, 8, :3] = CAR  # in no box
    class_id[5, 3, 3] = walker  # on a roof
    boxes = TrueBoxes(
        centre_m=np.array([[2, 1.75, 0.75], [4, 1.75, 0.75]], np.float32),
        size_m=np.array([[1.9, 1.5, 1.5], [1.9, 1.5, 1.5]], np.float32),
        yaw_rad=np.array([0.0, np.pi], np.float32),
        velocity_mps=np.full((2, 2), np.nan, np.float32),
        class_id=np.array([BOX_CLASSES.index("car")] * 2),
        instance_id=np.array([70_001, 7], np.int32),
    )
    found = true_instance_ids(GroundTruth(0, geometry, class_id, boxes=boxes))
    expected = np.zeros(geometry.shape_xyz, np.int32)
    expected[2:6, 2:5, :3], expected[6:10, 2:5, :3] = 70_001, 7
    assert found.dtype == np.int32 and np.array_equal(found, expected)
    assert true_instance_ids(GroundTruth(0, geometry, class_id)) is None
    assert true_instance_ids(GroundTruth(0, geometry, class_id, expected, boxes=boxes)) is expected


def row_of_cars(first, last):
    class_id = np.full(GRID.shape_xyz, FREE, np.uint8)
    class_id[first:last, 2:5, :3] = CAR
    return class_id


def test_true_boxes_that_overlap_by_more_than_half_share_the_voxels():
    class_id = row_of_cars(2, 12)
    boxes = true_boxes(("car", 3.0, 1), ("car", 4.0, 2), size_m=(3.8, 1.5, 1.5))
    found = true_instance_ids(GroundTruth(0, GRID, class_id, boxes=boxes))
    assert (found[2:7, 2:5, :3] == 1).all() and (found[7:12, 2:5, :3] == 2).all()
    other_way = true_instance_ids(GroundTruth(0, GRID, class_id, boxes=boxes.select(np.array([1, 0]))))
    assert np.array_equal(found, other_way)


def test_a_true_box_in_the_middle_of_another_one_has_its_voxels():
    boxes = true_boxes(("car", 3.0, 1), ("car", 3.0, 2), size_m=(3.9, 1.5, 1.5))
    boxes = replace(boxes, size_m=np.array([(3.9, 1.5, 1.5), (0.9, 1.5, 1.5)], np.float32))
    found = true_instance_ids(GroundTruth(0, GRID, row_of_cars(2, 10), boxes=boxes))[2:10, 3, 1]
    assert found.tolist() == [1, 1, 1, 2, 2, 1, 1, 1]


def test_true_boxes_are_around_what_their_class_is_called_in_the_labels():
    """As a street that is told in the classes of Waymo: cars, trucks and buses are vehicles."""
    vehicle, cyclist = OCC3D_WAYMO.names.index("vehicle"), OCC3D_WAYMO.names.index("cyclist")
    class_id = np.full(GRID.shape_xyz, OCC3D_WAYMO.names.index("free"), np.uint8)
    class_id[2:6, 2:5, :3], class_id[8:12, 2:5, :3], class_id[14:18, 2:5, :3] = vehicle, vehicle, cyclist
    boxes = true_boxes(("car", 2.0, 1), ("truck", 5.0, 2), ("bicycle", 8.0, 3), ("barrier", 8.0, 4))
    found = true_instance_ids(GroundTruth(0, GRID, class_id, boxes=boxes, labels=OCC3D_WAYMO))
    assert [np.unique(found[first : first + 4, 2:5, :3]).tolist() for first in (2, 8, 14)] == [[1], [2], [3]]


def test_true_boxes_that_cannot_be_are_refused_as_truth():
    boxes = true_boxes(("car", 2.0, 1))
    with pytest.raises(ValueError, match="true boxes: size_m must be positive"):
        replace(boxes, size_m=np.array([(1.9, 0.0, 1.5)], np.float32))
    racks = replace(boxes, class_id=np.array([-1]))
    with pytest.raises(ValueError, match="true boxes: class_id must be an index of the 10 box classes"):
        true_instance_ids(GroundTruth(0, GRID, row_of_cars(2, 6), boxes=racks))
