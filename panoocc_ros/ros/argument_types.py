"""Types of numbers for argparse that say what they take."""

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T", int, float)


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """A type for argparse: a whole number within limits, both included."""
    return _within(int, "a whole number", low, math.inf if high is None else high)


def number(low: float, high: float = math.inf) -> Callable[[str], float]:
    """A type for argparse: a finite number within limits, both included."""
    return _within(float, "a number", low, high)


def _within(kind: type[T], name: str, low: float, high: float) -> Callable[[str], T]:
    def parse(text: str) -> T:
        try:
            value = kind(text)
        except ValueError:  # also for thousands of digits, whose text is of no use to anybody
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not {name}") from None
        if not low <= value <= high or value == math.inf:  # written so that NaN fails too
            limits = f"not {low:g} or more" if high == math.inf else f"outside {low}..{high}"
            raise argparse.ArgumentTypeError(f"{text[:40]} is {limits}")
        return value

    return parse


RATE, LOOPS = number(1e-3, 1e6), whole_number(0)  # how fast a bag is played, and how often (0: for ever)
