"""The comparison of capacities: all are measured on the same frames, and full capacity scores as the dense decoder."""

import json

import pytest
import torch

from panoocc_core import load_model, model_config
from panoocc_core.base.strict_yaml import ConfigError
from panoocc_core.capacity import checked_capacities, peak_mb, sweep
from panoocc_core.data.simulated import SimulatedStreets
from panoocc_core.evaluation import Measures, evaluate
from panoocc_ros.commands.cli import main

from .toy_training import NETWORK, STREET_SCALE, STREET_SECONDS, rendered_streets, write_network


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """With one upsampling stage, whose head is the gate."""
    decoder = {**NETWORK["decoder"], "sparse": {"capacity": [0.3]}}
    return write_network(tmp_path_factory.mktemp("sparse"), decoder=decoder)


def test_full_capacity_scores_as_the_dense_decoder_and_as_the_evaluation(network):
    model = load_model(network, seeded_weights=True)
    streets = SimulatedStreets(tuple(sorted(rendered_streets()[1].glob("street-*.npz"))[:1]))
    dense, full, least = sweep(model, streets, checked_capacities(model.config, [(1.0,), (0.02,)]))
    assert dense.capacity is None and full.capacity == (1.0,) and least.capacity == (0.02,)
    assert (full.miou, full.geometric_iou) == pytest.approx((dense.miou, dense.geometric_iou), abs=1e-3)
    assert least.geometric_iou < dense.geometric_iou
    assert all(row.wall_ms > 0 and row.cpu_ms > 0 and row.memory_mb > 0 for row in (dense, full, least))
    own = sweep(model, streets, [model.config.decoder.sparse.capacity])[0]
    scores = evaluate(model, streets, Measures(without_history=False, panoptic=False, rays=False))
    assert own.miou == pytest.approx(scores.voxels.total.miou_of_present(model.config.labels))


def test_memory_is_what_lives_at_once():
    def work() -> torch.Tensor:
        first = torch.zeros(250_000)  # 1 MB
        first = first + 1  # another one, until the first is let go
        second = first.view(500, 500).t() * 2
        del first
        third = second.exp_()  # in place: nothing new
        return third.sum()

    assert peak_mb(work, torch.device("cpu")) == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(
    ("preset", "capacities", "message"),
    [
        ("nano", [(0.5,)], "nano has no sparse decoder: give a preset with decoder.sparse"),
        ("nano_sparse", [(0.5, 0.3, 0.1)], "give one share, or one for each of the 2 stages"),
        ("nano_sparse", [(0.5,), (0.0,)], r"capacity \[0\.0\]: capacity\[0\] must be above 0"),
        ("nano_sparse", [(0.1, 0.3)], "must not grow from stage to stage"),
        ("nano_sparse", [(float("nan"),)], "must be above 0"),
    ],
)
def test_capacities_that_cannot_be_are_refused(preset, capacities, message):
    with pytest.raises(ConfigError, match=message):
        checked_capacities(model_config(preset), capacities)


def test_the_command_prints_the_table_and_writes_it(network, tmp_path, capsys):
    out, report = tmp_path / "run", tmp_path / "capacities.json"
    streets = ["--streets", rendered_streets()[1], "--scenes", 1, "--first-seed", 9_000]
    streets += ["--seconds", STREET_SECONDS, "--scale", STREET_SCALE]
    data = "{kind: streets, drives: 2, first_seed: 10000, validation_drives: 1, validation_first_seed: 9000, "
    data += f"seconds: {STREET_SECONDS}, scale: {STREET_SCALE}}}"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {network}\ndata: {data}\nlosses: {{box_class: 0.0, box_l1: 0.0}}\nepochs: 1\n")

    def panoocc(*words: object) -> int:
        return main([str(word) for word in words])

    assert panoocc("train", recipe, "--out", out, "--streets", rendered_streets()[1], "--no-progress") == 0
    words = ["eval", "--model", network, "--checkpoint", out / "weights.safetensors", *streets, "--no-progress"]
    assert panoocc(*words, "--capacity", 1, "0.25", "--json", report) == 0
    assert "capacity" in capsys.readouterr().out
    rows = json.loads(report.read_text())["capacities"]
    assert [row["capacity"] for row in rows] == [None, [1.0], [0.25]]
    assert panoocc(*words, "--capacity", "0.5,0.2") != 0
    assert "one for each of the 1 stages" in capsys.readouterr().err
