"""Parameters as fields of frozen dataclasses: default, description, limits and choices stand in one place.

No ROS here: `parameters.py` declares such a dataclass with rclpy, and offline commands check theirs without it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

Settings = TypeVar("Settings")


class SettingsError(ValueError):
    """Settings that cannot be used: the text says why and what to set, and begins with the parameters `names`."""

    def __init__(self, reason: str, *names: str) -> None:
        parameters = f"parameter{'s' if len(names) > 1 else ''} {' and '.join(names)}: " if names else ""
        super().__init__(parameters + reason)
        self.reason, self.names = reason, names

    def of_options(self) -> str:
        """The same text for a command line, where it begins with the options."""
        options = " and ".join("--" + name.replace("_", "-") for name in self.names)
        return f"{options}: {self.reason}" if options else self.reason


def parameter(
    default: Any,
    description: str,
    limits: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    dynamic: bool = False,
) -> Any:
    """A field of a dataclass of settings, with what `parameters.declared` tells rclpy about it.

    Args:
        dynamic: it may change while the node runs.
    """
    return dataclasses.field(
        default=default,
        metadata={"description": description, "choices": choices, "limits": limits, "dynamic": dynamic},
    )


def changed(settings: Settings, values: Mapping[str, Any], remedy: str | None = None) -> Settings:
    """The settings with other values, all checked together; names that are none of theirs are left aside.

    Args:
        remedy: what to do about a parameter that is not dynamic; None: these may change too.

    Raises:
        SettingsError: a value cannot be used, contradicts another, or may not change now.
    """
    fields = {field.name: field for field in dataclasses.fields(settings)}  # type: ignore[arg-type]
    changes = {name: value for name, value in values.items() if name in fields and value != getattr(settings, name)}
    fixed = [name for name in changes if not fields[name].metadata["dynamic"]]
    if fixed and remedy is not None:
        raise SettingsError(remedy, *fixed)
    return dataclasses.replace(settings, **changes)  # type: ignore[type-var]


def value_of(field: dataclasses.Field, text: str) -> Any:
    """The value of a field of settings from a text such as a command line has.

    Raises:
        SettingsError: the text is no such value, or the value is outside its limits or choices.
    """
    kind: Any = type(field.default)
    try:
        value = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise SettingsError(f"{text!r} is not {wanted}", field.name) from None
    _check(field.name, value, field.metadata["choices"], field.metadata["limits"])
    return value


def check_parameters(settings: Any) -> None:
    """Raises SettingsError unless every field made by `parameter` is within its limits and choices."""
    for field in dataclasses.fields(settings):
        _check(field.name, getattr(settings, field.name), field.metadata["choices"], field.metadata["limits"])


def _check(name: str, value: Any, choices: tuple[str, ...], limits: tuple[float, float] | None) -> None:
    if choices and value not in choices:
        raise SettingsError(f"{value!r} is not one of {', '.join(one or 'nothing' for one in choices)}", name)
    # Written so that NaN fails too.
    if limits and not limits[0] <= value <= limits[1]:
        raise SettingsError(f"{value} is outside {limits[0]:g}..{limits[1]:g}", name)
