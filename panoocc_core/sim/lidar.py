"""A spinning LiDAR in a scene: what its rays meet at one instant, labelled.

A turn is a raster of beams and azimuths.  Every solid is looked for in the window of the raster that holds the box
around it; a ray's surface is the nearest one of those that it enters.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..geometry import Matrix
from ..ground_truth import TruePoints
from ..labels import LIDARSEG, OCC3D
from .rays import GROUND, NEAR_M, SKY, corners_m
from .scene import Scene
from .shapes import Floats, Kind, ShapeTable
from .solids import enter

_FROM_OCC3D = np.array(
    [LIDARSEG.names.index(name) if name in LIDARSEG.names else 0 for name in OCC3D.names], np.uint8
)  # by name; what the benchmark does not name is noise


@dataclass(frozen=True, slots=True)
class Lidar:
    """Beams that are turned through a full circle; all of them are fired at the same time.

    Raises:
        ValueError: it has no rays, beams that are not in order between straight down and straight up, or no range.
    """

    height_m: float = 1.84  # above the ego frame's origin
    lowest_deg: float = -30.0
    highest_deg: float = 10.0
    beams: int = 32
    azimuths: int = 480
    range_m: float = 60.0

    def __post_init__(self) -> None:
        if self.beams < 2 or self.azimuths < 3:
            raise ValueError(f"a LiDAR needs 2 beams and 3 azimuths or more, not {self.beams} and {self.azimuths}")
        if not -90 < self.lowest_deg < self.highest_deg < 90:
            raise ValueError(f"beams must rise from above -90 to below 90, not {self.lowest_deg} to {self.highest_deg}")
        if not self.range_m > 0:
            raise ValueError(f"range_m must be more than 0, not {self.range_m}")

    @property
    def rays(self) -> int:
        """How many there are in a turn."""
        return self.beams * self.azimuths

    @property
    def slopes(self) -> Floats:
        """Rise per horizontal metre of each beam [beams], the lowest first."""
        return np.tan(np.radians(np.linspace(self.lowest_deg, self.highest_deg, self.beams)))

    def directions(self) -> Floats:
        """Unit vectors [3, beams, azimuths] in the ego frame; azimuths are counted to the left from ahead."""
        azimuth = np.arange(self.azimuths) * (2 * math.pi / self.azimuths)
        elevation = np.arctan(self.slopes)[:, None]
        level = np.cos(elevation)
        x, y = level * np.cos(azimuth), level * np.sin(azimuth)
        return np.stack((x, y, np.broadcast_to(np.sin(elevation), x.shape)))


def true_points(scene: Scene, time_s: float, lidar: Lidar | None = None) -> TruePoints:
    """What the rays of a LiDAR (None: one of 32 beams) meet at `time_s`, beam by beam; rays to the sky give none."""
    lidar = lidar or Lidar()
    world_from_ego, shapes = scene.world_from_ego(time_s), scene.shapes_at(time_s)
    direction = lidar.directions().reshape(3, -1)  # ego frame
    origin = world_from_ego[:3, 3] + lidar.height_m * world_from_ego[:3, 2]
    along = world_from_ego[:3, :3] @ direction
    range_m, shape = _nearest(lidar, shapes, origin, along, world_from_ego)
    hit = range_m <= lidar.range_m
    range_m, shape = range_m[hit], shape[hit]
    x, y, _ = origin[:, None] + along[:, hit] * range_m
    solid = np.maximum(shape, 0)
    class_id = np.where(shape == GROUND, scene.ground.classes(x, y), shapes.class_id[solid])
    return TruePoints(
        position_m=(direction[:, hit] * range_m + [[0], [0], [lidar.height_m]]).T.astype(np.float32),
        class_id=_FROM_OCC3D[class_id],
        instance_id=np.where(shape == GROUND, 0, shapes.instance_id[solid]).astype(np.int32),
    )


def _nearest(
    lidar: Lidar, shapes: ShapeTable, origin: Floats, along: Floats, world_from_ego: Matrix
) -> tuple[Floats, NDArray[np.int64]]:
    """Range [r] and shape [r] (or GROUND or SKY) of what every ray meets first; `along` is [3, r], world frame."""
    with np.errstate(divide="ignore"):
        nearest = np.where(along[2] < 0, -origin[2] / along[2], np.inf)
    found = np.where(np.isfinite(nearest), GROUND, SKY)
    shape, ray = _candidates(lidar, shapes, origin, world_from_ego)
    entry = _entries(shapes, shape, origin, along[:, ray])
    near = np.flatnonzero((entry > NEAR_M) & (entry < nearest[ray]))
    near = near[np.lexsort((entry[near], ray[near]))]  # of every ray the nearest first; of equals the first shape
    rays, first = np.unique(ray[near], return_index=True)
    nearest[rays], found[rays] = entry[near[first]], shape[near[first]]
    return nearest, found


def _candidates(
    lidar: Lidar, shapes: ShapeTable, origin: Floats, world_from_ego: Matrix
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs [p] of a shape and a ray that may meet it, by shape."""
    index, first, count, low, high = _windows(lidar, shapes, origin, world_from_ego)
    area = count * (high - low)
    number = np.repeat(np.arange(len(index)), area)
    place = np.arange(len(number)) - np.repeat(area.cumsum() - area, area)
    beam = low[number] + place // count[number]
    azimuth = (first[number] + place % count[number]) % lidar.azimuths
    return index[number], beam * lidar.azimuths + azimuth


def _windows(lidar: Lidar, shapes: ShapeTable, origin: Floats, world_from_ego: Matrix) -> tuple[NDArray[np.int64], ...]:
    """Shapes within range [n], their first azimuth, count of azimuths, first beam and the one past the last."""
    corners = (corners_m(shapes) - origin) @ world_from_ego[:3, :3]  # [n, 8, 3], from the LiDAR in the ego frame
    reach = np.hypot(corners[..., 0], corners[..., 1])
    middle = corners.mean(axis=1)
    bearing = np.arctan2(middle[:, 1], middle[:, 0])
    aside = np.arctan2(corners[..., 1], corners[..., 0]) - bearing[:, None]
    aside = (aside + math.pi) % (2 * math.pi) - math.pi
    step = 2 * math.pi / lidar.azimuths
    first = np.ceil((bearing + aside.min(axis=1)) / step).astype(np.int64)
    last = np.floor((bearing + aside.max(axis=1)) / step).astype(np.int64)
    around = np.ptp(aside, axis=1) >= math.pi  # the LiDAR is above, below or within the box
    count = np.where(around, lidar.azimuths, last + 1 - first)
    # Horizontal distance of the box's nearest point, which the box itself measures along its own axes.
    to_middle = np.einsum("nji,nj->ni", shapes.world_from_shape, shapes.centre_m - origin)
    gap = np.maximum(np.abs(to_middle) - shapes.half_m, 0)
    nearest, farthest = np.maximum(np.hypot(gap[:, 0], gap[:, 1]), NEAR_M), np.maximum(reach.max(axis=1), NEAR_M)
    bottom, top = corners[..., 2].min(axis=1), corners[..., 2].max(axis=1)
    low = np.searchsorted(lidar.slopes, bottom / np.where(bottom < 0, nearest, farthest), side="left")
    high = np.searchsorted(lidar.slopes, top / np.where(top > 0, nearest, farthest), side="right")
    index = np.flatnonzero((np.hypot(nearest, gap[:, 2]) < lidar.range_m) & (count > 0) & (high > low))
    return index, first[index], count[index], low[index], high[index]


def _entries(shapes: ShapeTable, shape: NDArray[np.int64], origin: Floats, along: Floats) -> Floats:
    """How far [p] from the origin [3] rays along [3, p] enter a shape [p] each; inf for a miss."""
    entry = np.full(len(shape), np.inf)
    for kind in Kind:
        own = np.flatnonzero(shapes.kind[shape] == kind)
        to_local = shapes.local_from_world[shape[own]].astype(np.float64)
        start = np.einsum("nij,nj->in", to_local, origin - shapes.centre_m[shape[own]])
        step = np.einsum("nij,jn->in", to_local, along[:, own])
        planes = shapes.planes[shape[own]].astype(np.float64).transpose(1, 2, 0)
        parts = (torch.from_numpy(np.ascontiguousarray(part)) for part in (planes, start, step))
        entry[own] = enter(kind, *parts).numpy()
    return entry
