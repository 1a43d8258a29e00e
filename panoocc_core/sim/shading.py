"""Sun, sky and haze, and the normals they need.  Linear light until `to_srgb`; materials are in `materials`.

Colours and vectors stand component first, `[3, n]`.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from .shapes import Floats, Kind
from .solids import turned
from .surfaces import SolidTable

SUN = (2.55, 2.30, 1.90)
SKY_FILL = (0.36, 0.43, 0.58)
GROUND_FILL = (0.26, 0.24, 0.21)
HAZE = (0.72, 0.84, 0.98)
_ZENITH, _LOW_SKY, _GLOW = (0.14, 0.34, 0.85), (0.72, 0.88, 1.05), (1.0, 0.85, 0.6)
_HILLS = (0.33, 0.42, 0.44)
_HAZE_M = 380.0
_TEXTURE = 512


def noise_texture(seed: int) -> Floats:
    """A tileable texture [512, 512] of several octaves with mean 0, within about -1..1."""
    random = np.random.default_rng(seed)
    total = np.zeros((_TEXTURE, _TEXTURE), np.float32)
    for octave in range(2, 9):
        cells = 2**octave
        values = np.pad(random.standard_normal((cells, cells)).astype(np.float32), 2, mode="wrap")
        scale = _TEXTURE // cells
        grown = cv2.resize(values, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        total += grown[2 * scale : 2 * scale + _TEXTURE, 2 * scale : 2 * scale + _TEXTURE] * 0.72**octave
    return total / np.float32(np.abs(total).max())


def sample(texture: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Nearest texels [n] of a texture [512, 512] at coordinates in texels, which repeat."""
    place = (v.int() & (_TEXTURE - 1)) * _TEXTURE + (u.int() & (_TEXTURE - 1))
    return texture.view(-1).index_select(0, place)


def column(values: tuple[float, float, float], like: Tensor) -> Tensor:
    """A colour or vector as [3, 1], on the device of `like`."""
    return like.new_tensor(values)[:, None]


def length(vectors: Tensor) -> Tensor:
    """Lengths [n] of vectors [3, n]; on a CPU faster than `torch.norm` across rows."""
    return (vectors * vectors).sum(dim=0).sqrt_()


def sky(direction: Tensor, to_sun: Tensor, noise: Tensor) -> Tensor:
    """Colour [3, n] of the sky along unit directions [3, n]: gradient, sun, clouds, hills at the horizon."""
    up = direction[2].clamp(0, 1)
    zenith, low = column(_ZENITH, up), column(_LOW_SKY, up)
    colour = low + (zenith - low) * up.sqrt()
    sun = (to_sun[:, None] * direction).sum(dim=0).clamp_(0, 1)
    colour += column(_GLOW, up) * (0.25 * sun**12 + 4 * sun**900)
    reach = 60 / (up + 0.12)
    cloud = sample(noise, direction[0] * reach + 512, direction[1] * reach + 512)
    cover = ((cloud - 0.02) * 2.6).clamp_(0, 1) * (up * 6).clamp_(0, 1)
    colour += (1.5 - colour) * (0.8 * cover)
    bearing = torch.atan2(direction[1], direction[0]) * (_TEXTURE / (2 * np.pi))
    hills = 0.022 + 0.03 * (sample(noise, bearing + 512, torch.full_like(bearing, 7)) + 0.4)
    return torch.where(up < hills, column(_HILLS, up), colour)


def normals(solids: SolidTable, index: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
    """World normals [3, n] and hull faces [n] at points `local` [3, n] of the solids `index` [n]."""
    lean = solids.lean.index_select(1, index)
    x, y, z = local
    kind = solids.kind.index_select(0, index)
    sides = torch.stack((x, -x, y, -y)) + lean * (z + 1) - 1
    # A cylinder's ends are planes, its side is not.
    sides.masked_fill_(kind == Kind.CYLINDER, -0.02)
    face = _largest((*sides, z - 1, -z - 1))
    upright = face < 4
    sign = 1.0 - 2.0 * (face & 1)
    leaning = lean.gather(0, face.clamp(max=3)[None])[0]
    flat = torch.stack((sign * (face < 2), sign * (upright & (face > 1)), torch.where(upright, leaning, sign)))
    is_round = (kind == Kind.ELLIPSOID) | ((kind == Kind.CYLINDER) & upright)
    normal = torch.where(is_round, local, flat)
    normal[2].masked_fill_((kind == Kind.CYLINDER) & upright, 0)
    # A normal of the stretched solid is that of the unit solid divided by the half sizes.
    world = turned(solids.world_from_shape.index_select(1, index).view(3, 3, -1), normal / solids.half_of(index))
    return world / length(world), face


def _largest(values: Sequence[Tensor]) -> Tensor:
    """Which row [n] is the largest, int64 [n], the first of equals; on a CPU faster than argmax across rows."""
    best, number = values[0].clone(), torch.zeros_like(values[0], dtype=torch.int64)
    for i, row in enumerate(values[1:], 1):
        number.masked_fill_(row > best, i)
        best = torch.maximum(best, row)
    return number


def light(normal: Tensor, lit: Tensor, to_sun: Tensor) -> Tensor:
    """Incoming light [3, n] of surfaces with normals [3, n], of which the share `lit` [n] sees the sun."""
    facing = (normal * to_sun[:, None]).sum(dim=0).clamp_(0, 1) * lit
    below, above = column(GROUND_FILL, normal), column(SKY_FILL, normal)
    fill = below + (above - below) * (0.5 + 0.5 * normal[2])
    return fill.addcmul_(column(SUN, normal), facing)


def haze(colour: Tensor, distance_m: Tensor) -> Tensor:
    """Colours [3, n] seen through `distance_m` [n] of air."""
    air = column(HAZE, colour)
    return air + (colour - air) * torch.exp(distance_m / -_HAZE_M)


def to_srgb(colour: Tensor, exposure: float) -> Tensor:
    """Linear light to sRGB 0..255 with a soft shoulder and a little more contrast in the middle."""
    mapped = (1 - torch.exp(colour * -exposure)) ** (1 / 2.2)
    curved = mapped * mapped * (3 - 2 * mapped)
    return 255 * (0.45 * mapped + 0.55 * curved)
