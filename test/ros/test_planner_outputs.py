"""What planners take, as messages: where every obstacle lies, what is unknown, pictures and points that match."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from panoocc_core import Wanted, model_config
from panoocc_core.cameras.calibration_file import CalibrationFile, Mount
from panoocc_core.geometry import rigid
from panoocc_core.labels import LIDARSEG, OCC3D
from panoocc_ros.messages.fields import stamp_ns
from panoocc_ros.messages.types import new_message, typestore
from panoocc_ros.node.choices import placed_by
from panoocc_ros.outputs.catalogue import (
    ANNOUNCEMENTS,
    BEV_CLASSES,
    BEV_CONFIDENCE,
    BEV_POINTS,
    FOXGLOVE,
    GRID_2D,
    OBSTACLES,
    OCCUPANCY,
    OUTPUTS,
    POINTS,
)
from panoocc_ros.outputs.output import Result, TopicRates
from panoocc_ros.outputs.output_options import OutputOptions
from panoocc_ros.outputs.planner_outputs import check_outputs
from panoocc_ros.ros.parameter_fields import SettingsError
from test.core.test_planning import turn
from test.ros.clouds import points
from test.ros.test_convert import T0, occupancy

FREE, CAR, ROAD, TREE = (OCC3D.names.index(name) for name in ("free", "car", "driveable_surface", "vegetation"))
SHAPE, SIZE_M = (6, 4, 5), (1.0, 1.0, 0.5)
CORNER = np.array([-2.0, -2.0, -0.5])  # of voxels whose middles are -0.25, 0.25, 0.75, 1.25 and 1.75 m high
CAR_AT, TREE_AT, HIDDEN = (5, 2), (1, 3), (3, 1)  # columns


def street(pose=None):
    """A road with a car ahead to the left, a tree behind it, and a column in which nobody sees one voxel."""
    class_id = np.full(SHAPE, FREE)
    class_id[:, :, 0] = ROAD
    class_id[CAR_AT][1:4], class_id[TREE_AT][4] = CAR, TREE
    visible = np.ones(SHAPE, bool)
    visible[HIDDEN][2] = False
    made = occupancy(class_id, rigid(np.eye(3), CORNER) if pose is None else pose, SHAPE, SIZE_M)
    confidence = np.full(SHAPE, 250)
    confidence[CAR_AT][1:4] = 100, 204, 100
    return replace(made, visible=torch.from_numpy(visible), confidence=torch.as_tensor(confidence, dtype=torch.uint8))


def result(grid=None, map_from_ego=None, **options):
    return Result(grid or street(), None, 0, "base_link", ("B", "C"), OutputOptions(**options), map_from_ego)


def message(output, *arguments, **options):
    """What an output makes, after its way over the wire."""
    made, store = output.make(result(*arguments, **options), new_message), typestore()
    return made and store.deserialize_cdr(store.serialize_cdr(made, output.type), output.type)


def places(cloud):
    found = points(cloud)
    return np.stack([found[axis] for axis in "xyz"], axis=-1)


def column_m(place):
    """x and y of a column's middle."""
    return tuple(CORNER[:2] + place + np.array(0.5))


def test_obstacles_are_the_voxels_of_the_band_without_the_ground():
    cloud = message(OBSTACLES)
    found = points(cloud)[0]
    assert stamp_ns(cloud.header.stamp) == T0 and cloud.header.frame_id == "base_link" and cloud.is_dense
    assert [field.name for field in cloud.fields] == ["x", "y", "z", "probability", "class_id"]
    assert [field.datatype for field in cloud.fields] == [7, 7, 7, 7, 2]
    assert sorted(places(cloud)[0].tolist()) == [
        [-0.5, 1.5, 1.75],
        [3.5, 0.5, 0.75],
        [3.5, 0.5, 1.25],
    ]
    assert sorted(found["class_id"].tolist()) == [CAR, CAR, TREE]
    np.testing.assert_allclose(sorted(found["probability"]), [100 / 255, 204 / 255, 250 / 255], atol=1e-6)


def test_classes_and_band_of_obstacles_are_chosen():
    assert set(points(message(OBSTACLES, obstacles_classes="car, pedestrian"))[0]["class_id"]) == {CAR}
    low = places(message(OBSTACLES, obstacles_min_z_m=0.25, obstacles_max_z_m=0.75))[0]
    assert low.tolist() == [[3.5, 0.5, 0.25]]  # the lower end counts, the upper one does not
    ground = places(message(OBSTACLES, obstacles_classes="driveable_surface", obstacles_min_z_m=-1.0))[0]
    assert len(ground) == 24 and set(ground[:, 2]) == {-0.25}
    assert message(OBSTACLES, obstacles_classes="bus").width == 0


def test_the_map_says_occupied_free_and_unknown():
    grid = message(GRID_2D)
    info = grid.info
    assert stamp_ns(grid.header.stamp) == T0 and grid.header.frame_id == "base_link" and info.resolution == 1.0
    assert (info.width, info.height) == (6, 4) and (info.origin.position.x, info.origin.position.y) == (-2.0, -2.0)
    assert info.origin.orientation.w == 1.0 and info.origin.position.z == 0.0
    wanted = np.full((4, 6), 2)  # 5 of 255 speak against it
    wanted[CAR_AT[::-1]], wanted[TREE_AT[::-1]], wanted[HIDDEN[::-1]] = 80, 98, -1
    np.testing.assert_array_equal(grid.data.reshape(4, 6), wanted)
    assert grid.data.dtype == np.int8


def test_the_map_in_the_world_stands_where_the_vehicle_does():
    pose = rigid(turn("z", np.pi / 2), np.array([100.3, -50.0, 7.0]))
    grid = message(GRID_2D, None, pose, grid_frame="map", grid_2d_resolution_m=0.5)
    assert grid.header.frame_id == "map" and grid.info.resolution == 0.5 and grid.info.origin.position.z == 7.0
    corner = np.array([grid.info.origin.position.x, grid.info.origin.position.y])
    np.testing.assert_allclose(corner / 0.5, np.round(corner / 0.5))
    rows, lines = np.nonzero(grid.data.reshape(grid.info.height, grid.info.width) == 80)
    car = (pose @ (*column_m(CAR_AT), 1.0, 1.0))[:2]
    np.testing.assert_allclose(corner + (np.array([lines.mean(), rows.mean()]) + 0.5) * 0.5, car, atol=0.26)


def test_without_the_pose_in_its_frame_or_knowing_what_is_seen_there_is_no_map():
    assert message(GRID_2D, None, None, grid_frame="map") is None
    blind = replace(street(), visible=None)
    assert all(message(one, blind) is None for one in (GRID_2D, BEV_CLASSES, BEV_CONFIDENCE, BEV_POINTS))


# A network that looks along its own y (x right), and one that looks along its x.
QUARTER = rigid(turn("z", -np.pi / 2), np.array([-2.0, 2.0, -0.5]))


@pytest.mark.parametrize("pose", [None, QUARTER], ids=["x ahead", "y ahead"])
def test_pictures_from_above_lie_ahead_up_and_match_their_points(pose):
    grid = street()
    if pose is not None:  # the same street, in a grid whose x leads to the right
        turned = replace(grid.geometry, shape_xyz=(4, 6, 5), ego_from_grid=pose)
        swap = {name: getattr(grid, name).flip(1).transpose(0, 1) for name in ("class_id", "confidence", "visible")}
        grid = replace(grid, geometry=turned, instance_id=None, **swap)
    classes, confidence, cloud = (message(one, grid) for one in (BEV_CLASSES, BEV_CONFIDENCE, BEV_POINTS))
    assert classes.encoding == confidence.encoding == "mono8" and classes.step == classes.width == 4
    assert repr(classes.header) == repr(confidence.header) == repr(cloud.header)
    assert (classes.height, classes.width) == (confidence.height, confidence.width) == (cloud.height, cloud.width)
    picture, sure = (np.reshape(one.data, (one.height, one.width)) for one in (classes, confidence))
    where = places(cloud)
    wanted = np.full((6, 4), ROAD)
    wanted[0, 1], wanted[4, 0], wanted[2, 2] = CAR, TREE, 255  # the first row is ahead, the first column to the left
    np.testing.assert_array_equal(picture, wanted)
    np.testing.assert_array_equal(sure, np.where(wanted == CAR, 204, np.where(wanted == 255, 0, 250)))
    assert np.isnan(where[2, 2]).all() and np.isfinite(where).all(axis=2).sum() == 23 and not cloud.is_dense
    np.testing.assert_allclose(where[0, 1], (*column_m(CAR_AT), 0.75), atol=1e-6)
    np.testing.assert_allclose(where[5, 3], (-1.5, -1.5, -0.25), atol=1e-6)  # behind to the right, on the ground


def test_names_of_classes_go_along_without_free_space():
    (one,) = (one for one in ANNOUNCEMENTS if one.topic == "label_info")
    made, store = one.make(OCC3D, "base_link", new_message), typestore()
    back = store.deserialize_cdr(store.serialize_cdr(made, one.type), one.type)
    assert {entry.class_id: entry.class_name for entry in back.class_map} == dict(enumerate(OCC3D.names[:17]))
    assert back.threshold == 0.0 and back.header.frame_id == "base_link"


def test_all_clouds_of_a_grid_bear_one_stamp_and_frame():
    headers = [repr(message(one).header) for one in (POINTS, OBSTACLES, BEV_POINTS)]
    assert len(set(headers)) == 1


MS = 1_000_000


def sent_at(outputs, stamps_ms, begin_ms=None, **rates):
    """Stamps for which each output is sent, from the one in `begin_ms` on where it has one."""
    kept, sent = TopicRates(OutputOptions(**rates), outputs), {output: [] for output in outputs}
    for stamp_ms in stamps_ms:
        for output in outputs:
            if stamp_ms < (begin_ms or {}).get(output, stamp_ms):
                kept.forget(output)
            elif kept.is_due(output, stamp_ms * MS):
                kept.sent(output)
                sent[output].append(stamp_ms)
        kept.next_grid(stamp_ms * MS)
    return [sent[output] for output in outputs]


def test_topics_of_one_rate_are_sent_for_the_same_grids_however_they_began():
    stamps = [round(k * 1000 / 6) for k in range(30)]
    rates = {"obstacles_max_rate_hz": 2.0, "points_max_rate_hz": 2.0}
    first, later = sent_at([OBSTACLES, POINTS], stamps, {POINTS: stamps[4]}, **rates)
    assert len(first) == 10 and later[0] == stamps[4] and later[1:] == first[2:]
    assert sent_at([OBSTACLES], stamps) == [stamps]
    looped = sent_at([OBSTACLES], [0, 100, 700, 0, 100, 700], obstacles_max_rate_hz=2.0)  # a bag
    assert looped == [[0, 700, 0, 700]]
    one, other = sent_at([FOXGLOVE, OCCUPANCY], stamps, occupancy_max_rate_hz=1.0)
    assert one == other and len(one) == 6


@pytest.mark.parametrize("tremble_ms", [2, 20])
@pytest.mark.parametrize("begin_ms", [0, 37, 50, 99])
def test_a_rate_that_is_that_of_the_grids_loses_none_of_them(tremble_ms, begin_ms):
    random = np.random.default_rng(begin_ms)
    stamps = (begin_ms + 100 * np.arange(300) + random.uniform(-tremble_ms / 2, tremble_ms / 2, 300)).tolist()
    assert sent_at([OCCUPANCY], stamps, occupancy_max_rate_hz=10.0) == [stamps]


@pytest.mark.parametrize(("grids_hz", "rate_hz"), [(10, 3.0), (7.3, 1.0), (12, 10.0), (30, 29.0)])
def test_a_rate_is_kept_on_average_and_nearly_from_one_message_to_the_next(grids_hz, rate_hz):
    stamps = [k * 1000 / grids_hz for k in range(3000)]
    (sent,) = sent_at([OCCUPANCY], stamps, occupancy_max_rate_hz=rate_hz)
    assert 0.99 * rate_hz < (len(sent) - 1) / sent[-1] * 1000 < 1.001 * rate_hz
    gaps = np.diff(sent)
    assert gaps.min() >= 750 / rate_hz - 1e-3 and gaps.max() <= 1000 / rate_hz + 1000 / grids_hz + 1e-3


def test_who_comes_to_a_slow_topic_need_not_wait_for_its_next_turn():
    kept = TopicRates(OutputOptions(grid_2d_max_rate_hz=0.01), [GRID_2D])
    kept.sent(GRID_2D)
    kept.next_grid(0)
    assert not kept.is_due(GRID_2D, 100 * MS)
    kept.forget(GRID_2D)
    assert kept.is_due(GRID_2D, 200 * MS)


def test_every_output_has_a_rate():
    options = OutputOptions()
    assert {one.rate: options.max_rate_hz(one.rate) for one in OUTPUTS if options.max_rate_hz(one.rate)} == {
        "markers": 2.0,
        "overlay": 1.0,
    }


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"obstacles_classes": "car,pedestrain"}, "parameter obstacles_classes: .*'pedestrain'; is 'pedestrian' meant"),
        ({"obstacles_classes": "free"}, "parameter obstacles_classes: class 'free' is free space"),
        ({"obstacles_min_z_m": 30.0, "obstacles_max_z_m": 40.0}, "obstacles_min_z_m and obstacles_max_z_m: no voxel"),
        ({"grid_2d_min_z_m": -9.0, "grid_2d_max_z_m": -8.0}, "grid_2d_min_z_m and grid_2d_max_z_m: no voxel .* -0.80"),
        ({"grid_2d_min_z_m": 0.5, "grid_2d_max_z_m": 0.7}, "grid_2d_min_z_m and grid_2d_max_z_m: no voxel"),
        ({"grid_2d_resolution_m": 0.001}, "parameter grid_2d_resolution_m: cells of 0.001 m make a map of"),
    ],
)
def test_parameters_that_no_grid_of_the_network_can_meet_are_refused_by_name(options, text):
    check_outputs(OutputOptions(), model_config("nano"))
    with pytest.raises(SettingsError, match=text):
        check_outputs(OutputOptions(**options), model_config("nano"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"obstacles_min_z_m": 2.2}, "parameters obstacles_min_z_m and obstacles_max_z_m: 2.2 m is not below 2.2 m"),
        ({"grid_2d_max_z_m": 0.0}, "parameters grid_2d_min_z_m and grid_2d_max_z_m: 0.3 m is not below 0 m"),
        ({"obstacles_classes": "car,,bus"}, "parameter obstacles_classes: 'car,,bus' has an empty name"),
        ({"grid_2d_min_z_m": float("nan")}, "grid_2d_min_z_m: nan is outside"),
        ({"bev_points_max_rate_hz": 1e-300}, "bev_points_max_rate_hz: 1e-300 Hz is less than 0.001 Hz, and not 0"),
        ({"bev_points_max_rate_hz": -1.0}, "bev_points_max_rate_hz: -1.0 is outside"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused_by_name(options, text):
    with pytest.raises(SettingsError, match=text):
        OutputOptions(**options)


@pytest.mark.parametrize("output", [OBSTACLES, GRID_2D, BEV_CLASSES, BEV_CONFIDENCE, BEV_POINTS])
def test_a_band_that_the_vehicle_turns_out_to_have_no_voxel_in_is_told_by_its_parameters(output):
    high = street(rigid(np.eye(3), np.array([0.0, 0.0, 40.0])))
    with pytest.raises(SettingsError, match=r"parameters (\w+)_min_z_m and \1_max_z_m: no voxel .* lie from 40.25 to"):
        message(output, high)


def test_bands_are_held_against_the_frame_of_the_voxels_that_a_calibration_file_has():
    lifted = CalibrationFile(ego_from_network=Mount((0.0, 0.0, 40.0), (0.0, 0.0, 0.0, 1.0)))
    with pytest.raises(SettingsError, match="obstacles_min_z_m and obstacles_max_z_m: no voxel"):
        check_outputs(OutputOptions(), placed_by(lifted, model_config("nano")))


def test_without_a_class_of_free_space_there_are_no_maps_and_noise_is_no_obstacle():
    grid = street()
    class_id = torch.full_like(grid.class_id, LIDARSEG.names.index("noise"))
    class_id[CAR_AT][2] = LIDARSEG.names.index("car")
    grid = replace(grid, labels=LIDARSEG, class_id=class_id, visible=None)
    told = [output for output in OUTPUTS if output.applies(grid, Wanted())]
    assert OBSTACLES in told and OCCUPANCY in told
    assert not {GRID_2D, BEV_CLASSES, BEV_CONFIDENCE, BEV_POINTS} & set(told)
    assert set(points(message(OBSTACLES, grid))[0]["class_id"]) == {LIDARSEG.names.index("car")}
    noise = message(OBSTACLES, grid, obstacles_classes="noise")
    assert set(points(noise)[0]["class_id"]) == {LIDARSEG.names.index("noise")}


@pytest.mark.parametrize("preset", ["pano_small_4f", "pano_small_occ3d", "nano_waymo"])
def test_the_usual_parameters_fit_every_kind_of_network(preset):
    check_outputs(OutputOptions(), model_config(preset))
