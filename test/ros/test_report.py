"""When /diagnostics and `~/status` are sent."""

from types import SimpleNamespace

import pytest

from test.ros.needs_ros import require_ros

require_ros()

from builtin_interfaces.msg import Time  # noqa: E402

from panoocc_ros.health.publisher import Report  # noqa: E402
from panoocc_ros.health.verdicts import OK, OUTPUT, Health  # noqa: E402

FINE = [Health(OUTPUT, OK, "6 grids from 6 sets")]


class Node(dict):
    """A node that only publishes, into itself: topic -> messages."""

    context = SimpleNamespace(ok=lambda: True)

    def get_fully_qualified_name(self):
        return "/panoocc"

    def create_publisher(self, _kind, topic, _profile):
        self[topic] = []
        return SimpleNamespace(publish=self[topic].append)

    def get_clock(self):
        return SimpleNamespace(now=lambda: SimpleNamespace(to_msg=Time))


@pytest.fixture
def node():
    return Node()


def test_they_are_sent_at_every_period_and_when_a_level_changes(node):
    report = Report(node, 1e9)
    for health in (*FINE, *FINE, Health(OUTPUT, 1, "no new grid")):
        report.tell([health])
    assert len(node["/diagnostics"]) == len(node["~/status"]) == 2


def test_an_alarm_stands_no_longer_than_until_the_next_look(node):
    report = Report(node, 1e9)
    report.tell(FINE)
    report.alarm("the node's own thread hangs")
    assert "ERROR, the node's own thread hangs" in node["~/status"][-1].data
    assert report.is_due
    report.tell(FINE)
    assert "ERROR" not in node["~/status"][-1].data and node["/diagnostics"][-1].status[0].level == b"\0"
    report.tell(FINE)
    assert len(node["~/status"]) == 3 and not report.is_due
