"""Configurations for Nav2 and Autoware: parameters that exist there, and topics, types and QoS that exist here."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from panoocc_core.labels import OCC3D
from panoocc_ros.node.settings import NodeSettings
from panoocc_ros.outputs.catalogue import ANNOUNCEMENTS, OUTPUTS

from .readers import ROOT

CONFIG = ROOT / "config"
KNOWN = yaml.safe_load((Path(__file__).parent / "nav2_parameters.yaml").read_text())
FILES = {name: yaml.safe_load((CONFIG / f"{name}.yaml").read_text()) for name in ("nav2", "nav2_semantic")}
PAGE = ROOT / "docs" / "nav2_autoware.md"
GRID, CLOUD, IMAGE = "nav_msgs/msg/OccupancyGrid", "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/Image"
TYPE_OF_KEY = {  # what is read from a topic that a key names
    "map_topic": GRID,
    "topic": CLOUD,
    "pointcloud_topic": CLOUD,
    "segmentation_topic": IMAGE,
    "confidence_topic": IMAGE,
    "labels_topic": "vision_msgs/msg/LabelInfo",
}
OURS = {f"/panoocc/{output.topic}": output for output in (*OUTPUTS, *ANNOUNCEMENTS)}


def sections() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where, and the parameters of every node in the files."""
    for name, content in FILES.items():
        for node, inner in content.items():
            inner = inner[node] if node.endswith("_costmap") else inner
            yield f"{name} {node}", inner["ros__parameters"]


def stvl() -> dict[str, Any]:
    """The layer in a block of the page."""
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return yaml.safe_load(block)["stvl_layer"]


def layers() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for where, parameters in sections():
        if "costmap" in where:
            for plugin in parameters["plugins"]:
                yield f"{where} {plugin}", parameters[plugin]
    yield "page stvl_layer", stvl()


def words(value: Any) -> list[str]:
    return value.split() if isinstance(value, str) else list(value)


def check(where: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Every parameter is one that is declared, and of the type of its default."""
    parts = {
        **dict.fromkeys(words(given.get("observation_sources", [])), "source"),
        **dict.fromkeys(given.get("polygons", []), "zone"),
        **dict.fromkeys(given.get("class_types", []), "type"),
    }
    assert set(parts) <= set(given), f"{where}: {set(parts) - set(given)} has no section"
    for key, value in given.items():
        if key in parts:
            check(f"{where} {key}", value, known[parts[key]])
            continue
        assert key in known and key not in ("source", "zone", "type_of"), f"{where}: there is no parameter {key}"
        assert type(value) is type(known[key]), f"{where}: {key} is a {type(known[key]).__name__} there"


def test_costmaps_and_the_monitor_have_only_parameters_that_exist():
    for where, parameters in sections():
        if where.endswith("collision_monitor"):
            check(where, parameters, KNOWN["collision_monitor"])
            continue
        own = {key: value for key, value in parameters.items() if key not in parameters["plugins"]}
        check(where, own, KNOWN["costmap"])
        assert set(parameters["plugins"]) == {key for key, value in parameters.items() if isinstance(value, dict)}


def test_layers_have_only_parameters_that_exist():
    kinds = set()
    for where, layer in layers():
        layer = dict(layer)
        kind = layer.pop("plugin")
        kinds.add(kind)
        check(where, layer, KNOWN[kind])
    assert kinds == set(KNOWN) - {"costmap", "collision_monitor"}, "known, but used nowhere"


def topics() -> Iterator[tuple[str, str, str]]:
    """Where, key and topic of every topic of ours that is named."""

    def walk(where: str, part: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        for key, value in part.items():
            if isinstance(value, Mapping):
                yield from walk(f"{where} {key}", value)
            elif isinstance(value, str) and value.startswith("/panoocc"):
                yield where, key, value

    for name, content in FILES.items():
        yield from walk(name, content)
    yield from walk("page", stvl())


def test_topics_that_are_named_are_published_with_the_type_that_is_read():
    named = set()
    for where, key, topic in topics():
        assert topic in OURS, f"{where}: nobody publishes {topic}"
        assert OURS[topic].type == TYPE_OF_KEY[key], f"{where}: {topic}"
        named.add(topic.removeprefix("/panoocc/"))
    assert named == {"obstacles", "grid_2d", "points", "bev/classes", "bev/confidence", "bev/points", "label_info"}


def test_who_wants_what_was_sent_before_gets_it():
    """The static layer and the labels ask for transient local; all else reads as sensor data."""
    for _, layer in layers():
        if layer.get("map_topic") in OURS:
            assert OURS[layer["map_topic"]].latched >= layer["map_subscribe_transient_local"]
    labels = {topic for _, key, topic in topics() if key == "labels_topic"}
    assert labels <= {f"/panoocc/{announced.topic}" for announced in ANNOUNCEMENTS}  # always latched


def test_unknown_and_probabilities_survive():
    for where, parameters in sections():
        if "costmap" in where:
            assert parameters["track_unknown_space"] is True, where
        for key, value in parameters.items():
            if isinstance(value, dict) and value.get("map_topic") == "/panoocc/grid_2d":
                assert parameters["rolling_window"] is True, f"{where}: {key} would size the costmap"
                assert parameters["trinary_costmap"] is False and parameters["lethal_cost_threshold"] == 50
                assert parameters["global_frame"] == "odom", "the frame that the page tells to give as grid_frame"


def test_one_point_is_enough_and_no_height_is_cut_twice():
    monitor = FILES["nav2"]["collision_monitor"]["ros__parameters"]
    assert [monitor[zone]["min_points"] for zone in monitor["polygons"]] == [1, 1]
    limits = NodeSettings.__dataclass_fields__
    low, high = limits["obstacles_min_z_m"].default, limits["obstacles_max_z_m"].default
    for source in monitor["observation_sources"]:
        assert monitor[source]["min_height"] < low < high < monitor[source]["max_height"]
    for _, layer in layers():
        for part in (layer, *(value for value in layer.values() if isinstance(value, dict))):
            if "min_obstacle_height" in part:
                assert part["min_obstacle_height"] <= -50 and part["max_obstacle_height"] >= 50


def test_polygons_are_polygons():
    for _, parameters in sections():
        texts = [parameters.get("footprint"), parameters.get("stop_zone", {}).get("points")]
        for text in filter(None, texts):
            points = json.loads(text)
            assert len(points) >= 3 and all(len(point) == 2 for point in points)


def test_every_class_has_one_cost():
    layer = FILES["nav2_semantic"]["local_costmap"]["local_costmap"]["ros__parameters"]["semantic_layer"]["bev"]
    named = [name for kind in layer["class_types"] for name in layer[kind]["classes"]]
    assert sorted(named) == sorted(set(OCC3D.names) - {"free"})


def test_autowares_parameters_are_the_nodes():
    (given,) = (node["ros__parameters"] for node in yaml.safe_load((CONFIG / "autoware.yaml").read_text()).values())
    known = {field.name for field in fields(NodeSettings)}
    assert set(given) <= known
    NodeSettings(**given)


def autoware_topics() -> dict[str, str]:
    for node in ast.walk(ast.parse((ROOT / "launch" / "autoware.launch.py").read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TOPICS":
            return ast.literal_eval(node.value)
    raise AssertionError("the launch file has no TOPICS")


def test_autowares_topics_are_published_with_the_types_of_autoware():
    types = {topic: OURS[f"/panoocc/{topic}"].type for topic in autoware_topics()}
    assert types == {
        "obstacles": CLOUD,
        "grid_2d": GRID,
        "detected_objects": "autoware_perception_msgs/msg/DetectedObjects",
    }


@pytest.mark.parametrize("topic, target", autoware_topics().items())
def test_the_page_names_autowares_topics(topic, target):
    assert f"| `~/{topic}` | `{target}` |" in PAGE.read_text()
