"""Limits of configuration values, written beside their types and checked wherever a value is made."""

import math
import reprlib
import types
import typing
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from typing import Annotated, Any

MAX_SHOWN = 100  # characters of a value in a message


@dataclass(frozen=True, slots=True)
class Within:
    """Limits of a number, both allowed; `above`: only what is larger than `low`."""

    low: float
    high: float
    above: bool = False

    def complaint(self, value: float) -> str | None:
        """What is wrong with a value, to follow its name; None where nothing is."""
        if (self.low < value if self.above else self.low <= value) and value <= self.high:  # so written, NaN is refused
            return None
        low, high = _plain(self.low), _plain(self.high)
        return f"must be {f'above {low} and at most' if self.above else f'{low} to'} {high}, not {shown(value)}"


@dataclass(frozen=True, slots=True)
class Length:
    """Limits of the number of entries of a list, or of the characters of a text."""

    low: int
    high: int

    def complaint(self, value: Sized) -> str | None:
        """As that of `Within`."""
        if self.low <= len(value) <= self.high:
            return None
        kind = "characters" if isinstance(value, str) else "entries"
        wanted = str(self.low) if self.low == self.high else f"{self.low} to {self.high}"
        return f"must have {wanted} {kind}, not {len(value)}"


@dataclass(frozen=True, slots=True)
class OneLine:
    """A text without line breaks and other control characters."""

    def complaint(self, value: str) -> str | None:
        """As that of `Within`."""
        return None if value.isprintable() else f"must be one line of printable characters, not {shown(value)}"


Text = Annotated[str, Length(1, 200), OneLine()]


def check_ranges(config: Any) -> None:
    """Hold the fields of a dataclass against the limits of their types (`Annotated[int, Within(1, 8)]`).

    Raises:
        ValueError: one is out of its range, or a number without one is not finite; the message begins with its name.
    """
    for name, hint in typing.get_type_hints(type(config), include_extras=True).items():
        for complaint in _complaints(hint, getattr(config, name), name):
            raise ValueError(complaint)


class Ranged:
    """A dataclass whose fields are within the limits of their types, and need no other check; see `check_ranges`."""

    __slots__ = ()

    def __post_init__(self) -> None:
        check_ranges(self)


def _complaints(hint: Any, value: Any, where: str) -> Iterator[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        found = (limit.complaint(value) for limit in arguments[1:])
        yield from (f"{where} {complaint}" for complaint in found if complaint)
        yield from _complaints(arguments[0], value, where)
    elif origin in (typing.Union, types.UnionType):
        if value is not None:
            yield from _complaints(arguments[0], value, where)
    elif origin is tuple:
        every = arguments[0] if arguments[1:] == (Ellipsis,) else None
        for i, item in enumerate(value):
            yield from _complaints(every or arguments[i], item, f"{where}[{i}]")
    elif origin is dict:
        for key, item in value.items():
            yield from _complaints(arguments[1], item, f"{where}.{shown(key)}")
    elif hint is float and not math.isfinite(value):
        yield f"{where} must be a finite number, not {value}"


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    try:
        text = repr(value[: MAX_SHOWN + 1]) if isinstance(value, str) else reprlib.repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
