"""`panoocc bench` as a user calls it, on few small images."""

import json
import shlex
import sys
from concurrent.futures import BrokenExecutor, Future
from functools import partial

import cv2
import pytest
import torch

from panoocc_core import model_config
from panoocc_core.base.strict_yaml import ConfigError
from panoocc_core.bench import bench_rendering, measured
from panoocc_core.bench.floor import Rates
from panoocc_core.cuda.kernels import CudaError
from panoocc_core.sim import load_sim_rig, nuscenes_rig
from panoocc_ros.commands import bench
from panoocc_ros.commands.bench import around, networks, over_dds, rivals
from panoocc_ros.commands.cli import main
from panoocc_ros.live_bench.run import write_tiny
from panoocc_ros.outputs.catalogue import FOXGLOVE, OUTPUTS
from panoocc_ros.sim.bag import write_street_bag


def panoocc(*words: object) -> int:
    return main(["bench", *(str(word) for word in words)])


@pytest.fixture(scope="module")
def small_bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "street.mcap"
    return write_street_bag(path, 0, 1.0, 2.0, nuscenes_rig(0.03), workers=1)


class SameProcess:
    """In place of a process of its own, whose start takes seconds."""

    def __init__(self, *_, **__):
        self.threads = torch.get_num_threads(), cv2.getNumThreads()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        torch.set_num_threads(self.threads[0])
        cv2.setNumThreads(self.threads[1])

    def submit(self, work, *arguments):
        future = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def here(monkeypatch, small_bag):
    """Small images, everything in this process, and rates of which nobody asks how they are measured."""
    monkeypatch.setattr(networks, "WorkerPool", SameProcess)
    monkeypatch.setattr(measured, "measure_rates", lambda *_: Rates(1, 80.0, 100.0, 60.0, 20.0, 30.0, 8.0))
    monkeypatch.setattr(bench, "street_bag", lambda path, rig_name, frames: small_bag)


def test_a_network_is_measured_in_a_process_of_its_own_and_drawn(small_bag, tmp_path, capsys):
    out = tmp_path / "new"
    tiny = write_tiny(tmp_path / "tiny.yaml")
    words = ("--model", tiny, "--bag", small_bag, "--frames", 2, "--compared", 1, "--threads", 1)
    assert panoocc(*words, "--precision", "fp32", "--json", out / "bench.json", "--picture", out / "bench.png") == 0
    numbers = json.loads((out / "bench.json").read_text())
    (network,) = numbers["networks"]
    assert set(numbers) == {"networks"}
    assert network["model"] == "tiny" and network["frames"] == 2 and network["weights"] == "seeded"
    stages = network["stages"]
    assert {"prepare", "backbone", "encoder", "temporal", "decoder", "total"} <= set(stages)
    total = stages["total"]
    assert total["wall_ms"]["p50"] <= total["wall_ms"]["p95"] <= total["wall_ms"]["p99"] <= total["wall_ms"]["most"]
    assert total["ratio"]["cpu"] == pytest.approx(total["cpu_ms"] / total["floor"]["cpu_ms"])
    assert total["floor"]["gflop"] == pytest.approx(
        sum(stages[name]["floor"]["gflop"] for name in ("prepare", "backbone", "encoder", "temporal", "decoder"))
    )
    memory = network["memory_mb"]
    assert 100 < memory["before"] < memory["loading"] < 3000 and memory["before"] < memory["peak"] < 3000
    assert network["agreement"]["frames"] == 1 and network["agreement"]["worst_logit"] < 1e-2
    assert network["rates"]["one thread"]["product_gflops"] > 1
    assert cv2.imread(str(out / "bench.png")) is not None
    text = capsys.readouterr().out
    assert "tiny, fp32, 1 thread" in text and "floor: the least time" in text and "sets per CPU second" not in text


def test_every_combination_and_what_is_around_networks(here, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(around, "bench_rendering", partial(bench_rendering, seeds=(0,), sets=1))
    tiny = write_tiny(tmp_path / "tiny.yaml")
    words = ("--model", tiny, "--precision", "fp32", "bf16", "--threads", 1, "--frames", 1, "--compared", 0)
    assert panoocc(*words, "--seeded-weights", "--json", tmp_path / "new/bench.json") == 0
    numbers = json.loads((tmp_path / "new/bench.json").read_text())
    settings = [(one["precision"], one["threads"]) for one in numbers["networks"]]
    assert settings == [("fp32", 1), ("bf16", 1)]
    assert all(one["weights"] == "seeded" and one["agreement"] is None for one in numbers["networks"])
    assert "visible" not in numbers["networks"][0]["stages"]  # seeded weights make noise of things
    assert numbers["outputs"]["occupancy"]["bytes"] > 0
    assert numbers["rendering"]["cameras"] == 6 and numbers["rendering"]["size_hw"] == [144, 256]
    (small, large), steps = numbers["images"], {"decode", "decode, reduced", "undistort", "stepwise", "direct"}
    assert large["size_hw"] == [1080, 1920] and large["reduction"] == 4 and steps <= set(small["cpu_ms"])
    assert large["cpu_ms"]["direct"] < large["cpu_ms"]["stepwise"]  # ten times
    text = capsys.readouterr().out
    assert "tiny, bf16, 1 thread" in text and "sets per CPU second" in text


def test_the_messages_of_every_output_are_measured(here, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "measure_networks", lambda *_, **__: pytest.fail("a network was measured"))
    monkeypatch.setattr(bench, "street_bag", bench.street_bag)
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


def test_every_network_gets_a_street_of_its_own_rig(here, tmp_path, monkeypatch, capsys):
    drawn = []

    def small(path, rig_name, frames):
        drawn.append(rig_name)
        return write_street_bag(path, 0, 1.0, 2.0, load_sim_rig(rig_name, 0.04), workers=1)

    monkeypatch.setattr(bench, "street_bag", small)
    monkeypatch.setattr(around, "bench_rendering", partial(bench_rendering, seeds=(0,), sets=1))
    models = ("nano_waymo", "nano", "nano_waymo")
    words = ("--frames", 1, "--compared", 0, "--precision", "fp32", "--json", tmp_path / "bench.json")
    assert panoocc("--model", *models, *words) == 0
    numbers = json.loads((tmp_path / "bench.json").read_text())
    assert drawn == ["waymo", "nuscenes"] and tuple(one["model"] for one in numbers["networks"]) == models
    assert numbers["rendering"]["cameras"] == 5 and numbers["rendering"]["size_hw"] == [171, 256]
    assert "are not used" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [NotImplementedError("operator is not implemented for 'Half'"), CudaError("a step of nano cannot be captured")],
)
def test_what_a_setting_failed_with_is_said_and_the_others_are_written(
    error, here, small_bag, tmp_path, capsys, monkeypatch
):
    measure_bag = networks.measure_bag

    def failing(setting, *more):
        if setting.precision == "fp16":
            raise error
        return measure_bag(setting, *more)

    monkeypatch.setattr(networks, "measure_bag", failing)
    words = ("--model", "nano", "--bag", small_bag, "--frames", 1, "--compared", 0, "--json", tmp_path / "bench.json")
    assert panoocc(*words, "--precision", "fp16", "fp32") == 5
    assert f"nano, fp16, 1 thread: failed: {error}" in capsys.readouterr().err
    numbers = json.loads((tmp_path / "bench.json").read_text())
    assert [one["precision"] for one in numbers["networks"]] == ["fp32"] and len(numbers["failed"]) == 1


@pytest.mark.parametrize(
    "where, error, status, words",
    [
        ("measure_bag", torch.OutOfMemoryError("CUDA out of memory"), 5, "1 thread: CUDA out of memory"),
        ("measure_bag", MemoryError(), 5, "MemoryError"),
        ("measure_bag", BrokenExecutor("terminated"), 1, "a worker process was killed"),
        ("measure_bag", ConfigError("nano: wrong"), 2, "nano: wrong"),
    ],
)
def test_what_fails_is_said_in_one_line(here, small_bag, monkeypatch, capsys, where, error, status, words):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(networks, where, fail)
    assert panoocc("--model", "nano", "--frames", 1, "--bag", small_bag, "--precision", "fp32") == status
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("panoocc bench: ") and words in last


def test_bad_input_is_said_and_gives_status_2(small_bag, tmp_path, capsys):
    assert panoocc("--model", "nano", "--bag", tmp_path / "nowhere.mcap") == 2
    assert "panoocc bench: " in capsys.readouterr().err
    for words, text in (
        (("--model", "nanu"), "unknown model preset 'nanu'"),
        (
            ("--model", "nano", "nano_waymo", "--checkpoint", "w.safetensors"),
            "holds the weights of one network, not of 2",
        ),
        (("--device", "cuda:9"), "--device: device 'cuda:9'"),
        (("--executor", "graph", "--device", "cpu"), "--executor: graph is for CUDA"),
        (("--live", 3, "--sweep"), "measured without --sweep"),
        (("--against", " "), "--against: it is empty"),
        (("--against", "true", "--model", "nano", "nano_waymo"), "runs one network, not 2"),
        (("--sweep",), "--bag: it does nothing with --sweep"),
        (("--serve", "--compared", "0"), "--compared and --bag: it does nothing with --serve"),
        (("--rate", "12"), "--rate: it does nothing without --live"),
        (("--at-once",), "--at-once: it does nothing without --live"),
        (("--against", "true", "--picture", "a.png"), "--picture: it does nothing with --against"),
        (("--serve", "--frames", 3), "does nothing with --serve"),
        (("--picture", tmp_path / "bench.bmp"), "must end in .png, .svg, .pdf"),
    ):
        assert panoocc(*words, "--bag", small_bag) == 2, words
        assert text in capsys.readouterr().err, words
    assert panoocc("--sweep", "--threads", 1, 2) == 2
    assert "--threads: --sweep runs one setting" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        panoocc("--precision", "fp8")
    assert "invalid choice: 'fp8'" in capsys.readouterr().err


def test_too_little_memory_is_said_before_a_network_is_built(monkeypatch, capsys):
    monkeypatch.setattr("panoocc_core.bench.needs.free_memory", lambda device: 1500e6)
    assert panoocc("--model", "pano_base_occ3d") == 2
    error = capsys.readouterr().err
    assert "pano_base_occ3d takes at least" in error and "1500 MB are free on cpu" in error


def test_no_street_is_rendered_for_what_must_fail(tmp_path, capsys, monkeypatch):
    for module in (bench, rivals):
        monkeypatch.setattr(module, "street_bag", lambda *_: pytest.fail("a street was rendered"))
    (tmp_path / "rig.yaml").write_text(RIG)
    assert panoocc("--model", "nano", "--json", tmp_path) == 2
    assert f"--json: {tmp_path} is a folder" in capsys.readouterr().err
    assert panoocc("--model", "nano", "--json", tmp_path / "rig.yaml" / "bench.json") == 4
    assert panoocc("--model", "nano", "--rig", tmp_path / "rig.yaml") == 2
    assert "--rig: its topics are not those of the simulated street" in capsys.readouterr().err


def test_all_presets_are_what_all_means(monkeypatch):
    asked = []
    monkeypatch.setattr(bench, "measure_networks", lambda chosen, *_: asked.extend(chosen) or ([], {}))
    monkeypatch.setattr(networks, "check_memory", lambda *_: None)
    assert panoocc("--model", "all", "--bag", "nowhere", "--precision", "fp32", "bf16", "--threads", 1, 2) == 0
    settings = [(one.precision, one.threads) for one in asked[0].settings]
    assert settings == [("fp32", 1), ("fp32", 2), ("bf16", 1), ("bf16", 2)]
    assert {"nano", "pano_base_4f", "pano_small_occ3d"} <= {choice.config.name for choice in asked}


def test_another_program_is_timed_by_turns(small_bag, tmp_path, capsys):
    words = ("--against", f"{sys.executable} examples/bench_against.py", "--model", "nano", "--threads", 1)
    assert panoocc(*words, "--bag", small_bag, "--frames", 3, "--json", tmp_path / "against.json") == 0
    report = json.loads((tmp_path / "against.json").read_text())["against"]
    assert report["frames"] == 3 and report["our_cpu_ms"] > 0 and report["their_wall_ms"] > 0
    assert "above 1: ours takes less" in capsys.readouterr().out
    assert panoocc("--against", "false", "--model", "nano", "--bag", small_bag) == 1
    assert "--against: it ended with status 1" in capsys.readouterr().err


def test_another_checkout_serves(small_bag, tmp_path, capsys):
    """Ours against ours: about as fast."""
    tiny = write_tiny(tmp_path / "tiny.yaml")
    setting = ("--model", tiny, "--precision", "fp32", "--threads", 1)
    command = shlex.join([sys.executable, "-m", "panoocc_ros.commands.cli", "bench", "--serve", *map(str, setting)])
    assert panoocc("--against", command, *setting, "--bag", small_bag, "--frames", 5) == 0
    cpu_ratio = float(capsys.readouterr().out.split("ratio")[1].split()[1])
    assert 0.3 < cpu_ratio < 3


def test_over_dds_there_is_one_setting(monkeypatch, capsys):
    monkeypatch.setattr(over_dds, "live_load", lambda *_: pytest.fail("a street was rendered"))
    assert panoocc("--live", 3, "--precision", "fp32", "bf16") == 2
    assert "--precision: --live runs one setting" in capsys.readouterr().err


RIG = "reference: CAM_FRONT\ncameras:\n" + "\n".join(
    f"- {{name: {name}, topic: /own/{name}, info_topic: /own/{name}/info}}" for name in model_config("nano").cameras
)
