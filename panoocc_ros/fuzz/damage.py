"""Ways to spoil what is whole, as Hypothesis draws them: bytes, and values at any place of a message or of YAML.

What is drawn says what was done (`Edit`, cuts and splices), so that a failure can be read, made smaller and repeated.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from hypothesis import strategies as st
from rosbags.interfaces import Nodetype

from ..messages.types import typestore

Strategy: TypeAlias = st.SearchStrategy[Any]
Path = tuple[str | int, ...]

ODD_TEXTS = (
    "",
    "/",
    "~",
    "a",
    "base_link",
    "base_link/",
    "\0",
    "é",
    "名前",
    "\U0001f600",
    "{x}",
    "%s",
    "../x",
    "-1",
    "nan",
)
ODD_NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-300, 5e-324, 1e9, -1e9, 1e38, 1e300, 1.7e308)
NOT_NUMBERS = (float("nan"), float("inf"), float("-inf"))
INTEGERS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64}

TEXTS = st.sampled_from(ODD_TEXTS) | st.text(max_size=6) | st.sampled_from(("x" * 300, "é" * 70_000))
FLOATS = st.sampled_from((*ODD_NUMBERS, *NOT_NUMBERS)) | st.floats(-10, 10) | st.floats()
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from((2**31, 2**63, 10**400)) | FLOATS | TEXTS
PLAIN_VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXTS, SCALARS, max_size=2)


class Edit(NamedTuple):
    """One change at a place: `set` a value, or `resize` or `fill` an array or a list."""

    place: Path
    what: str
    value: Any


def damaged(wholes: Sequence[bytes]) -> Strategy:
    """Bytes that were whole: cut, with other bytes in them, or with a part once more or missing."""

    @st.composite
    def draw(pick: Any) -> bytes:
        data = bytearray(pick(st.sampled_from(wholes)))
        for _ in range(pick(st.integers(1, 4))):
            at = pick(st.integers(0, max(len(data) - 1, 0)))
            kind = pick(st.sampled_from(("byte", "word", "cut", "drop", "again", "insert")))
            if kind == "byte":
                data[at : at + 1] = bytes([pick(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)) | st.integers(0, 255))])
            elif kind == "word":
                data[at : at + 4] = pick(st.sampled_from((b"\xff" * 4, b"\0" * 4, b"\0\0\0\x7f", b"\xff\xff\xff\x7f")))
            elif kind == "cut":
                del data[at:]
            elif kind == "drop":
                del data[at : at + pick(st.integers(1, 16))]
            elif kind == "again":
                data[at:at] = data[at : at + pick(st.integers(1, 16))]
            else:
                data[at:at] = pick(st.binary(max_size=8))
        return bytes(data)

    return draw()


def message_edits(whole: Any, type_name: str, most: int = 3) -> Strategy:
    """One to `most` edits of a message of rosbags' classes, each of a value that its field can hold."""
    kinds = _kinds(type_name)
    return _edits([(place, _new_value(value, kinds.get(_named(place)))) for place, value in _places(whole)], most)


def yaml_edits(whole: Any, most: int = 3) -> Strategy:
    """One to `most` edits of what YAML holds: another value, of any kind, or none."""
    return _edits([(place, _other_value(value)) for place, value in _places(whole)], most)


def _edits(places: Sequence[tuple[Path, Strategy]], most: int) -> Strategy:
    one = st.integers(0, len(places) - 1).flatmap(lambda i: st.tuples(st.just(places[i][0]), places[i][1]))
    return st.lists(one.map(lambda found: Edit(found[0], *found[1])), min_size=1, max_size=most)


def edited(whole: Any, changes: Sequence[Edit]) -> Any:
    """A copy with the changes made; what an earlier one took away stays away."""
    root = copy.deepcopy(whole)
    for place, what, value in changes:
        try:
            _apply(root, place, what, value)
        except (KeyError, IndexError, AttributeError, TypeError):
            continue
    return root


def _apply(root: Any, place: Path, what: str, value: Any) -> None:
    holder = root
    for step in place[:-1]:
        holder = _child(holder, step)
    old = _child(holder, place[-1])
    if what == "resize" and isinstance(old, list):
        new: Any = [copy.deepcopy(old[i % len(old)]) for i in range(value)] if old else []
    elif what == "resize" and isinstance(old, np.ndarray):
        new = np.resize(old, value)
    elif what == "resize" or (what == "element" and not len(old)):
        return  # an earlier change has put something else here, or has left nothing
    elif what == "fill":
        new = np.full_like(old, value)
    elif what == "remove":
        del holder[place[-1]]
        return
    elif what == "element":
        new = old.copy()
        new[value[0] % len(new)] = value[1]
    else:
        new = value
    if _has_items(holder):
        holder[place[-1]] = new
    else:
        setattr(holder, str(place[-1]), new)


def _child(holder: Any, step: str | int) -> Any:
    return holder[step] if _has_items(holder) else getattr(holder, str(step))


def _has_items(holder: Any) -> bool:
    return isinstance(holder, (dict, list))


def _places(whole: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place that can be changed, lists and mappings themselves among them."""
    if is_dataclass(whole):
        for field in fields(whole):
            if field.name != "__msgtype__":
                yield from _places(getattr(whole, field.name), (*at, field.name))
        return
    if at:
        yield at, whole
    if isinstance(whole, dict):
        for key, value in whole.items():
            yield from _places(value, (*at, key))
    elif isinstance(whole, list):
        for index, value in enumerate(whole):
            yield from _places(value, (*at, index))


def _named(place: Path) -> Path:
    """A place without the numbers of list items, as `_kinds` has it."""
    return tuple(step for step in place if isinstance(step, str))


@cache
def _kinds(type_name: str) -> dict[Path, tuple[str, bool]]:
    """Place -> type of every number and text of a message, and whether it is an array of a fixed size."""
    found: dict[Path, tuple[str, bool]] = {}
    definitions: Any = typestore().fielddefs[type_name][1]
    for name, (node, detail) in definitions:
        is_fixed = node == Nodetype.ARRAY
        while node in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            node, detail = detail[0]
        if node == Nodetype.NAME:
            found |= {(name, *below): kind for below, kind in _kinds(detail).items()}
        else:
            found[(name,)] = detail[0], is_fixed
    return found


def _number(kind: str) -> Strategy:
    if kind in INTEGERS:
        bits = INTEGERS[kind]
        low, high = (0, 2**bits - 1) if kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return st.sampled_from((low, high, 0, 1, high // 2)) | st.integers(0, min(high, 40)) | st.integers(low, high)
    if kind == "float32":
        return st.sampled_from((0.0, 1.0, -1.0, 1e38, *NOT_NUMBERS)) | st.floats(-10, 10, width=32)
    return FLOATS if kind == "float64" else st.booleans() if kind == "bool" else TEXTS


def _other_value(value: Any) -> Strategy:
    changes = st.tuples(st.just("set"), PLAIN_VALUES) | st.tuples(st.just("remove"), st.none())
    return (
        changes | st.tuples(st.just("resize"), st.sampled_from((0, 1, 2, 40))) if isinstance(value, list) else changes
    )


def _new_value(value: Any, known: tuple[str, bool] | None) -> Strategy:
    sizes = st.tuples(st.just("resize"), st.integers(0, 12) | st.sampled_from((64, 1000)))
    if known is None or isinstance(value, list):
        return sizes
    number, is_fixed = _number(known[0]), known[1]
    if not isinstance(value, np.ndarray):
        return st.tuples(st.just("set"), number)
    element = st.tuples(st.just("element"), st.tuples(st.integers(0, 63), number))
    changes = element | st.tuples(st.just("fill"), number) if value.size else sizes
    return changes if is_fixed else changes | sizes
