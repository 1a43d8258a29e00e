"""The node's publishers in this process: what is made for whom, and what is left out."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from test.ros.needs_ros import require_ros

require_ros()

from panoocc_core import Wanted  # noqa: E402
from panoocc_core.labels import OCC3D  # noqa: E402
from panoocc_ros.node import publishers  # noqa: E402
from panoocc_ros.node.settings import NodeSettings  # noqa: E402
from panoocc_ros.outputs.catalogue import (  # noqa: E402
    BEV_CLASSES,
    BEV_CONFIDENCE,
    BEV_POINTS,
    GRID_2D,
    OBSTACLES,
    OUTPUTS,
    POINTS,
)
from panoocc_ros.outputs.output import wanted_by  # noqa: E402
from panoocc_ros.ros.graph import UnknownType, message_class, qos  # noqa: E402
from test.ros.live import Peer  # noqa: E402
from test.ros.test_convert import T0, occupancy  # noqa: E402
from test.ros.test_objects import BOX  # noqa: E402
from test.ros.test_planner_outputs import street  # noqa: E402

pytestmark = pytest.mark.live

SETTINGS = NodeSettings(seeded_weights=True)


class Words(list):
    info = list.append


@pytest.fixture
def peer():
    peer = Peer()
    yield peer
    peer.close()


def made(peer, source="boxes"):
    """Publishers of a node called as ours, and what it logged."""
    words = Words()
    node = SimpleNamespace(
        create_publisher=lambda kind, topic, profile: peer.node.create_publisher(
            kind, topic.replace("~", "/made"), profile
        ),
        get_logger=lambda: words,
    )
    return publishers.Publishers(node, SETTINGS, ("B", "C"), "base_link", source, OCC3D), words


def topics(peer):
    return {topic for topic, _ in peer.node.get_topic_names_and_types() if topic.startswith("/made")}


def test_things_are_looked_for_while_somebody_listens_to_them(peer):
    outputs, _ = made(peer)
    labels = []
    peer.node.create_subscription(
        message_class("panoocc/msg/LabelSet"), "/made/labels", labels.append, qos(latched=True)
    )
    outputs.announce()
    peer.wait(lambda: labels, "labels")
    assert not outputs.wanted(T0).instances
    arrays = []
    kind = message_class("vision_msgs/msg/Detection3DArray")
    subscription = peer.node.create_subscription(kind, "/made/objects", arrays.append, qos())
    peer.wait(lambda: outputs.wanted(T0).instances, "subscription")
    # Nobody had listened when the first one was begun: nothing is said about things.
    outputs.publish(occupancy(instances=False), None, 0, Wanted(instances=False, visible=False))
    outputs.publish(replace(occupancy(), instances="boxes", boxes=BOX), None, 1, Wanted())
    peer.wait(lambda: arrays, "objects")
    peer.spin(0.2)
    (array,) = arrays
    assert [found.id for found in array.detections] == ["7"] and array.header.stamp.sec == T0 // 10**9
    peer.node.destroy_subscription(subscription)
    peer.wait(lambda: not outputs.wanted(T0).instances, "end of the subscription")


@pytest.mark.parametrize(
    "output", [one for one in OUTPUTS if one.in_node and one.needs and not one.optional], ids=lambda one: one.topic
)
def test_what_is_needed_is_found_for_one_who_listens_to(output, peer):
    outputs, _ = made(peer)
    assert outputs.wanted(T0) == Wanted(instances=False, visible=False)
    kind = message_class(output.type)
    peer.node.create_subscription(kind, f"/made/{output.topic}", print, qos(depth=output.depth))
    peer.wait(lambda: outputs.wanted(T0) == wanted_by([output]), "subscription")


def test_an_output_whose_package_is_not_installed_is_left_out_and_named(peer, monkeypatch):
    def without_vision(name):
        if name.startswith("vision_msgs"):
            raise UnknownType(name)
        return message_class(name)

    monkeypatch.setattr(publishers, "message_class", without_vision)
    _, words = made(peer)
    assert words.count("~/objects is left out: the package vision_msgs is not installed") == 1
    peer.wait(lambda: {"/made/occupancy", "/made/object_markers", "/made/labels"} <= topics(peer), "topics")
    assert "/made/objects" not in topics(peer)


def test_an_output_that_every_node_has_is_not_left_out(peer, monkeypatch):
    def without_ours(name):
        raise UnknownType(name)

    monkeypatch.setattr(publishers, "message_class", without_ours)
    with pytest.raises(UnknownType, match="panoocc/msg/VoxelGrid"):
        made(peer)


def test_without_a_source_there_are_no_topics_of_things(peer):
    _, words = made(peer, "none")
    peer.wait(lambda: {"/made/occupancy", "/made/points", "/made/markers", "/made/labels"} <= topics(peer), "topics")
    assert not {"/made/objects", "/made/detected_objects", "/made/object_markers"} & topics(peer) and not words


def profile(depth, reliable=False, latched=False):
    return qos(reliable=reliable, latched=latched, depth=depth)


# What consumers subscribe with: Nav2's obstacle and voxel layers, the collision monitor and STVL (sensor data, 50), its
# static layer; Autoware's obstacle segmentation and grids (depth 1); semantic_segmentation_layer.
CONSUMERS = {
    "nav2 layers": (OBSTACLES, profile(50)),
    "autoware obstacles": (OBSTACLES, profile(1)),
    "autoware raw points": (POINTS, profile(1)),
    "nav2 static layer": (GRID_2D, profile(1, reliable=True, latched=True)),
    "autoware grid": (GRID_2D, profile(1, reliable=True)),
    "segmentation layer's classes": (BEV_CLASSES, profile(50)),
    "... confidence": (BEV_CONFIDENCE, profile(50)),
    "... points": (BEV_POINTS, profile(50)),
}


def test_consumers_get_the_topics_with_their_own_qos_and_the_latched_ones_late(peer):
    outputs, _ = made(peer)
    outputs.announce()
    got = {name: [] for name in CONSUMERS}
    for name, (output, wanted) in CONSUMERS.items():
        topic = f"/made/{output.topic}"
        peer.node.create_subscription(message_class(output.type), topic, got[name].append, wanted)

    def is_met():
        return all(
            len(peer.node.get_subscriptions_info_by_topic(f"/made/{one.topic}")) for one, _ in CONSUMERS.values()
        )

    peer.wait(is_met, "subscriptions")
    peer.wait(lambda: outputs.wanted(T0).visible, "match")
    sent = 0

    def all_got():
        nonlocal sent
        outputs.publish(street(), None, sent, Wanted())
        sent += 1
        peer.spin(0.1)
        return all(got.values())

    peer.wait(all_got, "messages")
    headers = {repr(messages[0].header) for messages in got.values()}
    assert len(headers) == 1, "one stamp and one frame"
    (classes, *_), (cloud, *_) = got["segmentation layer's classes"], got["... points"]
    assert (classes.height, classes.width) == (cloud.height, cloud.width)
    late, names = [], []
    peer.node.create_subscription(
        message_class(GRID_2D.type), "/made/grid_2d", late.append, profile(1, reliable=True, latched=True)
    )
    peer.node.create_subscription(
        message_class("vision_msgs/msg/LabelInfo"), "/made/label_info", names.append, profile(5, True, True)
    )
    peer.wait(lambda: late and names, "latched messages")
    assert late[0] == got["nav2 static layer"][-1] and [one.class_name for one in names[0].class_map][4] == "car"
