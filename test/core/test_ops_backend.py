"""Which implementation operators run, by choice and by device; the adapter to the package deformops."""

import _ctypes
import shutil
import sys
import warnings
from importlib.machinery import ModuleSpec
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn import functional

from panoocc_core.ops import backend, native_library
from panoocc_core.ops.deform_attn import deformops, reference
from panoocc_core.ops.reference_mode import reference_operators

from .test_ops import CALLS
from .toy_training import curve_without_seconds, recipe, trained, write_network

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing chosen, nothing asked before; one thread, as in the other tests of trainings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(backend, "_chosen", None)
    monkeypatch.delenv(backend.VARIABLE, raising=False)
    asked = (backend._why_none, native_library.library)
    monkeypatch.setattr(backend, "_told", set())
    for each in asked:
        each.cache_clear()
    yield
    for each in asked:
        each.cache_clear()
    torch.set_num_threads(threads)


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has one, of a capability, with these packages."""

    def give(capability: tuple[int, int], *packages: str) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(backend, "find_spec", lambda name: name in packages)

    return give


def test_kernels_run_where_they_can(gpu):
    gpu((9, 0), "triton")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backend.running_kernels(CPU) == "native" and backend.running_kernels(CUDA) == "triton"
        assert backend.running_kernels(torch.device("meta")) == "torch"
    with reference_operators():
        assert backend.running_kernels(CUDA) == "reference"


@pytest.mark.parametrize(
    "capability, packages, reason",
    [((9, 0), (), "triton is not installed"), ((7, 5), ("triton",), "capability is 7.5")],
)
def test_cuda_without_kernels_is_said_once(gpu, capability, packages, reason):
    gpu(capability, *packages)
    with pytest.warns(RuntimeWarning, match=f"several times slower: .*{reason}.*PANOOCC_KERNELS=torch") as told:
        assert [backend.running_kernels(CUDA) for _ in range(3)] == ["torch"] * 3
    assert len(told) == 1


def test_a_cpu_without_compiled_operators_is_said_once(monkeypatch, tmp_path):
    """They were never built, or before the package was renewed."""
    monkeypatch.setattr(native_library, "__file__", str(tmp_path / "native_library.py"))
    with pytest.warns(RuntimeWarning, match="long: .* not there; build .*make setup.*PANOOCC_KERNELS=torch") as told:
        assert [backend.running_kernels(CPU) for _ in range(3)] == ["torch"] * 3
    assert len(told) == 1
    assert "attention takes two to three times as long" in backend.why_no_kernels(CPU)
    backend.use_kernels("torch")
    assert backend.why_no_kernels(CPU) is None


def test_what_is_told_as_a_note_is_no_warning_too(monkeypatch, tmp_path):
    monkeypatch.setattr(native_library, "__file__", str(tmp_path / "native_library.py"))
    assert backend.why_no_kernels(CPU) is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backend.running_kernels(CPU) == "torch"


def test_a_library_that_cannot_be_used_is_told_with_what_to_do(monkeypatch, tmp_path):
    built = Path(native_library.__file__).with_name(native_library.NAME)
    monkeypatch.setattr(native_library, "ABI", 0)
    with pytest.raises(OSError, match=f"{built} is of another version of panoocc: delete it, and build it"):
        native_library.library()
    monkeypatch.setattr(native_library, "__file__", str(tmp_path / "native_library.py"))
    (tmp_path / native_library.NAME).write_text("no library")
    with pytest.raises(OSError, match="cannot be used .*: delete it, and build it"):
        native_library.library()
    shutil.copy(_ctypes.__file__, tmp_path / native_library.NAME)  # a library of something else
    with pytest.raises(OSError, match="cannot be used .*panoocc_abi.*: delete it, and build it"):
        native_library.library()


def test_a_choice_holds_for_the_process_and_is_made_by_name(gpu, monkeypatch):
    gpu((9, 0), "triton", "deformops")
    monkeypatch.setenv(backend.VARIABLE, "torch")
    assert {backend.running_kernels(device) for device in (CPU, CUDA)} == {"torch"} == {backend.chosen_kernels()}
    backend.use_kernels("deformops")
    assert backend.running_kernels(CUDA, has_deformops=True) == "deformops"
    assert backend.running_kernels(CUDA) == "triton" and backend.running_kernels(CPU) == "native"


@pytest.mark.parametrize(
    "wanted, message",
    [
        ("fast", "kernels 'fast' are unknown; use one of auto, torch, triton, deformops"),
        ("triton", "need the package triton"),
        ("deformops", "need the package deformops .*pip install deformops"),
    ],
)
def test_what_cannot_run_is_refused_when_it_is_chosen(gpu, monkeypatch, wanted, message):
    gpu((9, 0))
    with pytest.raises(ValueError, match=message):
        backend.use_kernels(wanted)
    monkeypatch.setenv(backend.VARIABLE, wanted)
    with pytest.raises(ValueError, match=message):
        backend.running_kernels(CPU)


def documented_msda(value, shapes, starts, locations, weights, /):
    """Multi-scale deformable attention as the package documents it: [B, Q, G * D] of value [B, sum H W, G, D], shapes
    [L, 2] (rows, columns), starts [L], locations [B, Q, G, L, K, 2] in 0..1 and weights [B, Q, G, L * K]."""
    batch, _, groups, depth = value.shape
    assert starts.tolist() == [0, *(b - 0 for a, b in pairwise([0, *shapes.prod(1).cumsum(0).tolist()]))][:-1]
    weights = weights.unflatten(3, locations.shape[3:5])
    out = 0
    for level, (rows, columns) in enumerate(shapes.tolist()):
        cells = value[:, starts[level] : starts[level] + rows * columns]
        maps = cells.permute(0, 2, 3, 1).reshape(batch * groups, depth, rows, columns)
        grid = locations[:, :, :, level].transpose(1, 2).flatten(0, 1) * 2 - 1  # [B * G, Q, K, 2]
        sampled = functional.grid_sample(maps, grid, align_corners=False)  # [B * G, D, Q, K]
        out = out + (sampled * weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]).sum(-1)
    return out.unflatten(0, (batch, groups)).permute(0, 3, 1, 2).flatten(2)


@pytest.fixture
def package(monkeypatch):
    """The package's place is taken by what it documents, unless it is there."""
    try:
        import deformops.registry as _  # noqa: F401
    except ImportError:
        registry = ModuleType("deformops.registry")
        registry.msda = documented_msda
        for name, module in (("deformops", ModuleType("deformops")), ("deformops.registry", registry)):
            module.__spec__ = ModuleSpec(name, None)
            monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("call", [call for call in CALLS if call.op == "deform_attn"], ids=lambda call: call.name)
def test_deformops_gives_values_and_gradients_of_the_reference(package, device, call):
    expected = call.results(".reference", device)
    for ours, theirs in zip(call.results(".deformops", device), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=5e-5)


def test_deformops_of_queries_that_see_nothing(package, device):
    call = CALLS[0]
    values, shapes, points, offsets, weights, source = call.ordered(*call.tensors, *call.others)
    for nothing in (torch.full_like(source, -1), source[:0]):
        of = slice(0, len(nothing))
        arguments = (values, shapes, points[of], offsets[of], weights[of], nothing)
        torch.testing.assert_close(deformops.deform_attn(*arguments), reference.deform_attn(*arguments))


def test_a_recipe_trains_with_the_kernels_that_it_names(package, tmp_path, monkeypatch):
    """As if with torch, by another package; one that is not installed is refused before anything is written."""
    network = write_network(tmp_path)
    calls = []
    registry = sys.modules["deformops.registry"]
    monkeypatch.setattr(registry, "msda", lambda *inputs, own=registry.msda: calls.append(0) or own(*inputs))
    losses = []
    for kernels in ("auto", "deformops"):
        trained(recipe(network, epochs=1, kernels=kernels), tmp_path / kernels)
        assert bool(calls) == (kernels == "deformops")
        header, *rows = curve_without_seconds(tmp_path / kernels)
        losses.append([float(row[header.index("loss")]) for row in rows])
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5) and len(set(losses[0])) > 1
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)  # Adam magnifies the last bits

    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install deformops"):
        trained(recipe(network, kernels="deformops"), tmp_path / "none")
    assert not (tmp_path / "none").exists()
