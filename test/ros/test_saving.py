"""`~/save`: one set at a time, and what is not written is told."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from test.ros.needs_ros import require_ros

require_ros()

from panoocc_ros.bags.saved_set import SaveRefused  # noqa: E402
from panoocc_ros.motion.motion_options import MotionOptions  # noqa: E402
from panoocc_ros.node import saving as saving_module  # noqa: E402
from panoocc_ros.node.saving import Saving  # noqa: E402
from panoocc_ros.ros.throttle import ProblemLog  # noqa: E402
from test.ros.bags import RIG  # noqa: E402


class Node(list):
    """A node that only logs, into itself."""

    def get_logger(self):
        return SimpleNamespace(info=self.append, warning=self.append, error=self.append)

    def resolve_topic_name(self, topic):
        return topic


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def saving(node, monkeypatch):
    monkeypatch.setattr(saving_module, "write_set", lambda path, *_: Path(path).touch())
    return Saving(node, RIG, MotionOptions(), ProblemLog(node.get_logger()))


def test_a_second_set_is_refused_until_the_first_is_written(saving, node, tmp_path):
    first = saving.request(str(tmp_path), {})
    with pytest.raises(SaveRefused, match=f"{first} was asked for before"):
        saving.request(str(tmp_path), {})
    saving.take(None, [])
    assert not saving.is_wanted and saving.close(60.0) and first.exists()
    assert node == [f"a set was saved as {first}"]
    assert saving.request(str(tmp_path), {}) != first


def test_a_promise_that_is_not_kept_is_told_at_the_end(saving, node, tmp_path):
    path = saving.request(str(tmp_path), {})
    assert saving.close(60.0) and node == [f"{path} was not written: no set came any more"]


def test_a_set_that_cannot_be_written_makes_place_for_the_next(saving, node, monkeypatch, tmp_path):
    monkeypatch.setattr(saving_module, "write_set", lambda *_: 1 / 0)
    saving.request(str(tmp_path), {})
    saving.take(None, [])
    assert saving.close(60.0) and "ZeroDivisionError" in node[0]
    saving.request(str(tmp_path), {})
