"""Declares the parameters of a node with rclpy and reads them into its dataclass of settings."""

import dataclasses
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from .parameter_fields import SettingsError

Settings = TypeVar("Settings")


def declared(node: Node, settings: type[Settings]) -> Settings:
    """Declare a parameter for every field of a dataclass of settings, and return their values.

    Raises:
        SettingsError: a value of the wrong type, out of its limits, or in contradiction to another.
    """
    return settings(**{field.name: _declare(node, field) for field in dataclasses.fields(settings)})  # type: ignore[arg-type]


def _declare(node: Node, field: dataclasses.Field) -> Any:
    try:
        return node.declare_parameter(field.name, field.default, _descriptor(field)).value
    except InvalidParameterTypeException as error:
        kind = type(field.default).__name__
        raise SettingsError(f"parameter {field.name}: must be of type {kind}, e.g. {field.default!r}") from error
    except InvalidParameterValueException as error:
        low, high = field.metadata["limits"] or ("", "")
        raise SettingsError(f"parameter {field.name}: the value is outside {low:g}..{high:g}") from error


def _descriptor(field: dataclasses.Field) -> ParameterDescriptor:
    choices, limits = field.metadata["choices"], field.metadata["limits"]
    descriptor = ParameterDescriptor(
        description=field.metadata["description"],
        additional_constraints=f"one of {', '.join(choices)}" if choices else "",
        read_only=True,  # all are applied when the node starts
    )
    if limits and isinstance(field.default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(limits[0]), to_value=int(limits[1]), step=0)]
    elif limits:
        descriptor.floating_point_range = [FloatingPointRange(from_value=limits[0], to_value=limits[1], step=0.0)]
    return descriptor
