"""Launch files and the RViz configuration: arguments as they are read, and, where launch is installed, what it makes.

launch is pure Python but not on PyPI.  Without it a stand-in with the few classes that our files use takes its place:
it records what would be declared and started, and raises what launch would raise.
"""

import ast
import importlib.util
import re
import sys
import xml.etree.ElementTree
from dataclasses import fields
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

from panoocc_core.base.resources import folder
from panoocc_core.sim.drive_renderer import MAX_SECONDS, MAX_WORKERS
from panoocc_ros.commands.cli import parser
from panoocc_ros.node.settings import NodeSettings
from panoocc_ros.sim.settings import SimSettings

CHECKOUT = folder("config").parent
BAG = f"bag:={CHECKOUT}"  # a folder that is there
LAUNCH_FILES = sorted((CHECKOUT / "launch").glob("*.launch.py"))


class Entity:
    """An action, event or substitution with what it was made of."""

    def __init__(self, *arguments, **options):
        self.arguments, self.options = arguments, options


class PackageNotFound(KeyError):
    """ament_index_python's error."""


class NotInstalled:
    """Packages that ament does not find."""

    def __init__(self):
        self.names = set()

    def prefix(self, name):
        if name in self.names:
            raise PackageNotFound(name)
        return "/opt/ros/jazzy"


@pytest.fixture
def ament(monkeypatch):
    """Puts the stand-in in the place of launch, and gives the packages that are not installed."""
    missing = NotInstalled()
    actions = (
        "DeclareLaunchArgument ExecuteProcess GroupAction IncludeLaunchDescription LifecycleNode LogInfo Node "
        "OpaqueFunction SetParameter SetRemap Shutdown"
    )
    modules = {
        "launch": "Action LaunchContext LaunchDescription",
        "launch.actions": actions,
        "launch.events": "",
        "launch.events.process": "ProcessExited",
        "launch.launch_description_sources": "PythonLaunchDescriptionSource",
        "launch.substitutions": "PathJoinSubstitution",
        "launch_ros": "",
        "launch_ros.actions": actions,
        "launch_ros.parameter_descriptions": "ParameterValue",
        "launch_ros.substitutions": "FindPackagePrefix FindPackageShare",
        "ament_index_python": "",
        "ament_index_python.packages": "",
    }
    for name, classes in modules.items():
        module = ModuleType(name)
        for kind in classes.split():
            setattr(module, kind, type(kind, (Entity,), {}))
        monkeypatch.setitem(sys.modules, name, module)
    packages = sys.modules["ament_index_python.packages"]
    packages.PackageNotFoundError, packages.get_package_prefix = PackageNotFound, missing.prefix
    monkeypatch.delitem(sys.modules, "panoocc_ros.ros.launching", raising=False)
    yield missing
    sys.modules.pop("panoocc_ros.ros.launching", None)


def loaded(name):
    path = CHECKOUT / "launch" / name
    specification = importlib.util.spec_from_file_location(path.stem.replace(".", "_"), path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def launched(monkeypatch, name, *words):
    """What `ros2 launch panoocc NAME WORDS` starts: the keywords of every node, by executable."""
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "panoocc", name, *words])
    given = dict(word.split(":=", 1) for word in words)
    context = SimpleNamespace(argv=list(words), launch_configurations=given, remaps={})
    started = {}
    perform(loaded(name).generate_launch_description().arguments[0], context, started)
    return started


def perform(entities, context, started):
    for entity in entities:
        kind = type(entity).__name__
        if kind == "DeclareLaunchArgument":
            default = entity.options.get("default_value")
            if type(default).__name__ == "PathJoinSubstitution":
                default = str(CHECKOUT / "config" / default.arguments[0][-1])
            assert entity.options["description"]
            if default is not None:
                context.launch_configurations.setdefault(entity.arguments[0], default)
            assert entity.arguments[0] in context.launch_configurations, f"{entity.arguments[0]} is required"
        elif kind == "OpaqueFunction":
            perform(entity.options["function"](context) or [], context, started)
        elif kind == "IncludeLaunchDescription":
            context.launch_configurations.update(entity.options.get("launch_arguments", ()))
            inner = loaded("panoocc.launch.py").generate_launch_description().arguments[0]
            perform(inner, context, started)
        elif kind == "GroupAction":
            perform(entity.arguments[0], context, started)
        elif kind == "SetRemap":
            context.remaps[entity.options["src"]] = entity.options["dst"]
        elif kind in ("Node", "LifecycleNode"):
            started[entity.options["executable"]] = entity.options | {"remaps": dict(context.remaps)}
        elif kind == "ExecuteProcess":
            started[entity.options["name"]] = entity.options
        else:
            assert kind == "SetParameter"


def parameters_of(node):
    return {name: getattr(value, "arguments", [value])[0] for name, value in node["parameters"][-1].items()}


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_files_need_no_library(path):
    """They run in the Python of ros2, which need not have PyTorch."""
    imported = {
        (node.module or "").split(".")[0] for node in ast.walk(ast.parse(path.read_text())) if hasattr(node, "module")
    }
    assert imported <= {"dataclasses", "launch", "launch_ros", "panoocc_ros"}
    code = (
        "import sys\nfor name in ('torch', 'numpy', 'cv2', 'panoocc_core'): sys.modules[name] = None\n"
        "import panoocc_ros.node.settings, panoocc_ros.sim.settings, panoocc_ros.ros.parameter_fields"
    )
    import subprocess

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=CHECKOUT)


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_files_load_where_launch_is_installed(path):
    pytest.importorskip("launch_ros", reason="launch is not installed")
    assert loaded(path.name).generate_launch_description().entities


def test_parameters_that_are_given_reach_the_node_with_their_types(ament, monkeypatch):
    words = ("model:=1.0", "threads:=2", "seeded_weights:=True", "tf_timeout_s:=1", "namespace:=/robot1/")
    node = launched(monkeypatch, "panoocc.launch.py", *words)["occupancy_node"]
    assert node["parameters"][0] == str(CHECKOUT / "config" / "params.yaml") and node["namespace"] == "robot1"
    given = parameters_of(node)
    assert given == {"model": "1.0", "threads": 2, "seeded_weights": True, "tf_timeout_s": 1.0}
    assert {name: type(value) for name, value in given.items()}["tf_timeout_s"] is float
    assert parameters_of(launched(monkeypatch, "panoocc.launch.py")["occupancy_node"]) == {}


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("precisoin:=bf16", "no argument precisoin: did you mean precision"),
        ("xyz:=1", "no argument xyz: --show-args"),
        ("seeded_weights:=yes", "seeded_weights:=yes: 'yes' is not true or false"),
        ("use_sim_time:=1", "use_sim_time:=1: '1' is not true or false"),
        ("view:=on", "view:=on: 'on' is not one of none, auto, rviz, rerun, foxglove"),
        ("threads:=2.5", "threads:=2.5: '2.5' is not a whole number"),
        ("threads:=-1", "threads:=-1: -1 is outside 0..1024"),
        ("tf_timeout_s:=nan", "tf_timeout_s:=nan: nan is outside"),
        ("precision:=fp8", "precision:=fp8: 'fp8' is not one of fp32, fp16, bf16"),
        ("params:=/nope.yaml", "params:=/nope.yaml: no such file"),
    ],
)
@pytest.mark.parametrize("name", ["panoocc.launch.py", "sim.launch.py"])
def test_what_cannot_be_used_is_refused_before_anything_starts(ament, monkeypatch, name, word, told):
    with pytest.raises(RuntimeError, match=re.escape(told)):
        launched(monkeypatch, name, word)


def test_arguments_of_a_launch_file_that_includes_ours_are_its_own(ament, monkeypatch):
    launching = importlib.import_module("panoocc_ros.ros.launching")
    context = SimpleNamespace(argv=["of_the_robot:=1"])
    ours = str(CHECKOUT / "launch" / "panoocc.launch.py")
    for words in (["launch", "robot", "bringup.launch.py"], ["launch", "robot", "panoocc.launch.py"], ["python3"]):
        monkeypatch.setattr(sys, "argv", ["ros2", *words, *context.argv])
        launching.check_arguments(context, ours, ("model",))
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", ours, *context.argv])
    with pytest.raises(launching.LaunchError, match="no argument of_the_robot"):
        launching.check_arguments(context, ours, ("model",))


@pytest.mark.parametrize("name", [path.name for path in LAUNCH_FILES])
def test_rviz_that_is_not_installed_is_told_before_anything_starts(ament, monkeypatch, name):
    words = ["view:=rviz", *needed(name)]
    started = launched(monkeypatch, name, *words, "namespace:=robot1")
    assert ("/panoocc/markers", "/robot1/panoocc/markers") in started["rviz2"]["remappings"]
    ament.names.add("rviz2")
    with pytest.raises(RuntimeError, match=r"sudo apt install ros-\w+-rviz2, or say view:=foxglove"):
        launched(monkeypatch, name, *words)


def test_a_bag_is_shown_by_rviz_or_where_there_is_none_by_foxglove(ament, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    assert set(launched(monkeypatch, "bag.launch.py", BAG)) == {"occupancy_node", "rviz2", "play_bag"}
    ament.names.add("rviz2")
    started = launched(monkeypatch, "bag.launch.py", BAG, "namespace:=/robot1")
    words = started["view"]["cmd"][1:]
    assert words == ["view", "--live", "--topic", "/robot1/panoocc/occupancy", "--foxglove", "--use-sim-time"]
    parser("view").parse_args(words)
    ament.names.clear()
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert "view" in launched(monkeypatch, "bag.launch.py", BAG)
    words = launched(monkeypatch, "sim.launch.py", "view:=rerun")["view"]["cmd"][1:]
    assert words == ["view", "--live", "--topic", "/panoocc/occupancy"] and parser("view").parse_args(words)


def needed(name):
    """Arguments without which a launch file starts nothing."""
    return [BAG] if name == "bag.launch.py" else []


@pytest.mark.parametrize("name", [path.name for path in LAUNCH_FILES])
def test_everything_ends_together(ament, monkeypatch, name):
    started = launched(monkeypatch, name, *needed(name), "view:=none")
    alone = name in ("panoocc.launch.py", "autoware.launch.py")
    assert "occupancy_node" in started and (len(started) == 1) == alone
    for node in (*started.values(), *launched(monkeypatch, name, *needed(name), "view:=foxglove").values()):
        for code in (1, 2, -9):
            with pytest.raises(RuntimeError, match=f"thing-1 ended with exit code {code}"):
                node["on_exit"](SimpleNamespace(process_name="thing-1", returncode=code), Context(False))
        ended = SimpleNamespace(process_name="thing-1", returncode=-2)
        assert node["on_exit"](ended, Context(True)) is None  # it was told to end
    for node in started.values():
        ended = SimpleNamespace(process_name="thing-1", returncode=0)
        assert type(node["on_exit"](ended, Context(False))).__name__ == "Shutdown"


def test_the_end_of_a_bag_does_not_close_its_viewer(ament, monkeypatch):
    started = launched(monkeypatch, "bag.launch.py", BAG, "view:=foxglove")
    ends = {
        name: type(node["on_exit"](SimpleNamespace(process_name=name, returncode=0), Context(False))).__name__
        for name, node in started.items()
    }
    assert ends == {"occupancy_node": "Shutdown", "view": "Shutdown", "play_bag": "LogInfo"}


class Context:
    """launch's context, as far as an end is concerned."""

    def __init__(self, is_shutdown):
        self.is_shutdown = is_shutdown


def test_the_simulator_gets_its_own_parameters_and_the_grid_of_the_node(ament, monkeypatch):
    words = ("seed:=3", "seconds:=20", "sim_rig:=waymo", "rig:=nuscenes", "use_sim_time:=true", "evaluate:=true")
    started = launched(monkeypatch, "sim.launch.py", *words)
    given = parameters_of(started["sim_node"])
    wanted = {"seed": 3, "seconds": 20.0, "rig": "waymo", "grid": "nano", "use_clock": True, "use_sim_time": False}
    assert given == wanted and started["evaluate_node"]["namespace"] == ""
    assert parameters_of(started["occupancy_node"]) == {"rig": "nuscenes", "model": "nano"}
    assert parameters_of(launched(monkeypatch, "sim.launch.py", "grid:=a.yaml")["sim_node"])["grid"] == "a.yaml"
    started = launched(monkeypatch, "sim.launch.py", "namespace:=/robot1", "evaluate:=true")
    assert started["evaluate_node"]["namespace"] == started["occupancy_node"]["namespace"] == "robot1"


def test_limits_of_the_simulator_s_parameters_are_those_of_drives():
    limits = {field.name: field.metadata["limits"] for field in fields(SimSettings)}
    assert limits["seconds"] == (0.0, MAX_SECONDS) and limits["workers"] == (0, MAX_WORKERS)


def test_the_player_waits_for_the_node_where_it_is(ament, monkeypatch):
    words = launched(monkeypatch, "bag.launch.py", BAG, "rate:=2.0", "namespace:=robot1")["play_bag"]
    line = " ".join(words["arguments"])
    assert line.startswith(f"{CHECKOUT} --clock") and "--wait-for-node robot1/panoocc" in line and "--rate 2.0" in line
    for word in ("rate:=fast", "rate:=0", "rate:=nan", "loop:=1.5", "loop:=-1", "speed:=2"):
        with pytest.raises(RuntimeError, match=word.split(":")[0]):
            launched(monkeypatch, "bag.launch.py", BAG, word)
    with pytest.raises(RuntimeError, match="bag:=nowhere.mcap: no such file or folder"):
        launched(monkeypatch, "bag.launch.py", "bag:=nowhere.mcap")


def test_beside_autoware_the_node_has_autowares_topics(ament, monkeypatch):
    started = launched(monkeypatch, "autoware.launch.py", "model:=nano", "base_frame:=odom")
    node = started["occupancy_node"]
    assert node["remaps"]["~/obstacles"] == "/perception/obstacle_segmentation/pointcloud"
    assert Path(node["parameters"][0]).name == "autoware.yaml"  # from the command line what is given there
    assert parameters_of(node) == {"model": "nano", "base_frame": "odom"}
    with pytest.raises(RuntimeError, match="no argument base_fram: did you mean base_frame"):
        launched(monkeypatch, "autoware.launch.py", "base_fram:=odom")


def test_every_parameter_is_an_argument_that_says_what_it_is_by_default(ament):
    declared = loaded("panoocc.launch.py").generate_launch_description().arguments[0]
    told = {
        entity.arguments[0]: entity.options["description"]
        for entity in declared
        if type(entity).__name__ == "DeclareLaunchArgument"
    }
    assert set(told) == set(NodeSettings.__dataclass_fields__) | {"namespace", "params", "use_sim_time", "view"}
    assert told["image_queue"].endswith("1 to 100. Not given: as the file params says, else 5.")
    assert told["precision"].endswith("One of fp32, fp16, bf16. Not given: as the file params says, else fp32.")
    assert told["calibration"].endswith("else empty.") and told["seeded_weights"].endswith("else false.")


def test_files_and_executables_that_launch_files_name_exist():
    text = "".join(path.read_text() for path in LAUNCH_FILES)
    for name in re.findall(r'"([\w.]+\.(?:yaml|rviz|launch\.py))"', text):
        assert (CHECKOUT / "config" / name).is_file() or (CHECKOUT / "launch" / name).is_file(), name
    for name in re.findall(r'package="panoocc", ?\n? *executable="(\w+)"', text):
        assert (CHECKOUT / "scripts" / name).is_file(), name


def test_packages_that_launch_files_start_or_import_are_dependencies():
    tree = xml.etree.ElementTree.parse(CHECKOUT / "package.xml")
    needed = {element.text for element in tree.iter("exec_depend")}
    assert needed >= {"launch", "launch_ros", "ros2launch", "rviz2"}


def test_rviz_shows_cubes_in_the_whole_window_and_topics_of_the_node():
    rviz = yaml.safe_load(Path(CHECKOUT / "config" / "panoocc.rviz").read_text())
    displays = {display["Name"]: display for display in rviz["Visualization Manager"]["Displays"]}
    assert displays["Voxels"]["Topic"]["Value"] == "/panoocc/markers" and displays["Voxels"]["Enabled"]
    assert displays["Points"]["Topic"]["Value"] == "/panoocc/points" and not displays["Points"]["Enabled"]
    # An Image display needs a plugin that may be missing, and then nothing at all is shown.
    assert not [name for name, display in displays.items() if display["Class"].endswith(("/Image", "/Camera"))]
    assert [panel["Name"] for panel in rviz["Panels"]] == ["Displays"]  # more docks squeeze the view
    assert rviz["Visualization Manager"]["Global Options"]["Fixed Frame"] == "base_link"
