"""Procedural materials: albedo and gloss of surface points, from their place on the solid."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .shading import sample
from .shapes import Floats, Ints, Material, ShapeTable

Mask = NDArray[np.bool_]
_FLOOR_M = 3.1


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """Surface points of one material; painters change `albedo` and `gloss` in place."""

    index: Ints  # [n], which shape
    local: Floats  # [n, 3], in the shape's unit frame
    half_m: Floats  # [n, 3]
    face: Ints  # [n], +x, -x, +y, -y, +z, -z of a hull
    point: Floats  # [n, 3], world frame
    noise: Floats  # texture
    albedo: Floats  # [n, 3], linear
    gloss: Floats  # [n], 0 matt to 1 mirror

    @property
    def along_m(self) -> Floats:
        """Horizontal coordinate on the upright faces, in metres from their middle."""
        ends = self.face < 2
        return np.where(ends, self.local[:, 1] * self.half_m[:, 1], self.local[:, 0] * self.half_m[:, 0])

    def put(self, where: Mask, colour: ArrayLike, gloss: float | None = None) -> None:
        """Colour some of the points."""
        self.albedo[where] = colour
        if gloss is not None:
            self.gloss[where] = gloss


def surface(
    shapes: ShapeTable, index: Ints, local: Floats, face: Ints, point: Floats, noise: Floats
) -> tuple[Floats, Floats]:
    """Albedo [n, 3] and gloss [n] of hit points."""
    albedo, gloss = shapes.colour[index], np.zeros(len(index), np.float32)
    material = shapes.material[index]
    for value, painter in _PAINTERS.items():
        here = np.flatnonzero(material == value)
        if len(here):
            own = index[here]
            patch = Patch(
                own, local[here], shapes.half_m[own], face[here], point[here], noise, albedo[here], gloss[here]
            )
            painter(patch)
            albedo[here], gloss[here] = patch.albedo, patch.gloss
    return albedo, gloss


def _hash(*values: Ints) -> Floats:
    """Reproducible values 0..1 [n] from integers."""
    mixed = np.zeros(np.broadcast_shapes(*(v.shape for v in values)), np.uint32)
    for factor, value in zip((73856093, 19349663, 83492791, 2654435761), values):
        mixed ^= value.astype(np.uint32) * np.uint32(factor)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(2246822519)
    return ((mixed ^ (mixed >> np.uint32(13))) & np.uint32(0xFFFF)).astype(np.float32) / np.float32(65535)


def _paint(patch: Patch) -> None:
    face, across, up = patch.face, np.abs(patch.local[:, 1]), patch.local[:, 2]
    patch.gloss[:] = 0.12
    lamp = (across > 0.62) & (up > 0.05) & (up < 0.55)
    patch.put(lamp & (face == 0), (0.95, 0.95, 0.88))
    patch.put(lamp & (face == 1), (0.55, 0.02, 0.02))
    patch.put((across < 0.28) & (np.abs(up + 0.35) < 0.16) & (face < 2), (0.8, 0.8, 0.74))
    patch.put(up < -0.72, (0.03, 0.03, 0.03))


def _cabin(patch: Patch) -> None:
    local, face = patch.local, patch.face
    along = np.where(face < 2, local[:, 1], local[:, 0])
    glass = (face < 4) & (np.abs(along) < 0.9) & (local[:, 2] < 0.84) & (local[:, 2] > -0.96)
    glass &= (face < 2) | (np.abs(local[:, 0] + 0.05) > 0.06)
    patch.gloss[:] = 0.12
    patch.put(glass, (0.025, 0.035, 0.045), gloss=0.55)


def _panes(patch: Patch) -> None:
    local, face = patch.local, patch.face
    pillar = np.abs((patch.along_m % 1.5) - 0.75) > 0.68
    glass = (face < 4) & (local[:, 2] > -0.12) & (local[:, 2] < 0.62) & ~pillar
    patch.put(glass, (0.03, 0.045, 0.055), gloss=0.5)
    lamp = (np.abs(local[:, 1]) > 0.7) & (np.abs(local[:, 2] + 0.68) < 0.08)
    patch.put(lamp & (face == 0), (0.95, 0.95, 0.88))
    patch.put(lamp & (face == 1), (0.55, 0.02, 0.02))


def _facade(patch: Patch) -> None:
    _windows(patch, np.zeros(len(patch.index), bool))


def _shops(patch: Patch) -> None:
    height = (patch.local[:, 2] + 1) * patch.half_m[:, 2]
    shop = (height < _FLOOR_M) & (patch.face < 4)
    _windows(patch, shop)
    sign = shop & (height > 2.78)
    own = patch.index[sign]
    patch.put(sign, np.stack([_hash(own + step) for step in (0, 7, 13)], axis=1) * 0.5, gloss=0)


def _windows(patch: Patch, shop: Mask) -> None:
    """Rows of windows, whose measures follow from the shape's index; larger ones where there is a shop."""
    own, face, along, half = _hash(patch.index), patch.face, patch.along_m, patch.half_m
    width = np.where(face < 2, half[:, 1], half[:, 0])
    height = (patch.local[:, 2] + 1) * half[:, 2]
    window_m = 2 * width / np.maximum(np.round(2 * width / (2.0 + 1.6 * own)), 1)
    column, across = np.divmod(along + width, window_m)
    floor, up = np.divmod(height, np.float32(_FLOOR_M))
    across = np.abs(across / window_m - 0.5)
    grain = 1 + 0.10 * sample(patch.noise, along * 40 + patch.index * 37, height * 40)
    patch.albedo[:] *= grain[:, None]
    opening = np.where(shop, np.float32(0.44), 0.20 + 0.12 * own)
    sill, lintel = np.where(shop, 0.35, 0.85), np.where(shop, 2.7, 2.45)
    fits = (face < 4) & (height < 2 * half[:, 2] - 0.5)
    patch.put((face < 4) & (height < 0.5) & ~shop, (0.22, 0.21, 0.20))
    patch.put(fits & (across < opening + 0.045) & (up > sill - 0.12) & (up < lintel + 0.1), (0.62, 0.60, 0.56))
    pane = fits & (across < opening) & (up > sill) & (up < lintel) & (across > 0.02)
    chance = _hash(patch.index, column.astype(np.int32), floor.astype(np.int32), face)
    glass = np.array((0.03, 0.045, 0.06)) + chance[:, None] * np.array((0.05, 0.06, 0.08))
    patch.put(pane, glass[pane], gloss=0.4)
    curtain = pane & (chance > 0.72) & (up > 2.45 - 1.5 * (chance - 0.6)) & ~shop
    patch.put(curtain, (0.55, 0.52, 0.46), gloss=0)
    patch.put(face == 4, (0.22, 0.22, 0.22))


def _tiles(patch: Patch) -> None:
    row = ((patch.local[:, 2] + 1) * patch.half_m[:, 2] * 3.2) % 1
    grain = 1 + 0.15 * sample(patch.noise, patch.point[:, 0] * 30, patch.point[:, 1] * 30)
    patch.albedo[:] *= ((0.85 + 0.15 * row) * grain)[:, None]


def _foliage(patch: Patch) -> None:
    x, y, z = patch.point.T
    # Two slices through space, so that no direction shows streaks.
    leaves = sample(patch.noise, x * 61 + y * 17, z * 61 - y * 13)
    leaves = leaves + sample(patch.noise, y * 57 - z * 11, x * 19 + z * 53)
    clumps = sample(patch.noise, x * 13 + z * 5, y * 13 + z * 9)
    tone = 1.05 + 1.7 * leaves + 1.4 * clumps + 0.25 * patch.local[:, 2]
    patch.albedo[:] *= np.clip(tone, 0.2, 2.4)[:, None]


def _stripes(patch: Patch) -> None:
    board = patch.half_m[:, 1] > 0.5
    slanted = patch.local[:, 1] * patch.half_m[:, 1] + patch.local[:, 2] * patch.half_m[:, 2]
    band = np.where(board, slanted, patch.local[:, 2] * 0.5) % 0.4 < 0.2
    patch.put(band & board, (0.62, 0.05, 0.04))
    patch.put(band & ~board, (0.85, 0.85, 0.82))


_PAINTERS: dict[Material, Callable[[Patch], None]] = {
    Material.PAINT: _paint,
    Material.CABIN: _cabin,
    Material.PANES: _panes,
    Material.FACADE: _facade,
    Material.SHOPS: _shops,
    Material.TILES: _tiles,
    Material.FOLIAGE: _foliage,
    Material.STRIPES: _stripes,
}
