"""Launch files and the RViz configuration, checked as far as that goes without an installed ROS."""

import ast
import importlib.util
import re

import pytest
import yaml

from panoocc_core.base.resources import folder
from panoocc_ros.node.settings import NodeSettings

CHECKOUT = folder("config").parent
LAUNCH_FILES = sorted((CHECKOUT / "launch").glob("*.launch.py"))


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_files_compile_and_define_their_entry(path):
    tree = ast.parse(path.read_text(), filename=str(path))
    compile(tree, str(path), "exec")
    assert "generate_launch_description" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_files_load_where_launch_is_installed(path):
    pytest.importorskip("launch_ros", reason="launch is not installed")
    specification = importlib.util.spec_from_file_location("launch_file", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert module.generate_launch_description().entities


def test_arguments_that_are_passed_on_are_parameters_of_the_node():
    source = (CHECKOUT / "launch" / "panoocc.launch.py").read_text()
    overrides = next(
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "OVERRIDES"
    )
    assert overrides and set(overrides) <= set(NodeSettings.__dataclass_fields__)


def test_files_and_executables_that_launch_files_name_exist():
    text = "".join(path.read_text() for path in LAUNCH_FILES)
    for name in re.findall(r'"([\w.]+\.(?:yaml|rviz|launch\.py))"', text):
        assert (CHECKOUT / "config" / name).is_file() or (CHECKOUT / "launch" / name).is_file(), name


def test_rviz_shows_points_first_and_topics_of_the_node():
    rviz = yaml.safe_load((CHECKOUT / "config" / "panoocc.rviz").read_text())
    displays = rviz["Visualization Manager"]["Displays"]
    assert displays[0]["Topic"]["Value"] == "/panoocc/points"
    assert rviz["Visualization Manager"]["Global Options"]["Fixed Frame"] == "base_link"
