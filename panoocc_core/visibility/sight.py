"""Lines of sight through a grid, of all cameras and voxels at once.

Around every camera lies a fan of rays in the plane of the grid.  Along a ray, the occupied voxels of the columns that
it crosses darken the elevations that they fill, one bit each, and whatever lies behind them on the ray is in shadow.  A
free voxel is seen where its middle is in an image and in no shadow.  An occupied one is seen where its middle is in an
image and it borders a free one that is seen: so a road is seen as far as the space above it, however flat the look.

Rays and elevations are finite: their steps are half a voxel at the far end of the view, but no less than a quarter of a
degree sideways and two thirds of one upwards, so that the edge of a shadow may be off by so much.  What is nearer to a
camera than a voxel's diagonal, such as parts of the vehicle, hides nothing.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from ..geometry import Matrix
from ..types import GridGeometry
from .eyes import Eyes, ViewedColumns, azimuths_rad, columns_in_view

_RAYS_A_VOXEL, _MOST_RAYS_PER_RAD = 2.0, 240.0  # the former at the far end of the view; elevations too
_SAMPLES_A_VOXEL = 2.5  # along a ray
_SAMPLES_AT_ONCE = 16  # of all rays: what the caches of a CPU hold
_MOST_WORDS = 3
_WORD = 64  # elevations a word
_NIBBLE = 4  # layers that are looked up together


@dataclass(frozen=True, slots=True, eq=False)
class _Fans:
    """The rays of all cameras, camera after camera, where they are sampled, and which elevations are told apart."""

    first_rad: Matrix  # [e], azimuth of each camera's first ray
    first_ray: NDArray[np.int64]  # [e + 1], where the rays of each camera begin
    rays_per_rad: float
    first_m: float  # distance of the first sample
    step_m: float
    samples: int
    low_rad: float  # lower end of the elevations
    bins_per_rad: float
    words: int  # of _WORD elevations each


def visible_voxels(is_occupied: Tensor, geometry: GridGeometry, eyes: Eyes) -> Tensor:
    """Which voxels, bool [X, Y, Z], at least one camera sees; on the device of `is_occupied`, bool [X, Y, Z]."""
    shown, seen = torch.zeros_like(is_occupied), torch.zeros_like(is_occupied)
    columns = columns_in_view(eyes, geometry.shape_xyz)
    if len(columns.eye):
        _look(is_occupied, np.asarray(geometry.voxel_size_m), eyes, columns, shown, seen)
    beside, middle = pad(seen & ~is_occupied, (1, 1, 1, 1, 1, 1)), slice(1, -1)
    borders = beside[:-2, middle, middle] | beside[2:, middle, middle]
    borders |= beside[middle, :-2, middle] | beside[middle, 2:, middle]
    borders |= beside[middle, middle, :-2] | beside[middle, middle, 2:]
    return torch.where(is_occupied, shown & borders, seen)


def _look(is_occupied: Tensor, metres: Matrix, eyes: Eyes, columns: ViewedColumns, shown: Tensor, seen: Tensor) -> None:
    """Set what images show, and what of it is in no shadow, in two volumes."""
    device, layers = is_occupied.device, is_occupied.shape[2]
    position = eyes.position[columns.eye]
    away_m = (columns.place + 0.5 - position[:, :2]) * metres[:2]  # [p, 2]
    distance_m = np.hypot(away_m[:, 0], away_m[:, 1])
    base_m = (0.5 - position[:, 2]) * metres[2]  # of the lowest layer's middle above the camera
    ends_rad = np.arctan2(base_m[:, None] + (columns.layers - (0, 1)) * metres[2], distance_m[:, None])
    fans = _fans(eyes, columns, metres, float(distance_m.max()), float(ends_rad.min()), float(ends_rad.max()))
    octets = _shadows(is_occupied, metres, eyes, fans).view(torch.uint8)  # [samples + 1, rays, words * 8]

    turn_rad = (np.arctan2(away_m[:, 1], away_m[:, 0]) - fans.first_rad[columns.eye]) % (2 * np.pi)
    ray = np.minimum(
        fans.first_ray[columns.eye] + np.rint(turn_rad * fans.rays_per_rad), fans.first_ray[columns.eye + 1] - 1
    )
    before_m = distance_m - metres[:2].min() / 2 - fans.first_m
    before = np.clip(np.floor(before_m / fans.step_m) + 1, 0, fans.samples)
    place = (before * fans.first_ray[-1] + ray).astype(np.int64)
    layer, height_m = torch.arange(layers, device=device), torch.arange(layers, device=device) * float(metres[2])

    def here(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    for part in _parts(columns.eye):  # of one camera, in which no column comes twice
        far, base = here(distance_m[part].astype(np.float32)), here(base_m[part].astype(np.float32))
        elevation = (torch.atan2(base[:, None] + height_m, far[:, None]) - fans.low_rad) * fans.bins_per_rad  # [p, Z]
        bins = elevation.to(torch.int32).clamp_(0, fans.words * _WORD - 1)
        octet = here(place[part])[:, None] * (fans.words * 8) + (bins >> 3)  # of a little-endian word
        is_dark = octets.take(octet) >> (bins & 7).to(torch.uint8) & 1
        mask = columns.shown.get(int(columns.eye[part.start]))
        if mask is None:
            first, end = here(columns.layers[part].T).unsqueeze(-1)
            is_shown = (layer >= first) & (layer < end)
        else:
            is_shown = here(mask)
        x, y = here(columns.place[part].T)
        shown[x, y] |= is_shown
        seen[x, y] |= is_shown & (is_dark == 0)


def _parts(eye: NDArray[np.int64]) -> list[slice]:
    ends = [0, *(np.flatnonzero(np.diff(eye)) + 1).tolist(), len(eye)]
    return [slice(begin, end) for begin, end in zip(ends, ends[1:])]


def _fans(
    eyes: Eyes, columns: ViewedColumns, metres: Matrix, farthest_m: float, low_rad: float, high_rad: float
) -> _Fans:
    begin_rad, end_rad = azimuths_rad(eyes, columns, metres)
    voxel_m, first_m = float(metres[:2].min()), float(np.hypot(metres[0], metres[1]))
    farthest_m = max(farthest_m, first_m)
    rays_per_rad = min(_RAYS_A_VOXEL * farthest_m / voxel_m, _MOST_RAYS_PER_RAD)
    span_rad, wanted = high_rad - low_rad, _RAYS_A_VOXEL * farthest_m / float(metres[2])
    words = min(max(1, math.ceil(span_rad * wanted / _WORD)), _MOST_WORDS)
    rays = np.ceil((end_rad - begin_rad) * rays_per_rad).astype(np.int64) + 1
    return _Fans(
        first_rad=begin_rad,
        first_ray=np.concatenate(([0], np.cumsum(rays))),
        rays_per_rad=rays_per_rad,
        first_m=first_m,
        step_m=voxel_m / _SAMPLES_A_VOXEL,
        samples=max(1, math.ceil((farthest_m - first_m) / voxel_m * _SAMPLES_A_VOXEL)),
        low_rad=low_rad,
        bins_per_rad=words * _WORD / max(span_rad, 1e-3),
        words=words,
    )


def _shadows(is_occupied: Tensor, metres: Matrix, eyes: Eyes, fans: _Fans) -> Tensor:
    """Elevations that are dark on every ray before each sample, int64 [samples + 1, rays, words], one bit each."""
    shape, device, rays = is_occupied.shape, is_occupied.device, int(fans.first_ray[-1])
    nibbles = math.ceil(shape[2] / _NIBBLE)
    layers = pad(is_occupied, (0, nibbles * _NIBBLE - shape[2])).to(torch.uint8).reshape(-1, nibbles, _NIBBLE)
    filled = layers[..., 0] | layers[..., 1] << 1 | layers[..., 2] << 2 | layers[..., 3] << 3
    filled = pad(filled, (0, 0, 0, 1)).T.contiguous()  # [nibbles, X * Y + 1]; the last one is outside

    distance_m = fans.first_m + np.arange(fans.samples) * fans.step_m
    eye = np.repeat(np.arange(len(eyes.position)), np.diff(fans.first_ray))  # [rays]
    azimuth = fans.first_rad[eye] + (np.arange(rays) - fans.first_ray[eye]) / fans.rays_per_rad
    ways = np.stack((np.cos(azimuth), np.sin(azimuth))) / metres[:2, None]
    away, begin, way = (
        torch.from_numpy(values.astype(np.float32)).to(device)
        for values in (distance_m, eyes.position[eye, :2].T, ways)
    )
    x, y = begin[:, None] + away[:, None] * way[:, None]  # [samples, rays]
    inside = (x >= 0) & (x < shape[0]) & (y >= 0) & (y < shape[1])
    column = torch.where(inside, x.int() * shape[1] + y.int(), shape[0] * shape[1]).view(-1)

    words = _layer_words(distance_m, shape[2], float(metres[2]), eyes.position[:, 2], fans)
    table = _nibble_words(words.reshape(-1, shape[2], fans.words), nibbles, device)
    samples, eye_row = torch.arange(fans.samples, device=device), torch.from_numpy(eye * fans.samples).to(device)
    row = ((samples[:, None] + eye_row) << _NIBBLE).int().view(-1)
    dark = torch.zeros((fans.samples + 1, rays, fans.words), dtype=torch.int64, device=device)
    for first in range(0, fans.samples, _SAMPLES_AT_ONCE):
        here = dark[1 + first : 1 + first + _SAMPLES_AT_ONCE].view(-1, fans.words)
        cut = slice(first * rays, first * rays + len(here))
        for part, entries in zip(filled, table):
            here |= entries.index_select(0, row[cut] + part.index_select(0, column[cut]))
    for nearer, farther in zip(dark, dark[1:]):  # what is dark stays dark further along
        farther |= nearer
    return dark


def _layer_words(
    distance_m: NDArray[Any], layers: int, voxel_m: float, eye_z: Matrix, fans: _Fans
) -> NDArray[np.uint64]:
    """Elevations that each layer fills at each distance from each camera, uint64 [e, samples, layers, words]."""
    faces_m = (np.arange(layers + 1) - eye_z[:, None]) * voxel_m
    faces = (np.arctan2(faces_m[:, None], distance_m[:, None]) - fans.low_rad) * fans.bins_per_rad
    bins = fans.words * _WORD
    faces = np.clip(np.ceil(faces - 0.5), 0, bins)  # the first bin whose middle lies above
    is_below = np.tri(bins + 1, bins, -1, np.uint8)  # [count of elevations below a face, elevation]
    words = np.packbits(is_below, axis=1, bitorder="little").view(np.uint64)[faces.astype(np.int64)]
    return np.asarray(words[:, :, 1:] & ~words[:, :, :-1])


def _nibble_words(words: NDArray[np.uint64], nibbles: int, device: torch.device) -> Tensor:
    """Elevations that are filled where some of four layers are, [n, layers, words]: int64 [nibbles, n * 16, words]."""
    n, layers, width = words.shape
    padded = np.zeros((n, nibbles * _NIBBLE, width), np.int64)
    padded[:, :layers] = words.view(np.int64)
    one = torch.from_numpy(padded).to(device).view(n, nibbles, _NIBBLE, width).transpose(0, 1)
    table = torch.zeros((nibbles, n, 1 << _NIBBLE, width), dtype=torch.int64, device=device)
    for bit in range(_NIBBLE):
        half = 1 << bit
        table[:, :, half : 2 * half] = table[:, :, :half] | one[:, :, bit, None]
    return table.view(nibbles, -1, width)
