"""The lens models of OpenCV and sensor_msgs/distortion_models, for points instead of pictures.

A lens is described by where it images a point: (x, y) on the plane one focal length behind it, to which the camera
matrix adds scale and centre.  A polynomial holds only as far from the axis as x and y grow with the angle: that is the
field of the lens.  Beyond it a point is not seen, and its x and y are those of the field's edge, so that numbers and
gradients stay finite.

Sources: the OpenCV documentation, "Camera Calibration and 3D Reconstruction" and "Fisheye camera model" (Kannala and
Brandt, PAMI 2006).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..geometry import Matrix

LensKind = Literal["perspective", "equidistant"]
COUNTS: dict[LensKind, tuple[int, ...]] = {"perspective": (4, 5, 8, 12, 14), "equidistant": (4,)}
NEAR_M = 1e-5  # nothing nearer is imaged
_TINY = 1e-12  # square metres: nearer to the axis than a micrometre is on it
_WIDEST_RAD: dict[LensKind, float] = {"perspective": math.radians(89.9), "equidistant": math.radians(179.9)}
_ANGLES, _AZIMUTHS = 2048, 16  # at which the field is looked for


@dataclass(frozen=True, slots=True)
class LensModel:
    """How a lens bends rays.

    Raises:
        ValueError: the kind is unknown, or the coefficients are not finite or of another number than it has.
    """

    kind: LensKind  # "perspective" is plumb_bob and rational_polynomial
    # In OpenCV's order: k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4 tau_x tau_y, or k1 k2 k3 k4.
    coefficients: tuple[float, ...]
    turns: int = 0  # quarter turns counter-clockwise of the picture, and of the camera's axes, since it was calibrated

    def __post_init__(self) -> None:
        counts = COUNTS.get(self.kind, ())
        if len(self.coefficients) not in counts:
            raise ValueError(f"a lens that is {self.kind!r} has no {len(self.coefficients)} coefficients")
        if not np.isfinite(self.coefficients).all():
            raise ValueError("the coefficients of a lens must be finite")

    @property
    def field_rad(self) -> float:
        """The largest angle from the axis at which the model holds; below pi / 2 where it is perspective."""
        return _field_rad(self.kind, self.coefficients)

    @property
    def calibrated_from_camera(self) -> Matrix:
        """Rotation [3, 3] of the camera's axes back to those that it was calibrated in."""
        cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[self.turns % 4]
        return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])

    def differs_from(self, other: "LensModel") -> float:
        """The largest change of a coefficient, which is a share of the distance from the picture's centre, as that of a
        focal length is; infinite where the lenses are of two kinds."""
        mine, theirs = ((one.kind, one.turns, len(one.coefficients)) for one in (self, other))
        return float(np.abs(np.subtract(self.coefficients, other.coefficients)).max()) if mine == theirs else math.inf

    def turned(self, turns: int) -> "LensModel":
        """The lens of a picture that was turned by so many quarter turns more."""
        return LensModel(self.kind, self.coefficients, (self.turns + turns) % 4)


def imaged(kind: LensKind, coefficients: Tensor, field_rad: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Where lenses image points, [..., n, 2] for a focal length of 1, and which [..., n] they see.

    Differentiable; finite everywhere, also behind the lens and at its centre.

    Args:
        coefficients: [..., k], see `LensModel`.
        field_rad: [...], see `LensModel`.
        points: [..., n, 3] in the axes of the calibration, in metres: x right, y down, z ahead.
    """
    x, y, z = points.unbind(-1)
    radius = (x * x + y * y).clamp(min=_TINY).sqrt()
    model = _equidistant if kind == "equidistant" else _perspective
    return model(coefficients.unsqueeze(-2).unbind(-1), field_rad.unsqueeze(-1), x, y, z, radius)


def _equidistant(
    k: tuple[Tensor, ...], field_rad: Tensor, x: Tensor, y: Tensor, z: Tensor, radius: Tensor
) -> tuple[Tensor, Tensor]:
    angle = torch.atan2(radius, z)
    seen = (angle <= field_rad) & (radius * radius + z * z > NEAR_M**2)
    angle = torch.minimum(angle, field_rad)
    square = angle * angle
    stretch = angle * (1 + square * (k[0] + square * (k[1] + square * (k[2] + square * k[3])))) / radius
    return torch.stack((x * stretch, y * stretch), dim=-1), seen


def _perspective(
    k: tuple[Tensor, ...], field_rad: Tensor, x: Tensor, y: Tensor, z: Tensor, radius: Tensor
) -> tuple[Tensor, Tensor]:
    at_edge = radius / field_rad.tan()  # the depth at which a point would be at the edge of the field
    seen = (z >= at_edge) & (z > NEAR_M)
    depth = torch.maximum(z, at_edge).clamp(min=NEAR_M)
    x, y = x / depth, y / depth
    xx, yy, xy = x * x, y * y, x * y
    r2 = xx + yy
    radial = 1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4])) if len(k) > 4 else 1 + r2 * (k[0] + r2 * k[1])
    if len(k) > 5:
        radial = radial / (1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7])))
    u = x * radial + 2 * k[2] * xy + k[3] * (r2 + 2 * xx)
    v = y * radial + k[2] * (r2 + 2 * yy) + 2 * k[3] * xy
    if len(k) > 8:
        u, v = u + r2 * (k[8] + r2 * k[9]), v + r2 * (k[10] + r2 * k[11])
    if len(k) > 12:
        u, v, before = _tilted(k[12], k[13], u, v)
        seen = seen & before
    return torch.stack((u, v), dim=-1), seen


def _tilted(about_x: Tensor, about_y: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where a sensor that is turned about x, then y, meets the rays to (u, v, 1); and which rays meet it."""
    cos_x, sin_x, cos_y, sin_y = about_x.cos(), about_x.sin(), about_y.cos(), about_y.sin()
    # The rotation, with its rows: the sensor's axes.
    across = cos_y * u + sin_y * sin_x * v - sin_y * cos_x
    down = cos_x * v + sin_x
    ahead = sin_y * u - cos_y * sin_x * v + cos_y * cos_x
    centre = cos_y * cos_x  # the last row's third entry; the centre stays where it is
    before = ahead > NEAR_M
    scale = 1 / ahead.clamp(min=NEAR_M)
    u = (centre * across + sin_y * cos_x * ahead) * scale
    v = (centre * down - sin_x * ahead) * scale
    return u, v, before


@lru_cache(maxsize=64)
def _field_rad(kind: LensKind, coefficients: tuple[float, ...]) -> float:
    """Up to which angle a point that goes away from the axis, in any direction, goes away from it in the picture."""
    angles = np.linspace(0, _WIDEST_RAD[kind], _ANGLES + 1)
    azimuths = np.arange(_AZIMUTHS) * (2 * np.pi / _AZIMUTHS)
    ways = torch.from_numpy(np.stack((np.cos(azimuths), np.sin(azimuths)), axis=1))
    sine, cosine = torch.from_numpy(np.sin(angles))[:, None, None], torch.from_numpy(np.cos(angles))[:, None, None]
    points = torch.cat((sine * ways, cosine.expand(-1, _AZIMUTHS, -1)), dim=2)
    widest = torch.tensor(_WIDEST_RAD[kind], dtype=torch.float64)
    places, seen = imaged(kind, torch.tensor(coefficients, dtype=torch.float64), widest, points.reshape(-1, 3))
    away = ((places - places[:1]) * ways.repeat(len(angles), 1)).sum(1).reshape(len(angles), -1)
    grows = ((away[1:] > away[:-1]) & seen.reshape(away.shape)[1:]).all(1)  # false for NaN too
    # The last growth may go over the top already.
    return float(angles[len(grows) if grows.all() else max(0, int(grows.int().argmin()) - 1)])
