"""RayIoU (SparseOcc, arXiv 2312.17118): is what a LiDAR ray meets first of the right class and at the right depth?

The protocol of the published numbers: rays of one turn of a LiDAR, cast from up to eight of the places where the
drive's LiDAR has been; a ray whose truth meets nothing is dropped; a hit has the true class and a depth that is off by
less than 1, 2 or 4 m; IoU = hits / (true rays + predicted rays - hits) per class, averaged over classes and thresholds.
No camera mask is applied.  The published code measures on the grid of Occ3D; here any grid will do, turned ones too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import Matrix, invert
from ..labels import LabelSet
from ..types import GridGeometry
from .confusion import Counts, Ids, Mask, Scores, mean_of, ratio

THRESHOLDS_M = (1.0, 2.0, 4.0)
ORIGIN_LIMIT_M = 39.0  # of |x| and |y| of an origin, in the ego frame
MAX_ORIGINS = 8
LIDAR_IN_EGO_M = (0.985793, 0.0, 1.84019)  # nuScenes' roof LiDAR in base_link

_HIGHEST_RAD = 0.21  # upper end of the LiDAR's field of view
_FREE, _OUTSIDE = 0, 255


def pitches_rad() -> tuple[float, ...]:
    """Pitch angles of the protocol, lowest first, upwards positive: 39 of them.

    Ten look at the ground 1, 2, ... 10 times as far away as the LiDAR is high; the rest go on in steps of the last
    difference (0.63 degrees) until one is above the field of view.
    """
    pitches = [-math.atan2(1, distance) for distance in range(1, 11)]
    step = pitches[-1] - pitches[-2]
    while pitches[-1] < _HIGHEST_RAD:
        pitches.append(pitches[-1] + step)
    return tuple(pitches)


def ray_directions(pitches: Sequence[float] | None = None, azimuths: int = 360) -> Matrix:
    """Unit vectors [pitches * azimuths, 3] in the ego frame, 14040 in the protocol."""
    pitch = np.asarray(pitches_rad() if pitches is None else pitches)[:, None]
    azimuth = np.arange(azimuths) * (2 * math.pi / azimuths)
    x, y, z = np.cos(pitch) * np.cos(azimuth), np.cos(pitch) * np.sin(azimuth), np.sin(pitch)
    return np.stack((x, y, np.broadcast_to(z, x.shape)), axis=-1).reshape(-1, 3)


def ray_origins_m(
    world_from_ego: Sequence[Matrix],
    index: int,
    lidar_m: tuple[float, float, float] = LIDAR_IN_EGO_M,
    limit_m: float = ORIGIN_LIMIT_M,
) -> Matrix:
    """Where rays start for frame `index` of a drive: [n, 3] in its ego frame, at most eight, in the order of the drive.

    Args:
        world_from_ego: poses [4, 4] of all frames of the drive, at the times of their LiDAR.
        lidar_m: the LiDAR in the ego frame.
        limit_m: origins with a larger |x| or |y| are left out; of more than eight, eight are taken evenly.
    """
    ego_from_world = invert(world_from_ego[index])
    places = np.array([(ego_from_world @ pose @ (*lidar_m, 1.0))[:3] for pose in world_from_ego])
    near = places[(np.abs(places[:, :2]) < limit_m).all(axis=1)]
    if len(near) > MAX_ORIGINS:
        near = near[np.round(np.linspace(0, len(near) - 1, MAX_ORIGINS)).astype(int)]
    return np.asarray(near)


@dataclass(frozen=True, slots=True, eq=False)
class RayHits:
    """What rays meet first."""

    class_id: NDArray[np.uint8]  # [n], the free class where they meet nothing
    depth_m: Scores  # [n], from the origin to where the voxel is entered; inf where they meet nothing
    instance_id: NDArray[np.int32] | None = None  # [n], 0 where they meet nothing; None where nobody asked


def cast_rays(
    class_id: Ids,
    free_id: int,
    geometry: GridGeometry,
    origins_m: Matrix,
    directions: Matrix,
    instance_id: Ids | None = None,
) -> RayHits:
    """The first voxel that is not free along each ray, from voxel to voxel without leaving one out.

    Args:
        class_id: [X, Y, Z], below 254.
        origins_m: [o, 3] in the ego frame, inside or outside of the grid.
        directions: [d, 3], unit vectors in the ego frame.
        instance_id: [X, Y, Z] from 0, within int32; the hits then have instances, too.

    Returns:
        o * d hits, those of the first origin first.

    Raises:
        ValueError: a grid is not of the geometry's shape, or a class is out of range.
    """
    if instance_id is not None and instance_id.shape != geometry.shape_xyz:
        raise ValueError(f"instance_id has the shape {instance_id.shape}, the geometry {geometry.shape_xyz}")
    if class_id.shape != geometry.shape_xyz:
        raise ValueError(f"class_id has the shape {class_id.shape}, the geometry {geometry.shape_xyz}")
    if class_id.size and not (class_id.min() >= 0 and max(class_id.max(), free_id) < _OUTSIDE - 1):
        raise ValueError(f"class ids must lie within 0..{_OUTSIDE - 2} to be cast at")
    count = len(origins_m) * len(directions)
    ids = None if instance_id is None else np.pad(instance_id.astype(np.int32), 1).reshape(-1)
    hits = RayHits(
        class_id=np.full(count, free_id, np.uint8),
        depth_m=np.full(count, math.inf),
        instance_id=None if ids is None else np.zeros(count, np.int32),
    )
    codes = _bordered_codes(class_id, free_id)
    rays = _enter(geometry, origins_m, directions, codes.shape)
    codes = codes.reshape(-1)
    while len(rays.number):
        code = codes[rays.cell]
        stopped = code != _FREE
        if stopped.any():
            met = stopped & (code != _OUTSIDE)
            hits.class_id[rays.number[met]] = code[met] - 1
            hits.depth_m[rays.number[met]] = rays.depth_m[met]
            if ids is not None and hits.instance_id is not None:
                hits.instance_id[rays.number[met]] = ids[rays.cell[met]]
            rays = rays.only(~stopped)
        _advance(rays)
    return hits


def needed_free_id(labels: LabelSet) -> int:
    """The class that rays pass through.

    Raises:
        ValueError: the label set has none.
    """
    if labels.free_id is None:
        raise ValueError(f"label set {labels.key} has no class for free space: rays cannot pass")
    return labels.free_id


@dataclass(frozen=True, slots=True, eq=False)
class RayIoU:
    """Rays by class, a value: `add` and `+` return a new one."""

    true_rays: Counts  # [K]
    predicted_rays: Counts  # [K], of the rays that meet something in truth
    hits: Counts  # [T, K]
    thresholds_m: tuple[float, ...] = THRESHOLDS_M

    @classmethod
    def empty(cls, class_count: int, thresholds_m: Sequence[float] = THRESHOLDS_M) -> "RayIoU":
        """Nothing counted yet."""
        none = np.zeros(class_count, np.int64)
        return cls(none, none, np.zeros((len(thresholds_m), class_count), np.int64), tuple(thresholds_m))

    def add(self, predicted: RayHits, true: RayHits, free_id: int) -> "RayIoU":
        """This and one more set of rays.

        Raises:
            ValueError: predicted and true rays differ in number, or a class is none of the classes.
        """
        if predicted.class_id.shape != true.class_id.shape:
            raise ValueError(f"{len(predicted.class_id)} predicted rays, {len(true.class_id)} true ones")
        count = len(self.true_rays)
        if max(predicted.class_id.max(initial=0), true.class_id.max(initial=0)) >= count:
            raise ValueError(f"a ray meets a class outside 0..{count - 1}")
        kept = true.class_id != free_id
        guess, truth = predicted.class_id[kept], true.class_id[kept]
        error_m = np.abs(predicted.depth_m[kept] - true.depth_m[kept])
        same = guess == truth
        hits = [np.bincount(truth[same & (error_m < limit)], minlength=count) for limit in self.thresholds_m]
        return RayIoU(
            true_rays=self.true_rays + np.bincount(truth, minlength=count),
            predicted_rays=self.predicted_rays + np.bincount(guess[guess != free_id], minlength=count),
            hits=self.hits + np.array(hits),
            thresholds_m=self.thresholds_m,
        )

    def add_frame(
        self,
        predicted: Ids,
        true: Ids,
        labels: LabelSet,
        geometry: GridGeometry,
        origins_m: Matrix,
        directions: Matrix | None = None,
    ) -> "RayIoU":
        """This and the rays of one frame, `predicted` and `true` class ids [X, Y, Z] of `labels`.

        Raises:
            ValueError: the label set has no free space, or as `cast_rays` and `add`.
        """
        free_id = needed_free_id(labels)
        rays = ray_directions() if directions is None else directions
        found, there = (cast_rays(ids, free_id, geometry, origins_m, rays) for ids in (predicted, true))
        return self.add(found, there, free_id)

    def __add__(self, other: "RayIoU") -> "RayIoU":
        if self.thresholds_m != other.thresholds_m or self.hits.shape != other.hits.shape:
            raise ValueError("ray IoUs with other thresholds or classes cannot be added")
        return RayIoU(
            self.true_rays + other.true_rays,
            self.predicted_rays + other.predicted_rays,
            self.hits + other.hits,
            self.thresholds_m,
        )

    def iou(self) -> Scores:
        """[T, K]; NaN for a class that no ray meets, neither in truth nor in prediction."""
        return ratio(self.hits, self.true_rays + self.predicted_rays - self.hits)

    def present(self) -> Mask:
        """Classes [K] that rays meet in truth."""
        return self.true_rays > 0

    def means(self) -> tuple[float, ...]:
        """Mean over the classes at each threshold."""
        return tuple(mean_of(row, np.ones(len(row), bool)) for row in self.iou())

    def mean(self) -> float:
        """RayIoU: the mean over classes and thresholds."""
        return float(np.mean(self.means()))

    def mean_of_present(self) -> float:
        """As `mean`, over those classes that rays meet in truth: for frames that lack some."""
        return float(np.mean([mean_of(row, self.present()) for row in self.iou()]))


@dataclass(slots=True, eq=False)
class _Rays:
    """Rays under way, n of them; changed in place, as copies would cost more than the work."""

    number: Counts  # [n], which ray it is
    cell: Counts  # [n], flat index into the grid with its border
    depth_m: Scores  # [n], where the cell was entered
    next_m: list[Scores]  # 3 x [n], where the next face across each axis is met
    pace_m: list[Scores]  # 3 x [n], between two faces
    stride: list[Counts]  # 3 x [n], from cell to cell in the flat grid

    def only(self, chosen: Mask) -> "_Rays":
        kept = np.flatnonzero(chosen)
        return _Rays(
            number=self.number[kept],
            cell=self.cell[kept],
            depth_m=self.depth_m[kept],
            next_m=[column[kept] for column in self.next_m],
            pace_m=[column[kept] for column in self.pace_m],
            stride=[column[kept] for column in self.stride],
        )


def _bordered_codes(class_id: Ids, free_id: int) -> NDArray[np.uint8]:
    """The grid with a border of one voxel: 0 = free, class + 1, or outside: no step has to ask for borders."""
    codes = np.full(tuple(n + 2 for n in class_id.shape), _OUTSIDE, np.uint8)
    codes[1:-1, 1:-1, 1:-1] = np.where(class_id == free_id, _FREE, class_id + 1)
    return codes


def _enter(geometry: GridGeometry, origins_m: Matrix, directions: Matrix, bordered: tuple[int, ...]) -> _Rays:
    """All rays that meet the grid, in the cell where they start or enter it."""
    shape, size = np.array(geometry.shape_xyz), np.asarray(geometry.voxel_size_m)
    grid_from_ego = invert(geometry.ego_from_grid)
    start = (origins_m @ grid_from_ego[:3, :3].T + grid_from_ego[:3, 3]) / size  # in voxels
    ahead = directions @ grid_from_ego[:3, :3].T / size  # voxels per metre
    start, ahead = np.repeat(start, len(directions), axis=0), np.tile(ahead, (len(origins_m), 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = -start / ahead, (shape - start) / ahead
        within = (start >= 0) & (start <= shape)
        # Along an axis it does not move on, a ray is between the faces for ever or never.
        enter = np.where(ahead == 0, np.where(within, -math.inf, math.inf), np.minimum(low, high)).max(axis=1)
        leave = np.where(ahead == 0, math.inf, np.maximum(low, high)).min(axis=1)
    depth = np.maximum(enter, 0)
    number = np.flatnonzero(depth < leave)
    start, ahead, depth = start[number], ahead[number], depth[number]
    index = np.clip(np.floor(start + ahead * depth[:, None]), 0, shape - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ahead_face = np.where(ahead == 0, math.inf, (index + (ahead > 0) - start) / ahead)
        pace = np.where(ahead == 0, math.inf, 1 / np.abs(ahead))
    strides = np.array([bordered[1] * bordered[2], bordered[2], 1])
    return _Rays(
        number=number,
        cell=(index.astype(np.int64) + 1) @ strides,
        depth_m=depth,
        next_m=[np.ascontiguousarray(column) for column in ahead_face.T],
        pace_m=[np.ascontiguousarray(column) for column in pace.T],
        stride=[np.ascontiguousarray(column) for column in (np.sign(ahead).astype(np.int64) * strides).T],
    )


def _advance(rays: _Rays) -> None:
    """Every ray into its next cell; one that leaves through an edge passes to the cell beyond it."""
    nearest = np.minimum(np.minimum(rays.next_m[0], rays.next_m[1]), rays.next_m[2])
    for next_m, pace_m, stride in zip(rays.next_m, rays.pace_m, rays.stride):
        crosses = next_m == nearest
        rays.cell += stride * crosses
        np.add(next_m, pace_m, out=next_m, where=crosses)
    rays.depth_m = nearest
