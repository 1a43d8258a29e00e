"""Imports point one way, ROS stays in the files that are known to need it, and no room grows without bounds."""

import ast
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import panoocc_core
import panoocc_ros

CORE, ROS_LAYER = (Path(package.__path__[0]) for package in (panoocc_core, panoocc_ros))
ROS_MODULES = ("rclpy", "rcl_interfaces", "tf2_ros", "message_filters", "cv_bridge", "launch", "ament_index_python")
MESSAGE_PACKAGES = ("builtin_interfaces", "panoocc", "std_srvs")
USES_ROS = {
    "bags/play.py",
    "bags/record.py",
    "evaluation/node.py",
    "health/publisher.py",
    "health/watch.py",
    "live_bench/sender.py",
    "live_bench/transitions.py",
    "node/cloud_output.py",
    "node/inputs.py",
    "node/node.py",
    "node/session.py",
    "node/publishers.py",
    "node/saving.py",
    "ros/graph.py",
    "ros/launching.py",
    "ros/parameters.py",
    "sim/node.py",
    "survey/topic_listener.py",
    "view/listener.py",
}
OPTIONAL_ROS = {  # taken where it is installed, inside the functions that are asked for it
    "installed/approximate.py": {"message_filters", "rclpy"},
    "installed/other_encodings.py": {"cv_bridge"},
    "installed/tf2_transforms.py": {"tf2_ros", "rclpy", "geometry_msgs"},
}

# Lowest first.  A room (a folder, or a module beside the folders) imports from itself and from lower floors only:
# those that share a floor do not know of each other.
FLOORS = {
    "panoocc_core": (
        ("base",),
        ("geometry", "labels", "ops"),
        ("optics",),
        ("config", "types"),
        ("step",),
        ("cuda",),
        ("voxels", "ground_truth", "ego_motion", "preprocess", "cameras", "planning"),
        ("network",),
        ("models",),
        ("panoptic", "visibility"),
        ("memory",),
        ("stream", "weights"),
        ("sim", "metrics"),
        ("data", "evaluation", "missing_cameras", "pictures"),
        ("train", "bench", "export"),
        ("__init__",),
    ),
    "panoocc_ros": (
        ("__init__",),
        ("ros",),
        ("messages",),
        ("streams", "planner", "load"),
        ("motion", "installed"),
        ("frames",),
        ("outputs",),
        ("health",),
        ("bags",),
        ("node",),
        ("replay",),
        ("evaluation", "sim", "survey", "view"),
        ("demo", "fuzz"),
        ("live_bench",),
        ("commands",),
        ("__main__",),
    ),
}

# Stems that occur in several folders because the folder says whose: the ROS node, the bag and the settings of each
# part that has one, the entry point, the report; what a verdict is about; the versions of every operator.
SHARED_STEMS = {
    "panoocc_core": {"reference", "tuned", "triton", "portable"},
    "panoocc_ros": {"bag", "inputs", "messages", "node", "output", "report", "run", "settings", "sim", "transforms"},
}
MAX_FILES_IN_A_FOLDER, MAX_FILES_ON_TOP = 12, 16


def files(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def imports(path: Path, package: Path) -> Iterable[tuple[str, ...]]:
    """Everything that a file imports, also inside functions, as absolute names: ("panoocc_core", "base", "devices")."""
    here = (package.name, *path.relative_to(package).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level] if node.level else ()
            module = (*start, *(node.module.split(".") if node.module else ()))
            yield from ((*module, alias.name) for alias in node.names)


def room(path: Path, package: Path) -> str:
    return path.relative_to(package).with_suffix("").parts[0]


def is_ros(name: str) -> bool:
    return name in ROS_MODULES or name in MESSAGE_PACKAGES or name.endswith("_msgs")


def importers(package: Path, wanted: Callable[[str], bool]) -> dict[str, set[str]]:
    """File -> the wanted top-level modules that it imports, for the files that import any."""
    found = {
        path.relative_to(package).as_posix(): {name[0] for name in imports(path, package) if wanted(name[0])}
        for path in files(package)
    }
    return {path: names for path, names in found.items() if names}


def upward(package: Path) -> set[tuple[str, str, str]]:
    """Package, file and imported room of every import that does not go down."""
    floor_of = {name: floor for floor, names in enumerate(FLOORS[package.name]) for name in names}
    found = set()
    for path in files(package):
        own = room(path, package)
        for name in imports(path, package):
            if name[0] != package.name:
                continue
            target = name[1] if len(name) > 1 and name[1] in floor_of else "__init__"
            if target != own and floor_of[target] >= floor_of[own]:
                found.add((package.name, path.relative_to(package).as_posix(), target))
    return found


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


@pytest.mark.parametrize("package", [CORE, ROS_LAYER], ids=lambda package: package.name)
def test_every_room_has_its_floor(package: Path):
    floors = [name for names in FLOORS[package.name] for name in names]
    assert sorted(floors) == sorted({room(path, package) for path in files(package)})


@pytest.mark.parametrize("package", [CORE, ROS_LAYER], ids=lambda package: package.name)
def test_imports_go_down(package: Path):
    assert not upward(package), "imports from the same floor or above"


def test_operators_import_nothing_else_of_the_package():
    for path in (CORE / "ops").rglob("*.py"):
        assert all(name[:2] == (CORE.name, "ops") for name in imports(path, CORE) if name[0] == CORE.name), path


@pytest.mark.parametrize("package", [CORE, ROS_LAYER], ids=lambda package: package.name)
def test_no_two_files_have_one_name_unless_the_folder_says_whose(package: Path):
    places = defaultdict(list)
    for path in files(package):
        places[path.stem].append(path.relative_to(package).as_posix())
    allowed = {"__init__", *SHARED_STEMS[package.name]}
    assert {stem: paths for stem, paths in places.items() if len(paths) > 1 and stem not in allowed} == {}


def test_no_room_is_crowded():
    for folder in (path for path in ROS_LAYER.rglob("*") if path.is_dir()):
        inside = [path for path in folder.glob("*.py") if path.stem != "__init__"]
        assert len(inside) <= MAX_FILES_IN_A_FOLDER, folder.name
    assert len(list(CORE.glob("*.py"))) <= MAX_FILES_ON_TOP
    assert [path.name for path in ROS_LAYER.glob("*.py") if not path.stem.startswith("__")] == []


def calls(path: Path) -> dict[str, list[ast.Call]]:
    """What is called, as it is written (`torch.load`) -> the calls."""
    found: dict[str, list[ast.Call]] = {}
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Call):
            found.setdefault(ast.unparse(node.func), []).append(node)
    return found


def test_nothing_evaluates_or_unpickles_what_it_reads():
    for path in (*files(CORE), *files(ROS_LAYER)):
        found = calls(path)
        forbidden = {"eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load"} & set(found)
        assert not forbidden, f"{path.name} calls {forbidden}"
        for call in found.get("torch.load", []):
            safe = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}.get("weights_only")
            assert safe == "True", f"{path.name}, line {call.lineno}: torch.load without weights_only=True runs code"
