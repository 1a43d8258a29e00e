"""`panoocc bench` as a user calls it, on few small images."""

import json
from concurrent.futures import BrokenExecutor
from functools import partial

import pytest
import torch

from panoocc_core import model_config
from panoocc_core.bench import bench_rendering
from panoocc_core.sim import load_sim_rig, nuscenes_rig
from panoocc_ros.commands import bench
from panoocc_ros.commands.cli import main
from panoocc_ros.outputs.catalogue import FOXGLOVE, OUTPUTS
from panoocc_ros.sim.bag import write_street_bag


def panoocc(*words: object) -> int:
    return main(["bench", *(str(word) for word in words)])


@pytest.fixture(scope="module")
def small_bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "street.mcap"
    return write_street_bag(path, 0, 1.0, 2.0, nuscenes_rig(0.03), workers=1)


def test_a_simulated_street_gives_networks_and_rendering(small_bag, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "street_bag", lambda path, rig_name, frames: small_bag)
    assert panoocc("--model", "nano", "--frames", 2, "--json", tmp_path / "new/bench.json") == 0
    numbers = json.loads((tmp_path / "new/bench.json").read_text())
    (network,), rendering = numbers["networks"], numbers["rendering"]
    assert numbers["outputs"]["occupancy"]["bytes"] > 0 and network["cpu_ms"]["visible"] > 0
    assert network["model"] == "nano" and network["frames"] == 1
    assert network["cpu_ms"]["total"] == pytest.approx(
        sum(value for stage, value in network["cpu_ms"].items() if stage != "total")
    )
    assert rendering["cameras"] == 6 and rendering["size_hw"] == [144, 256] and rendering["sets"] == 9
    (small, large), steps = numbers["images"], {"decode", "decode, reduced", "undistort", "stepwise", "direct"}
    assert large["size_hw"] == [1080, 1920] and large["reduction"] == 4 and steps <= set(small["cpu_ms"])
    assert large["cpu_ms"]["direct"] < large["cpu_ms"]["stepwise"]  # ten times
    text = capsys.readouterr().out
    assert "nano on" in text and "sets per CPU second" in text


def test_the_messages_of_every_output_are_measured(small_bag, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "street_bag", lambda path, rig_name, frames: small_bag)
    monkeypatch.setattr(bench, "bench", lambda *_, **__: pytest.fail("a network was measured"))
    assert panoocc("--frames", 2, "--output-costs", tmp_path / "new/costs.json") == 0
    numbers = json.loads((tmp_path / "new/costs.json").read_text())
    assert set(numbers["outputs"]) == {output.topic for output in OUTPUTS}
    costs = [cost for topic, cost in numbers["outputs"].items() if topic != FOXGLOVE.topic]
    assert all(cost["bytes"] > 0 and cost["cpu_ms"] > 0 for cost in costs)
    together, at_rates = numbers["outputs_together"], numbers["outputs_at_default_rates"]
    assert together["bytes"] == sum(cost["bytes"] for cost in costs) > at_rates["bytes"] > 0
    assert numbers["found_cpu_ms"]["visible"] > 0 and numbers["outputs_of"]["frames"] == 1
    text = capsys.readouterr().out
    assert "5 % occupied, with visible" in text and "occupancy_foxglove" in text
    assert panoocc("--output-costs", tmp_path) == 2
    assert f"--output-costs: {tmp_path} is a folder" in capsys.readouterr().err


def test_every_network_gets_a_street_of_its_own_rig(tmp_path, monkeypatch, capsys):
    drawn = []

    def small(path, rig_name, frames):
        drawn.append(rig_name)
        return write_street_bag(path, 0, 1.0, 2.0, load_sim_rig(rig_name, 0.04), workers=1)

    monkeypatch.setattr(bench, "street_bag", small)
    monkeypatch.setattr(bench, "bench_rendering", partial(bench_rendering, seeds=(0,), sets=1))
    models = ("nano_waymo", "nano", "nano_waymo")
    assert panoocc("--model", *models, "--frames", 1, "--json", tmp_path / "bench.json") == 0
    numbers = json.loads((tmp_path / "bench.json").read_text())
    assert drawn == ["waymo", "nuscenes"] and tuple(one["model"] for one in numbers["networks"]) == models
    assert numbers["rendering"]["cameras"] == 5 and numbers["rendering"]["size_hw"] == [171, 256]
    assert "are not used" not in capsys.readouterr().err


def test_a_bag_of_ones_own_says_nothing_of_rendering(small_bag, tmp_path, capsys):
    assert panoocc("--model", "nano", "--frames", 2, "--bag", small_bag, "--json", tmp_path / "bench.json") == 0
    assert set(json.loads((tmp_path / "bench.json").read_text())) == {"networks"}
    assert "sets per CPU second" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "where, error, status, words",
    [
        ("loaded_network", torch.OutOfMemoryError("CUDA out of memory"), 5, "the network failed: CUDA out of memory"),
        ("bench", MemoryError(), 5, "the network failed: MemoryError"),
        ("_measure_rendering", BrokenExecutor("terminated"), 1, "a worker process was killed"),
    ],
)
def test_what_fails_is_said_in_one_line(small_bag, monkeypatch, capsys, where, error, status, words):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(bench, "street_bag", lambda path, rig_name, frames: small_bag)
    monkeypatch.setattr(bench, where, fail)
    assert panoocc("--model", "nano", "--frames", 1) == status
    assert f"panoocc bench: {words}" in capsys.readouterr().err


def test_bad_input_is_said_and_gives_status_2(small_bag, tmp_path, capsys):
    assert panoocc("--model", "nano", "--bag", tmp_path / "nowhere.mcap") == 2
    assert "panoocc bench: " in capsys.readouterr().err
    assert panoocc("--model", "nanu", "--bag", small_bag) == 2
    assert "unknown model preset 'nanu'" in capsys.readouterr().err


def test_no_street_is_rendered_for_what_must_fail(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "street_bag", lambda *_: pytest.fail("a street was rendered"))
    (tmp_path / "rig.yaml").write_text(RIG)
    assert panoocc("--model", "nano", "--json", tmp_path) == 2
    assert f"--json: {tmp_path} is a folder" in capsys.readouterr().err
    assert panoocc("--model", "nano", "--json", tmp_path / "rig.yaml" / "bench.json") == 4
    assert panoocc("--model", "nano", "--rig", tmp_path / "rig.yaml") == 2
    assert "--rig: its topics are not those of the simulated street" in capsys.readouterr().err


RIG = "reference: CAM_FRONT\ncameras:\n" + "\n".join(
    f"- {{name: {name}, topic: /own/{name}, info_topic: /own/{name}/info}}" for name in model_config("nano").cameras
)
