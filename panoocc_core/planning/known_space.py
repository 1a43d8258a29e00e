"""Is this point, box, ray or path free, occupied or unknown?

`include/panoocc/known_space.hpp` answers the same in C++.

Coordinates are metres in the frame of the grid's message (`header.frame_id`).
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..geometry import MAX_DISTANCE_M, Matrix
from ..labels import LabelSet
from ..types import GridGeometry, Occupancy
from .moving_box import MovingBox, OrientedBox, Rotation, Vector, checked_vector, column, dot, rotation_rows

NO_CLASS = 255  # beyond the grid


class State(IntEnum):
    """What is known of a place.  Of several, the greatest counts."""

    FREE = 0
    UNKNOWN = 1
    OCCUPIED = 2


class Sight(IntEnum):
    """Whether a camera sees a place."""

    UNSEEN = 0
    SEEN = 1
    UNKNOWN = 2  # the grid does not say, or ends before


@dataclass(frozen=True, slots=True, eq=False)
class Voxels:
    """The voxels that n points lie in."""

    state: NDArray[np.uint8]  # [n], State
    sight: NDArray[np.uint8]  # [n], Sight
    class_id: NDArray[np.uint8]  # [n], NO_CLASS beyond the grid
    confidence: NDArray[np.uint8]  # [n], 255 * probability; 0 where the grid does not say
    instance_id: NDArray[np.int32]  # [n], 0: none


class Clearance(NamedTuple):
    """How far something can go.  inf: as far as was asked."""

    occupied_m: float  # until the first occupied voxel
    unknown_m: float  # until the first unknown one, or the grid's end
    obstacle: tuple[int, int, int] | None  # x, y, z of that occupied voxel

    @property
    def free_m(self) -> float:
        """Until anything that is not known to be free."""
        return min(self.occupied_m, self.unknown_m)


class KnownSpace:
    """A voxel grid as a planner sees it.

    A voxel is OCCUPIED by any class but free and those of `ignored`, whether or not a camera sees it; else FREE where a
    camera sees it, and UNKNOWN where none does.  What lies outside the grid is UNKNOWN.

    Args:
        class_id: uint8 [X, Y, Z], ids of `labels`.
        visible: bool [X, Y, Z], what a camera sees; None where that is not known: then nothing is FREE, unless
            `trust_unseen` is set.
        confidence: uint8 [X, Y, Z], 255 * probability of the class.
        instance_id: integers [X, Y, Z], 0 = none.
        ignored: ids of classes that are no obstacles, such as the ground (`class_ids`).
        trust_unseen: take the network's word that a voxel is free also where no camera is known to see it.

    Raises:
        ValueError: an array does not have the grid's shape, or `ignored` has an id that `labels` lacks.
    """

    def __init__(
        self,
        class_id: NDArray[np.uint8],
        geometry: GridGeometry,
        labels: LabelSet,
        *,
        visible: NDArray[np.bool_] | None = None,
        confidence: NDArray[np.uint8] | None = None,
        instance_id: NDArray[Any] | None = None,
        ignored: Collection[int] = (),
        trust_unseen: bool = False,
    ) -> None:
        arrays = {"class_id": class_id, "visible": visible, "confidence": confidence, "instance_id": instance_id}
        for name, values in arrays.items():
            if values is not None and values.shape != tuple(geometry.shape_xyz):
                raise ValueError(f"{name} has the shape {values.shape}, not {tuple(geometry.shape_xyz)}")
        unknown = sorted(number for number in ignored if not 0 <= number < len(labels.names))
        if unknown:
            raise ValueError(f"ignored has class {unknown[0]}: {labels.key} has 0..{len(labels.names) - 1}")
        self.geometry, self.labels = geometry, labels
        self.class_id, self.visible, self.confidence, self.instance_id = class_id, visible, confidence, instance_id
        x, y, z = geometry.ego_from_grid[:3, :3].tolist()
        self._rotation: Rotation = (tuple(x), tuple(y), tuple(z))
        self._corner_m = checked_vector(geometry.ego_from_grid[:3, 3].tolist(), "the grid's corner")
        is_obstacle = np.ones(256, bool)
        is_obstacle[[*ignored, *([] if labels.free_id is None else [labels.free_id])]] = False
        state = np.full(class_id.shape, State.FREE if trust_unseen else State.UNKNOWN, np.uint8)
        if visible is not None:
            state[visible] = State.FREE
        state[is_obstacle[class_id]] = State.OCCUPIED
        # [Z, Y, X], so that the first of several voxels is the same one as in the message.
        self._state = np.ascontiguousarray(state.transpose(2, 1, 0))

    @classmethod
    def of(cls, occupancy: Occupancy, *, ignored: Collection[int] = (), trust_unseen: bool = False) -> "KnownSpace":
        """A grid that was just made, copied from its device; arguments and errors as above."""
        arrays = {name: getattr(occupancy, name) for name in ("visible", "confidence", "instance_id")}
        return cls(
            occupancy.class_id.cpu().numpy(),
            occupancy.geometry,
            occupancy.labels,
            **{name: None if values is None else values.cpu().numpy() for name, values in arrays.items()},
            ignored=ignored,
            trust_unseen=trust_unseen,
        )

    @property
    def state(self) -> NDArray[np.uint8]:
        """What is known of every voxel, State [X, Y, Z]."""
        return self._state.transpose(2, 1, 0)

    def at(self, points_m: Matrix) -> Voxels:
        """The voxels of points [n, 3].

        Raises:
            ValueError: they have another shape, or a number that is not finite or too large.
        """
        points = np.asarray(points_m, np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points_m has the shape {points.shape}, not [n, 3]")
        if not (np.abs(points) <= MAX_DISTANCE_M).all():  # NaN is not, either
            raise ValueError(f"points_m has numbers that are not finite, or more than {MAX_DISTANCE_M:g}")
        d = [points[:, i] - self._corner_m[i] for i in range(3)]
        axes = [column(self._rotation, i) for i in range(3)]
        local = [d[0] * axis[0] + d[1] * axis[1] + d[2] * axis[2] for axis in axes]
        with np.errstate(over="ignore"):
            place = [np.floor(values / size) for values, size in zip(local, self.geometry.voxel_size_m)]
        inside = np.all([(p >= 0) & (p < n) for p, n in zip(place, self.geometry.shape_xyz)], axis=0)
        x, y, z = (np.where(inside, p, 0).astype(np.int64) for p in place)

        def of(values: NDArray[Any] | None, outside: int, kind: type[np.generic], missing: int) -> NDArray[Any]:
            found = np.full(len(points), missing) if values is None else values[x, y, z]
            return np.where(inside, found, outside).astype(kind)

        return Voxels(
            state=of(self.state, State.UNKNOWN, np.uint8, 0),
            sight=of(self.visible, Sight.UNKNOWN, np.uint8, Sight.UNKNOWN),
            class_id=of(self.class_id, NO_CLASS, np.uint8, 0),
            confidence=of(self.confidence, 0, np.uint8, 0),
            instance_id=of(self.instance_id, 0, np.int32, 0),
        )

    def box(self, box: OrientedBox) -> State:
        """What is known of a box: the greatest state of every voxel that it touches."""
        found = self._sweep(self._moving(box, (0.0, 0.0, 0.0), 0.0))
        if found.occupied_m == 0:
            return State.OCCUPIED
        return State.UNKNOWN if found.unknown_m == 0 else State.FREE

    def ahead(self, footprint: OrientedBox, direction: Sequence[float], reach_m: float) -> Clearance:
        """How far a box can go straight on, without turning; 0 where it touches something already.

        Args:
            direction: [3], of any length.
            reach_m: how far to look.

        Raises:
            ValueError: `direction` is zero, or a number is not finite or too large.
        """
        return self._sweep(self._moving(footprint, _unit(direction), _checked_reach(reach_m)))

    def along(self, origin_m: Sequence[float], direction: Sequence[float], reach_m: float) -> Clearance:
        """How far a ray goes until it enters an occupied voxel, and an unknown one.

        Args:
            direction: [3], of any length.
            reach_m: how far to look.

        Raises:
            ValueError: `direction` is zero, or a number is not finite or too large.
        """
        reach_m = _checked_reach(reach_m)
        start = self._in_grid(checked_vector(origin_m, "origin_m"))
        step = self._turned(_unit(direction))
        shape, size = self.geometry.shape_xyz, self.geometry.voxel_size_m
        crossings = [np.array([0.0, reach_m])]
        for i in range(3):
            if step[i] != 0:
                with np.errstate(over="ignore"):
                    at_m = (np.arange(shape[i] + 1) * size[i] - start[i]) / step[i]
                crossings.append(at_m[(at_m > 0) & (at_m < reach_m)])
        ends = np.sort(np.concatenate(crossings))
        middle_m = (ends[:-1] + ends[1:]) / 2
        place = [np.floor((start[i] + middle_m * step[i]) / size[i]) for i in range(3)]
        inside = np.all([(p >= 0) & (p < n) for p, n in zip(place, shape)], axis=0)
        x, y, z = (np.where(inside, p, 0).astype(np.int64) for p in place)
        state = np.where(inside, self._state[z, y, x], State.UNKNOWN)
        state[ends[:-1] == ends[1:]] = State.FREE  # through an edge: in no voxel
        hits, gaps = np.flatnonzero(state == State.OCCUPIED), np.flatnonzero(state == State.UNKNOWN)
        first = hits[0] if len(hits) else None
        return Clearance(
            math.inf if first is None else float(ends[first]),
            float(ends[gaps[0]]) if len(gaps) else math.inf,
            None if first is None else (int(x[first]), int(y[first]), int(z[first])),
        )

    def _sweep(self, box: MovingBox) -> Clearance:
        shape, size = self.geometry.shape_xyz, self.geometry.voxel_size_m
        window = box.window(shape, size)
        unknown_m = box.leaves_m(shape, size)
        if any(first > last for first, last in window):
            return Clearance(math.inf, unknown_m, None)
        (x0, x1), (y0, y1), (z0, z1) = window
        state = self._state[z0 : z1 + 1, y0 : y1 + 1, x0 : x1 + 1]
        z, y, x = np.nonzero(state)
        place = np.stack((x + x0, y + y0, z + z0), axis=1)
        at_m = box.touches_m((place + 0.5) * np.asarray(size), size)
        is_occupied = state[z, y, x] == State.OCCUPIED
        unknown_m = min(unknown_m, float(at_m[~is_occupied].min(initial=math.inf)))
        at_m[~is_occupied] = math.inf
        first = int(np.argmin(at_m)) if len(at_m) else 0
        if not len(at_m) or at_m[first] == math.inf:
            return Clearance(math.inf, unknown_m, None)
        x, y, z = place[first].tolist()
        return Clearance(float(at_m[first]), unknown_m, (x, y, z))

    def _moving(self, box: OrientedBox, direction: Vector, reach_m: float) -> MovingBox:
        turn, (length, width, height) = rotation_rows(box.orientation), box.size_m
        axes = (self._turned(column(turn, 0)), self._turned(column(turn, 1)), self._turned(column(turn, 2)))
        half_m = (length / 2, width / 2, height / 2)
        return MovingBox(self._in_grid(box.centre_m), half_m, axes, self._turned(direction), reach_m)

    def _in_grid(self, point_m: Vector) -> Vector:
        x, y, z = (point_m[i] - self._corner_m[i] for i in range(3))
        return self._turned((x, y, z))

    def _turned(self, direction: Vector) -> Vector:
        """A direction of the message's frame in the axes of the grid."""
        x, y, z = (dot(direction, column(self._rotation, i)) for i in range(3))
        return x, y, z


def class_ids(labels: LabelSet, names: Iterable[str]) -> frozenset[int]:
    """The ids of classes by their names, as `KnownSpace` takes them.

    Raises:
        ValueError: `labels` has no class of a name.
    """
    wanted = tuple(names)
    unknown = sorted(set(wanted) - set(labels.names))
    if unknown:
        raise ValueError(f"label set {labels.key} has no class {unknown[0]!r}, but {', '.join(labels.names)}")
    return frozenset(labels.names.index(name) for name in wanted)


def _unit(direction: Sequence[float]) -> Vector:
    x, y, z = checked_vector(direction, "direction")
    length = math.sqrt(x * x + y * y + z * z)
    if length < 1e-9:
        raise ValueError(f"direction {[x, y, z]} has no length")
    return x / length, y / length, z / length


def _checked_reach(reach_m: float) -> float:
    if not 0 < reach_m <= MAX_DISTANCE_M:
        raise ValueError(f"reach_m is {reach_m}, not a distance of up to {MAX_DISTANCE_M:g}")
    return float(reach_m)
