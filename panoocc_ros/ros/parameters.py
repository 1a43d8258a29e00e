"""Declares the parameters of a node with rclpy and reads them into its dataclass of settings."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    NameValidationException,
    ParameterException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.utilities import remove_ros_args

from .parameter_fields import Settings, SettingsError

OF_ROS = ("use_sim_time", "start_type_description_service")  # parameters that every node has
INIT_FAILED = "failed to initialize rcl: "  # rclpy.init begins so where it refuses an argument or a file


def declared(node: Node, settings: type[Settings], are_fixed: bool = True) -> Settings:
    """Declare a parameter for every field of a dataclass of settings, and return their values.

    Args:
        are_fixed: those that are not dynamic keep their values for ever; else `on_changes` decides.

    Raises:
        SettingsError: a value of the wrong type, out of its limits, or in contradiction to another.
    """
    values = {field.name: _declare(node, field, are_fixed) for field in dataclasses.fields(settings)}  # type: ignore[arg-type]
    for text in unknown_parameters(_given(node), values):
        node.get_logger().warning(text)
    return settings(**values)


def on_changes(node: Node, take: Callable[[Mapping[str, Any]], None]) -> None:
    """Have parameters that are set while the node runs taken, all of one call together.

    Args:
        take: is given name -> new value; raises SettingsError where these cannot be used, and none is set then.
    """

    def answer(parameters: Sequence[Parameter]) -> SetParametersResult:
        try:
            take({one.name: one.value for one in parameters})
        except Exception as error:  # of any kind: what a callback raises would end the node
            if not isinstance(error, SettingsError):
                node.get_logger().error(f"parameters could not be set: {type(error).__name__}: {error}")
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(answer)


@contextmanager
def refusals_named() -> Iterator[None]:
    """What rclpy refuses of a command line and its parameter files becomes a SettingsError of one line."""
    try:
        yield
    except (ParameterException, NameValidationException) as error:
        raise SettingsError(str(error).splitlines()[0]) from error
    except RuntimeError as error:
        text = str(error).splitlines()[0]
        if not text.startswith(INIT_FAILED) and "ROSArgs" not in type(error).__name__:
            raise
        raise SettingsError(re.sub(r",? at /[^\s,]+", "", text.removeprefix(INIT_FAILED))) from error


def without_ros_arguments(words: Sequence[str]) -> list[str]:
    """A command line without its --ros-args.

    Raises:
        SettingsError: these cannot be used.
    """
    with refusals_named():
        return list(remove_ros_args(list(words)))


def unknown_parameters(given: Iterable[str], known: Iterable[str]) -> list[str]:
    """A sentence for each given parameter that a node does not have, with the name that was meant perhaps."""
    texts = []
    for name in sorted(set(given) - set(known)):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; is {near[0]} meant?" if near else ""
        texts.append(f"parameter {name} is unknown to this node and has no effect{hint}")
    return texts


def _given(node: Node) -> list[str]:
    """Names of the parameters that command line and parameter files give; rclpy has no public way to them."""
    return [name for name in node._parameter_overrides if name not in OF_ROS and not name.startswith("qos_overrides.")]


def _declare(node: Node, field: dataclasses.Field, is_fixed: bool) -> Any:
    try:
        return node.declare_parameter(field.name, field.default, _descriptor(field, is_fixed)).value
    except InvalidParameterTypeException as error:
        kind = type(field.default).__name__
        raise SettingsError(f"parameter {field.name}: must be of type {kind}, e.g. {field.default!r}") from error
    except InvalidParameterValueException as error:
        low, high = field.metadata["limits"] or ("", "")
        given = node._parameter_overrides.get(field.name)  # as in `_given`
        value = "the value" if given is None else given.value
        raise SettingsError(f"parameter {field.name}: {value} is outside {low:g}..{high:g}") from error


def _descriptor(field: dataclasses.Field, is_fixed: bool) -> ParameterDescriptor:
    choices, limits = field.metadata["choices"], field.metadata["limits"]
    descriptor = ParameterDescriptor(
        description=field.metadata["description"],
        additional_constraints=f"one of {', '.join(one or 'nothing' for one in choices)}" if choices else "",
        read_only=is_fixed and not field.metadata["dynamic"],
    )
    if limits and isinstance(field.default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(limits[0]), to_value=int(limits[1]), step=0)]
    elif limits:
        descriptor.floating_point_range = [FloatingPointRange(from_value=limits[0], to_value=limits[1], step=0.0)]
    return descriptor
