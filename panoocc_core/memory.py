"""Temporal memory of voxel volumes, indexed by time: what is kept, what is recalled, when it is cleared.

States are kept at a fixed spacing, whatever the rate of the stream; a network gets the ones whose ages come nearest to
those it was trained with.  A memory is a value: a step is `begin` before the network's work and `remember` after it,
which returns a new memory.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from .config import EgoMotionConfig, GridConfig, ModelConfig, TemporalConfig
from .ego_motion import StampedPose
from .geometry import NS_PER_S, Matrix, invert, rotation_angle_rad, shift_and_turn
from .optics import LensModel
from .panoptic.tracks import Tracks
from .types import CameraImage, Frame
from .voxels import token_count, voxel_from_network

# How much longer than wanted (share of the spacing) a pause between kept states may get: streams jitter.
SPACING_SLACK = 0.05
# A pose source's own jumps, on top of what the limits of speed and turn rate allow.
POSE_SLACK_M, POSE_SLACK_RAD = 1.0, 0.1


@dataclass(frozen=True, slots=True, eq=False)
class VoxelState:
    """One volume of the past."""

    stamp_ns: int
    world_from_network: Matrix  # [4, 4]
    tokens: Tensor  # [N, C]: unfused (concat) or fused (recurrent) features


@dataclass(frozen=True, slots=True, eq=False)
class KnownCamera:
    """How one camera saw the vehicle's surroundings when the history began."""

    size_hw: tuple[int, int]
    intrinsics: Matrix
    ego_from_camera: Matrix
    lens: LensModel | None


@dataclass(frozen=True, slots=True, eq=False)
class VoxelMemory:
    """All that a stream remembers."""

    states: tuple[VoxelState, ...] = ()  # oldest first
    poses: tuple[StampedPose, ...] = ()  # recent ones, oldest first, the last one of the last frame
    calibration: Mapping[str, KnownCamera] = field(default_factory=dict)
    ego_from_network: Matrix | None = None  # [4, 4], when the history began
    tracks: Tracks = Tracks()  # of the instances
    resets: Mapping[str, int] = field(default_factory=dict)  # reason -> how often, since the stream began


def cleared(memory: VoxelMemory, reason: str) -> VoxelMemory:
    """An empty memory that has counted the reason."""
    resets = {**memory.resets, reason: memory.resets.get(reason, 0) + 1}
    return VoxelMemory(tracks=memory.tracks.forgotten(), resets=resets)


def reset_reason(memory: VoxelMemory, frame: Frame, model: ModelConfig) -> str | None:
    """Why the history cannot go on with this frame, or None: the clock jumped back, the pause was too long, the pose
    teleported, or the cameras or the network's frame are not the same as before."""
    if not memory.poses:
        return None
    config = model.temporal
    last = memory.poses[-1]
    seconds = (frame.stamp_ns - last.stamp_ns) / NS_PER_S
    if seconds < 0:
        return "clock_jump"
    if config.ages_s and seconds > config.horizon_s:
        return "gap"
    step = invert(last.world_from_ego) @ frame.world_from_ego
    too_far = np.linalg.norm(step[:3, 3]) > config.max_speed_mps * seconds + POSE_SLACK_M
    if too_far or rotation_angle_rad(step[:3, :3]) > config.max_turn_radps * seconds + POSE_SLACK_RAD:
        return "teleport"
    known, pose = memory.ego_from_network, model.grid.ego_from_network.matrix
    if not _same_cameras(memory.calibration, frame.cameras, config):
        return "calibration"
    if known is not None and not _same_mount(known, pose, config):
        return "calibration"
    return None


def calibration_of(cameras: tuple[CameraImage, ...]) -> dict[str, KnownCamera]:
    """The calibrations of a frame's cameras, by name; a blank one has none."""
    return {c.name: KnownCamera(c.size_hw, c.intrinsics, c.ego_from_camera, c.lens) for c in cameras if not c.is_blank}


def _same_cameras(known: Mapping[str, KnownCamera], cameras: tuple[CameraImage, ...], config: TemporalConfig) -> bool:
    """Whether none was moved or changed since the history began: what trembles within the limits is the same camera."""
    return set(known) <= {camera.name for camera in cameras} and all(
        _same_camera(known[camera.name], camera, config)
        for camera in cameras
        if camera.name in known and not camera.is_blank
    )


def _same_camera(known: KnownCamera, camera: CameraImage, config: TemporalConfig) -> bool:
    if known.size_hw != camera.size_hw or not _same_lens(known.lens, camera.lens, config):
        return False
    change = np.abs(camera.intrinsics - known.intrinsics)
    height, width = camera.size_hw
    return (
        bool((change[:2, :2] <= config.max_focal_change * np.diag(known.intrinsics)[:2]).all())
        and bool((change[:2, 2] <= config.max_centre_shift * np.array((width, height))).all())
        and _same_mount(known.ego_from_camera, camera.ego_from_camera, config)
    )


def _same_lens(known: LensModel | None, lens: LensModel | None, config: TemporalConfig) -> bool:
    if known is None or lens is None:
        return known is lens
    return known.differs_from(lens) <= config.max_focal_change


def _same_mount(known: Matrix, mount: Matrix, config: TemporalConfig) -> bool:
    shift_m, turn_deg = shift_and_turn(known, mount)
    return shift_m <= config.max_mount_shift_m and turn_deg <= config.max_mount_turn_deg


@dataclass(frozen=True, slots=True, eq=False)
class Recollection:
    """What a memory gives for one frame, from `begin` to `remember`."""

    memory: VoxelMemory  # as before the frame; empty where there was a reason to clear it
    frame: Frame
    reset: str | None  # that reason
    poses: tuple[StampedPose, ...]  # with the frame's
    states: tuple[VoxelState, ...]  # of the wanted ages, oldest first
    ego_from_network: Matrix  # [4, 4]

    @property
    def world_from_network(self) -> Matrix:
        """Where the network's frame is now [4, 4]."""
        return self.frame.world_from_ego @ self.ego_from_network

    @property
    def ages_s(self) -> tuple[float, ...]:
        """Ages of the recalled states."""
        return tuple((self.frame.stamp_ns - state.stamp_ns) / NS_PER_S for state in self.states)

    def voxel_motions(self, config: ModelConfig) -> Matrix:
        """How the voxels have moved since each of the recalled states: [state, 3, 4], see `StepInput`."""
        now, grid = self.world_from_network, config.grid
        since = [past_from_current(state.world_from_network, now, config.temporal) for state in self.states]
        return np.array([voxel_motion(motion, grid) for motion in since]).reshape(-1, 3, 4)


def begin(memory: VoxelMemory, frame: Frame, config: ModelConfig) -> Recollection:
    """What is known when a frame comes: whether history goes on, the poses so far, and the states to fuse with.

    Args:
        config: with the network's frame where it is for this frame (`ModelConfig.placed`).
    """
    reset = reset_reason(memory, frame, config)
    if reset is not None:
        memory = cleared(memory, reset)
    poses = _extended(memory.poses, frame, config.ego_motion)
    states = tuple(_recalled(memory, frame.stamp_ns, config.temporal))
    return Recollection(memory, frame, reset, poses, states, config.grid.ego_from_network.matrix)


def remember(recollection: Recollection, tokens: Tensor, config: ModelConfig) -> VoxelMemory:
    """The memory after the frame, whose state is `tokens` [N, C]: kept when its turn has come; old ones are dropped."""
    memory, frame, temporal = recollection.memory, recollection.frame, config.temporal
    oldest_ns = frame.stamp_ns - int(temporal.horizon_s * NS_PER_S)
    states = tuple(state for state in memory.states if state.stamp_ns >= oldest_ns)
    if temporal.ages_s and _is_its_turn(memory, frame.stamp_ns, temporal):
        states += (VoxelState(frame.stamp_ns, recollection.world_from_network, tokens),)
    return replace(
        memory,
        states=states,
        poses=recollection.poses,
        calibration={**calibration_of(frame.cameras), **memory.calibration},
        ego_from_network=recollection.ego_from_network if memory.ego_from_network is None else memory.ego_from_network,
    )


def _recalled(memory: VoxelMemory, stamp_ns: int, config: TemporalConfig) -> list[VoxelState]:
    """For every wanted age the state that comes nearest to it within the tolerance, oldest first; each at most once."""
    tolerance_ns = int(config.tolerance_s * NS_PER_S)
    found: list[VoxelState] = []
    for age_s in config.ages_s:
        wanted_ns = stamp_ns - int(age_s * NS_PER_S)
        free = [state for state in memory.states if all(state is not other for other in found)]
        near = min(free, key=lambda state: abs(state.stamp_ns - wanted_ns), default=None)
        if near is not None and abs(near.stamp_ns - wanted_ns) <= tolerance_ns:
            found.append(near)
    return found


def _is_its_turn(memory: VoxelMemory, stamp_ns: int, config: TemporalConfig) -> bool:
    """Whether a frame is kept: waiting for the next one (as far away as the last) would stretch the spacing."""
    if not memory.states:
        return True
    since_kept_ns = stamp_ns - memory.states[-1].stamp_ns
    frame_period_ns = stamp_ns - memory.poses[-1].stamp_ns
    return since_kept_ns + frame_period_ns > (1 + SPACING_SLACK) * config.spacing_s * NS_PER_S


def _extended(poses: tuple[StampedPose, ...], frame: Frame, config: EgoMotionConfig) -> tuple[StampedPose, ...]:
    """The poses with this frame's.

    Of the poses older than twice the ego-motion interval only the newest stays: a slow stream needs it.
    """
    oldest_ns = frame.stamp_ns - int(2 * config.interval_s * NS_PER_S)
    before = [pose for pose in poses if pose.stamp_ns < frame.stamp_ns]
    recent = [pose for pose in before if pose.stamp_ns >= oldest_ns]
    older = before[: len(before) - len(recent)][-1:]
    return (*older, *recent, StampedPose(frame.stamp_ns, frame.world_from_ego))


def states_kept(config: TemporalConfig) -> int:
    """How many states a memory holds of a stream that is fast against their spacing; of a slow one up to twice."""
    return math.floor(config.horizon_s / config.spacing_s + SPACING_SLACK) + 1 if config.ages_s else 0


def history_bytes(config: ModelConfig, bytes_of_number: int) -> int:
    """What the states of a full memory take."""
    return states_kept(config.temporal) * token_count(config.grid) * config.embed * bytes_of_number


def past_from_current(world_from_past: Matrix, world_from_current: Matrix, config: TemporalConfig) -> Matrix:
    """Motion [4, 4] of the network's frame from now to a past instant, of its poses [4, 4] in the world.

    In float64: world coordinates are large.
    """
    motion = invert(world_from_past) @ world_from_current
    if config.keep_height:
        motion[2, 3] = 0.0
    return motion


def voxel_motion(motion: Matrix, grid: GridConfig) -> Matrix:
    """A motion [4, 4] of the network's frame as it moves voxels: place [3, 4] then from place now, in voxels."""
    to_voxels = voxel_from_network(grid)
    return (to_voxels @ motion @ np.linalg.inv(to_voxels))[:3]
