"""The seam to launch: arguments made from the settings of nodes, and processes that end together.

Launch files run in the Python of `ros2`, which need not have PyTorch or NumPy: nothing of the kind is imported here.
"""

import dataclasses
import difflib
import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, Shutdown
from launch.events.process import ProcessExited
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext

from .parameter_fields import SettingsError, value_of


class LaunchError(RuntimeError):
    """What was asked for cannot be launched; the text names the argument and says what to do."""


def declared(settings: type, names: Mapping[str, str]) -> list[DeclareLaunchArgument]:
    """Arguments for parameters of a node, argument -> parameter; without a value they leave it to the node."""
    fields = {field.name: field for field in dataclasses.fields(settings)}
    return [
        DeclareLaunchArgument(argument, default_value="", description=fields[parameter].metadata["description"])
        for argument, parameter in names.items()
    ]


def given(context: LaunchContext, settings: type, names: Mapping[str, str]) -> dict[str, ParameterValue]:
    """The parameters whose arguments were given, argument -> parameter in `names`.

    Raises:
        LaunchError: a value is of the wrong type, or outside its limits or choices.
    """
    fields = {field.name: field for field in dataclasses.fields(settings)}
    values = {}
    for argument, parameter in names.items():
        text = context.launch_configurations.get(argument, "")
        if text:
            try:
                value = value_of(fields[parameter], text)
            except SettingsError as error:
                raise LaunchError(f"{argument}:={text}: {error.reason}") from error
            values[parameter] = ParameterValue(value, value_type=type(value))  # else launch takes 1.0 for a number
    return values


def is_true(context: LaunchContext, argument: str) -> bool:
    """The value of an argument that is true or false.

    Raises:
        LaunchError: it is neither.
    """
    text = context.launch_configurations[argument]
    if text.lower() not in ("true", "false"):
        raise LaunchError(f"{argument}:={text}: {text!r} is not true or false")
    return text.lower() == "true"


def check_number(context: LaunchContext, argument: str, kind: Callable[[str], float]) -> None:
    """Refuse an argument that the executable would refuse, when all else runs already; `kind` as in argument_types.

    Raises:
        LaunchError: it is no such number.
    """
    text = context.launch_configurations[argument]
    try:
        kind(text)
    except ArgumentTypeError as error:
        raise LaunchError(f"{argument}:={text}: {error}") from error


def file_of(context: LaunchContext, argument: str) -> str:
    """The path that an argument holds.

    Raises:
        LaunchError: there is no such file.
    """
    path = context.launch_configurations[argument]
    if not Path(path).is_file():
        raise LaunchError(f"{argument}:={path}: no such file")
    return path


def check_arguments(context: LaunchContext, file: str, known: Sequence[str]) -> None:
    """Refuse arguments that `file` does not know; where another launch file includes it, they may be that one's.

    Raises:
        LaunchError: there is one; the text names those that are alike.
    """
    if not _is_launched_itself(Path(file), sys.argv):
        return
    for argument in (word.partition(":=")[0] for word in context.argv if ":=" in word):
        if argument not in known:
            alike = difflib.get_close_matches(argument, known, n=3)
            hint = f"did you mean {' or '.join(alike)}? " if alike else ""
            raise LaunchError(f"there is no argument {argument}: {hint}--show-args lists all of them")


def _is_launched_itself(file: Path, words: Sequence[str]) -> bool:
    """Whether a command line such as `ros2 launch panoocc panoocc.launch.py` names this very file."""
    named = any(pair == ("panoocc", file.name) for pair in zip(words, words[1:]))
    return named or any(os.path.realpath(word) == os.path.realpath(file) for word in words[1:])


def check_rviz() -> None:
    """Before anything is started, which would be left alone.

    Raises:
        LaunchError: RViz is not installed.
    """
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError as error:
        package = f"ros-{os.environ.get('ROS_DISTRO', 'jazzy')}-rviz2"
        raise LaunchError(
            f"rviz:=true needs RViz, which is not installed: sudo apt install {package}, or say rviz:=false"
        ) from error


def required(**options: Any) -> Node:
    """A node of launch with whose end everything ends; launch's own exit code is not 0 where the node's was not."""
    return Node(**options, on_exit=_end_all)


def _end_all(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    if context.is_shutdown:  # it was told to end
        return None
    if event.returncode:
        # An exception is the only way to an exit code of launch's own, which is 1.
        raise LaunchError(f"{event.process_name} ended with exit code {event.returncode}; all else is ended too")
    return Shutdown(reason=f"{event.process_name} has ended")
