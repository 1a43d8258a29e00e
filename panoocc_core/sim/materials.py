"""Procedural materials: albedo and gloss of surface points, from their place on the solid."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .shading import column, sample
from .shapes import Material
from .surfaces import SolidTable

_FLOOR_M = 3.1
_LOW_BITS = 0xFFFFFFFF
_LAMP, _TAIL_LAMP = (0.95, 0.95, 0.88), (0.55, 0.02, 0.02)


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """Surface points of one material; painters change `albedo` and `gloss` in place."""

    index: Tensor  # int64 [n], which solid
    local: Tensor  # [3, n], in the solid's unit frame
    half_m: Tensor  # [3, n]
    face: Tensor  # int64 [n], +x, -x, +y, -y, +z, -z of a hull
    point: Tensor  # [3, n], world frame
    noise: Tensor  # texture [512, 512]
    albedo: Tensor  # [3, n], linear
    gloss: Tensor  # [n], 0 matt to 1 mirror

    @property
    def along_m(self) -> Tensor:
        """Horizontal coordinate on the upright faces, in metres from their middle."""
        return torch.where(self.face < 2, self.local[1] * self.half_m[1], self.local[0] * self.half_m[0])

    def put(self, where: Tensor, colour: tuple[float, float, float] | Tensor, gloss: float | None = None) -> None:
        """Give some of the points, bool [n], one colour or their own [3, n]."""
        for channel, value in zip(self.albedo, colour):
            if isinstance(value, Tensor):
                channel.copy_(torch.where(where, value, channel))
            else:
                channel.masked_fill_(where, value)
        if gloss is not None:
            self.gloss.masked_fill_(where, gloss)


def surface(
    solids: SolidTable, index: Tensor, local: Tensor, face: Tensor, point: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Albedo [3, n] and gloss [n] of hit points."""
    albedo, gloss = solids.colour.index_select(1, index), torch.zeros_like(point[0])
    material = solids.material.index_select(0, index)
    for value, painter in _PAINTERS.items():
        here = (material == value).nonzero()[:, 0]
        if len(here):
            own = index.index_select(0, here)
            patch = Patch(
                own,
                local.index_select(1, here),
                solids.half_of(own),
                face.index_select(0, here),
                point.index_select(1, here),
                noise,
                albedo.index_select(1, here),
                gloss.index_select(0, here),
            )
            painter(patch)
            albedo.index_copy_(1, here, patch.albedo)
            gloss.index_copy_(0, here, patch.gloss)
    return albedo, gloss


def _hash(*values: Tensor) -> Tensor:
    """Reproducible values 0..1 [n] from integers, by arithmetic modulo 2^32."""
    mixed = torch.zeros_like(values[0])
    for factor, value in zip((73856093, 19349663, 83492791, 2654435761), values):
        mixed = mixed ^ (value * factor & _LOW_BITS)
    mixed = (mixed ^ (mixed >> 15)) * 2246822519 & _LOW_BITS
    return ((mixed ^ (mixed >> 13)) & 0xFFFF).float() / 65535


def _paint(patch: Patch) -> None:
    face, across, up = patch.face, patch.local[1].abs(), patch.local[2]
    patch.gloss.fill_(0.12)
    lamp = (across > 0.62) & (up > 0.05) & (up < 0.55)
    patch.put(lamp & (face == 0), _LAMP)
    patch.put(lamp & (face == 1), _TAIL_LAMP)
    patch.put((across < 0.28) & ((up + 0.35).abs() < 0.16) & (face < 2), (0.8, 0.8, 0.74))
    patch.put(up < -0.72, (0.03, 0.03, 0.03))


def _cabin(patch: Patch) -> None:
    (x, y, z), face = patch.local, patch.face
    along = torch.where(face < 2, y, x)
    glass = (face < 4) & (along.abs() < 0.9) & (z < 0.84) & (z > -0.96)
    glass &= (face < 2) | ((x + 0.05).abs() > 0.06)
    patch.gloss.fill_(0.12)
    patch.put(glass, (0.025, 0.035, 0.045), gloss=0.55)


def _panes(patch: Patch) -> None:
    (_, y, z), face = patch.local, patch.face
    pillar = ((patch.along_m % 1.5) - 0.75).abs() > 0.68
    glass = (face < 4) & (z > -0.12) & (z < 0.62) & ~pillar
    patch.put(glass, (0.03, 0.045, 0.055), gloss=0.5)
    lamp = (y.abs() > 0.7) & ((z + 0.68).abs() < 0.08)
    patch.put(lamp & (face == 0), _LAMP)
    patch.put(lamp & (face == 1), _TAIL_LAMP)


def _facade(patch: Patch) -> None:
    _windows(patch, torch.zeros_like(patch.face, dtype=torch.bool))


def _shops(patch: Patch) -> None:
    height = (patch.local[2] + 1) * patch.half_m[2]
    shop = (height < _FLOOR_M) & (patch.face < 4)
    _windows(patch, shop)
    sign = torch.stack([_hash(patch.index + step) for step in (0, 7, 13)]) * 0.5
    patch.put(shop & (height > 2.78), sign, gloss=0)


def _windows(patch: Patch, shop: Tensor) -> None:
    """Rows of windows, whose measures follow from the shape's index; larger ones where there is a shop."""
    own, face, along, half = _hash(patch.index), patch.face, patch.along_m, patch.half_m
    width = torch.where(face < 2, half[1], half[0])
    height = (patch.local[2] + 1) * half[2]
    window_m = 2 * width / (2 * width / (2.0 + 1.6 * own)).round().clamp_(min=1)
    number = ((along + width) / window_m).floor_()
    across = ((along + width) / window_m - number - 0.5).abs()
    floor = (height / _FLOOR_M).floor_()
    up = height - floor * _FLOOR_M
    grain = 1 + 0.10 * sample(patch.noise, along * 40 + patch.index * 37, height * 40)
    patch.albedo.mul_(grain)
    opening = torch.where(shop, 0.44, 0.20 + 0.12 * own)
    sill, lintel = 0.85 - 0.5 * shop, 2.45 + 0.25 * shop
    fits = (face < 4) & (height < 2 * half[2] - 0.5)
    patch.put((face < 4) & (height < 0.5) & ~shop, (0.22, 0.21, 0.20))
    patch.put(fits & (across < opening + 0.045) & (up > sill - 0.12) & (up < lintel + 0.1), (0.62, 0.60, 0.56))
    pane = fits & (across < opening) & (up > sill) & (up < lintel) & (across > 0.02)
    chance = _hash(patch.index, number.long(), floor.long(), face)
    glass = column((0.03, 0.045, 0.06), chance) + chance * column((0.05, 0.06, 0.08), chance)
    patch.put(pane, glass, gloss=0.4)
    curtain = pane & (chance > 0.72) & (up > 2.45 - 1.5 * (chance - 0.6)) & ~shop
    patch.put(curtain, (0.55, 0.52, 0.46), gloss=0)
    patch.put(face == 4, (0.22, 0.22, 0.22))


def _tiles(patch: Patch) -> None:
    row = ((patch.local[2] + 1) * patch.half_m[2] * 3.2) % 1
    grain = 1 + 0.15 * sample(patch.noise, patch.point[0] * 30, patch.point[1] * 30)
    patch.albedo.mul_((0.85 + 0.15 * row) * grain)


def _foliage(patch: Patch) -> None:
    x, y, z = patch.point
    # Two slices through space, so that no direction shows streaks.
    leaves = sample(patch.noise, x * 61 + y * 17, z * 61 - y * 13)
    leaves += sample(patch.noise, y * 57 - z * 11, x * 19 + z * 53)
    clumps = sample(patch.noise, x * 13 + z * 5, y * 13 + z * 9)
    tone = 1.05 + 1.7 * leaves + 1.4 * clumps + 0.25 * patch.local[2]
    patch.albedo.mul_(tone.clamp_(0.2, 2.4))


def _stripes(patch: Patch) -> None:
    board = patch.half_m[1] > 0.5
    slanted = patch.local[1] * patch.half_m[1] + patch.local[2] * patch.half_m[2]
    band = torch.where(board, slanted, patch.local[2] * 0.5) % 0.4 < 0.2
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
