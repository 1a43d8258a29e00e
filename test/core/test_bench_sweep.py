"""How cost grows: the variants, and what is made of them."""

import dataclasses

import pytest
import torch

from panoocc_core import load_model, model_config
from panoocc_core.bench import draw_sweep, sweep, sweep_sizes, sweep_table, variants
from panoocc_core.bench.measured import facts_of

AXES = {"voxels": 4, "cameras": 4, "image size": 4, "history": 5}


def test_every_axis_grows_and_leaves_the_others_alone(nano):
    found = list(variants(nano))
    assert {axis: sum(one[0] == axis for one in found) for axis in AXES} == AXES
    for axis in AXES:
        sizes = [size for name, _, size, _ in found if name == axis]
        assert sizes == sorted(sizes) and len(set(sizes)) == len(sizes)
    by_value = {(axis, value): config for axis, value, _, config in found}
    assert by_value["voxels", "32x32x8"] == by_value["image size", "256x112"] == nano
    assert len(by_value["cameras", "8"].cameras) == 8 and by_value["history", "4 states"].temporal.ages_s[0] == 2.0
    recurrent = [value for axis, value, *_ in variants(model_config("pano_small_4f")) if axis == "history"]
    assert recurrent == ["0 states", "1 state"]


def test_more_cameras_in_a_ring_see_more(nano):
    seen = []
    for axis, _, _, config in variants(nano):
        if axis == "cameras":
            frames = sweep.ring_frames(config)
            assert [camera.name for camera in frames[0].cameras] == list(config.cameras)
            seen.append(facts_of(load_model(config, seeded_weights=True), frames[0]).sightings)
    assert seen == sorted(seen) and seen[-1] > 2 * seen[0]


def test_a_sweep_is_measured_told_and_drawn(nano, tmp_path, monkeypatch):
    small = [("voxels", "a", 1.0, nano), ("cameras", "b", 2.0, nano), ("image size", "c", 3.0, nano)]
    coarse = dataclasses.replace(nano, temporal=dataclasses.replace(nano.temporal, ages_s=()))
    monkeypatch.setattr(sweep, "variants", lambda config: [*small[:1], ("history", "none", 0.0, coarse)])
    monkeypatch.setattr(sweep, "EFFORT", dataclasses.replace(sweep.EFFORT, frames=1))
    counted: list[int] = []
    rows = sweep_sizes(nano, torch.device("cpu"), on_network=lambda: counted.append(1))
    full, alone = rows
    assert len(counted) == 2 and full.gflop > alone.gflop and full.floor_ms > alone.floor_ms > 0
    assert full.ratio == pytest.approx(full.cpu_ms / full.floor_ms)
    assert full.memory_mb > alone.memory_mb > 5 and {"backbone", "decoder"} <= set(full.stages_ms)
    assert "history     none" in sweep_table(rows, "nano") and full.as_dict()["axis"] == "voxels"
    four = [dataclasses.replace(full, axis=axis, size=size) for axis in AXES for size in (1.0, 2.0)]
    draw_sweep(tmp_path / "sweep.svg", four, "how it grows")
    assert "how it grows" in (tmp_path / "sweep.svg").read_text()
