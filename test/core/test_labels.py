"""Label sets, and truth told in the classes of another one."""

import numpy as np
import pytest

from panoocc_core.ground_truth import GroundTruth
from panoocc_core.labels import (
    BOX_CLASSES,
    BUILT_IN,
    LIDARSEG_FREE,
    OCC3D,
    OCC3D_WAYMO,
    box_class,
    counterparts,
    label_set,
)
from panoocc_core.types import GridGeometry

CAR, BARRIER, BICYCLE, FREE = (OCC3D.names.index(name) for name in ("car", "barrier", "bicycle", "free"))
GRID = GridGeometry((4, 1, 1), (1.0, 1.0, 1.0), np.eye(4))


def truth(*classes: int, **changes) -> GroundTruth:
    class_id = np.array(classes, np.uint8).reshape(GRID.shape_xyz)
    return GroundTruth(0, GRID, class_id, **changes)


def names_of(truth: GroundTruth) -> list[str]:
    return [truth.labels.names[k] for k in truth.class_id.ravel()]


def test_the_classes_of_occ3d_waymo_are_numbered_as_published():
    assert [OCC3D_WAYMO.names[k] for k in (0, 1, 2, 4, 7, 10, 13, 14)] == [
        "general_object",
        "vehicle",
        "pedestrian",
        "cyclist",
        "construction_cone",
        "building",
        "road",
        "walkable",
    ]
    assert OCC3D_WAYMO.free_id == 15 and len(OCC3D_WAYMO.names) == 16
    assert sum(OCC3D_WAYMO.is_thing) == 6


def test_every_thing_of_a_built_in_set_has_a_box_class():
    for labels in BUILT_IN.values():
        things = [name for name, is_thing in zip(labels.names, labels.is_thing) if is_thing]
        assert all(0 <= box_class(name) < len(BOX_CLASSES) for name in things)
    assert BOX_CLASSES[box_class("vehicle")] == "car" and BOX_CLASSES[box_class("bus")] == "bus"
    with pytest.raises(ValueError):
        box_class("walkable")


def test_every_simulated_class_has_a_counterpart_in_waymo():
    ids = counterparts(OCC3D, OCC3D_WAYMO)
    assert None not in ids and ids[FREE] == OCC3D_WAYMO.free_id
    assert counterparts(OCC3D, OCC3D) == tuple(range(18))
    assert all(None not in counterparts(labels, labels) for labels in BUILT_IN.values())


def test_truth_is_told_in_the_classes_of_another_set():
    instance_id = np.array((3, 4, 5, 0), np.int32).reshape(GRID.shape_xyz)
    told = truth(CAR, BARRIER, BICYCLE, FREE, instance_id=instance_id).in_classes_of(OCC3D_WAYMO)
    assert told.labels is OCC3D_WAYMO
    assert names_of(told) == ["vehicle", "general_object", "cyclist", "free"]
    assert told.instance_id.ravel().tolist() == [3, 0, 5, 0]  # a barrier is a thing in nuScenes, and stuff in Waymo
    assert told.in_classes_of(OCC3D_WAYMO) is told


def test_a_class_without_a_counterpart_is_named():
    with pytest.raises(ValueError, match="classes occ3d_nuscenes, of which nuscenes_lidarseg_free has no others"):
        truth(CAR, CAR, CAR, FREE).in_classes_of(LIDARSEG_FREE)


def test_truth_is_checked_against_its_own_label_set():
    assert truth(0, 15, 15, 15, labels=OCC3D_WAYMO).labels.free_id == 15
    with pytest.raises(ValueError, match=r"holds the class 17, occ3d_waymo has 0\.\.15"):
        truth(0, 17, 1, 1, labels=OCC3D_WAYMO)
    assert names_of(truth(0, 1, 0, 0, labels=label_set("two", ("grass", "free")))) == [
        "grass",
        "free",
        "grass",
        "grass",
    ]
