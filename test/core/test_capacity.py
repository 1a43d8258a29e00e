"""The comparison of capacities: all are measured on the same frames, and full capacity scores as the dense decoder."""

import json

import pytest
import torch
import yaml

from panoocc_core import load_model, model_config
from panoocc_core.base.strict_yaml import ConfigError
from panoocc_core.bench.capacity import checked_capacities, peak_mb, planned_cost, sweep
from panoocc_core.data.simulated import SimulatedStreets
from panoocc_core.evaluation import Measures, evaluate
from panoocc_core.voxels import token_count
from panoocc_core.weights.tensor_files import read_tensors
from panoocc_ros.commands.cli import main
from panoocc_ros.ros.exit_codes import BAD_INPUT

from .toy_training import NETWORK, STREET_SCALE, STREET_SECONDS, rendered_streets, write_network


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """With one upsampling stage, whose head is the gate."""
    decoder = {**NETWORK["decoder"], "sparse": {"capacity": [0.3]}}
    # The sweep is of the decoder alone; boxes would set classes.
    return write_network(tmp_path_factory.mktemp("sparse"), decoder=decoder, panoptic={"instances": "none"})


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


def test_the_planned_memory_is_what_the_decoder_takes(network):
    model = load_model(network, seeded_weights=True)
    config = model.config
    tokens = torch.randn(token_count(config.grid), config.embed)
    with torch.inference_mode():
        for capacity in ((1.0,), (0.25,)):
            taken = peak_mb(lambda: model.decoder.occupancy_of(tokens, capacity), torch.device("cpu"))  # noqa: B023
            assert planned_cost(config, capacity)[0] == pytest.approx(taken, rel=0.02)


def test_a_published_decoder_needs_less_of_everything_with_fewer_voxels():
    config = model_config("pano_small_4f")
    costs = [planned_cost(config, capacity) for capacity in (None, (0.5, 0.25, 0.1), (0.25, 0.1, 0.05))]
    assert all(after < before for one, other in zip(costs, costs[1:]) for before, after in zip(one, other))
    # Dense: the first convolution alone has 5 x 5 taps of 256 x 256 channels at 40,000 voxels.
    assert costs[0][1] > 2 * 25 * 256 * 256 * 40_000 / 1e9


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


DATA = {"kind": "streets", "drives": 2, "first_seed": 10_000, "validation_drives": 1, "validation_first_seed": 9_000}
LOSSES = {"occupancy_lovasz": 0.0, "box_class": 0.0, "box_l1": 0.0}
TWO_STAGES = [
    {"kernel": [1, 2, 2], "stride": [1, 2, 2], "padding": [0, 0, 0], "channels": 16},
    {"kernel": [1, 3, 3], "stride": [1, 1, 1], "padding": [0, 1, 1], "channels": 16},
]


def panoocc(*words: object) -> int:
    return main([str(word) for word in words])


def test_heads_begin_beside_a_dense_checkpoint_and_the_command_compares_capacities(tmp_path, capsys):
    data = {**DATA, "seconds": STREET_SECONDS, "scale": STREET_SCALE}
    recipes = []
    for name, sparse in (("dense", None), ("sparse", {"capacity": [0.5, 0.25]})):
        (tmp_path / name).mkdir()
        network = write_network(tmp_path / name, decoder={"upsample": TWO_STAGES, "mlp": [16, 16], "sparse": sparse})
        own = {} if sparse is None else {"occupancy_ce": 0.0, "gate_focal": 0.0, "sparse_focal": 1.0}
        rest = [
            {"prefix": part, "lr_scale": 0.0} for part in ("backbone", "neck", "queries", "encoder", "fusion", "boxes")
        ]
        groups = [{"prefix": "decoder.heads"}, {"prefix": "decoder", "lr_scale": 0.0}, *rest] if own else []
        recipe = {"model": str(network), "data": data, "losses": {**LOSSES, **own}, "epochs": 1}
        recipes.append(tmp_path / f"{name}.yaml")
        recipes[-1].write_text(yaml.safe_dump({**recipe, "optimiser": {"lr": 0.01, "groups": groups}}))
    streets = ("--streets", rendered_streets()[1], "--no-progress")
    dense, sparse = tmp_path / "dense_run", tmp_path / "sparse_run"
    assert panoocc("train", recipes[0], "--out", dense, *streets) == 0
    start = dense / "weights.safetensors"
    capsys.readouterr()
    assert panoocc("train", recipes[1], "--checkpoint", start, "--out", sparse, *streets) == 0
    assert "has no occupancy heads: they start anew" in capsys.readouterr().err
    before, after = read_tensors(start), read_tensors(sparse / "weights.safetensors")
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {name.split(".occupancy_heads.")[1] for name in after.keys() - before.keys()} == {
        "0.narrow.weight",
        "0.narrow.bias",
        "0.gate.weight",
        "0.gate.bias",
    }
    table = tmp_path / "capacities.json"
    words = ["eval", "--model", tmp_path / "sparse" / "toy.yaml", "--checkpoint", sparse / "weights.safetensors"]
    words += [*streets, "--scenes", 1, "--first-seed", 9_000, "--seconds", STREET_SECONDS, "--scale", STREET_SCALE]
    assert panoocc(*words, "--capacity", 1, "0.5,0.25", "--json", table) == 0
    assert "dense" in capsys.readouterr().out
    assert [row["capacity"] for row in json.loads(table.read_text())["capacities"]] == [None, [1.0, 1.0], [0.5, 0.25]]
    assert panoocc(*words, "--capacity", "0.5,0.2,0.1") == BAD_INPUT
    assert "give one share, or one for each of the 2 stages" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("--no-boxes",),
        ("--no-rays",),
        ("--no-panoptic",),
        ("--no-alone",),
        ("--instances", "none"),
        ("--data", "/nowhere", "--panoptic-out", "results"),
        ("--picture", "eval.png"),
    ],
)
def test_what_is_of_a_whole_evaluation_is_refused_beside_capacities(capsys, words):
    assert panoocc("eval", "--model", "nano_sparse", "--capacity", 0.5, *words) == BAD_INPUT
    option = next(word for word in reversed(words) if word.startswith("--"))
    assert f"{option} does not go with --capacity, which compares: leave" in capsys.readouterr().err
