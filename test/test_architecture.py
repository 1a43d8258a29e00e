"""Imports point one way, and ROS stays in the files that are known to need it."""

import ast
from pathlib import Path

import panoocc_core
import panoocc_ros

CORE, ROS_LAYER = (Path(package.__path__[0]) for package in (panoocc_core, panoocc_ros))
ROS_MODULES = ("rclpy", "rcl_interfaces", "tf2_ros", "message_filters", "cv_bridge", "launch", "ament_index_python")
MESSAGE_PACKAGES = ("builtin_interfaces", "panoocc", "std_srvs")
USES_ROS = {
    "diagnostics.py",
    "evaluate_node.py",
    "graph.py",
    "node.py",
    "outputs.py",
    "parameters.py",
    "play.py",
    "record.py",
    "sim_node.py",
    "watch.py",
}
OPTIONAL_ROS = {"images.py": {"cv_bridge"}}  # taken where it is installed, inside one function


def imported(path: Path) -> set[str]:
    """Top-level names of all absolute imports in a file, also those inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names


def is_ros(name: str) -> bool:
    return name in ROS_MODULES or name in MESSAGE_PACKAGES or name.endswith("_msgs")


def importers(package: Path, wanted) -> dict[str, set[str]]:
    """File -> the wanted modules that it imports, for the files that import any."""
    found = {
        path.relative_to(package).as_posix(): {name for name in imported(path) if wanted(name)}
        for path in sorted(package.rglob("*.py"))
    }
    return {path: names for path, names in found.items() if names}


def test_the_core_imports_no_ros_no_bags_and_not_the_ros_layer():
    assert importers(CORE, lambda name: is_ros(name) or name in ("rosbags", "mcap", "panoocc_ros")) == {}


def test_only_the_named_files_import_ros():
    elsewhere = {path: names for path, names in importers(ROS_LAYER, is_ros).items() if path not in USES_ROS}
    assert {path: names - OPTIONAL_ROS.get(path, set()) for path, names in elsewhere.items()} == {
        path: set() for path in elsewhere
    }


def test_every_file_that_is_allowed_ros_exists_and_uses_it():
    """Else the list above grows old."""
    assert set(importers(ROS_LAYER, is_ros)) >= USES_ROS


# Lowest first: a file of the core imports from its own floor and those below.
FLOORS = (
    ("geometry", "labels", "resources", "settings", "whole_files", "ops"),
    ("config",),
    ("types", "voxels"),
    ("ground_truth",),
    ("models", "memory", "preprocess", "ego_motion", "network_frame", "point_labels"),
    ("stream", "checkpoint", "inference", "host_memory"),
    ("sim",),
    ("data", "metrics"),
    ("train", "evaluation"),
    ("bench", "evaluate_command", "cli"),
)


def test_the_core_imports_downwards():
    floor_of = {name: floor for floor, names in enumerate(FLOORS) for name in names}
    for path in CORE.rglob("*.py"):
        inside = path.relative_to(CORE).with_suffix("").parts
        if inside[0] not in floor_of:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                target = (*inside[: len(inside) - node.level], *(node.module or "").split("."))
                if target[0] in floor_of:
                    assert floor_of[target[0]] <= floor_of[inside[0]], f"{path.name} imports {'.'.join(target)}"
                if inside[0] == "ops":
                    assert target[0] in ("ops", ""), f"{path.name}: ops import nothing of the rest"


def calls(path: Path) -> dict[str, list[ast.Call]]:
    """What is called, as it is written (`torch.load`) -> the calls."""
    found: dict[str, list[ast.Call]] = {}
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Call):
            found.setdefault(ast.unparse(node.func), []).append(node)
    return found


def test_nothing_evaluates_or_unpickles_what_it_reads():
    for path in (*CORE.rglob("*.py"), *ROS_LAYER.rglob("*.py")):
        found = calls(path)
        forbidden = {"eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load"} & set(found)
        assert not forbidden, f"{path.name} calls {forbidden}"
        for call in found.get("torch.load", []):
            safe = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}.get("weights_only")
            assert safe == "True", f"{path.name}, line {call.lineno}: torch.load without weights_only=True runs code"
