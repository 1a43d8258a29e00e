"""The true boxes of a scene's things, with their velocities."""

import numpy as np

from ..geometry import invert, yaw_rad
from ..ground_truth import TrueBoxes
from ..labels import BOX_CLASSES
from .scene import Scene

REACH_M = 80.0
_HALF_STEP_S = 0.05


def true_boxes(scene: Scene, time_s: float, reach_m: float = REACH_M) -> TrueBoxes:
    """Boxes of all things whose middle is at most `reach_m` away, in the ego frame at `time_s`.

    A box is the smallest one along its actor's axes around all its solids; the velocity is over ground.
    """
    things = scene.things
    poses = scene.actor_poses(time_s)[things.actor].astype(float)  # [n, 4]: x, y, heading, walked
    before, after = (scene.actor_poses(time_s + step)[things.actor, :2] for step in (-_HALF_STEP_S, _HALF_STEP_S))
    cosine, sine = np.cos(poses[:, 2]), np.sin(poses[:, 2])
    x = poses[:, 0] + cosine * things.middle_m[:, 0] - sine * things.middle_m[:, 1]
    y = poses[:, 1] + sine * things.middle_m[:, 0] + cosine * things.middle_m[:, 1]
    ego_from_world = invert(scene.world_from_ego(time_s))
    centre_m = np.stack((x, y, things.middle_m[:, 2]), axis=1) @ ego_from_world[:3, :3].T + ego_from_world[:3, 3]
    velocity_mps = (after - before).astype(float) / (2 * _HALF_STEP_S) @ ego_from_world[:2, :2].T
    turn = poses[:, 2] + yaw_rad(ego_from_world)
    near = np.hypot(centre_m[:, 0], centre_m[:, 1]) <= reach_m
    return TrueBoxes(
        centre_m=centre_m[near].astype(np.float32),
        size_m=things.size_m[near],
        yaw_rad=np.arctan2(np.sin(turn), np.cos(turn))[near].astype(np.float32),
        velocity_mps=velocity_mps[near].astype(np.float32),
        class_id=np.array([BOX_CLASSES.index(name) for name in things.class_name], np.int64)[near],
        instance_id=things.instance_id[near],
    )
