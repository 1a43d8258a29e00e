"""Values of tensors: dataclasses and tuples of them, and of each other, with other things between."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of a value, in the order of its fields."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name))


def mapped(value: T, change: Callable[[Tensor], Tensor]) -> T:
    """The same value with other tensors; they are changed in the order of `tensors_in`."""
    return _mapped(value, change)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (tuple, list)):
        return type(value)(_mapped(part, change) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _mapped(getattr(value, field.name), change) for field in fields(value)})
    return value


def form_of(value: Any) -> Hashable:
    """All of a value but the numbers in its tensors: values of one form differ in nothing else."""
    if isinstance(value, Tensor):
        return (tuple(value.shape), value.dtype, value.device, value.stride())
    if isinstance(value, (tuple, list)):
        return (type(value), *map(form_of, value))
    if is_dataclass(value):
        return (type(value), *(form_of(getattr(value, field.name)) for field in fields(value)))
    return value
