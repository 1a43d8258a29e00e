"""A street made from a seed: the ground, everything on it, and how the ego vehicle and the others move with time.

The world frame is x, y, z in metres with z up; the ego frame ("base_link") lies on the ground below the rear axle,
x ahead.  Time is seconds since the start of the drive.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import Matrix, rigid
from ..labels import OCC3D
from .actors import Model
from .drive import Cruise, EgoDrive
from .layout import MARGIN_M, Placed, paint_ground, place_all, side_streets, stops_at, street_profile
from .shapes import Floats, Ints, Shape, ShapeTable, hull_planes, linear, yaw_rotations
from .street import Centreline, Profile

MAX_SECONDS = 300.0
_STRIDE_M = 1.5  # two steps of a walker


class Scene:
    """One street with traffic.

    Raises:
        ValueError: the drive is not 0 to 300 seconds long.
    """

    def __init__(self, seed: int, seconds: float = 20.0):
        if not 0 < seconds <= MAX_SECONDS:
            raise ValueError(f"a drive lasts more than 0 and at most {MAX_SECONDS:.0f} seconds, not {seconds}")
        random = np.random.default_rng(seed)
        self.seed, self.seconds = seed, seconds
        self.profile: Profile = street_profile(random)
        cruise = Cruise(random.uniform(6.5, 9.0))
        reach_m = MARGIN_M + cruise.speed_mps * (1 + cruise.swing) * seconds
        crossings = side_streets(random, reach_m)
        self.drive = EgoDrive(MARGIN_M, cruise, stops_at(random, crossings), seconds)
        self.street = Centreline(random, self.drive.distance_m(seconds) + MARGIN_M)
        crossings = [crossing for crossing in crossings if crossing.s_m < self.street.length_m]
        self.ground = paint_ground(random, self.street, self.profile, crossings)
        self.placed: list[Placed] = place_all(random, self.street, self.profile, self.drive, crossings)
        azimuth, elevation = random.uniform(0, 2 * math.pi), random.uniform(0.4, 1.05)
        self.to_sun = np.array(
            (math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation), math.sin(elevation)),
            np.float32,
        )
        self.exposure = random.uniform(0.8, 1.25)
        self._stack = _Stack(self.placed)

    def world_from_ego(self, time_s: float) -> Matrix:
        """Pose [4, 4] of base_link."""
        lane = -self.profile.lane_m / 2
        x, y, yaw = self.street.pose(self.drive.distance_m(time_s), lane)
        rotation = yaw_rotations(np.array([yaw]))[0].astype(float)
        # Built in float32 for the shapes; a pose is orthonormal in float64.
        rotation[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        return rigid(rotation, np.array([x, y, 0.0]))

    @property
    def things(self) -> "Things":
        """Cars, walkers and all others that are counted one by one."""
        return self._stack.things

    def shapes_at(self, time_s: float) -> ShapeTable:
        """Every solid at one instant."""
        return self._stack.at(self.actor_poses(time_s), time_s)

    def actor_poses(self, time_s: float) -> Floats:
        """x, y in metres, heading in radians, and distance walked in metres: [actors, 4]."""
        convoy = self.drive.distance_m(time_s) - self.drive.start_m
        stack = self._stack
        along = stack.start[:, 0] + np.where(stack.convoy, convoy, stack.speed[:, 0] * time_s)
        left = stack.start[:, 1] + stack.speed[:, 1] * time_s
        # Who crosses the street waits on the pavement before and after.
        kerb = self.profile.kerb_m + 1.0
        crosses = stack.speed[:, 1] != 0
        left = np.where(crosses, np.clip(left, -kerb, kerb), left)
        walked = np.where(crosses, np.where(np.abs(left) < kerb, left, 0), stack.speed[:, 0] * time_s)
        x, y, yaw = self.street.pose(along, left)
        return np.stack((x, y, yaw + stack.turn, walked), axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Things:
    """The actors that belong to a thing class, with the boxes around them in their own frames."""

    actor: NDArray[np.int64]  # [n], row of `Scene.actor_poses`
    class_name: tuple[str, ...]
    instance_id: Ints  # [n]
    middle_m: Floats  # [n, 3]
    size_m: Floats  # [n, 3], length, width, height


class _Stack:
    """Shapes of all actors as arrays, in their actors' frames; turned into the world once per instant."""

    def __init__(self, placed: list[Placed]):
        pairs: list[tuple[int, Shape, Model]] = [
            (number, shape, actor.model) for number, actor in enumerate(placed) for shape in actor.model.shapes
        ]
        shapes = [shape for _, shape, _ in pairs]
        self.start = np.array([(p.s_m, p.left_m) for p in placed])
        self.speed = np.array([p.speed_mps for p in placed])
        self.turn = np.array([p.turn_rad for p in placed])
        self.convoy = np.array([p.convoy for p in placed])
        self.actor = np.array([number for number, _, _ in pairs])
        self.kind = np.array([shape.kind for shape in shapes], np.int32)
        self.centre_m = np.array([shape.centre_m for shape in shapes], np.float32)
        self.half_m = np.array([shape.half_m for shape in shapes], np.float32)
        self.yaw_rad = np.array([shape.yaw_rad for shape in shapes], np.float32)
        self.swing_m = np.array([shape.swing_m for shape in shapes], np.float32)
        self.planes = hull_planes(np.array([shape.lean for shape in shapes], np.float32))
        self.material = np.array([shape.material for shape in shapes], np.int32)
        self.colour = linear([shape.colour for shape in shapes])
        names = [model.class_name for _, _, model in pairs]
        self.class_id = np.array([OCC3D.names.index(name) for name in names], np.uint8)
        things = np.cumsum([OCC3D.is_thing[OCC3D.names.index(p.model.class_name)] for p in placed])
        is_thing = np.array(OCC3D.is_thing)[self.class_id]
        self.instance_id = np.where(is_thing, things[self.actor], 0).astype(np.int32)
        moves = np.array([p.convoy or any(p.speed_mps) for p in placed])
        self.moving = moves[self.actor]
        self.things = self._boxed(placed)

    def _boxed(self, placed: list[Placed]) -> Things:
        first = np.unique(self.actor, return_index=True)[1]  # shapes stand in the order of their actors
        low = np.minimum.reduceat(self.centre_m - self.half_m, first, axis=0)
        high = np.maximum.reduceat(self.centre_m + self.half_m, first, axis=0)
        things = np.flatnonzero(self.instance_id[first])
        return Things(
            actor=things,
            class_name=tuple(placed[i].model.class_name for i in things),
            instance_id=self.instance_id[first][things],
            middle_m=((low + high) / 2)[things],
            size_m=(high - low)[things],
        )

    def at(self, poses: Floats, time_s: float) -> ShapeTable:
        of_actor = poses[self.actor]
        centre = self.centre_m.copy()
        centre[:, 0] += self.swing_m * np.sin(of_actor[:, 3] * np.float32(2 * np.pi / _STRIDE_M))
        turn = yaw_rotations(of_actor[:, 2])
        world = np.einsum("nij,nj->ni", turn, centre)
        world[:, :2] += of_actor[:, :2]
        rotation = yaw_rotations(of_actor[:, 2] + self.yaw_rad)
        inverse = rotation.transpose(0, 2, 1) / self.half_m[:, :, None]
        return ShapeTable(
            kind=self.kind,
            centre_m=world,
            half_m=self.half_m,
            world_from_shape=rotation,
            local_from_world=np.ascontiguousarray(inverse),
            planes=self.planes,
            class_id=self.class_id,
            instance_id=self.instance_id,
            material=self.material,
            colour=self.colour,
            moving=self.moving,
        )
