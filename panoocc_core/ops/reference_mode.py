"""Whether the operators compute what their readable references say: what everything faster is compared with."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_wanted = ContextVar("reference operators", default=False)


def wants_reference() -> bool:
    """Asked by every operator when it is called."""
    return _wanted.get()


@contextmanager
def reference_operators() -> Iterator[None]:
    """Inside, and in this thread, every operator is its reference."""
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)
