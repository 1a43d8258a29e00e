"""Sun, sky and haze, and the normals they need.  Linear light until `to_srgb`; materials are in `materials`."""

import cv2
import numpy as np

from .shapes import Floats, Ints, Kind, ShapeTable

SUN = np.array((2.55, 2.30, 1.90), np.float32)
SKY_FILL = np.array((0.36, 0.43, 0.58), np.float32)
GROUND_FILL = np.array((0.26, 0.24, 0.21), np.float32)
HAZE = np.array((0.72, 0.84, 0.98), np.float32)
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


def sample(texture: Floats, u: Floats, v: Floats) -> Floats:
    """Nearest texels [n] at texture coordinates in texels, which repeat."""
    return texture[v.astype(np.int32) & (_TEXTURE - 1), u.astype(np.int32) & (_TEXTURE - 1)]


def sky(direction: Floats, to_sun: Floats, noise: Floats) -> Floats:
    """Colour [n, 3] of the sky along unit directions [n, 3]: gradient, sun, clouds, hills at the horizon."""
    up = np.clip(direction[:, 2], 0, 1)
    zenith, low = np.array((0.14, 0.34, 0.85), np.float32), np.array((0.72, 0.88, 1.05), np.float32)
    mix = np.sqrt(up)[:, None]
    colour = low * (1 - mix) + zenith * mix
    sun = np.clip(direction @ to_sun, 0, 1)[:, None]
    colour += np.array((1.0, 0.85, 0.6), np.float32) * (0.25 * sun**12 + 4 * sun**900)
    reach = 60 / (up + 0.12)
    cloud = sample(noise, direction[:, 0] * reach + 512, direction[:, 1] * reach + 512)
    cover = np.clip((cloud - 0.02) * 2.6, 0, 1) * np.clip(up * 6, 0, 1)
    colour += (np.float32(1.5) - colour) * (0.8 * cover)[:, None]
    bearing = np.arctan2(direction[:, 1], direction[:, 0]) * (_TEXTURE / (2 * np.pi))
    hills = 0.022 + 0.03 * (sample(noise, bearing + 512, np.full_like(bearing, 7)) + 0.4)
    return np.where((up < hills)[:, None], np.array((0.33, 0.42, 0.44), np.float32), colour)


def normals(shapes: ShapeTable, index: Ints, local: Floats) -> tuple[Floats, Ints]:
    """World normals [n, 3] and hull faces [n] at points `local` [n, 3] of the shapes `index` [n]."""
    planes = shapes.planes[index]
    gap = np.einsum("nfk,nk->nf", planes[..., :3], local) - planes[..., 3]
    kind = shapes.kind[index]
    gap[kind == Kind.CYLINDER, :4] = -0.02  # a cylinder's ends are planes, its side is not
    face = gap.argmax(axis=1).astype(np.int32)
    normal = np.take_along_axis(planes[..., :3], face[:, None, None], axis=1)[:, 0]
    round_ = (kind == Kind.ELLIPSOID) | ((kind == Kind.CYLINDER) & (face < 4))
    normal = np.where(round_[:, None], local, normal)
    normal[(kind == Kind.CYLINDER) & (face < 4), 2] = 0
    # A normal of the stretched solid is that of the unit solid divided by the half sizes.
    world = np.einsum("nij,nj->ni", shapes.world_from_shape[index], normal / shapes.half_m[index])
    return world / np.linalg.norm(world, axis=1, keepdims=True), face


def light(normal: Floats, lit: Floats, to_sun: Floats) -> Floats:
    """Incoming light [n, 3] of surfaces with normals [n, 3], of which the share `lit` [n] sees the sun."""
    facing = np.clip(normal @ to_sun, 0, 1) * lit
    up = (0.5 + 0.5 * normal[:, 2])[:, None]
    return facing[:, None] * SUN + up * SKY_FILL + (1 - up) * GROUND_FILL


def haze(colour: Floats, distance_m: Floats) -> Floats:
    """Colours [n, 3] seen through `distance_m` [n] of air."""
    clear = np.exp(-distance_m / np.float32(_HAZE_M))[:, None]
    return colour * clear + HAZE * (1 - clear)


def to_srgb(colour: Floats, exposure: float) -> Floats:
    """Linear light to sRGB 0..255 with a soft shoulder and a little more contrast in the middle."""
    mapped = (1 - np.exp(-colour * np.float32(exposure))) ** np.float32(1 / 2.2)
    curved = mapped * mapped * (3 - 2 * mapped)
    return np.float32(255) * (0.45 * mapped + 0.55 * curved)
