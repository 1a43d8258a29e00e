"""Convex solids of actors, as arrays over all shapes of a scene, and where rays enter them.

Every solid is a unit solid in its own frame ("local": coordinates -1..1), stretched by `half_m`, turned about the
vertical and put somewhere: a hull with leaning sides (boxes, car cabins, gabled roofs), an ellipsoid or a cylinder.
The image, the shadows and the voxel truth all read the same arrays, so that they cannot disagree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]  # float32 unless an argument brings float64
Ints = NDArray[np.int32]


class Kind(IntEnum):
    """Unit solids."""

    HULL = 0
    ELLIPSOID = 1
    CYLINDER = 2  # upright


class Material(IntEnum):
    """How a surface is coloured; see `shading`."""

    PLAIN = 0
    PAINT = 1  # car body: gloss, lamps on the x faces
    CABIN = 2  # car cabin: glass around, paint on top
    PANES = 3  # bus: a row of windows in the upper half
    FACADE = 4
    SHOPS = 5  # facade whose ground floor is glazed
    TILES = 6
    FOLIAGE = 7
    STRIPES = 8  # red and white, horizontal


@dataclass(frozen=True, slots=True)
class Shape:
    """One solid in its actor's frame (x ahead, z up, origin on the ground)."""

    kind: Kind
    centre_m: tuple[float, float, float]
    half_m: tuple[float, float, float]
    colour: tuple[float, float, float]  # sRGB 0..1
    material: Material = Material.PLAIN
    yaw_rad: float = 0.0
    lean: tuple[float, float, float] = (0.0, 0.0, 0.0)  # hulls: how far front, back and sides come in at the top, 0..1
    swing_m: float = 0.0  # moves to and fro along x while the actor walks


@dataclass(frozen=True, slots=True, eq=False)
class ShapeTable:
    """All shapes of a scene at one instant, in the world frame.

    A point p is in shape i's unit frame at `local_from_world[i] @ (p - centre_m[i])`; a hull is where
    `planes[i, :, :3] @ local <= planes[i, :, 3]`.
    """

    kind: Ints  # [n]
    centre_m: Floats  # [n, 3]
    half_m: Floats  # [n, 3]
    world_from_shape: Floats  # [n, 3, 3], rotation
    local_from_world: Floats  # [n, 3, 3], rotation back and scaling by 1 / half_m
    planes: Floats  # [n, 6, 4]
    class_id: NDArray[np.uint8]  # [n]
    instance_id: Ints  # [n], 0 = stuff
    material: Ints  # [n]
    colour: Floats  # [n, 3], linear light
    moving: NDArray[np.bool_]  # [n]

    def __len__(self) -> int:
        return len(self.kind)


def hull_planes(lean: Floats) -> Floats:
    """Planes [n, 6, 4] (normal, offset; +x, -x, +y, -y, +z, -z) of unit hulls that lean in by `lean` [n, 3]."""
    planes = np.zeros((len(lean), 6, 4), np.float32)
    for face, (axis, sign) in enumerate(((0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1))):
        planes[:, face, axis] = sign
        planes[:, face, 3] = 1
        if axis != 2:
            amount = lean[:, min(face, 2)] / 2
            planes[:, face, 2] = amount
            planes[:, face, 3] -= amount
    return planes


def yaw_rotations(yaw_rad: Floats) -> Floats:
    """Rotations [n, 3, 3] about the vertical."""
    cosine, sine = np.cos(yaw_rad), np.sin(yaw_rad)
    rotation = np.zeros((len(yaw_rad), 3, 3), np.float32)
    rotation[:, 0, 0] = rotation[:, 1, 1] = cosine
    rotation[:, 0, 1], rotation[:, 1, 0] = -sine, sine
    rotation[:, 2, 2] = 1
    return rotation


def inside(kind: int, planes: Floats, local: Floats) -> NDArray[np.bool_]:
    """Whether points [3, n] of the unit frame lie in a unit solid."""
    if kind == Kind.HULL:
        return np.asarray((planes[:, :3] @ local <= planes[:, 3:]).all(axis=0))
    if kind == Kind.ELLIPSOID:
        return np.asarray((local * local).sum(axis=0) <= 1)
    return np.asarray(((local[:2] ** 2).sum(axis=0) <= 1) & (np.abs(local[2]) <= 1))


def linear(colours: Sequence[Sequence[float]] | Floats) -> Floats:
    """sRGB 0..1 to linear light, by the usual power of 2.2."""
    return np.asarray(colours, np.float32) ** np.float32(2.2)
