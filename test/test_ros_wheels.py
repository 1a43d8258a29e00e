"""The rewriting of the wheels' CMake files."""

import importlib.util

import pytest

from panoocc_core.base.resources import folder

_PATH = folder("config").parent / "tools" / "ros_wheels.py"
_SPECIFICATION = importlib.util.spec_from_file_location("ros_wheels", _PATH)
ros_wheels = importlib.util.module_from_spec(_SPECIFICATION)
_SPECIFICATION.loader.exec_module(ros_wheels)


@pytest.mark.parametrize(("tag", "version"), [("cp311", "3.11"), ("cp39", "3.9"), ("cp312", "3.12")])
def test_both_folders_of_the_builder_are_replaced(tag, version):
    builder = f"/opt/python/{tag}-{tag}"
    text = f'INCLUDES "{builder}/include/python{version};{builder}/lib/python{version}/site-packages/numpy"'
    after = ros_wheels.rewrite(text, "/usr/include/python3.11", "/env/site-packages")
    assert after == 'INCLUDES "/usr/include/python3.11;/env/site-packages/numpy"'
    assert ros_wheels.rewrite(after, "/usr/include/python3.11", "/env/site-packages") == after


def test_other_paths_and_backslashes_stay():
    text = r'set(_DIR "${CMAKE_CURRENT_LIST_DIR}/\\..") # /opt/python/bin'
    assert ros_wheels.rewrite(text, r"C:\1", r"\g<0>") == text


def test_an_environment_without_wheels_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(ros_wheels.sys, "prefix", str(tmp_path))
    assert ros_wheels.main() == 1
    assert "requirements/ros-jazzy.txt" in capsys.readouterr().err


def test_files_are_rewritten_in_place(monkeypatch, tmp_path):
    export = tmp_path / "share" / "some_msgs" / "cmake" / "export.cmake"
    export.parent.mkdir(parents=True)
    export.write_text("/opt/python/cp311-cp311/include/python3.11\n")
    monkeypatch.setattr(ros_wheels.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(ros_wheels.sysconfig, "get_path", lambda name: f"/here/{name}")
    assert ros_wheels.main() == 0
    assert export.read_text() == "/here/include\n"
