"""Frozen dataclasses from YAML: every key is checked, nothing is ignored, and no file is too strange for an answer."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from .ranges import shown
from .resources import listing

T = TypeVar("T")

MAX_BYTES = 1 << 20  # of a file
MAX_VALUES = 100_000  # in a file, those that aliases (*name) repeat among them
MAX_DEPTH = 32  # of mappings and lists in each other
MAX_WHOLE = 2**63 - 1

# What PyYAML raises on damaged scalars and tags, beside its own errors: for `!!bool x`, `!!int ''`, `2026-99-99` ...
_PYYAML_ERRORS = (ValueError, LookupError, AttributeError, TypeError, ArithmeticError)


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and what is allowed there."""


def named_yaml(folder: str, name_or_path: str, what: str) -> Path:
    """The file called so in a folder of `config`, or the YAML file of that path.

    Raises:
        ConfigError: there is none; `what` begins the message.
    """
    known = listing(folder)
    if name_or_path in known:
        return known[name_or_path]
    try:
        if (path := Path(name_or_path)).is_file():
            return path
    except (OSError, ValueError):  # no name that a file could have
        pass
    if name_or_path.endswith((".yaml", ".yml")):
        raise ConfigError(f"{what} {shown(name_or_path)}: no such file")
    raise ConfigError(f"unknown {what} {shown(name_or_path)}: give a YAML file or one of {', '.join(known)}")


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read, is no mapping, is larger than 1 MiB or nested deeper than 32 levels,
            has a key twice, or repeats itself beyond measure through aliases.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{path}: is larger than {MAX_BYTES >> 20} MiB, which no configuration is")
        text = data.decode()
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a mapping of keys to values")
    return content


def parse_yaml(text: str, where: str) -> Any:
    """What YAML text says: mappings, lists, texts, numbers.

    Raises:
        ConfigError: as that of `load_yaml`; `where` begins the message.
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            _check_extent(root, where)  # before anything is built, as merged mappings (<<) are copied
            content = loader.construct_document(root) if root is not None else None
        finally:
            loader.dispose()
    except RecursionError:
        raise ConfigError(f"{where}: is nested deeper than {MAX_DEPTH} levels") from None
    except ConfigError:
        raise
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: cannot be read as YAML: {error}") from error
    except _PYYAML_ERRORS as error:
        raise ConfigError(f"{where}: has a number, date or tagged value that cannot be read: {error}") from error
    return content


def _check_extent(root: yaml.Node | None, where: str) -> None:
    """Raises ConfigError where a document is too deep, too large, or has a key twice."""
    waiting, values = [(root, 0)] if root is not None else [], 0
    while waiting:
        node, depth = waiting.pop()
        values += 1
        if depth > MAX_DEPTH:
            raise ConfigError(f"{where}: line {node.start_mark.line + 1} is nested deeper than {MAX_DEPTH} levels")
        if values > MAX_VALUES:
            raise ConfigError(f"{where}: more than {MAX_VALUES} values, those repeated by aliases (*name) among them")
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, depth + 1) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in keys:
                    raise ConfigError(
                        f"{where}: line {key.start_mark.line + 1}: the key {shown(key.value)} is there twice"
                    )
                keys.add(key.value if isinstance(key, yaml.ScalarNode) else "")
                waiting += [(key, depth + 1), (value, depth + 1)]


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mapping by mapping; lists, scalars and other kinds are replaced."""
    out = dict(base)
    for key, value in changes.items():
        old = out.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and value.get("kind") in (None, old.get("kind")):
            value = merged(old, value)
        out[key] = value
    return out


def build(cls: type[T], data: Any, where: str) -> T:
    """An instance of the dataclass `cls` from a mapping, with nested dataclasses, tuples, literals and optionals.

    A union of dataclasses is told apart by the default of their field `kind`.

    Raises:
        ConfigError: an unknown or missing key, or a value of the wrong type; `where` is the path in the message.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: must be a mapping, not {shown(data)}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = [key for key in data if key not in fields]
    if unknown:
        raise ConfigError(f"{where}: unknown key {shown(unknown[0])}; the keys here are {', '.join(sorted(fields))}")
    hints = typing.get_type_hints(cls)
    values = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in data.items()}
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where}: the key {missing[0]!r} is missing")
    try:
        return cls(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: {shown(value)} is not one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: must be a mapping, not {shown(value)}")
        named = ((_convert(arguments[0], key, f"{where}, its key"), key) for key in value)
        return {name: _convert(arguments[1], value[key], f"{where}.{shown(name)}") for name, key in named}
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= MAX_WHOLE else value
    if type(value) is not hint or (hint is int and abs(value) > MAX_WHOLE):
        raise ConfigError(f"{where}: {shown(value)} is not of type {hint.__name__}")
    return value


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    candidates = [option for option in options if option is not type(None)]
    if len(candidates) == 1:
        return _convert(candidates[0], value, where)
    kinds = {_kind(option): option for option in candidates}
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(f"{where}.kind: {shown(kind)} is not one of {', '.join(map(repr, kinds))}")
    return build(kinds[kind], value, where)


def _kind(cls: type) -> str:
    return str(next(field.default for field in dataclasses.fields(cls) if field.name == "kind"))


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where}: must be a list, not {shown(value)}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise ConfigError(f"{where}: must be a list of {len(arguments)} values, not {len(value)}")
    return tuple(_convert(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(zip(arguments, value)))
