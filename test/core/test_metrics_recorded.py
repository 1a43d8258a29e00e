"""Our numbers on seeded labels and boxes against those of nuscenes-devkit 1.2.0, as `test_metrics_devkit` recorded."""

import json
import math

import pytest

from .metrics_cases import RECORDED, our_numbers


@pytest.fixture(scope="module")
def ours() -> dict[str, list[float]]:
    return our_numbers()


DEVKIT = json.loads(RECORDED.read_text())


@pytest.mark.parametrize("name", DEVKIT)
def test_our_numbers_are_the_devkits(name, ours):
    expected = [math.nan if value is None else value for value in DEVKIT[name]]
    assert ours[name] == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)


def test_nothing_is_left_out_and_the_cases_say_something(ours):
    assert set(ours) == set(DEVKIT)
    for name, values in DEVKIT.items():
        if not name.endswith("means"):
            assert (
                len({value for value in values if value not in (None, 0, 1)}) > 0.25 * len(values) or len(values) == 1
            )
