"""What the sensors of a simulated vehicle would measure of its motion, by differences of its true poses."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panoocc_core.ego_motion import GRAVITY_MPS2

REACH = 5  # poses to either side that a difference is taken over: the drive's speed changes in steps as long


@dataclass(slots=True, eq=False)
class TrueMotion:
    """Motion at each of n poses, in the vehicle's frame."""

    world_from_ego: NDArray[np.float64]  # [n, 4, 4]
    times_s: NDArray[np.float64]  # [n]
    velocity_mps: NDArray[np.float64] = field(init=False)  # [n, 3]
    rotation_rate_radps: NDArray[np.float64] = field(init=False)  # [n, 3], about z only: streets are flat
    acceleration_mps2: NDArray[np.float64] = field(init=False)  # [n, 3], with gravity

    def __post_init__(self) -> None:
        turns = self.world_from_ego[:, :3, :3]
        velocity = self._change(self.world_from_ego[:, :3, 3])
        acceleration = self._change(velocity) + (0.0, 0.0, GRAVITY_MPS2)
        self.velocity_mps, self.acceleration_mps2 = (
            np.einsum("nji,nj->ni", turns, values) for values in (velocity, acceleration)
        )
        yaw_rad = np.unwrap(np.arctan2(turns[:, 1, 0], turns[:, 0, 0]))
        self.rotation_rate_radps = self._change(yaw_rad[:, None]) * (0.0, 0.0, 1.0)

    def _change(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Change [n, m] of values a second."""
        numbers = np.arange(len(self.times_s))
        first, last = np.maximum(numbers - REACH, 0), np.minimum(numbers + REACH, len(numbers) - 1)
        return (values[last] - values[first]) / np.maximum(self.times_s[last] - self.times_s[first], 1e-9)[:, None]
