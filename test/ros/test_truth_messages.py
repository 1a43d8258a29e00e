"""Truth as messages: the voxels, what cameras see of them, and the outlines of boxes."""

from dataclasses import replace

import numpy as np
import pytest

from panoocc_core.geometry import BOX_EDGES, box_corners_m, rigid
from panoocc_core.ground_truth import GroundTruth, TrueBoxes
from panoocc_core.labels import BOX_CLASSES, OCC3D
from panoocc_core.types import GridGeometry
from panoocc_ros.messages.fields import stamp_ns
from panoocc_ros.messages.truth import (
    BOXES,
    LABELS,
    TRUE_OCCUPANCY,
    TYPES,
    box_markers,
    label_messages,
    truth_messages,
)
from panoocc_ros.messages.types import typestore
from panoocc_ros.messages.voxel_grid import SPARSE, visible_from_message
from test.ros.messages import listed

T = 1_700_000_000_123_456_789
SHAPE = (3, 4, 2)
GRID = GridGeometry(SHAPE, (0.5, 0.5, 1.0), rigid(np.eye(3), np.array([-1.0, -2.0, -0.5])))
CAR, FREE = OCC3D.names.index("car"), OCC3D.names.index("free")


def boxes(*rows):
    """TrueBoxes of (centre, size, yaw, class name)."""
    return TrueBoxes(
        centre_m=np.array([row[0] for row in rows], np.float32).reshape(-1, 3),
        size_m=np.array([row[1] for row in rows], np.float32).reshape(-1, 3),
        yaw_rad=np.array([row[2] for row in rows], np.float32),
        velocity_mps=np.zeros((len(rows), 2), np.float32),
        class_id=np.array([BOX_CLASSES.index(row[3]) for row in rows], np.int64),
        instance_id=np.arange(1, len(rows) + 1, dtype=np.int32),
    )


def ground_truth():
    class_id = np.full(SHAPE, FREE, np.uint8)
    instance_id, mask = np.zeros(SHAPE, np.int32), np.zeros(SHAPE, bool)
    class_id[2, 1, 0], instance_id[2, 1, 0] = CAR, 300
    class_id[0, 3, 1] = OCC3D.names.index("manmade")
    mask[2, 1, 0] = mask[1, :, 1] = True
    car = boxes(((1, 2, 0.5), (4, 2, 1), 0.0, "car"))
    return GroundTruth(T, GRID, class_id, instance_id, mask, boxes=car)


def test_voxels_carry_stamp_place_classes_and_instances():
    grid = truth_messages(ground_truth(), 7, ("front", "back"))[TRUE_OCCUPANCY]
    assert {stamp_ns(time) for time in (grid.header.stamp, grid.oldest_image_stamp, grid.newest_image_stamp)} == {T}
    assert grid.header.frame_id == "base_link" and grid.sequence == 7 and grid.cameras_used == 0b11
    assert grid.encoding == SPARSE and (grid.label_set, grid.label_set_version) == (OCC3D.key, OCC3D.version)
    np.testing.assert_array_equal(listed(grid), [(0 * 4 + 1) * 3 + 2, (1 * 4 + 3) * 3 + 0])
    np.testing.assert_array_equal(grid.class_id, [CAR, OCC3D.names.index("manmade")])
    np.testing.assert_array_equal(grid.instance_id, [300, 0])
    assert grid.instance_source == 3
    assert len(grid.confidence) == 0
    assert (grid.origin.position.x, grid.origin.position.y, grid.origin.position.z) == (-1.0, -2.0, -0.5)


def test_what_cameras_see_is_a_field_of_the_voxels():
    truth = ground_truth()
    seen = visible_from_message(truth_messages(truth, 7, ("front", "back"))[TRUE_OCCUPANCY])
    np.testing.assert_array_equal(seen, truth.camera_mask)
    unknown = truth_messages(replace(truth, camera_mask=None), 7, ("front", "back"))[TRUE_OCCUPANCY]
    assert visible_from_message(unknown) is None
    assert list(label_messages()[LABELS].names) == list(OCC3D.names)


def test_every_message_can_be_written():
    messages = truth_messages(ground_truth(), 0, ("front",)) | label_messages()
    assert set(messages) == set(TYPES)
    for topic, message in messages.items():
        again = typestore().deserialize_cdr(typestore().serialize_cdr(message, TYPES[topic]), TYPES[topic])
        assert type(again) is type(message)


def test_what_is_not_known_is_not_sent():
    assert truth_messages(GroundTruth(T), 0, ()) == {}
    only_boxes = GroundTruth(T, boxes=boxes(((0, 0, 0), (1, 1, 1), 0.0, "bus")))
    assert set(truth_messages(only_boxes, 0, ())) == {BOXES}


def test_edges_of_a_turned_box_by_hand():
    car = boxes(((10, 5, 1), (4, 2, 1), np.pi / 2, "car"))
    edges = box_corners_m(car.centre_m, car.size_m, car.yaw_rad)[0, BOX_EDGES]
    assert edges.shape == (12, 2, 3)
    corners = {tuple(np.round(end, 4)) for edge in edges for end in edge}
    # A quarter turn: the length lies along y.
    assert corners == {(x, y, z) for x in (9.0, 11.0) for y in (3.0, 7.0) for z in (0.5, 1.5)}
    lengths = np.sort(np.linalg.norm(edges[:, 0] - edges[:, 1], axis=1))
    np.testing.assert_allclose(lengths, [1] * 4 + [2] * 4 + [4] * 4, atol=1e-5)
    assert len({frozenset(map(tuple, np.round(edge, 4))) for edge in edges}) == 12


def test_outlines_have_the_colours_of_the_classes():
    message = box_markers(
        boxes(((0, 0, 0), (1, 1, 1), 0.0, "bus"), ((9, 9, 9), (1, 1, 1), 0.5, "bicycle")), T, "base_link", 1.5
    )
    (marker,) = message.markers
    assert marker.type == 5 and marker.action == 0 and marker.scale.x > 0 and marker.pose.orientation.w == 1
    assert len(marker.points) == len(marker.colors) == 2 * 24
    assert (marker.lifetime.sec, marker.lifetime.nanosec) == (1, 500_000_000)
    for name, part in (("bus", marker.colors[:24]), ("bicycle", marker.colors[24:])):
        expected = np.array(OCC3D.colours[OCC3D.names.index(name)]) / 255
        for colour in part:
            np.testing.assert_allclose((colour.r, colour.g, colour.b, colour.a), (*expected, 1.0))
    assert [marker.points[24].x > 8, marker.points[0].x > 8] == [True, False]


def test_no_boxes_delete_those_that_are_shown():
    (marker,) = box_markers(boxes(), T, "base_link", 1.0).markers
    assert marker.action == 3 and not marker.points


def test_an_instance_beyond_the_message_s_range_is_refused():
    truth = ground_truth()
    truth.instance_id[2, 1, 0] = 70_000
    with pytest.raises(ValueError, match="70000"):
        truth_messages(truth, 0, ())
