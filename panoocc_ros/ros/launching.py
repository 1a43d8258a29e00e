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
from launch.actions import DeclareLaunchArgument, ExecuteProcess, LogInfo, Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackagePrefix, FindPackageShare

from launch import LaunchContext

from .parameter_fields import SettingsError, value_of

VIEWERS = ("none", "auto", "rviz", "rerun", "foxglove")
RVIZ_TOPICS = ("points", "markers")  # of the node, in config/panoocc.rviz
PATIENCE = {"sigterm_timeout": "15", "sigkill_timeout": "15"}  # launch's own 5 s are short on a busy machine


class LaunchError(RuntimeError):
    """What was asked for cannot be launched; the text names the argument and says what to do."""


def declared(settings: type, names: Mapping[str, str], otherwise: str = "") -> list[DeclareLaunchArgument]:
    """Arguments for parameters of a node, argument -> parameter; without a value they leave it to the node.

    Args:
        settings: the node's parameters.
        names: argument -> parameter.
        otherwise: what gives the value of an argument that is not given, before the node's own default does.
    """
    fields = {field.name: field for field in dataclasses.fields(settings)}
    return [
        DeclareLaunchArgument(argument, default_value="", description=_described(fields[parameter], otherwise))
        for argument, parameter in names.items()
    ]


def _described(field: dataclasses.Field, otherwise: str) -> str:
    """What `--show-args` says of a parameter: launch itself only knows that nothing is given by default."""
    choices, limits = field.metadata["choices"], field.metadata["limits"]
    allowed = f" One of {', '.join(one or 'nothing' for one in choices)}." if choices else ""
    if limits:
        low, high = limits
        allowed = f" {low:g} to {high:,.0f}." if high >= 1e4 else f" {low:g} to {high:g}."
    default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default) or "empty"
    return f"{field.metadata['description']}{allowed} Not given: {otherwise}{default}."


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


def check_exists(context: LaunchContext, argument: str) -> None:
    """Refuse the path of a file or folder that is not there.

    Raises:
        LaunchError: it is not.
    """
    path = context.launch_configurations[argument]
    if not Path(path).exists():
        raise LaunchError(f"{argument}:={path}: no such file or folder")


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


def declared_view(default: str) -> DeclareLaunchArgument:
    """The argument `view`: what shows the grids."""
    return DeclareLaunchArgument(
        "view",
        default_value=default,
        description="What shows the grids: rviz, rerun (a window), foxglove (prints an address to open), none; "
        "auto: rviz where it and a display are there, else foxglove.",
    )


def chosen_view(context: LaunchContext) -> str:
    """The viewer that is to be started: none, rviz, rerun or foxglove.

    Raises:
        LaunchError: the argument names none of them, or RViz, which is not installed.
    """
    chosen = context.launch_configurations["view"]
    if chosen not in VIEWERS:
        raise LaunchError(f"view:={chosen}: {chosen!r} is not one of {', '.join(VIEWERS)}")
    if chosen == "auto":
        has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        return "rviz" if has_display and _is_installed("rviz2") else "foxglove"
    if chosen == "rviz" and not _is_installed("rviz2"):
        package = f"ros-{os.environ.get('ROS_DISTRO', 'jazzy')}-rviz2"
        raise LaunchError(
            f"view:=rviz needs RViz, which is not installed: sudo apt install {package}, or say view:=foxglove"
        )
    return chosen


def _is_installed(package: str) -> bool:
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return False
    return True


def viewer(chosen: str, namespace: str, use_sim_time: bool) -> list[ExecuteProcess]:
    """What shows the grids of the node in a namespace; `chosen` as from `chosen_view`."""
    if chosen == "none":
        return []
    node = "/".join(("", *filter(None, (namespace, "panoocc"))))
    if chosen == "rviz":
        return [
            required(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", PathJoinSubstitution([FindPackageShare("panoocc"), "config", "panoocc.rviz"])],
                remappings=[(f"/panoocc/{topic}", f"{node}/{topic}") for topic in RVIZ_TOPICS] if namespace else [],
            )
        ]
    # Not a Node of launch: that would get --ros-args, which the command does not take.
    command = PathJoinSubstitution([FindPackagePrefix("panoocc"), "lib", "panoocc", "panoocc"])
    options = ["--foxglove"] if chosen == "foxglove" else []
    options += ["--use-sim-time"] if use_sim_time else []
    words = [command, "view", "--live", "--topic", f"{node}/occupancy", *options]
    return [ExecuteProcess(cmd=words, name="view", output="screen", **PATIENCE, on_exit=_end_all)]


def required(**options: Any) -> Node:
    """A node of launch with whose end everything ends; launch's own exit code is not 0 where the node's was not."""
    return Node(**options, **PATIENCE, on_exit=_end_all)


def required_lifecycle(**options: Any) -> LifecycleNode:
    """The same for a node with a lifecycle: launch files hear its transitions, and nothing ends with a deactivation."""
    return LifecycleNode(**options, **PATIENCE, on_exit=_end_all)


def required_until_done(more: str, **options: Any) -> Node:
    """A node of launch whose failure ends everything, and whose success does not: `more` says then how to end."""

    def end(event: ProcessExited, context: LaunchContext) -> Shutdown | LogInfo | None:
        ended = _end_all(event, context)
        return LogInfo(msg=f"{event.process_name} has ended; {more}") if ended else None

    return Node(**options, **PATIENCE, on_exit=end)


def _end_all(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    if context.is_shutdown:  # it was told to end
        return None
    if event.returncode:
        # An exception is the only way to an exit code of launch's own, which is 1.
        raise LaunchError(f"{event.process_name} ended with exit code {event.returncode}; all else is ended too")
    return Shutdown(reason=f"{event.process_name} has ended")
