"""The vehicle's motion from odometry and IMU: poses as from transforms, rates at the stamp, and what is told."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from panoocc_core import OccupancyStream, load_model, model_config
from panoocc_core.geometry import NS_PER_S, rigid
from panoocc_core.sim import nuscenes_rig
from panoocc_core.step import Wanted
from panoocc_ros.bags.bag import BagReader
from panoocc_ros.bags.source import ready_sets
from panoocc_ros.frames.assembler import FrameAssembler
from panoocc_ros.frames.waiting import AssemblerOptions
from panoocc_ros.motion.rates import Late, Rates
from panoocc_ros.node.choices import chosen_config, chosen_rig, rig_for
from panoocc_ros.ros.parameter_fields import SettingsError
from panoocc_ros.sim.bag import write_street_bag
from panoocc_ros.streams.transforms import TransformBuffer
from test.ros.messages import MS, camera_info, imu, odometry, tf
from test.ros.test_assembler import NAMES, OFFSETS_NS, RIG, T0, pose_at, send_images, send_tf, static, turned

CONFIG = model_config("nano")
BY_ODOMETRY = {"pose_source": "odometry", "odometry_topic": "/odom"}
STEP_NS = 20 * MS
VELOCITY, TURN = (10.0, 0.0, 0.0), (0.0, 0.0, 0.4)  # of pose_at


def assembler_with(**options):
    assembler = FrameAssembler(RIG, AssemblerOptions(**options))
    assembler.on_transforms(static(), static=True)
    for name in NAMES:
        assembler.on_camera_info(name, camera_info(frame_id=name.lower()))
    return assembler


def send_odometry(assembler, start_ns, end_ns, step_ns=STEP_NS, pose_of=pose_at, **fields):
    for stamp_ns in range(start_ns, end_ns + 1, step_ns):
        assembler.on_odometry(odometry(stamp_ns, pose_of(stamp_ns), VELOCITY, TURN, **fields))


def send_imu(assembler, start_ns, end_ns, step_ns=10 * MS, **fields):
    for stamp_ns in range(start_ns, end_ns + 1, step_ns):
        assembler.on_imu(imu(stamp_ns, **fields))


def one_set(assembler, now_ns=T0 + 200 * MS):
    send_images(assembler, 0, now_ns)
    return assembler.poll(now_ns)


def texts(assembler):
    return [notice.text for notice in assembler.status(T0 + NS_PER_S).notices]


def test_odometry_gives_every_camera_the_pose_that_transforms_give():
    by_tf, by_odometry = assembler_with(), assembler_with(**BY_ODOMETRY)
    send_tf(by_tf, T0 - 200 * MS, T0 + 200 * MS)
    send_odometry(by_odometry, T0 - 200 * MS, T0 + 200 * MS)
    one, other = one_set(by_tf), one_set(by_odometry)
    assert other.fixed_frame == "odom" and by_odometry.status(T0).pose_source == "odometry (/odom)"
    assert np.array_equal(one.world_from_ego, other.world_from_ego)
    for name in NAMES:
        assert other.poses[name].stamp_ns == T0 + OFFSETS_NS[name]
        assert np.array_equal(one.poses[name].world_from_ego, other.poses[name].world_from_ego)


def test_a_set_waits_for_odometry_behind_it_and_nothing_is_extrapolated():
    assembler = assembler_with(**BY_ODOMETRY)
    last_ns = T0 + max(OFFSETS_NS.values())
    send_odometry(assembler, T0 - 200 * MS, last_ns - 1)
    assert one_set(assembler) is None
    assembler.on_odometry(odometry(last_ns, pose_at(last_ns)))
    assert assembler.poll(T0 + 200 * MS).poses[NAMES[0]] is not None


def test_without_odometry_a_set_is_dropped_naming_the_topic_and_lateness_is_told():
    assembler = assembler_with(**BY_ODOMETRY)
    assert one_set(assembler) is None and assembler.poll(T0 + NS_PER_S) is None
    assert "nothing has come on /odom: is the sender of /odom alive?" in assembler.status(T0).last_drop
    send_odometry(assembler, T0 - 200 * MS, T0 - 40 * MS)
    send_images(assembler, 1, T0 + NS_PER_S)
    assert assembler.poll(T0 + 2 * NS_PER_S) is None
    send_odometry(assembler, T0 - 20 * MS, T0 + 300 * MS)
    assert "the odometry on /odom came 0.00 s after the set was given up" in assembler.status(T0).last_drop


def test_a_child_frame_that_rides_on_the_vehicle_serves_and_another_is_named():
    wheel = turned(0.3, 1.0, 0.5)
    assembler = assembler_with(**BY_ODOMETRY)
    send_odometry(assembler, T0 - 200 * MS, T0 + 200 * MS, pose_of=lambda t: pose_at(t) @ wheel, child="axle")
    assert one_set(assembler) is None
    assembler.poll(T0 + NS_PER_S)
    assert "tells where 'axle' is, and no fixed transform joins it with 'base_link'" in assembler.status(T0).last_drop
    assembler.on_transforms(tf(("base_link", "axle", T0, wheel)), static=False)  # it moves: this does not help
    send_images(assembler, 1, T0 + NS_PER_S)
    assert assembler.poll(T0 + NS_PER_S) is None
    assembler.on_transforms(tf(("base_link", "axle", 0, wheel)), static=True)
    ready = assembler.poll(T0 + NS_PER_S)
    np.testing.assert_allclose(ready.world_from_ego, pose_at(T0 + 100 * MS), atol=1e-3)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"parent": ""}, "its header.frame_id is empty"),
        ({"child": ""}, "its child_frame_id is empty"),
        ({"parent": "map"}, "its header.frame_id is 'map', fixed_frame is 'odom'"),
        ({"child": "odom"}, "are both 'odom'"),
        ({"pose": np.full((4, 4), np.nan)}, "its pose has a quaternion of NaN"),
        ({"pose": rigid(np.eye(3), np.array([np.inf, 0, 0]))}, "its pose has entries that are not finite"),
        ({"velocity": (np.nan, 0, 0)}, "its twist has numbers that are not finite"),
    ],
)
def test_odometry_that_cannot_be_used_is_refused_counted_and_told_until_a_good_one_comes(change, why):
    assembler = FrameAssembler(replace(RIG, fixed_frame="odom"), AssemblerOptions(**BY_ODOMETRY))
    assembler.on_odometry(odometry(**({"stamp_ns": T0, "pose": np.eye(4)} | change)))
    assert assembler.status(T0).motion_drops["refused", "/odom"] == 1
    assert any("a message on /odom was refused: " in text and why in text for text in texts(assembler))
    assembler.on_odometry(odometry(T0 + STEP_NS, np.eye(4)))
    assert texts(assembler) == []


def test_frames_that_change_are_refused_and_late_and_repeated_messages_cost_nothing():
    assembler = assembler_with(**BY_ODOMETRY)
    send_odometry(assembler, T0 - 200 * MS, T0 + 200 * MS)
    assembler.on_odometry(odometry(T0 - 30 * MS, pose_at(T0 - 30 * MS), VELOCITY, TURN))
    assembler.on_odometry(odometry(T0 + 200 * MS, pose_at(T0 + 200 * MS), VELOCITY, TURN))
    assembler.on_odometry(odometry(T0 + 220 * MS, np.eye(4), child="other"))
    drops = assembler.status(T0).motion_drops
    assert {why: count for (why, _), count in drops.items()} == {"late": 1, "repeated": 1, "refused": 1}
    assert "odom <- other, those of the messages before it were odom <- base_link" in texts(assembler)[0]
    np.testing.assert_allclose(one_set(assembler).world_from_ego, pose_at(T0), atol=1e-12)


def test_two_senders_of_odometry_are_named():
    assembler = assembler_with(**BY_ODOMETRY)
    for k in range(40):
        assembler.on_odometry(odometry(T0 + k * STEP_NS, turned(0.0, 30.0 * (k % 2))))
    assert "the poses on /odom jump to and fro" in texts(assembler)[0]


def test_a_bag_that_begins_again_is_one_reset_and_goes_on():
    assembler = assembler_with(**BY_ODOMETRY, imu_topic="/imu")
    now_ns = T0
    for _ in range(2):
        got = []
        for k in range(60):
            at_ns, now_ns = T0 + k * 100 * MS, now_ns + 100 * MS
            send_odometry(assembler, at_ns - 100 * MS, at_ns + 60 * MS)
            send_imu(assembler, at_ns - 100 * MS, at_ns + 60 * MS)
            send_images(assembler, k, now_ns)
            while (ready := assembler.poll(now_ns)) is not None:
                got.append(ready)
        assert len(got) >= 57
        np.testing.assert_allclose(got[-1].world_from_ego, pose_at(got[-1].stamp_ns), atol=1e-3)
    assert assembler.status(now_ns).resets.total() == 1


def test_poses_of_sensors_and_maps_follow_the_odometry():
    map_from_odom = turned(0.5, 100.0, -20.0)
    assembler = FrameAssembler(RIG, AssemblerOptions(**BY_ODOMETRY), map_frame="map")
    assembler.on_transforms(static(), static=True)
    assembler.on_transforms(tf(("map", "odom", 0, map_from_odom)), static=True)
    for name in NAMES:
        assembler.on_camera_info(name, camera_info(frame_id=name.lower()))
    send_odometry(assembler, T0 - 200 * MS, T0 + 200 * MS)
    ready = one_set(assembler)
    np.testing.assert_allclose(ready.map_from_ego, map_from_odom @ pose_at(T0), atol=1e-9)
    camera = assembler.world_from(NAMES[0].lower(), T0)
    np.testing.assert_allclose(camera, ready.world_from_ego @ ready.poses[NAMES[0]].ego_from_camera, atol=1e-12)


# --- rates ---


def rates_with(mount=None, imu_topic="/imu", odometry_topic="/odom"):
    buffer = TransformBuffer()
    buffer.set("base_link", "imu", 0, np.eye(4) if mount is None else mount, static=True)
    return Rates(buffer, "base_link", imu_topic, odometry_topic)


def test_rates_are_interpolated_and_turned_into_the_vehicles_frame():
    left = rigid(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([0.5, 0, 0.2]))  # its x is the vehicle's y
    rates = rates_with(left)
    for k, x in enumerate((1.0, 3.0)):
        rates.on_imu(imu(T0 + k * 10 * MS, (x, 0, 9.81), (0.1, 0, 0.2)))
        rates.on_odometry(odometry(T0 + k * 10 * MS, np.eye(4), (4.0 + 2 * k, 0, 0), (0, 0, 0.9)))
    motion, problems = rates.at(T0 + 5 * MS, may_do_without=False)
    assert not problems and motion.is_complete
    assert motion.acceleration_mps2 == pytest.approx((0, 2.0, 9.81))
    assert motion.rotation_rate_radps == pytest.approx((0, 0.1, 0.2))  # the IMU's, not the odometry's
    assert motion.velocity_mps == pytest.approx((5.0, 0, 0))


def test_the_twist_of_a_frame_beside_the_vehicles_is_that_of_the_vehicle():
    """On a circle, 2 m ahead of the rear axle: the front moves sideways too."""
    rates = rates_with(rigid(np.eye(3), np.array([2.0, 0, 0])), imu_topic="")
    rates.on_odometry(odometry(T0, np.eye(4), (5.0, 1.0, 0), (0, 0, 0.5), child="imu"))
    motion, _ = rates.at(T0, may_do_without=False)
    assert motion.velocity_mps == pytest.approx((5.0, 0, 0)) and motion.rotation_rate_radps == pytest.approx(
        (0, 0, 0.5)
    )
    assert motion.acceleration_mps2 is None and not motion.is_complete


def test_a_twist_that_odometry_says_it_lacks_is_left_to_the_poses_and_told():
    rates, message = rates_with(imu_topic=""), odometry(T0, np.eye(4))
    message.twist.covariance[0] = -1.0
    rates.on_odometry(message)
    assert rates.at(T0, may_do_without=False) == (
        None,
        {"/odom": "the odometry on /odom says (covariance -1) that it has no twist"},
    )


@pytest.mark.parametrize("lacks", ["acceleration", "turn"])
def test_what_an_imu_says_that_it_lacks_is_left_to_the_poses_and_told(lacks):
    rates = rates_with(odometry_topic="")
    rates.on_imu(imu(T0, acceleration=(np.nan,) * 3 if lacks == "acceleration" else (0, 0, 9.8), lacks=[lacks]))
    motion, problems = rates.at(T0, may_do_without=False)
    assert (motion.acceleration_mps2 is None) == (lacks == "acceleration")
    assert (motion.rotation_rate_radps is None) == (lacks == "turn")
    assert "says (covariance -1) that it has no" in problems["/imu"]


@pytest.mark.parametrize(
    ("acceleration", "why"),
    [
        ((0.1, 0.2, 0.05), "gravity was taken out, or the unit is not m/s^2"),
        ((0.0, 0.0, 1.0), "gravity was taken out, or the unit is not m/s^2"),
        ((0.0, 0.0, -9.81), "gravity does not point along z"),
        ((9.81, 0.0, 0.0), "gravity does not point along z"),
        ((1.7, 0.0, 9.6), ""),  # uphill
        ((-6.0, 2.0, 9.81), ""),  # braking in a bend
    ],
)
def test_an_acceleration_without_gravity_is_noticed_and_not_used(acceleration, why):
    rates = rates_with(odometry_topic="")
    for k in range(100):
        rates.on_imu(imu(T0 + k * 10 * MS, np.array(acceleration) + (0, 0, 3 * (-1) ** k)))  # and it shakes
    motion, problems = rates.at(T0 + 505 * MS, may_do_without=False)
    assert (motion.acceleration_mps2 is None) == bool(why) and motion.rotation_rate_radps is not None
    assert why in problems.get("/imu", "")


def test_rates_are_waited_for_once_and_then_done_without_until_a_message_comes():
    rates = rates_with(odometry_topic="")
    with pytest.raises(Late, match="no message at or after .* on /imu yet"):
        rates.at(T0, may_do_without=False)
    assert rates.at(T0, may_do_without=True) == (None, {"/imu": "nothing has come on /imu: is its sender alive?"})
    assert rates.at(T0, may_do_without=False)[0] is None  # whoever comes after does not wait again
    rates.on_imu(imu(T0 + NS_PER_S))
    assert "is of 1.000 s after the images" in rates.at(T0, may_do_without=False)[1]["/imu"]
    with pytest.raises(Late):
        rates.at(T0 + 2 * NS_PER_S, may_do_without=False)
    rates.on_imu(imu(T0 + 3 * NS_PER_S))
    assert "nothing came on /imu for 2.00 s" in rates.at(T0 + 2 * NS_PER_S, may_do_without=False)[1]["/imu"]


@pytest.mark.parametrize(
    ("frame", "why"), [("", "do not name their frame"), ("nowhere", "nowhere of /imu is not known")]
)
def test_an_imu_whose_place_nobody_knows_is_named(frame, why):
    rates = rates_with(odometry_topic="")
    rates.on_imu(imu(T0, frame=frame))
    motion, problems = rates.at(T0, may_do_without=False)
    assert motion is None and why in problems["/imu"]


@pytest.mark.parametrize(
    ("twist_of", "is_used"),
    [
        (lambda t: VELOCITY, True),
        (lambda t: (0, 0, 0), False),  # not filled in
        (lambda t: pose_at(t)[:3, :3] @ VELOCITY, False),  # in the fixed frame
        (lambda t: (11.5, 0, 0), True),  # a speedometer that shows too much
    ],
)
def test_a_twist_that_is_not_the_change_of_its_poses_is_not_used_and_told(twist_of, is_used):
    rates = rates_with(imu_topic="")
    start_ns = T0 + 3 * NS_PER_S  # turned by 70 degrees by then
    for stamp_ns in range(start_ns, start_ns + 2 * NS_PER_S, STEP_NS):
        rates.on_odometry(odometry(stamp_ns, pose_at(stamp_ns), twist_of(stamp_ns), TURN))
    motion, problems = rates.at(start_ns + NS_PER_S, may_do_without=False)
    assert (motion is not None) == is_used
    assert ("one of the two is not filled in, or in another frame" in problems.get("/odom", "")) != is_used


def test_a_dead_imu_costs_no_set_and_is_told_and_with_sensors_every_set():
    both = {"odometry_topic": "/odom", "imu_topic": "/imu"}
    for ego_motion in ("auto", "sensors"):
        assembler = assembler_with(**both, ego_motion=ego_motion)
        send_tf(assembler, T0 - 200 * MS, T0 + 200 * MS)
        send_odometry(assembler, T0 - 200 * MS, T0 + 200 * MS)
        assert one_set(assembler) is None  # it may still come
        ready, status = assembler.poll(T0 + NS_PER_S), assembler.status(T0)
        if ego_motion == "auto":
            assert ready.motion.velocity_mps == pytest.approx(VELOCITY) and ready.motion.acceleration_mps2 is None
            assert texts(assembler) == ["nothing has come on /imu: is its sender alive?"]
        else:
            assert ready is None and status.set_drops["no_motion", ""] == 1
            assert "motion of the vehicle: no message at or after" in status.tf_missing


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"pose_source": "odometry"}, "pose_source: odometry needs the topic of a nav_msgs/Odometry"),
        ({"pose_source": "gps"}, "pose_source: 'gps' is not one of tf, odometry"),
        ({"ego_motion": "sensors", "imu_topic": "/imu"}, "ego_motion: sensors needs odometry_topic"),
        ({"imu_topic": "/a", "odometry_topic": "/a"}, "imu_topic and odometry_topic: both are '/a'"),
    ],
)
def test_options_that_contradict_each_other_are_named(values, text):
    with pytest.raises(SettingsError, match=text):
        AssemblerOptions(**values)


# --- the network's output ---


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    path = tmp_path_factory.mktemp("motion") / "street.mcap"
    return write_street_bag(path, 3, 2.0, 2.0, nuscenes_rig(0.15), workers=1)


def grids(path, **options):
    """Class of every voxel of every set of a bag, by the package's weights, and where the rates came from."""
    config = chosen_config("nano", ego_motion=options.get("ego_motion", ""))
    rig, stream, found = rig_for(config, chosen_rig("auto", config)), OccupancyStream(load_model(config)), []
    options = AssemblerOptions(**options).patient()
    with BagReader(path) as bag, closing(FrameAssembler(rig, options, config=config)) as assembler:
        for _, ready in ready_sets(bag, assembler):
            occupancy = stream.step(assembler.frame(ready), Wanted(instances=False, visible=False))
            found.append((occupancy.class_id, occupancy.history.ego_motion))
    return found


def share_changed(some, others):
    """Of the voxels that one of both calls occupied, the share whose class differs."""
    free = CONFIG.labels.free_id
    pairs = [(one, other) for (one, _), (other, _) in zip(some, others, strict=True)]
    occupied = sum(int(((one != free) | (other != free)).sum()) for one, other in pairs)
    return sum(int((one != other).sum()) for one, other in pairs) / occupied


def test_how_far_the_output_moves_between_the_sources(street):
    """The numbers of docs/node.md, of a shorter drive."""
    topics = {"odometry_topic": "/odom", "imu_topic": "/imu"}
    poses, zeros = grids(street, ego_motion="poses"), grids(street, ego_motion="zeros")
    sensors = grids(street, **topics, pose_source="odometry", ego_motion="sensors")
    sources = [{source for _, source in found} for found in (poses, sensors, zeros)]
    assert sources == [{"poses", "at_rest"}, {"sensors"}, {"zeros"}]
    assert len(poses) == 4 and 0 < share_changed(poses, sensors) < 0.06
    assert 0.05 < share_changed(poses, zeros) < 0.4
    assert share_changed(poses[1:], sensors[1:]) < 0.03  # but for the first one, which poses take to be at rest
