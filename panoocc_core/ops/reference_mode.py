"""Which implementation the operators take in a thread: the one for the device, their readable references, or what files
for other runtimes are made of."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeVar

Operator = TypeVar("Operator")

_kind = ContextVar[Literal["tuned", "reference", "portable"]]("kind of operators", default="tuned")
_slots = ContextVar[int | None]("slots of a query", default=None)


def wants_reference() -> bool:
    """Asked by operators when they are called; where they are to be portable, by those whose reference is."""
    return _kind.get() != "tuned"


def chosen(tuned: Operator, reference: Operator, portable: Operator) -> Operator:
    """Of the implementations of an operator the one that is wanted."""
    return {"tuned": tuned, "reference": reference, "portable": portable}[_kind.get()]


def slots_that_count() -> int | None:
    """How many of its slots a portable query uses, the first that exist; None: all."""
    return _slots.get()


@contextmanager
def reference_operators() -> Iterator[None]:
    """Inside, and in this thread, every operator that has a reference is it: faster ones are compared with it."""
    token = _kind.set("reference")
    try:
        yield
    finally:
        _kind.reset(token)


@contextmanager
def portable_operators(slots: int | None = None) -> Iterator[None]:
    """Inside, and in this thread, operators are made of what ONNX and TensorRT have; no value decides a shape."""
    tokens = _kind.set("portable"), _slots.set(slots)
    try:
        yield
    finally:
        _kind.reset(tokens[0])
        _slots.reset(tokens[1])
