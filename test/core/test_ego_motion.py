"""The ego-motion vector: every entry, both quaternion spellings, rates by differences."""

import math

import numpy as np
import pytest
import torch

from panoocc_core.config import EgoMotionConfig, model_config
from panoocc_core.ego_motion import (
    AT_REST,
    StampedPose,
    ego_motion_vector,
    motion_from_poses,
    pose_at,
    vehicle_motion,
)
from panoocc_core.geometry import NS_PER_S, rigid
from panoocc_core.memory import VoxelMemory, begin, remember
from panoocc_core.types import VehicleMotion

from .conftest import heading, street_frame

REPEATED = EgoMotionConfig(quaternion="scalar_repeated")
MOTION = VehicleMotion((0.1, 0.2, 9.8), (0.01, 0.02, 0.03), (7.0, 0.0, 0.0))


def test_every_entry_has_its_place():
    earlier = rigid(heading(30), np.array([100.0, 50.0, 1.0]))
    now = rigid(heading(40), np.array([103.0, 52.0, 1.1]))
    w, z = math.cos(math.radians(20)), math.sin(math.radians(20))
    expected = [3, 2, 0.1, w, w, w, w, 0.1, 0.2, 9.8, 0.01, 0.02, 0.03, 7, 0, 0, math.radians(40), 10]
    assert ego_motion_vector(now, earlier, MOTION, REPEATED) == pytest.approx(expected)
    assert ego_motion_vector(now, earlier, MOTION, EgoMotionConfig())[3:7] == pytest.approx([w, 0, 0, z])


def test_the_scalar_part_is_never_negative():
    assert ego_motion_vector(rigid(heading(300), np.zeros(3)), None, MOTION, REPEATED)[3] > 0


def test_a_drive_begins_without_a_jump_unless_the_switch_asks_for_the_originals():
    now = rigid(heading(90), np.array([700.0, 1600.0, 0.5]))
    start = ego_motion_vector(now, None, MOTION, REPEATED)
    assert start[:3] == pytest.approx([0, 0, 0]) and start[17] == pytest.approx(0)
    jump = ego_motion_vector(now, None, MOTION, EgoMotionConfig(quaternion="scalar_repeated", first_frame_jump=True))
    assert jump[:3] == pytest.approx([700, 1600, 0.5]) and jump[17] == pytest.approx(90)


def test_the_change_of_yaw_takes_the_short_way():
    before, after = rigid(heading(359), np.zeros(3)), rigid(heading(1), np.zeros(3))
    assert ego_motion_vector(after, before, MOTION, REPEATED)[17] == pytest.approx(2)


def circle(seconds: float, speed_mps: float = 5.0, turn_radps: float = 0.4) -> StampedPose:
    radius, angle = speed_mps / turn_radps, turn_radps * seconds
    position = np.array([radius * math.sin(angle), radius * (1 - math.cos(angle)), 0.0])
    return StampedPose(round(seconds * NS_PER_S), rigid(heading(math.degrees(angle)), position))


def test_rates_from_poses_on_a_circle():
    motion = motion_from_poses(tuple(circle(i * 0.05) for i in range(21)))
    assert motion is not None
    assert motion.velocity_mps == pytest.approx((5.0, 0, 0), abs=0.25)
    assert motion.rotation_rate_radps == pytest.approx((0, 0, 0.4), abs=1e-6)
    assert motion.acceleration_mps2 == pytest.approx((0, 2.0, 9.81), abs=0.45)  # towards the centre: v * omega


def test_a_short_track_tells_nothing():
    assert motion_from_poses((circle(0.0),)) is None
    assert motion_from_poses((circle(0.0), circle(0.1))) is None


def test_pose_at_interpolates_and_does_not_reach_far():
    track = (circle(0.0), circle(1.0))
    middle = pose_at(track, NS_PER_S // 2, 0)
    assert middle is not None and middle.world_from_ego[:3, 3] == pytest.approx(
        (track[0].world_from_ego[:3, 3] + track[1].world_from_ego[:3, 3]) / 2
    )
    assert pose_at(track, 2 * NS_PER_S, NS_PER_S // 2) is None
    assert pose_at(track, round(1.2 * NS_PER_S), NS_PER_S // 2) is track[1]
    assert pose_at((), 0, NS_PER_S) is None


def test_sources_of_the_rates():
    frame, measured = street_frame(1.0), street_frame(1.0, motion=MOTION)
    track = (StampedPose(frame.stamp_ns, frame.world_from_ego),)
    assert vehicle_motion(measured, track, "auto") == (MOTION, "sensors")
    assert vehicle_motion(frame, track, "auto") == (AT_REST, "at_rest")
    assert vehicle_motion(measured, track, "poses") == (AT_REST, "at_rest")
    assert vehicle_motion(measured, track, "zeros")[1] == "zeros"
    with pytest.raises(ValueError, match="the frame carries no measured motion"):
        vehicle_motion(frame, track, "sensors")


@pytest.mark.parametrize("period_s", [0.1, 0.5, 0.9, 1.2, 3.0])
def test_streams_of_any_rate_know_how_fast_they_go(period_s):
    """10 m/s ahead: 5 m in the half second that the networks were trained with."""
    memory, config = VoxelMemory(), model_config("pano_small_occ3d")
    for i in range(12):
        frame = street_frame(i * period_s, x_m=10.0 * i * period_s, size_hw=(2, 2))
        past = begin(memory, frame, config)
        memory = remember(past, torch.zeros(1, 1), config)
    poses = past.poses
    motion, source = vehicle_motion(frame, poses, "auto")
    earlier = pose_at(poses, frame.stamp_ns - NS_PER_S // 2, 0)
    assert source == "poses" and motion.velocity_mps == pytest.approx((10.0, 0, 0), abs=1e-6)
    assert earlier is not None and frame.world_from_ego[0, 3] - earlier.world_from_ego[0, 3] == pytest.approx(5.0)
    assert len(poses) <= 13
