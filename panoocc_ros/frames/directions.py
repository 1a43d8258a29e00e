"""Where cameras look: by their mounts, by their names, and which names fit which mounts.  Pure.

Directions are degrees in the vehicle's plane; left of ahead is positive.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from panoocc_core.geometry import Matrix

_YAW_DEG = {"front": 0.0, "back": 180.0, "rear": 180.0, "left": 90.0, "right": -90.0}
_NOWHERE_DEG = 180.0  # how badly a name fits that says no direction, or a camera without one


def said_yaw_deg(name: str) -> float | None:
    """In which direction a camera looks by its name; None: it does not say."""
    yaws = [math.radians(yaw) for word, yaw in _YAW_DEG.items() if word in name.lower()]
    said = np.array([sum(map(math.cos, yaws)), sum(map(math.sin, yaws))])
    return math.degrees(math.atan2(said[1], said[0])) if yaws and np.linalg.norm(said) >= 0.1 else None


def looks_deg(ego_from_camera: Matrix) -> float | None:
    """In which direction a camera looks by its mount [4, 4]; None: up or down."""
    x, y = ego_from_camera[:2, 2]
    return math.degrees(math.atan2(y, x)) if math.hypot(x, y) >= 0.1 else None


def degrees_apart(one: float, other: float) -> float:
    """Between two directions, 0 to 180."""
    return abs((one - other + 180) % 360 - 180)


def in_words(yaw_deg: float) -> str:
    """A direction for a text."""
    side = "left" if yaw_deg > 0 else "right"
    return (
        "ahead" if abs(yaw_deg) < 20 else "back" if abs(yaw_deg) > 160 else f"{abs(yaw_deg):.0f} degrees to the {side}"
    )


def misfit_deg(name: str, yaw_deg: float | None) -> float:
    """How far a camera looks from where its name says."""
    said = said_yaw_deg(name)
    return _NOWHERE_DEG if said is None or yaw_deg is None else degrees_apart(said, yaw_deg)


def fitting_names(
    cameras: Mapping[str, float | None], names: Sequence[str], handicap_deg: Mapping[str, float] | None = None
) -> dict[str, str]:
    """Which camera should have which name, so that together they look where their names say: name -> camera.

    Where there are more of one than of the other, the rest is left out.

    Args:
        cameras: camera, by whatever it is called now -> where it looks.
        handicap_deg: what speaks against a camera, as if it looked so much further away.
    """
    keys, against = list(cameras), handicap_deg or {}
    cost = np.array([[misfit_deg(name, cameras[key]) + against.get(key, 0.0) for key in keys] for name in names])
    rows, columns = linear_sum_assignment(cost.reshape(len(names), len(keys)))
    return {names[row]: keys[column] for row, column in zip(rows, columns)}
