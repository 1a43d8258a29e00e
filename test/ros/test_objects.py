"""Things as messages: boxes where the simulator's are, for networks of both frames, in agreement with the voxels."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from panoocc_core import Wanted, model_config
from panoocc_core.geometry import rigid, rotation_from_quaternion
from panoocc_core.labels import BOX_CLASSES, instance_colours
from panoocc_core.models.box_head import Boxes
from panoocc_core.models.network_frame import box_codes, ego_boxes
from panoocc_core.panoptic import Tracks, follow
from panoocc_core.panoptic.things import from_boxes
from panoocc_core.sim import Scene
from panoocc_core.sim.boxes import true_boxes
from panoocc_core.stream import output_geometry
from panoocc_core.types import HistoryReport, Occupancy, ScoredBoxes
from panoocc_ros.messages.autoware import LABELS
from panoocc_ros.messages.fields import stamp_ns
from panoocc_ros.messages.types import new_message, typestore
from panoocc_ros.outputs.catalogue import AUTOWARE, MARKERS, OBJECT_MARKERS, OBJECTS, OCCUPANCY, OUTPUTS, POINTS
from panoocc_ros.outputs.output import Result
from panoocc_ros.outputs.output_options import OutputOptions
from test.core.test_sim_boxes import corners_m

T0 = 1_700_000_000_123_456_789
TURNED = rigid(rotation_from_quaternion(np.array([0.0, 0.0, np.sin(0.9), np.cos(0.9)])), np.array([1.5, -0.7, 0.4]))
# A network of the vehicle's frame, one of the LiDAR's, which is turned and tilted, and a grid turned by 103 degrees.
FRAMES = {"ego": ("nano", None), "lidar": ("pano_small_4f", None), "turned": ("nano", TURNED)}
BOX = ScoredBoxes(  # a bus that drives to the left
    centre_m=np.array([[10, 5, 1]], np.float32),
    size_m=np.array([[4, 2, 1.5]], np.float32),
    yaw_rad=np.array([np.pi / 2], np.float32),
    velocity_mps=np.array([[0, 3]], np.float32),
    class_id=np.array([BOX_CLASSES.index("bus")]),
    score=np.array([0.75], np.float32),
    instance_id=np.array([7], np.int32),
)
FIRST = 65_533  # the number of the first track: those of the others begin again at 1


@pytest.fixture(scope="module")
def truth():
    return true_boxes(Scene(seed=5, seconds=6), 2.0)


def seen(truth, config):
    """What a network that knows the truth says about it, in the ego frame."""
    codes = torch.from_numpy(box_codes(truth, config.grid)).double()
    x, y, log_width, log_length, z, log_height, sine, cosine, vx, vy = codes.unbind(-1)
    sizes = (log_width.exp(), log_length.exp(), log_height.exp())
    boxes = torch.stack((x, y, z, *sizes, torch.atan2(sine, cosine), vx, vy), dim=-1)
    labels = torch.tensor([config.boxes.classes.index(BOX_CLASSES[kind]) for kind in truth.class_id])
    return ego_boxes(Boxes(boxes, torch.linspace(0.9, 0.6, len(truth)), labels), config)


@pytest.fixture(scope="module", params=FRAMES)
def occupancy(request, truth):
    """Voxels of the true boxes, fused with the boxes, with numbers."""
    preset, pose = FRAMES[request.param]
    config = model_config(preset).placed(pose)
    config = replace(config, grid=replace(config.grid, rows=16, columns=16, layers=8))  # faster, in the same frame
    geometry, names = output_geometry(config), config.labels.names
    indices = np.indices(geometry.shape_xyz).reshape(3, -1).T
    centres, found = geometry.centres_m(indices), seen(truth, config)
    class_id = np.full(len(indices), config.labels.free_id, np.uint8)
    for row in range(len(truth)):
        class_id[within(centres, truth, row)] = names.index(BOX_CLASSES[truth.class_id[row]])
    things = from_boxes(found, torch.from_numpy(class_id.reshape(geometry.shape_xyz)), geometry, config)
    tracks = Tracks(next_number=FIRST)
    _, boxes = follow(tracks, things.boxes, T0, np.eye(4), config.tracking, know_velocity=True)
    return Occupancy(
        stamp_ns=T0,
        oldest_image_stamp_ns=T0,
        newest_image_stamp_ns=T0,
        class_id=things.class_id,
        confidence=None,
        instance_id=things.numbered(boxes.instance_id),
        geometry=geometry,
        labels=config.labels,
        cameras=config.cameras,
        history=HistoryReport(),
        boxes=boxes,
        instances="boxes",
    )


def within(places_m, boxes, row, margin_m=0.0):
    offset = places_m - boxes.centre_m[row]
    cosine, sine = np.cos(boxes.yaw_rad[row]), np.sin(boxes.yaw_rad[row])
    local = np.stack((offset[:, 0] * cosine + offset[:, 1] * sine, offset[:, 1] * cosine - offset[:, 0] * sine), axis=1)
    local = np.concatenate((local, offset[:, 2:]), axis=1)
    return (np.abs(local) <= boxes.size_m[row] / 2 + margin_m).all(axis=1)


def message(output, occupancy, **options):
    """The message of an output as whoever receives it reads it."""
    result = Result(occupancy, None, 0, "base_link", occupancy.cameras, OutputOptions(**options))
    made = output.make(result, new_message)
    data = made if isinstance(made, bytes) else bytes(typestore().serialize_cdr(made, output.type))
    again = typestore().deserialize_cdr(data, output.type)
    assert bytes(typestore().serialize_cdr(again, output.type)) == data
    return again


def true_row(truth, centre_m):
    """Which true box has its middle there."""
    apart = np.linalg.norm(truth.centre_m - centre_m, axis=1)
    assert apart.min() < 2e-3
    return int(apart.argmin())


def posed_corners(pose, size):
    """Corners [8, 3] of a box from the pose and the size in a message, and its heading."""
    turn = pose.orientation
    assert turn.x == turn.y == 0 and np.hypot(turn.z, turn.w) == pytest.approx(1)
    rotation = rotation_from_quaternion(np.array([turn.x, turn.y, turn.z, turn.w]))
    signs = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    corners = signs * (size.x, size.y, size.z) @ rotation.T
    return corners + (pose.position.x, pose.position.y, pose.position.z), np.arctan2(rotation[1, 0], rotation[0, 0])


def test_detections_have_the_corners_of_the_true_boxes(occupancy, truth):
    array = message(OBJECTS, occupancy)
    assert stamp_ns(array.header.stamp) == T0 and array.header.frame_id == "base_link"
    assert len(array.detections) == len(occupancy.boxes) > 5
    for row, found in enumerate(array.detections):
        assert found.header == array.header
        corners, _ = posed_corners(found.bbox.center, found.bbox.size)
        (result,) = found.results
        true = true_row(truth, corners.mean(axis=0))
        np.testing.assert_allclose(corners, corners_m(truth, true), atol=3e-3)  # in order: the front is the front
        assert result.pose.pose == found.bbox.center and not result.pose.covariance.any()
        assert result.hypothesis.class_id == BOX_CLASSES[truth.class_id[true]]
        assert result.hypothesis.score == pytest.approx(occupancy.boxes.score[row])
        assert found.id == str(occupancy.boxes.instance_id[row])
    numbers = [found.id for found in array.detections]
    assert len(set(numbers)) == len(numbers) and {"65533", "65534", "65535", "1"} <= set(numbers)


def test_voxels_and_points_lie_in_the_box_of_their_number(occupancy):
    grid, cloud = message(OCCUPANCY, occupancy), message(POINTS, occupancy)
    assert grid.instance_source == 1
    boxes, margin = occupancy.boxes, max(occupancy.geometry.voxel_size_m) / 2 + 1e-3
    offsets = {field.name: field.offset for field in cloud.fields}
    points = np.frombuffer(
        cloud.data.tobytes(),
        np.dtype(
            {
                "names": ["x", "y", "z", "instance"],
                "formats": ["<f4", "<f4", "<f4", "<u2"],
                "offsets": [offsets[name] for name in ("x", "y", "z", "instance")],
                "itemsize": cloud.point_step,
            }
        ),
    )
    np.testing.assert_array_equal(points["instance"], grid.instance_id)
    places = np.stack([points[axis] for axis in "xyz"], axis=1)
    for row, number in enumerate(boxes.instance_id):
        own = places[points["instance"] == number]
        assert len(own) >= 2 and within(own, boxes, row, margin).all(), number
    assert set(np.unique(points["instance"])) - {0} == set(boxes.instance_id)


def test_autoware_gets_boxes_with_velocities_along_them(occupancy, truth):
    objects = message(AUTOWARE, occupancy).objects
    assert len(objects) == len(occupancy.boxes)
    moving = 0
    for row, found in enumerate(objects):
        kinematics = found.kinematics
        corners, yaw = posed_corners(kinematics.pose_with_covariance.pose, found.shape.dimensions)
        true = true_row(truth, corners.mean(axis=0))
        np.testing.assert_allclose(corners, corners_m(truth, true), atol=3e-3)
        (label,) = found.classification
        assert label.label == LABELS.get(BOX_CLASSES[truth.class_id[true]], 0)
        assert found.existence_probability == label.probability == pytest.approx(occupancy.boxes.score[row])
        assert found.shape.type == 0 and not len(found.shape.footprint.points)
        assert kinematics.orientation_availability == 2 and kinematics.has_twist
        assert not kinematics.has_position_covariance and not kinematics.has_twist_covariance
        linear = kinematics.twist_with_covariance.twist.linear
        over_ground = (linear.x * np.cos(yaw) - linear.y * np.sin(yaw), linear.x * np.sin(yaw) + linear.y * np.cos(yaw))
        np.testing.assert_allclose(over_ground, truth.velocity_mps[true], atol=0.01)
        if np.hypot(*truth.velocity_mps[true]) > 1:
            moving += 1
            assert linear.x > 0.9 * np.hypot(linear.x, linear.y)  # things drive ahead
    assert moving


def test_boxes_around_voxels_know_neither_front_nor_velocity(occupancy):
    for found in message(AUTOWARE, replace(occupancy, instances="components")).objects:
        assert found.kinematics.orientation_availability == 1 and not found.kinematics.has_twist
        assert found.kinematics.twist_with_covariance.twist.linear.x == 0


@pytest.mark.parametrize("colour", ["class", "instance"])
def test_markers_outline_number_and_show_the_way_of_every_box(occupancy, truth, colour):
    whole, alone = (message(output, occupancy, markers_colour=colour).markers for output in (MARKERS, OBJECT_MARKERS))
    for markers in (whole, alone):
        assert markers[0].action == 3 and {marker.action for marker in markers[1:]} == {0}
        assert [marker.id for marker in markers] == list(range(len(markers)))
    assert sum(len(marker.points) for marker in whole if marker.type == 6) == int(occupancy.occupied.sum())
    assert not [marker for marker in alone[1:] if marker.type == 6]
    boxes = occupancy.boxes
    (lines,) = (marker for marker in alone if marker.type == 5)
    texts, arrows = ([marker for marker in alone if marker.type == kind] for kind in (9, 0))
    assert len(lines.points) == len(lines.colors) == 24 * len(boxes) and lines.pose.orientation.w == 1
    ends = np.array([(point.x, point.y, point.z) for point in lines.points]).reshape(len(boxes), 24, 3)
    fast = [row for row in range(len(boxes)) if np.hypot(*boxes.velocity_mps[row]) >= 0.5]
    assert len(arrows) == len(fast) > 0
    colours = np.array([(one.r, one.g, one.b) for one in lines.colors]).reshape(len(boxes), 24, 3)
    for row, (corners, text) in enumerate(zip(ends, texts, strict=True)):
        true = corners_m(truth, true_row(truth, boxes.centre_m[row]))
        apart = np.linalg.norm(corners[:, None] - true[None], axis=2)
        assert apart.min(axis=1).max() < 3e-3 and apart.min(axis=0).max() < 3e-3
        assert text.text == f"{BOX_CLASSES[boxes.class_id[row]]} {boxes.instance_id[row]}"
        assert text.pose.position.z > true[:, 2].max() and text.scale.z > 0
        if colour == "instance":
            own = instance_colours(boxes.instance_id[row : row + 1]) / 255
            np.testing.assert_allclose(colours[row], own.repeat(24, axis=0), atol=1e-6)
    for row, arrow in zip(fast, arrows, strict=True):
        start, end = (np.array((point.x, point.y, point.z)) for point in arrow.points)
        np.testing.assert_allclose(end - start, (*boxes.velocity_mps[row], 0), atol=1e-5)


def test_voxels_have_the_colour_of_their_number_and_stuff_that_of_its_class(occupancy):
    result = Result(occupancy, None, 0, "base_link", occupancy.cameras)
    voxels = result.voxels
    by_class, by_instance = voxels.colours(), voxels.colours("instance")
    things = voxels.instance_id > 0
    np.testing.assert_array_equal(by_instance[~things], by_class[~things])
    np.testing.assert_array_equal(by_instance[things], instance_colours(voxels.instance_id[things]))
    one, other = (by_instance[voxels.instance_id == number] for number in occupancy.boxes.instance_id[:2])
    assert len(np.unique(one, axis=0)) == len(np.unique(other, axis=0)) == 1 and (one[0] != other[0]).any()


def test_without_boxes_there_is_no_message_of_them(occupancy):
    unasked = replace(occupancy, instances="none", instance_id=None, boxes=None)
    assert [output.topic for output in OUTPUTS if not output.applies(unasked, Wanted())] == [
        "objects",
        "detected_objects",
        "object_markers",
    ]
    assert all(output.applies(occupancy, Wanted()) for output in OUTPUTS)
    assert all(marker.type == 6 for marker in message(MARKERS, unasked).markers)


def test_an_empty_street_is_said_to_be_empty(occupancy):
    empty = replace(occupancy, boxes=occupancy.boxes.select(np.zeros(len(occupancy.boxes), bool)))
    assert len(message(OBJECTS, empty).detections) == len(message(AUTOWARE, empty).objects) == 0
    (marker,) = message(OBJECT_MARKERS, empty).markers
    assert marker.action == 3


def test_boxes_without_numbers_have_no_id(occupancy):
    boxes = replace(occupancy.boxes, instance_id=None)
    unnumbered = replace(occupancy, boxes=boxes)
    assert {found.id for found in message(OBJECTS, unnumbered).detections} == {""}
    texts = [marker.text for marker in message(OBJECT_MARKERS, unnumbered, markers_colour="instance").markers]
    assert set(filter(None, texts)) <= set(BOX_CLASSES)


@pytest.mark.parametrize("field, value", [("yaw_rad", np.nan), ("centre_m", np.inf), ("size_m", 0.0)])
def test_boxes_that_cannot_be_never_become_messages(occupancy, field, value):
    broken = getattr(occupancy.boxes, field).copy()
    broken[0] = value
    with pytest.raises(ValueError, match=field):
        replace(occupancy.boxes, **{field: broken})


def test_every_number_has_a_colour_that_differs_from_the_next():
    colours = instance_colours(np.arange(1, 65_536)).astype(int)
    assert colours.shape == (65_535, 3) and colours.min() >= 0 and colours.max() == 255
    assert np.abs(np.diff(colours, axis=0)).sum(axis=1).min() > 150
    assert instance_colours(np.zeros(0, np.uint16)).shape == (0, 3)


def test_a_box_knows_where_its_front_is_by_hand():
    occupancy = SimpleNamespace(stamp_ns=T0, boxes=BOX, instances="boxes", cameras=())
    (found,) = message(OBJECTS, occupancy).detections
    turn = found.bbox.center.orientation
    np.testing.assert_allclose((turn.x, turn.y, turn.z, turn.w), (0, 0, 0.5**0.5, 0.5**0.5), atol=1e-7)
    assert (found.bbox.size.x, found.bbox.size.y, found.bbox.size.z) == (4, 2, 1.5) and found.id == "7"
    (thing,) = message(AUTOWARE, occupancy).objects
    linear = thing.kinematics.twist_with_covariance.twist.linear  # it drives along its own length
    np.testing.assert_allclose((linear.x, linear.y, linear.z), (3, 0, 0), atol=1e-6)
    assert thing.classification[0].label == 3
