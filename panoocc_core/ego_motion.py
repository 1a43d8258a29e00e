"""The 18 numbers about the vehicle's motion that the networks were trained with (PanoOcc's "can_bus" vector).

[0:3] change of position in the world, [3:7] quaternion, [7:10] acceleration with gravity, [10:13] rotation rate,
[13:16] velocity (all three in the vehicle frame), [16] yaw in radians, [17] change of yaw in degrees.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from .config import EgoMotionConfig
from .geometry import NS_PER_S, Matrix, interpolate, quaternion_from_rotation, yaw_rad
from .types import Frame, VehicleMotion

GRAVITY_MPS2 = 9.81
MIN_DIFFERENCE_S = 0.2  # shorter differences of a pose source are mostly noise
AT_REST = VehicleMotion((0.0, 0.0, GRAVITY_MPS2), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
ZEROS = VehicleMotion((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class StampedPose:
    """Where the vehicle was."""

    stamp_ns: int
    world_from_ego: Matrix  # [4, 4]


def pose_at(poses: tuple[StampedPose, ...], stamp_ns: int, tolerance_ns: int) -> StampedPose | None:
    """The pose at a stamp: interpolated between neighbours in `poses` (oldest first), else the last one within
    the tolerance, else None."""
    before = [pose for pose in poses if pose.stamp_ns <= stamp_ns]
    after = [pose for pose in poses if pose.stamp_ns > stamp_ns]
    if before and after:
        start, end = before[-1], after[0]
        ratio = (stamp_ns - start.stamp_ns) / (end.stamp_ns - start.stamp_ns)
        return StampedPose(stamp_ns, interpolate(start.world_from_ego, end.world_from_ego, ratio))
    nearest = before[-1] if before else after[0] if after else None
    return nearest if nearest is not None and abs(nearest.stamp_ns - stamp_ns) <= tolerance_ns else None


def motion_from_poses(poses: tuple[StampedPose, ...]) -> VehicleMotion | None:
    """Motion at the last pose by differences over at least 0.2 s; None while the poses reach back less far."""
    velocities = []
    last = len(poses) - 1
    for _ in range(2):
        start = _earlier(poses, last)
        if start is None:
            break
        velocities.append(_velocity(poses[start], poses[last]))
        last = start
    if not velocities:
        return None
    stamp_s, velocity_mps, rotation_rate_radps = velocities[0]
    world_from_ego = poses[-1].world_from_ego[:3, :3]
    acceleration_mps2 = np.array([0.0, 0.0, GRAVITY_MPS2])
    if len(velocities) == 2:
        acceleration_mps2 = acceleration_mps2 + (velocity_mps - velocities[1][1]) / (stamp_s - velocities[1][0])
    to_vehicle = world_from_ego.T
    return VehicleMotion(
        tuple(to_vehicle @ acceleration_mps2), tuple(rotation_rate_radps), tuple(to_vehicle @ velocity_mps)
    )


def _earlier(poses: tuple[StampedPose, ...], index: int) -> int | None:
    """The latest pose at least MIN_DIFFERENCE_S before the one at `index`."""
    limit = poses[index].stamp_ns - int(MIN_DIFFERENCE_S * NS_PER_S)
    return next((i for i in range(index - 1, -1, -1) if poses[i].stamp_ns <= limit), None)


def _velocity(start: StampedPose, end: StampedPose) -> tuple[float, Matrix, Matrix]:
    """Time in the middle (s), velocity in the world (m/s), rotation rate in the vehicle frame (rad/s)."""
    seconds = (end.stamp_ns - start.stamp_ns) / NS_PER_S
    middle_s = (end.stamp_ns + start.stamp_ns) / 2 / NS_PER_S
    moved = end.world_from_ego[:3, 3] - start.world_from_ego[:3, 3]
    turn = quaternion_from_rotation(start.world_from_ego[:3, :3].T @ end.world_from_ego[:3, :3])
    sine = float(np.linalg.norm(turn[:3]))
    angle = 2 * math.atan2(sine, float(turn[3]))
    axis = turn[:3] / sine if sine > 1e-12 else np.zeros(3)
    return middle_s, moved / seconds, axis * angle / seconds


def vehicle_motion(frame: Frame, poses: tuple[StampedPose, ...], rates: str) -> tuple[VehicleMotion, str]:
    """The rates of motion, all of them, and where they come from; `poses` end with this frame's.

    The source is "sensors", "poses", "zeros", or "at_rest" where the poses do not reach back far enough to tell;
    "sensors+poses" (or "sensors+at_rest") where the sensors know but a part.

    Raises:
        ValueError: `rates` is "sensors" and the frame lacks some.
    """
    if rates == "zeros":
        return ZEROS, "zeros"
    measured = frame.motion.measured if frame.motion is not None and rates in ("auto", "sensors") else {}
    if frame.motion is not None and measured and frame.motion.is_complete:
        return frame.motion, "sensors"
    if rates == "sensors":
        what = f"only {', '.join(measured)} of the" if measured else "no"
        raise ValueError(
            f"ego_motion.rates is 'sensors', but the frame carries {what} measured motion; use 'auto' or 'poses'"
        )
    by_poses = motion_from_poses(poses)
    motion, source = (AT_REST, "at_rest") if by_poses is None else (by_poses, "poses")
    return (replace(motion, **measured), f"sensors+{source}") if measured else (motion, source)


def ego_motion_vector(
    world_from_ego: Matrix, earlier: Matrix | None, motion: VehicleMotion, config: EgoMotionConfig
) -> Matrix:
    """The vector [18].

    Args:
        world_from_ego: the pose now.
        earlier: the pose one interval before; None at the start of a drive, where the changes are zero (or, with the
            switch `first_frame_jump`, counted from the world's origin).
        motion: rates in the vehicle frame, all of them.
    """
    if earlier is None:
        earlier = np.eye(4) if config.first_frame_jump else world_from_ego
    x, y, z, w = quaternion_from_rotation(world_from_ego[:3, :3])  # w >= 0: a quaternion's sign is arbitrary
    yaw = yaw_rad(world_from_ego)
    change_of_yaw = math.degrees(yaw) - math.degrees(yaw_rad(earlier))
    if not config.first_frame_jump:
        change_of_yaw = (change_of_yaw + 180) % 360 - 180
    rates = np.array((motion.acceleration_mps2, motion.rotation_rate_radps, motion.velocity_mps), np.float64).ravel()
    return np.array(
        [
            *(world_from_ego[:3, 3] - earlier[:3, 3]),
            *((w, w, w, w) if config.quaternion == "scalar_repeated" else (w, x, y, z)),
            *rates,
            yaw,
            change_of_yaw,
        ]
    )
