"""How the ego vehicle goes along its street: a mean speed with a slow rise and fall, and stops before side streets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .shapes import Floats

_STEP_S = 0.05
_BRAKE_MPS2, _START_MPS2 = 2.2, 1.8
_CREEP_MPS, _NEAR_M = 0.4, 0.15
_BRAKING_M = 25.0  # nearer stops come too late


@dataclass(frozen=True, slots=True)
class Stop:
    """A place where the vehicle waits, in metres along the street."""

    s_m: float
    wait_s: float


@dataclass(frozen=True, slots=True)
class Cruise:
    """The speed where nothing is in the way."""

    speed_mps: float
    swing: float = 0.2  # share of the speed
    period_s: float = 12.0

    def speed_at(self, time_s: float) -> float:
        return self.speed_mps * (1 + self.swing * math.sin(2 * math.pi / self.period_s * time_s))


class EgoDrive:
    """Distance and speed at any time of a drive of `seconds` that begins at `start_m`."""

    def __init__(self, start_m: float, cruise: Cruise, stops: Sequence[Stop], seconds: float):
        self.start_m, self.cruise = start_m, cruise
        self._time_s, self._distance_m, self._speed_mps = _driven(start_m, cruise, stops, seconds)

    @property
    def speed_mps(self) -> float:
        """Mean speed between stops."""
        return self.cruise.speed_mps

    def distance_m(self, time_s: float) -> float:
        """Street coordinate s of base_link."""
        beyond_s = time_s - min(max(time_s, 0.0), float(self._time_s[-1]))
        end = 0 if beyond_s < 0 else -1
        return float(np.interp(time_s, self._time_s, self._distance_m) + beyond_s * self._speed_mps[end])

    def speed_at(self, time_s: float) -> float:
        """Speed in m/s."""
        return float(np.interp(time_s, self._time_s, self._speed_mps))

    def arrival_s(self, s_m: float) -> float:
        """When base_link comes to a street coordinate; by the mean speed beyond the end of the drive."""
        last_m = float(self._distance_m[-1])
        if s_m > last_m:
            return float(self._time_s[-1]) + (s_m - last_m) / self.speed_mps
        return float(self._time_s[int(np.searchsorted(self._distance_m, s_m))])


def _driven(start_m: float, cruise: Cruise, stops: Sequence[Stop], seconds: float) -> tuple[Floats, Floats, Floats]:
    """Times, distances and speeds in steps of 50 ms."""
    pending = [stop for stop in sorted(stops, key=lambda stop: stop.s_m) if stop.s_m > start_m + _BRAKING_M]
    time_s = np.arange(0.0, seconds + 2 * _STEP_S, _STEP_S)
    distance_m, speed_mps = np.empty_like(time_s), np.empty_like(time_s)
    s, v, waits_until_s = start_m, cruise.speed_at(0.0), 0.0
    for i, now_s in enumerate(time_s):
        distance_m[i], speed_mps[i] = s, v
        wanted = cruise.speed_at(float(now_s)) if now_s >= waits_until_s else 0.0
        if pending:
            left_m = pending[0].s_m - s
            if left_m < _NEAR_M:
                waits_until_s, wanted = float(now_s) + pending.pop(0).wait_s, 0.0
            else:
                wanted = min(wanted, max(_CREEP_MPS, math.sqrt(2 * _BRAKE_MPS2 * left_m)))
        v = min(wanted, v + _START_MPS2 * _STEP_S) if wanted > 0 else 0.0
        s += v * _STEP_S
    return time_s, distance_m, speed_mps
