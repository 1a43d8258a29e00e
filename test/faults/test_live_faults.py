"""The short form of `make test-faults` over DDS: some rows, and starts that cannot be."""

import pytest

from test.ros.needs_ros import require_ros

require_ros()

from test.faults import at_work, on_the_wire, processes  # noqa: E402
from test.faults.live import Live  # noqa: E402
from test.faults.test_faults import named  # noqa: E402

pytestmark = pytest.mark.live


@pytest.mark.parametrize("name", processes.STARTS)
def test_a_start(name, tmp_path):
    assert not processes.run(name, tmp_path, is_strict=False).problems


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    live = Live(tmp_path_factory.mktemp("live"))
    yield live
    assert live.close() == 0


@pytest.mark.parametrize("fault", [one for one in on_the_wire.ROWS + at_work.ROWS if one.is_short], ids=named)
def test_a_drive(live, fault):
    assert not live.run(fault, is_strict=False).problems
