"""Our numbers on seeded labels, boxes, tracks and rays against those of nuscenes-devkit 1.2.0 and of the code that STQ
and RayPQ come from, as `test_metrics_devkit` and `test_metrics_authors` recorded them."""

import json
import math

import pytest

from .metrics_cases import RECORDED, RECORDED_OF_AUTHORS, our_numbers, our_numbers_of_authors


@pytest.fixture(scope="module")
def ours() -> dict[str, list[float]]:
    return {**our_numbers(), **our_numbers_of_authors()}


THEIRS = {**json.loads(RECORDED.read_text()), **json.loads(RECORDED_OF_AUTHORS.read_text())}


@pytest.mark.parametrize("name", THEIRS)
def test_our_numbers_are_theirs(name, ours):
    expected = [math.nan if value is None else value for value in THEIRS[name]]
    assert ours[name] == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)


def test_nothing_is_left_out_and_the_cases_say_something(ours):
    assert set(ours) == set(THEIRS)
    for name, values in THEIRS.items():
        if not name.endswith("means"):
            assert (
                len({value for value in values if value not in (None, 0, 1)}) > 0.25 * len(values) or len(values) == 1
            )
