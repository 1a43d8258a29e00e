"""What nuScenes' things are doing, which its detection score asks for and no network here predicts."""

import numpy as np
from numpy.typing import NDArray

from ..labels import BOX_CLASSES

# The number of an attribute is its place here; 0: none.
ATTRIBUTES = (
    "",
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.moving",
    "pedestrian.standing",
    "pedestrian.sitting_lying_down",
)
MOVING_MPS = 0.2
_CYCLES = ("bicycle", "motorcycle")


def attributes_by_speed(class_id: NDArray[np.int64], velocity_mps: NDArray[np.floating]) -> NDArray[np.int64]:
    """The likeliest attribute [n] of boxes of classes [n] (index into BOX_CLASSES) with velocities [n, 2].

    What moves is moving, and a cycle that moves is ridden; a bus that stands has stopped, another vehicle is parked.
    """
    moves = np.linalg.norm(velocity_mps, axis=1) > MOVING_MPS
    of_class = np.array([[ATTRIBUTES.index(name) for name in _still_and_moving(kind)] for kind in BOX_CLASSES])
    return np.asarray(of_class[class_id, moves.astype(np.int64)], np.int64)


def _still_and_moving(kind: str) -> tuple[str, str]:
    if kind in ("barrier", "traffic_cone"):
        return "", ""
    if kind in _CYCLES:
        return "cycle.without_rider", "cycle.with_rider"
    if kind == "pedestrian":
        return "pedestrian.standing", "pedestrian.moving"
    return "vehicle.stopped" if kind == "bus" else "vehicle.parked", "vehicle.moving"
