"""Operators against their references: values and gradients, odd sizes, positions far outside, NaN, dirty memory."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import panoocc_core.ops
from panoocc_core.ops.deform_attn import cpu, deform_attn
from panoocc_core.ops.deform_conv import deform_conv
from panoocc_core.ops.short_softmax import short_softmax
from panoocc_core.ops.voxel_warp import voxel_warp

SHAPES = ((7, 11), (4, 6), (1, 1))


@dataclass(frozen=True)
class Call:
    """One call of an operator: the tensors that gradients flow to, the arguments that follow them, and their order."""

    op: str
    tensors: tuple[Tensor, ...]
    others: tuple = ()
    ordered: Callable[..., tuple] = lambda *arguments: arguments

    @property
    def name(self) -> str:
        return "-".join([self.op, *("x".join(map(str, tensor.shape)) for tensor in self.tensors[:2])])

    def results(self, implementation: str, device: torch.device) -> list[Tensor]:
        """Output and gradients; "" is what the package itself chooses."""
        function = getattr(import_module(f"panoocc_core.ops.{self.op}{implementation}"), self.op)
        leaves = [tensor.to(device, copy=True).requires_grad_() for tensor in self.tensors]
        others = [other.to(device) if isinstance(other, Tensor) else other for other in self.others]
        out = function(*self.ordered(*leaves, *others))
        (out * torch.linspace(-1, 1, out.numel(), device=device).view_as(out)).sum().backward()
        return [out.detach(), *(leaf.grad for leaf in leaves)]


def attn_call(queries: int, rows: int, shapes, heads: int, channels: int, points: int, sources: int) -> Call:
    """Queries share rows and sources at random; some reference points lie outside."""
    draw = torch.Generator().manual_seed(1)
    tokens = sum(r * c for r, c in shapes)
    values = torch.randn(sources, tokens, heads, channels, generator=draw)
    positions = torch.rand(queries, 2, generator=draw) * 1.6 - 0.3
    offsets = (torch.rand(rows, heads, len(shapes), points, 2, generator=draw) - 0.5) * 6
    weights = torch.rand(rows, heads, len(shapes), points, generator=draw)
    which = tuple(torch.randint(0, count, (queries,), generator=draw) for count in (rows, sources))
    tensors = (values, positions, offsets, weights)
    return Call("deform_attn", tensors, which, lambda values, *rest: (values, shapes, *rest))


def conv_call(rows: int, columns: int, channels: int, outputs: int, stride: int, kernel: int = 3) -> Call:
    draw = torch.Generator().manual_seed(2)
    padding = kernel // 2
    x = torch.randn(2, channels, rows, columns, generator=draw)
    weight = torch.randn(outputs, channels, kernel, kernel, generator=draw)
    out_rows, out_columns = ((size + 2 * padding - kernel) // stride + 1 for size in (rows, columns))
    offsets = torch.randn(2, 2 * kernel**2, out_rows, out_columns, generator=draw) * 2
    masks = torch.rand(2, kernel**2, out_rows, out_columns, generator=draw)
    return Call("deform_conv", (x, offsets, masks, weight), (stride, padding))


def aggregate_call(rows: int, columns: int, groups: int, channels: int, points: int) -> Call:
    draw = torch.Generator().manual_seed(3)
    values = torch.randn(2, rows, columns, groups, channels, generator=draw)
    offsets = torch.randn(2, rows, columns, groups, points, 2, generator=draw) * 2
    return Call("deform_aggregate", (values, offsets, torch.rand(offsets.shape[:-1], generator=draw)))


def warp_call(rows: int, columns: int, layers: int, samples: int) -> Call:
    draw = torch.Generator().manual_seed(4)
    tokens = torch.randn(rows * columns * layers, 4, generator=draw)
    positions = torch.rand(samples, 3, generator=draw) * (torch.tensor((columns, rows, layers)) + 3.0) - 1.5
    return Call("voxel_warp", (tokens, positions), ((rows, columns, layers),), lambda t, p, shape: (t, shape, p))


def scalar_conv_call(shape: tuple[int, int, int], channels: int, kernel: int) -> Call:
    draw = torch.Generator().manual_seed(5)
    points = torch.randn(*shape, channels, generator=draw)
    weight = torch.randn(1, channels, kernel, kernel, kernel, generator=draw)
    return Call("scalar_conv3d", (points, weight, torch.randn(1, generator=draw)))


def softmax_call(*shape: int) -> Call:
    return Call("short_softmax", (torch.randn(shape, generator=torch.Generator().manual_seed(6)) * 40,))


CALLS = (
    attn_call(13, 9, SHAPES, heads=3, channels=5, points=4, sources=2),
    attn_call(1, 1, ((1, 1),), heads=1, channels=1, points=1, sources=1),
    attn_call(40, 3, ((3, 1), (1, 5)), heads=2, channels=8, points=3, sources=5),
    conv_call(9, 7, channels=6, outputs=4, stride=1),
    conv_call(9, 7, channels=6, outputs=4, stride=2),
    conv_call(1, 4, channels=1, outputs=1, stride=2),
    conv_call(6, 5, channels=3, outputs=2, stride=1, kernel=5),
    aggregate_call(5, 7, groups=2, channels=3, points=9),
    aggregate_call(1, 1, groups=1, channels=1, points=1),
    warp_call(5, 6, 3, samples=200),
    warp_call(1, 1, 1, samples=7),
    scalar_conv_call((4, 6, 5), channels=7, kernel=3),
    scalar_conv_call((1, 1, 3), channels=1, kernel=3),
    scalar_conv_call((2, 9, 4), channels=3, kernel=5),
    scalar_conv_call((3, 2, 2), channels=2, kernel=1),
    softmax_call(5, 2, 12),
    softmax_call(3, 1, 1),
)
named_calls = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)


def implementations(op: str) -> list[str]:
    """What the folder of an operator holds beside its reference."""
    folder = Path(panoocc_core.ops.__path__[0]) / op
    return ["", *(f".{path.stem}" for path in sorted(folder.glob("[!_]*.py")) if path.stem != "reference")]


def test_every_operator_is_tried():
    folders = {path.parent.name for path in Path(panoocc_core.ops.__path__[0]).glob("*/reference.py")}
    folders -= {"voxel_classes"}  # has no gradients, and tests of its own
    assert folders == {call.op for call in CALLS} and all(".cpu" in implementations(op) for op in folders)


@named_calls
def test_an_operator_agrees_with_its_reference_in_values_and_gradients(device, call):
    expected = call.results(".reference", device)
    for implementation in implementations(call.op):
        for ours, theirs in zip(call.results(implementation, device), expected, strict=True):
            assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.fixture
def dirty_memory():
    """Memory that is taken and not written holds NaN (or the largest integer)."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory and torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation")
@named_calls
def test_no_operator_reads_memory_that_it_has_not_written(device, call, dirty_memory):
    test_an_operator_agrees_with_its_reference_in_values_and_gradients(device, call)


def attention_inputs(device, queries=13, rows=9):
    """Values, reference points, offsets and weights; which row and source every query has."""
    call = attn_call(queries, rows, SHAPES, heads=3, channels=5, points=4, sources=2)
    return [x.to(device) for x in call.tensors], [x.to(device) for x in call.others]


def test_deform_attn_in_chunks_equals_the_whole(device, monkeypatch):
    (values, *others), which = attention_inputs(device)
    whole = deform_attn(values, SHAPES, *others, *which)
    monkeypatch.setitem(cpu.SAMPLES_AT_ONCE, device.type, 50)
    torch.testing.assert_close(deform_attn(values, SHAPES, *others, *which), whole)


def test_deform_attn_of_queries_with_their_own_rows_needs_no_list_of_them(device):
    (values, positions, offsets, weights), _ = attention_inputs(device, queries=9, rows=9)
    everyone, first = torch.arange(9, device=device), torch.zeros(9, dtype=torch.int64, device=device)
    listed = deform_attn(values, SHAPES, positions, offsets, weights, everyone, first)
    assert torch.equal(deform_attn(values[:1], SHAPES, positions, offsets, weights), listed)


def test_deform_attn_without_queries(device):
    (values, positions, offsets, weights), _ = attention_inputs(device)
    nobody = torch.zeros(0, dtype=torch.int64, device=device)
    assert deform_attn(values, SHAPES, positions[:0], offsets, weights, nobody, nobody).shape == (0, 15)


@pytest.mark.parametrize("far", [-1e9, 1e9, float("nan"), float("inf")])
def test_positions_far_away_read_zeros_and_nan_stays_in_its_query(device, far):
    (values, positions, offsets, weights), which = attention_inputs(device)
    before = deform_attn(values, SHAPES, positions, offsets, weights, *which)
    positions[3] = far
    after = deform_attn(values, SHAPES, positions, offsets, weights, *which)
    assert not after[3].abs().gt(0).any()  # zeros, or NaN for a NaN position
    others = [i for i in range(len(after)) if i != 3]
    torch.testing.assert_close(after[others], before[others])


def test_deform_conv_without_moves_is_a_convolution(device):
    draw = torch.Generator().manual_seed(2)
    x, weight = torch.randn(2, 6, 9, 7, generator=draw).to(device), torch.randn(4, 6, 3, 3, generator=draw).to(device)
    for stride in (1, 2):
        plain = functional.conv2d(x, weight, stride=stride, padding=1)
        images, _, rows, columns = plain.shape
        offsets = torch.zeros(images, 18, rows, columns, device=device)
        masks = torch.ones(images, 9, rows, columns, device=device)
        torch.testing.assert_close(deform_conv(x, offsets, masks, weight, stride), plain, rtol=1e-4, atol=1e-4)


def test_deform_conv_moves_one_tap_in_y_then_x(device):
    x = torch.arange(30.0, device=device).view(1, 1, 5, 6)
    weight = torch.zeros(1, 1, 3, 3, device=device)
    weight[0, 0, 1, 1] = 2.0  # the middle tap only
    offsets = torch.zeros(1, 18, 5, 6, device=device)
    offsets[:, 8], offsets[:, 9] = 1.0, 0.5  # dy, dx of tap 4
    masks = torch.full((1, 9, 5, 6), 0.5, device=device)
    out = deform_conv(x, offsets, masks, weight)
    assert out[0, 0, 1, 2].item() == pytest.approx((x[0, 0, 2, 2] + x[0, 0, 2, 3]).item() / 2)
    assert out[0, 0, 4, 2].item() == 0  # below the map


def test_voxel_warp_in_half_precision_keeps_float32_positions(device):
    tokens = torch.arange(2000.0, device=device)[:, None].repeat(1, 8) / 1000
    positions = torch.zeros(1, 3, device=device)
    positions[0, 0] = 1234.25  # half precision knows only whole numbers here
    out = voxel_warp(tokens.half(), (1, 2000, 1), positions)
    assert out[0, 0].item() == pytest.approx(1.23425, abs=2e-3)


def test_short_softmax_is_contiguous_and_takes_no_rows(device):
    logits = torch.randn(6, 2, 4, device=device)
    assert short_softmax(logits).is_contiguous() and short_softmax(logits[:0]).shape == (0, 2, 4)


def test_what_an_inference_has_left_serves_a_training(device):
    (values, *others), which = attention_inputs(device)
    cpu._samples.cache_clear()
    with torch.inference_mode():
        deform_attn(values, SHAPES, *others, *which)
    points = others[0].requires_grad_()
    deform_attn(values, SHAPES, points, *others[1:], *which).sum().backward()
    assert points.grad.abs().max() > 0
