"""Devices and precisions that cannot be used, or are not what may have been meant: the cause and what to do."""

import pytest
import torch

from panoocc_core.base import devices, memory_use, processors
from panoocc_core.base.devices import check_precision, usable_device, why_no_gpu
from panoocc_core.base.memory_use import free_memory
from panoocc_core.base.processors import multiplies_natively
from panoocc_core.config import model_config
from panoocc_core.memory import history_bytes

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
FAILURES = {  # what torch says -> what is to be done
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU": "system: install it",
    "The NVIDIA driver on your system is too old (found version 11040). Please update": "update the driver, or install",
    "No CUDA GPUs are available": "look at CUDA_VISIBLE_DEVICES, and in a container at --gpus all",
}


@pytest.fixture
def without_gpu(monkeypatch):
    """A CUDA build of torch, which can use no GPU for a reason."""

    def because(text):
        def fail():
            raise RuntimeError(text)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.version, "cuda", "12.8")
        monkeypatch.setattr(torch.cuda, "init", fail)

    return because


@pytest.fixture
def gpus(monkeypatch):
    """So many GPUs of a compute capability."""

    def there(count, capability=(9, 0)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")

    return there


@pytest.mark.parametrize("said", FAILURES)
def test_why_torch_finds_no_gpu_is_told_with_a_remedy(without_gpu, said):
    without_gpu(said)
    assert FAILURES[said] in why_no_gpu()
    with pytest.raises(ValueError, match="device 'cuda' cannot be used: .*; or use device cpu") as error:
        usable_device("cuda")
    assert FAILURES[said] in str(error.value) and "\n" not in str(error.value)
    assert usable_device("auto") == CPU


def test_a_build_without_cuda_is_told_from_a_machine_without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(ValueError, match="is built without CUDA: install a CUDA build"):
        usable_device("cuda:0")


def test_a_number_that_no_gpu_has_is_told_with_those_that_there_are(gpus):
    gpus(2)
    assert usable_device("cuda:1").index == 1 and usable_device("auto").type == "cuda" and why_no_gpu() is None
    with pytest.raises(ValueError, match="device 'cuda:2' is not on this machine: it has cuda:0, cuda:1"):
        usable_device("cuda:2")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_on_a_processor_that_does_not_multiply_it_is_told_and_done(monkeypatch, precision):
    monkeypatch.setattr(devices, "multiplies_natively", lambda precision: False)
    assert f"precision {precision} saves no time" in check_precision(CPU, precision)
    assert check_precision(CPU, "fp32") is None
    monkeypatch.setattr(devices, "multiplies_natively", lambda precision: True)
    saves_time = check_precision(CPU, precision) is None
    assert saves_time == (precision == "bf16")


def test_precisions_by_the_compute_capability(gpus):
    gpus(1, (7, 5))
    with pytest.raises(ValueError, match="precision bf16 needs compute capability 8.0 or later, and Tesla T4 has 7.5"):
        check_precision(CUDA, "bf16")
    assert check_precision(CUDA, "fp16") is None
    gpus(1, (6, 1))
    assert "has no tensor cores" in check_precision(CUDA, "fp16")
    gpus(1, (8, 7))
    assert check_precision(CUDA, "bf16") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse avx512_bf16\n", (True, False)),
        ("flags\t\t: fpu amx_bf16 amx_fp16\n", (True, True)),
        ("Features\t: fp asimd asimdhp\n", (False, True)),
        ("flags\t\t: fpu notbf16\n", (False, False)),
        (None, (False, False)),
    ],
)
def test_what_a_processor_multiplies_stands_in_its_flags(tmp_path, monkeypatch, text, found):
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(processors, "CPU_INFO", path)
    multiplies_natively.cache_clear()
    assert (multiplies_natively("bf16"), multiplies_natively("fp16")) == found
    multiplies_natively.cache_clear()


def test_the_memory_of_the_history_follows_from_the_configuration():
    config = model_config("pano_small_occ3d")
    assert history_bytes(config, 4) == 2 * history_bytes(config, 2) > 100e6
    assert history_bytes(model_config("nano"), 4) < 100e6 < free_memory(CPU)


def test_a_container_has_no_more_memory_than_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_use, "CONTROL_GROUP", tmp_path)
    whole = free_memory(CPU)
    (tmp_path / "memory.max").write_text("300000000\n")
    (tmp_path / "memory.current").write_text("100000000\n")
    assert free_memory(CPU) == 200_000_000 < whole
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(CPU) > 200_000_000
