"""Configuration files of any content get an answer: the thing itself, or one ConfigError that names file and cause."""

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
import yaml

from panoocc_core.base.ranges import Length, Text, Within, check_ranges, shown
from panoocc_core.base.resources import listing
from panoocc_core.base.strict_yaml import MAX_BYTES, ConfigError, build, load_yaml
from panoocc_core.config import model_config
from panoocc_core.sim.rig_file import load_sim_rig
from panoocc_core.train.train_config import train_config

LOADERS = {"models": model_config, "train": train_config, "sim_rigs": load_sim_rig}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LAUGHTER = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{this}: &{this} [{', '.join([f'*{last}'] * 9)}]\n" for last, this in zip(LETTERS, LETTERS[1:12])
)
MERGED_LAUGHTER = "a: &a {x: 1}\n" + "".join(
    f"{this}: &{this} {{<<: [*{last}, *{last}]}}\n" for last, this in zip(LETTERS, LETTERS[1:])
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1: 2\nnull: 3\ntrue: 4\nzz: 1\n", "unknown key 1; the keys here are"),
        ("? [1, 2]\n: 3\n", "unhashable key"),
        ("extends: nano\nlevels: " + "9" * 9999, "has a number, .* that cannot be read"),
        ("extends: nano\nlevels: 0x" + "f" * 9999, "levels: a number of thousands of digits is not of type int"),
        ("extends: nano\nlevels: 1" + "0" * 30, "levels: 1000000000000000000000000000000 is not of type int"),
        ("extends: nano\nlevels: 1000000", "levels must be 1 to 8, not 1000000"),
        ("extends: nano\nembed: .inf", "embed: inf is not of type int"),
        (
            "extends: nano\ntemporal: {tolerance_s: .nan}",
            "tolerance_s must be above 0 and at most 60, not nan",
        ),
        (
            "extends: nano\ngrid: {ego_from_network: {rotation_xyzw: [.inf, 0, 0, 0]}}",
            r"_xyzw\[0\] must be a finite",
        ),
        ("extends: nano\ngrid: {ego_from_network: {rotation_xyzw: [0, 0, 0, 0]}}", "must be a quaternion of length 1"),
        ("extends: nano\nbackbone: {kind: [1]}", r"backbone.kind: \[1\] is not one of 'resnet'"),
        ("extends: [nano]", "unknown model preset"),
        ("extends: " + "a" * 9000 + ".yaml", "aaa...: no such file"),
        ('extends: "a\\0.yaml"', "no such file"),
        ('extends: nano\nname: "a\\nb"', "name must be one line of printable characters"),
        ("extends: nano\nname: ''", "name must have 1 to 200 characters, not 0"),
        ("extends: nano\nlevels: 3\nlevels: 3\n", "line 3: the key 'levels' is there twice"),
        ("a: " + "[" * 5000, "nested deeper than 32 levels"),
        ("\n".join(" " * i + "a:" for i in range(400)), "nested deeper than 32 levels"),
        ("a: " + "[" * 40 + "]" * 40, "line 1 is nested deeper than 32 levels"),
        ("&a {extends: nano, grid: *a}", "nested deeper than 32 levels"),
        (LAUGHTER, "more than 100000 values"),
        (MERGED_LAUGHTER, "more than 100000 values|nested deeper"),
        ("# " + "x" * MAX_BYTES, "is larger than 1 MiB"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        *[
            (f"a: {value}", "that cannot be read")
            for value in ("2026-99-99", "!!timestamp x", "!!bool x", "!!int ''", "!!float x", "1:" * 5000 + "1.5")
        ],
        ("a: \0", "cannot be read as YAML"),
        ("a: 1\n---\nb: 2", "single document"),
        ("", "must hold a mapping"),
    ],
)
def test_what_no_configuration_holds_is_refused_at_once(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    start_s = time.monotonic()
    with pytest.raises(ConfigError, match=message) as refused:
        model_config(path)
    assert time.monotonic() - start_s < 30 and len(str(refused.value)) < 2000


def test_aliases_and_merged_mappings_may_be_used(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: nano\ngrid: &grid {rows: 10}\nencoder: {<<: {layers: 2}, self_points: 2}\n")
    config = model_config(path)
    assert (config.grid.rows, config.encoder.layers, config.encoder.self_points) == (10, 2, 2)


def test_folders_and_devices_are_no_files(tmp_path):
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(ConfigError, match="unknown model preset"):
            model_config(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path)
    with pytest.raises(ConfigError, match=r"none.yaml: no such file$"):
        load_yaml(tmp_path / "none.yaml")


@dataclass(frozen=True)
class Ranged:
    count: Annotated[int, Within(1, 8)] = 1
    share: Annotated[float, Within(0, 1, above=True)] = 1.0
    free: float = 0.0
    name: Text = "a"
    sizes: Annotated[tuple[Annotated[int, Within(0, 9)], ...], Length(1, 2)] = (1,)
    pair: tuple[Annotated[float, Within(-1, 1)], float] = (0.0, 0.0)
    perhaps: Annotated[int, Within(0, 5)] | None = None
    weights: dict[str, Annotated[float, Within(0, 2)]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_ranges(self)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 9}, "x: count must be 1 to 8, not 9"),
        ({"share": 0}, r"x: share must be above 0 and at most 1, not 0\.0"),
        ({"free": float("-inf")}, "x: free must be a finite number, not -inf"),
        ({"name": "a" * 300}, "x: name must have 1 to 200 characters, not 300"),
        ({"sizes": []}, "x: sizes must have 1 to 2 entries, not 0"),
        ({"sizes": [3, 10]}, r"x: sizes\[1\] must be 0 to 9, not 10"),
        ({"pair": [float("nan"), 0]}, r"x: pair\[0\] must be -1 to 1, not nan"),
        ({"pair": [0, float("nan")]}, r"x: pair\[1\] must be a finite number"),
        ({"perhaps": -1}, "x: perhaps must be 0 to 5, not -1"),
        ({"weights": {"car": 3}}, r"x: weights.'car' must be 0 to 2, not 3\.0"),
        ({"weights": {1: 1.0}}, "x.weights, its key: 1 is not of type str"),
        ({"weights": [1.0]}, "x.weights: must be a mapping"),
    ],
)
def test_ranges_stand_beside_their_types(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(Ranged, changes, "x")


def test_values_within_their_ranges_are_taken():
    given = {"count": 8, "share": 1, "sizes": [0, 9], "perhaps": 5, "weights": {"car": 2}}
    assert build(Ranged, given, "x") == Ranged(8, 1.0, sizes=(0, 9), perhaps=5, weights={"car": 2.0})


def test_long_values_are_cut_in_messages():
    assert shown("x" * 10_000).endswith("x...") and len(shown("x" * 10_000)) < 120
    assert len(shown([list(range(1000))] * 1000)) < 120 and shown(1.5) == "1.5"


NONSENSE = (
    -1,
    0,
    10**6,
    10**18,
    1.5,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x" * 500,
    "a\nb",
    None,
    True,
    [],
    {},
    [0],
)
NONSENSE += ([-1] * 3, [1] * 1000, {"kind": "resnet"}, {"a": {"a": 1}}, {1: 2})


def places(value, place=()):
    yield place
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*place, key))


def replaced(value, place, new):
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = replaced(value[place[0]], place[1:], new)
    return copy


def damaged(draw: random.Random, data: bytes) -> bytes:
    for _ in range(draw.randint(1, 5)):
        place = draw.randrange(len(data))
        new = bytes(draw.choice(b"[]{}:,-&*!|>%@`\"'#\n 0123456789.e\xff\x00") for _ in range(draw.randint(0, 4)))
        data = data[:place] + new + data[place + draw.randint(0, 6) :]
    return data


@pytest.mark.parametrize("kind", LOADERS)
def test_shipped_files_with_random_damage_are_loaded_or_refused(tmp_path, kind):
    draw, path, refused = random.Random(kind), tmp_path / "mine.yaml", 0
    shipped = [file.read_bytes() for file in listing(kind).values()]
    for _ in range(150):
        data = draw.choice(shipped)
        if draw.random() < 0.4:
            path.write_bytes(damaged(draw, data))
        else:
            content = yaml.safe_load(data)
            path.write_text(yaml.safe_dump(replaced(content, draw.choice([*places(content)]), draw.choice(NONSENSE))))
        try:
            LOADERS[kind](path)
        except ConfigError as error:
            refused += 1
            assert len(str(error)) < 2000
    assert refused > 75
