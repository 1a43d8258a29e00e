"""Types of numbers for argparse that say what they take."""

import argparse
import math
from collections.abc import Callable


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """A type for argparse: a whole number within limits, both included."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:  # also for thousands of digits, whose text is of no use to anybody
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number") from None
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{text[:40]} is {_outside(low, high)}")
        return value

    return parse


def number(low: float, high: float = math.inf) -> Callable[[str], float]:
    """A type for argparse: a finite number within limits, both included."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number") from None
        if not low <= value <= high or math.isinf(value):  # written so that NaN fails too
            raise argparse.ArgumentTypeError(f"{text[:40]} is {_outside(low, None if math.isinf(high) else high)}")
        return value

    return parse


def _outside(low: float, high: float | None) -> str:
    return f"not {low:g} or more" if high is None else f"outside {low}..{high}"
