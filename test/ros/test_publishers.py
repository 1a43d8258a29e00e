"""The node's publishers and its work on a set without DDS: who gets what, and what becomes of outputs that fail."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from test.ros.needs_ros import require_ros

require_ros()

from panoocc_core import Wanted  # noqa: E402
from panoocc_core.labels import LIDARSEG, OCC3D  # noqa: E402
from panoocc_ros.health.ledger import Ledger  # noqa: E402
from panoocc_ros.health.verdicts import ERROR, OK, WARN  # noqa: E402
from panoocc_ros.load.governor import Governor  # noqa: E402
from panoocc_ros.node import session as session_module  # noqa: E402
from panoocc_ros.node.publishers import Publishers  # noqa: E402
from panoocc_ros.node.session import Job, Session  # noqa: E402
from panoocc_ros.node.settings import NodeSettings  # noqa: E402
from panoocc_ros.node.step import Step  # noqa: E402
from panoocc_ros.outputs.catalogue import (  # noqa: E402
    BEV_CLASSES,
    GRID_2D,
    LEFT_OUT_FIRST,
    OBSTACLES,
    OCCUPANCY,
    OVERLAY,
    POINTS,
    STAGES_OF,
)
from panoocc_ros.ros.graph import qos  # noqa: E402
from panoocc_ros.ros.progress import Progress  # noqa: E402
from test.ros.statuses import output  # noqa: E402
from test.ros.test_convert import T0  # noqa: E402
from test.ros.test_planner_outputs import street  # noqa: E402

MS = 1_000_000


class Publisher:
    """Keeps what is published, for so many subscriptions."""

    def __init__(self, topic):
        self.topic_name, self.subscriptions, self.messages = topic.replace("~", "/panoocc"), 0, []

    def get_subscription_count(self):
        return self.subscriptions

    def publish(self, message):
        self.messages.append(message)


class Topics(dict):
    """A node that only makes publishers; its topics, and what it logs."""

    def __init__(self):
        self.words = []
        self.listeners = {}  # topic -> (namespace, node, QoS) of its subscriptions

    def create_publisher(self, _kind, topic, _profile):
        self[topic] = Publisher(topic)
        return self[topic]

    def get_subscriptions_info_by_topic(self, topic):
        return [
            SimpleNamespace(node_namespace=namespace, node_name=name, qos_profile=profile)
            for namespace, name, profile in self.listeners.get(topic, [])
        ]

    def get_logger(self):
        return SimpleNamespace(info=self.words.append)

    def hear(self, *outputs):
        for one in outputs:
            self[f"~/{one.topic}"].subscriptions = 1

    def sent(self, one):
        return self[f"~/{one.topic}"].messages


def made(labels=OCC3D, source="boxes", **settings):
    topics, chosen = Topics(), NodeSettings(seeded_weights=True, **settings)
    return Publishers(topics, chosen, ("B", "C"), "base_link", source, labels), topics


def grid_at(ms, **changes):
    return replace(street(), stamp_ns=T0 + ms * MS, **changes)


def test_who_begins_to_listen_during_a_step_gets_the_next_grid_whole_and_not_that_one_without():
    outputs, topics = made(occupancy_max_rate_hz=0.01)
    topics.hear(OBSTACLES)
    wanted = outputs.wanted(T0)
    assert wanted == Wanted(instances=False, visible=False)
    topics.hear(OCCUPANCY, GRID_2D)  # while the network works
    outputs.publish(grid_at(0, visible=None, instance_id=None, instances="none"), None, 0, wanted)
    assert [len(topics.sent(one)) for one in (OBSTACLES, OCCUPANCY, GRID_2D)] == [1, 0, 0]
    wanted = outputs.wanted(T0 + 100 * MS)
    assert wanted == Wanted(instances=True, visible=True)
    outputs.publish(grid_at(100), None, 1, wanted)
    assert len(topics.sent(OCCUPANCY)[0].visible) and len(topics.sent(GRID_2D)) == 1


def test_an_output_that_fails_takes_no_other_along_is_named_and_keeps_to_its_rate():
    outputs, topics = made(overlay_max_rate_hz=2.0)
    topics.hear(OCCUPANCY, OVERLAY)
    sent = [outputs.publish(grid_at(100 * k), None, k, Wanted()) for k in range(3)]  # there is no frame to draw on
    told = [one.failures for one in sent]
    assert [set(one) for one in told] == [{"overlay/compressed"}] * 3 and "NoneType" in told[2]["overlay/compressed"]
    assert len(topics.sent(OCCUPANCY)) == 3 and not topics.sent(OVERLAY)
    assert not outputs._rates.is_due(OVERLAY, T0 + 300 * MS) and outputs._rates.is_due(OVERLAY, T0 + 500 * MS)
    topics["~/overlay/compressed"].subscriptions = 0
    assert outputs.publish(grid_at(400), None, 3, Wanted()).failures == {}


def test_clouds_and_health_get_a_grid_whose_output_fails(monkeypatch):
    outputs, topics = made()
    topics.hear(OCCUPANCY, OVERLAY)
    handed, times = [], []
    clock = lambda: 100.0  # noqa: E731
    node = SimpleNamespace(
        _assembler=None,
        _stream=None,
        _reads_logits=False,
        _has_ended=False,
        _first_grid=0,
        _outputs=outputs,
        _clouds=SimpleNamespace(has_listener=True, hand_over=handed.append),
        _ledger=Ledger(clock),
        _record_times=lambda *arguments: times.append(arguments),
        _progress=Progress(),
        _on_topic=lambda topic: None,
        saving=SimpleNamespace(is_wanted=False),
        _governor=Governor(LEFT_OUT_FIRST, STAGES_OF, now_s=clock),
        _is_outdated=lambda *_: False,
        _wanted=lambda stamp_ns, _: (Wanted(), frozenset()),
        _node=topics,
    )
    monkeypatch.setattr(session_module, "step", lambda *_: Step(None, grid_at(0), {}, None))
    ready = SimpleNamespace(stamp_ns=T0, map_from_ego=None)
    Session._work_on(node, Job(ready, None, 0.0))
    accounts = node._ledger.read()
    assert len(handed) == len(times) == accounts.grids == 1 and not accounts.failures
    health = output(accounts)
    assert health.level == ERROR and health.message.startswith("~/overlay/compressed could not be sent: AttributeError")
    node._ledger.grid(grid_at(100), {})
    assert output(node._ledger.read()).level == OK


def test_a_subscriber_that_gets_nothing_is_named_and_is_no_fault_of_the_output():
    outputs, topics = made()
    latched = qos(latched=True)
    topics.listeners = {"/panoocc/occupancy": [("/", "fine", qos()), ("/robot", "rviz", latched)]}
    topics.listeners["/panoocc/grid_2d"] = [("/", "nav2", latched)]
    topics.hear(OCCUPANCY)
    deaf = outputs.deaf()
    assert outputs.publish(grid_at(0), None, 0, Wanted()).failures == {} and len(topics.sent(OCCUPANCY)) == 1
    ledger = Ledger(lambda: 100.0)
    ledger.grid(grid_at(0), {})
    health = output(ledger.read(), deaf=deaf)
    assert health.level == WARN and health.message == (
        "~/occupancy: the QoS of /robot/rviz does not fit: DURABILITY is VOLATILE, TRANSIENT_LOCAL is asked for; it "
        "gets nothing"
    )
    ledger.grid(grid_at(100), {"points": "no"})
    health = output(ledger.read(), deaf=deaf)
    assert health.level == ERROR and "could not be sent: no; ~/occupancy: the QoS" in health.message


def test_where_no_class_is_free_space_there_are_no_maps_and_the_log_says_so():
    _, topics = made(LIDARSEG)
    assert {"~/occupancy", "~/obstacles", "~/points"} <= topics.keys()
    left_out = {"grid_2d", "bev/classes", "bev/confidence", "bev/points"}
    assert not {f"~/{topic}" for topic in left_out} & topics.keys()
    for topic in left_out:
        assert f"~/{topic} is left out: the classes nuscenes_lidarseg have none for free space" in topics.words


@pytest.mark.parametrize("is_heard", [False, True])
def test_only_a_listener_to_the_map_makes_sets_wait_for_its_frame(is_heard, monkeypatch):
    outputs, topics = made(grid_frame="map")
    topics.hear(OCCUPANCY, *([GRID_2D] if is_heard else []))
    asked = []
    node = SimpleNamespace(
        _time=lambda: None,
        _now_ns=lambda: T0,
        _outputs=outputs,
        _clouds=None,
        _ledger=Ledger(lambda: 100.0),
        _assembler=SimpleNamespace(poll=lambda now_ns, wants_map: asked.append(wants_map), sets_formed=0),
        _inputs=SimpleNamespace(drain=lambda: None),
    )
    Session.poll(node)
    assert asked == [is_heard]


def test_what_a_budget_leaves_out_is_not_made_and_the_grid_goes_out_without_it():
    outputs, topics = made()
    topics.hear(OCCUPANCY, POINTS, OBSTACLES, GRID_2D, OVERLAY)
    asked, due = outputs.asked(T0)
    assert asked == due == {"occupancy", "points", "obstacles", "grid_2d", "overlay/compressed", "instances", "visible"}
    wanted, left_out = outputs.wanted(T0), frozenset({"overlay/compressed", "visible", "grid_2d"})
    topics.hear(BEV_CLASSES)  # while the network works, which was not asked for what it needs
    sent = outputs.publish(grid_at(0, visible=None), None, 0, wanted, left_out=left_out)
    counts = [len(topics.sent(one)) for one in (OCCUPANCY, POINTS, OBSTACLES, GRID_2D, OVERLAY, BEV_CLASSES)]
    assert counts == [1, 1, 1, 0, 0, 0] and not sent.failures
    assert not len(topics.sent(OCCUPANCY)[0].visible)
    assert list(sent.costs_ms) == ["occupancy", "points", "obstacles"] and min(sent.costs_ms.values()) > 0
    asked, due = outputs.asked(T0 + 100 * MS)
    assert "overlay/compressed" in due  # it has not had its grid of this second
    sent = outputs.publish(grid_at(100), None, 1, outputs.wanted(T0 + 100 * MS), left_out=frozenset({"points"}))
    assert [len(topics.sent(one)) for one in (OCCUPANCY, POINTS, GRID_2D, BEV_CLASSES)] == [2, 1, 1, 1]


def test_a_set_that_is_too_old_is_not_begun_with_is_counted_and_its_reset_is_done():
    words, resets, now_s = [], [], [100.0]
    node = SimpleNamespace(
        _settings=NodeSettings(seeded_weights=True, max_set_age_s=0.5),
        _stream=SimpleNamespace(reset=resets.append),
        _ledger=Ledger(lambda: now_s[0]),
        _log=SimpleNamespace(warn=lambda kind, text: words.append(text)),
        _stamp_age_s=lambda stamp_ns: 0.1,
    )
    job = Job(SimpleNamespace(stamp_ns=T0, arrived_s=10.0), "calibration", 10.0)
    assert not Session._is_outdated(node, job, 10.4) and not resets
    assert Session._is_outdated(node, job, 10.7)
    assert resets == ["calibration"] and node._ledger.read().drops == {"outdated": 1}
    assert "0.70 s old" in words[0] and "max_set_age_s, 0.5 s" in words[0]
    node._stamp_age_s = lambda stamp_ns: 2.0  # it waited in DDS
    assert Session._is_outdated(node, job, 10.1)
    node._settings = NodeSettings(seeded_weights=True)
    assert not Session._is_outdated(node, job, 99.0)
