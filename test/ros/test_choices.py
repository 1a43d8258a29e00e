"""What node and commands say of a device that is not what may have been meant, each with parameter and remedy."""

import pytest
import torch

from panoocc_core.base import devices
from panoocc_core.config import model_config
from panoocc_ros.commands.cli import main
from panoocc_ros.health.ledger import Accounts
from panoocc_ros.health.verdicts import DEVICE_NOTES, OK, WARN, model_health
from panoocc_ros.node import choices
from panoocc_ros.node.choices import device_notes, loaded_network, warn_once
from panoocc_ros.ros.parameter_fields import SettingsError

NANO = model_config("nano")


@pytest.fixture(autouse=True)
def a_build_without_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    warn_once.cache_clear()


def test_auto_without_a_gpu_is_a_warning_and_cpu_is_none():
    (note,) = device_notes("auto", "fp32")
    assert "device auto takes the CPU" in note and "without CUDA" in note and "set device to cpu" in note
    assert device_notes("cpu", "fp32") == ()
    words = []
    loaded_network(NANO, device="auto", warn=words.append)
    assert words == [note]


def test_a_command_warns_once_however_many_networks_it_loads(capsys):
    for _ in range(2):
        loaded_network(NANO, device="auto")
    assert capsys.readouterr().err.count("panoocc: WARNING, device auto takes the CPU") == 1


def test_the_status_of_the_model_is_a_warning_with_what_to_do():
    facts = {"model": "nano", "device": "cpu", DEVICE_NOTES: device_notes("auto", "fp32")[0]}
    health = model_health(facts, False, Accounts(), {})
    assert health.level == WARN and "device auto takes the CPU" in health.message and "set device" in health.remedy
    assert model_health({"model": "nano", "device": "cpu"}, False, Accounts(), {}).level == OK
    assert "seeded" in model_health(facts, True, Accounts(), {}).message


def test_cuda_that_is_not_there_never_becomes_the_cpu():
    with pytest.raises(SettingsError, match="^parameter device: device 'cuda' cannot be used") as refused:
        loaded_network(NANO, device="cuda")
    assert refused.value.names == ("device",)


def test_a_precision_that_a_gpu_lacks_is_refused_by_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(SettingsError, match="^parameter precision: .* Tesla T4 has 7.5: use fp16 or fp32"):
        loaded_network(NANO, device="cuda", precision="bf16")


def test_a_precision_that_saves_nothing_is_told(monkeypatch):
    monkeypatch.setattr(devices, "multiplies_natively", lambda precision: False)
    assert "precision bf16 saves no time here" in device_notes("cpu", "bf16")[0]


def test_operators_without_kernels_are_told(monkeypatch):
    monkeypatch.setattr(choices, "why_no_kernels", lambda device: f"{device} runs operators without kernels")
    assert device_notes("cpu", "fp32") == ("cpu runs operators without kernels",)


def test_too_little_memory_is_told_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr(choices, "free_memory", lambda device: 100_000_000)
    monkeypatch.setattr(choices, "load_model", lambda *_: pytest.fail("loaded"))
    text = r"parameters model and device: pano_base_occ3d needs \d.\d\d GB at least"
    with pytest.raises(SettingsError, match=text) as no:
        loaded_network(model_config("pano_base_occ3d"), seeded_weights=True, device="cpu")
    assert "0.10 GB are free: take a smaller preset" in str(no.value) and "history 2." in str(no.value)


def test_a_command_refuses_cuda_that_is_not_there(capsys, tmp_path):
    assert main(["bench", "--frames", "2", "--device", "cuda", "--json", str(tmp_path / "a.json")]) == 2
    error = capsys.readouterr().err
    assert "--device: device 'cuda' cannot be used: torch" in error and "is built without CUDA" in error
