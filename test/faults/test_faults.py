"""The short form of `make test-faults`: every row offline, some over DDS.  Times are no matter of this; rows are."""

import pytest

from test.faults import on_the_wire, processes
from test.faults.offline import Offline

OFFLINE = [fault for fault in on_the_wire.ROWS if fault.told is not None]


def named(fault):
    return fault.name


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    return Offline(tmp_path_factory.mktemp("offline"))


@pytest.mark.parametrize("fault", OFFLINE, ids=named)
def test_a_recording(offline, fault):
    outcome = offline.run(fault)
    assert not outcome.problems


@pytest.mark.parametrize("name", processes.BAGS)
def test_a_file(name, tmp_path):
    assert not processes.run(name, tmp_path, is_strict=False).problems
