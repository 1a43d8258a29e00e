"""The ego vehicle's way: it goes ahead, waits where it shall, and no passenger is thrown about."""

import numpy as np
import pytest

from panoocc_core.sim.drive import Cruise, EgoDrive, Stop
from panoocc_core.sim.scene import Scene

TIME_S = np.arange(0.0, 60.0, 0.05)


def drive(*stops: Stop, seconds: float = 60.0, cruise: Cruise | None = None) -> EgoDrive:
    return EgoDrive(10.0, cruise or Cruise(8.0), stops, seconds)


def test_it_stops_where_it_shall_for_as_long_as_it_shall():
    way = drive(Stop(90.0, 4.0), Stop(200.0, 2.0))
    speed = np.array([way.speed_at(t) for t in TIME_S])
    for stop in (Stop(90.0, 4.0), Stop(200.0, 2.0)):
        near = np.array([abs(way.distance_m(t) - stop.s_m) < 0.3 for t in TIME_S])
        waited_s = (near & (speed < 0.05)).sum() * 0.05
        assert waited_s == pytest.approx(stop.wait_s, abs=0.5)
    assert (speed < 0.05).sum() * 0.05 == pytest.approx(6.0, abs=1.0)


@pytest.mark.parametrize("stops", [(), (Stop(90.0, 4.0),), (Stop(60.0, 1.0), Stop(75.0, 1.0), Stop(75.1, 1.0))])
def test_it_never_reverses_and_accelerates_like_a_car(stops):
    way = drive(*stops)
    distance = np.array([way.distance_m(t) for t in TIME_S])
    assert (np.diff(distance) >= 0).all()
    speed = np.array([way.speed_at(t) for t in TIME_S])
    assert speed.max() <= 8.0 * 1.2 + 1e-6
    over_half_a_second = (speed[10:] - speed[:-10]) / 0.5
    assert over_half_a_second.max() <= 2.0 and over_half_a_second.min() >= -4.0  # the last decimetres are abrupt
    assert np.allclose(np.diff(distance) / 0.05, speed[1:], atol=1e-6)


def test_real_streets_are_driven_as_gently():
    for seed in range(8):
        way = Scene(seed, 30.0).drive
        speed = np.array([way.speed_at(t) for t in TIME_S[:600]])
        change = (speed[10:] - speed[:-10]) / 0.5
        assert speed.min() >= 0 and change.max() <= 2.0 and change.min() >= -4.0, seed


def test_a_stop_that_is_too_near_is_passed():
    assert min(drive(Stop(30.0, 5.0)).speed_at(t) for t in TIME_S) > 5


def test_arrival_is_the_inverse_of_distance():
    way = drive(Stop(90.0, 4.0), seconds=40.0)
    for s_m in np.linspace(10.5, way.distance_m(39.0), 50):
        arrival_s = way.arrival_s(s_m)
        assert way.distance_m(arrival_s) >= s_m - 1e-6
        assert way.distance_m(arrival_s - 0.051) < s_m  # no earlier, to the step of 50 ms
    assert way.arrival_s(90.05) > way.arrival_s(89.0) + 4.0  # the wait lies between


def test_beyond_its_ends_the_drive_goes_on_steadily():
    way = drive(seconds=5.0)
    assert way.distance_m(-1.0) == pytest.approx(10.0 - 8.0, abs=0.1)
    end_s = 5.1
    step = way.distance_m(end_s + 3.0) - way.distance_m(end_s + 2.0)
    assert step == pytest.approx(way.speed_at(end_s), abs=0.05)
    far_m = way.distance_m(end_s) + 40.0
    assert way.arrival_s(far_m) == pytest.approx(end_s + 40.0 / 8.0, abs=0.3)
