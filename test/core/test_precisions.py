"""A network at several precisions: how far it is from itself, and its scores."""

import json

import pytest
import torch

from panoocc_core import model_config
from panoocc_core.bench.precisions import frames_of_sweep, multiplied_natively, precision_sweep, precision_table
from panoocc_core.data.simulated import SimulatedStreets
from panoocc_core.evaluation import evaluate
from panoocc_core.models import build_network
from panoocc_core.weights.checkpoint import load_model, save_published
from panoocc_ros.commands.cli import main
from panoocc_ros.ros.exit_codes import BAD_INPUT

from .toy_training import rendered_streets, write_network


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("toy"), panoptic={"instances": "none"})


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "toy.safetensors"
    save_published(build_network(model_config(network)), path, {})
    return path


@pytest.fixture(scope="module")
def streets():
    return SimulatedStreets(tuple(sorted(rendered_streets()[1].glob("street-*.npz"))[:1]))


def test_float32_is_itself_and_half_precision_is_near(network, weights, streets):
    config, calls = model_config(network), []
    rows = precision_sweep(config, weights, streets, ["fp32", "bf16"], on_frame=lambda: calls.append(1))
    assert len(calls) == frames_of_sweep(streets, ["fp32", "bf16"])
    single, half = rows
    assert single.agreement.worst_logit < 1e-3 < half.agreement.worst_logit < 1
    assert single.agreement.same_class >= half.agreement.same_class > 0.5
    usual = evaluate(load_model(config, weights), streets).voxels.total
    assert single.miou == pytest.approx(usual.miou_of_present(config.labels), nan_ok=True)
    assert single.geometric_iou == pytest.approx(usual.geometric_iou(config.labels))
    table = precision_table(rows, torch.device("cpu"), "toy")
    assert table.splitlines()[0] == "toy" and "bf16" in table


def test_what_overflows_is_said(network, streets, tmp_path):
    config, path = model_config(network), tmp_path / "large.safetensors"
    model = build_network(config)
    with torch.no_grad():
        model.classifier.bias[0] = 1e6  # beyond the largest half
    save_published(model, path, {})
    (row,) = precision_sweep(config, path, streets, ["fp16"])
    assert row.agreement is None and row.miou is None
    assert "fp16" in precision_table([row], torch.device("cpu"), "") and "overflows" in precision_table(
        [row], torch.device("cpu"), ""
    )


def test_single_precision_is_multiplied_everywhere():
    assert multiplied_natively(torch.device("cpu"))[0] == "fp32"


def test_the_command_writes_table_and_json(network, weights, tmp_path, capsys):
    options = ["eval", "--model", str(network), "--data", str(rendered_streets()[1]), "--no-progress"]
    options += ["--checkpoint", str(weights), "--json", str(tmp_path / "p.json"), "--precisions", "fp32", "bf16"]
    assert main(options) == 0
    said, found = capsys.readouterr().out, json.loads((tmp_path / "p.json").read_text())
    assert "same class" in said and [row["precision"] for row in found["precisions"]] == ["fp32", "bf16"]
    assert found["natively_multiplied"][0] == "fp32" and "worst_logit" in found["precisions"][0]["agreement"]
    assert main([*options, "--no-rays"]) == BAD_INPUT
    assert "--no-rays does not go with --precisions" in capsys.readouterr().err
