"""Operators against their references: values and gradients, odd sizes, positions far outside, NaN, dirty memory."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

import panoocc_core.ops
from panoocc_core.ops.deform_attn import deform_attn, native, reference, tuned
from panoocc_core.ops.deform_conv import deform_conv
from panoocc_core.ops.interpolation import ring_cells
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


def attn_call(queries: int, slots: int, shapes, heads: int, channels: int, points: int, sources: int) -> Call:
    """Slots have sources at random, some none; some reference points lie outside."""
    draw = torch.Generator().manual_seed(1)
    maps = [torch.randn(sources, rows, columns, heads, channels, generator=draw) for rows, columns in shapes]
    positions = torch.rand(queries, slots, 2, generator=draw) * 1.6 - 0.3
    offsets = (torch.rand(queries, heads, len(shapes), points, 2, generator=draw) - 0.5) * 6
    weights = torch.rand(queries, heads, len(shapes), points, generator=draw)
    source = torch.randint(-1, sources, (queries, slots), generator=draw, dtype=torch.int32)
    source[0] = 0

    def ordered(*arguments):
        *levels, positions, offsets, weights, source = arguments
        return ringed(levels), shapes, positions, offsets, weights, source

    return Call("deform_attn", (*maps, positions, offsets, weights), (source,), ordered)


def ringed(maps) -> Tensor:
    """Maps [source, row, column, head, channel] as the operator takes them."""
    return torch.cat([functional.pad(level, (0, 0, 0, 0, 1, 1, 1, 1)).flatten(1, 2) for level in maps], dim=1)


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


def warp_call(rows: int, columns: int, layers: int, states: int, slots: int | None = None) -> Call:
    """Volumes that were turned and moved by some voxels since, with the current one if there are slots."""
    draw = torch.Generator().manual_seed(4)
    count = rows * columns * layers
    volumes = [torch.randn(count, 4, generator=draw) for _ in range(states + (slots is not None))]
    turns = torch.eye(3) + torch.randn(states, 3, 3, generator=draw) * 0.1
    motions = torch.cat((turns, torch.randn(states, 3, 1, generator=draw) * 1.5), dim=2)

    def ordered(motions: Tensor, *volumes: Tensor) -> tuple:
        current = None if slots is None else volumes[-1]
        return volumes[:states], motions, (rows, columns, layers), current, slots or states

    return Call("voxel_warp", (motions, *volumes), (), ordered)


def scalar_conv_call(shape: tuple[int, int, int], channels: int, kernel: int) -> Call:
    draw = torch.Generator().manual_seed(5)
    points = torch.randn(*shape, channels, generator=draw)
    weight = torch.randn(1, channels, kernel, kernel, kernel, generator=draw)
    return Call("scalar_conv3d", (points, weight, torch.randn(1, generator=draw)))


CALLS = (
    attn_call(13, 3, SHAPES, heads=3, channels=5, points=4, sources=2),
    attn_call(1, 1, ((1, 1),), heads=1, channels=1, points=1, sources=1),
    attn_call(40, 6, ((3, 1), (1, 5)), heads=2, channels=8, points=3, sources=5),
    attn_call(300, 2, ((3, 9), (2, 5)), heads=2, channels=56, points=5, sources=3),
    conv_call(9, 7, channels=6, outputs=4, stride=1),
    conv_call(9, 7, channels=6, outputs=4, stride=2),
    conv_call(1, 4, channels=1, outputs=1, stride=2),
    conv_call(6, 5, channels=3, outputs=2, stride=1, kernel=5),
    aggregate_call(5, 7, groups=2, channels=3, points=9),
    aggregate_call(1, 1, groups=1, channels=1, points=1),
    warp_call(5, 6, 3, states=2),
    warp_call(1, 1, 1, states=1),
    warp_call(4, 7, 2, states=2, slots=5),
    scalar_conv_call((4, 6, 5), channels=7, kernel=3),
    scalar_conv_call((1, 1, 3), channels=1, kernel=3),
    scalar_conv_call((2, 9, 4), channels=3, kernel=5),
    scalar_conv_call((3, 2, 2), channels=2, kernel=1),
)
named_calls = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)


def test_every_operator_is_tried():
    folders = {path.parent.name for path in Path(panoocc_core.ops.__path__[0]).glob("*/reference.py")}
    folders -= {"voxel_classes"}  # has no gradients, and tests of its own
    assert folders == {call.op for call in CALLS}


@named_calls
def test_an_operator_agrees_with_its_reference_in_values_and_gradients(device, call):
    expected = call.results(".reference", device)
    for implementation in ("", ".tuned"):  # kernels without a GPU: test/kernels
        for ours, theirs in zip(call.results(implementation, device), expected, strict=True):
            assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


@named_calls
def test_an_operator_gives_the_same_where_no_gradient_flows(device, call):
    expected = call.results("", device)[0]
    function = getattr(import_module(f"panoocc_core.ops.{call.op}"), call.op)
    given = [each.to(device) if isinstance(each, Tensor) else each for each in (*call.tensors, *call.others)]
    with torch.inference_mode():
        torch.testing.assert_close(function(*call.ordered(*given)), expected, equal_nan=True)


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
    test_an_operator_gives_the_same_where_no_gradient_flows(device, call)


# Of a head: on a CPU the compiled loops take multiples of 8.
of_channels = pytest.mark.parametrize("channels", [5, 8])


def attention_inputs(device, channels=5):
    """Values, reference points, offsets, weights and sources."""
    call = attn_call(13, 3, SHAPES, heads=3, channels=channels, points=4, sources=2)
    values, _, *others = call.ordered(*call.tensors, *call.others)
    return [tensor.to(device) for tensor in (values, *others)]


def test_deform_attn_in_chunks_equals_the_whole(device, monkeypatch):
    values, *others = attention_inputs(device)
    whole = deform_attn(values, SHAPES, *others)
    monkeypatch.setitem(tuned.SAMPLES_AT_ONCE, device.type, 50)
    torch.testing.assert_close(deform_attn(values, SHAPES, *others), whole)


@of_channels
def test_deform_attn_of_one_source_needs_no_list_of_it(device, channels):
    values, positions, offsets, weights, source = attention_inputs(device, channels)
    one = (values[:1], SHAPES, positions[:, :1], offsets, weights)
    torch.testing.assert_close(deform_attn(*one, torch.zeros_like(source[:, :1])), deform_attn(*one))


@of_channels
def test_deform_attn_of_queries_that_see_nothing(device, channels):
    values, positions, offsets, weights, source = attention_inputs(device, channels)
    nothing = deform_attn(values, SHAPES, positions, offsets, weights, torch.full_like(source, -1))
    assert nothing.shape == (13, 3 * channels) and not nothing.any()
    none = (positions[:0], offsets[:0], weights[:0], source[:0])
    assert deform_attn(values, SHAPES, *none).shape == (0, 3 * channels)


@of_channels
def test_deform_attn_takes_the_mean_over_the_slots_that_exist(device, channels):
    values, positions, offsets, weights, source = attention_inputs(device, channels)
    single = []
    for slot in range(3):
        source[:, slot] = slot % 2
        one = slice(slot, slot + 1)
        single.append(deform_attn(values, SHAPES, positions[:, one], offsets, weights, source[:, one]))
    source[:, 1] = -1
    both = deform_attn(values, SHAPES, positions, offsets, weights, source)
    torch.testing.assert_close(both, (single[0] + single[2]) / 2)


@of_channels
def test_deform_attn_reads_offsets_whose_x_and_y_lie_far_apart(device, channels):
    values, positions, offsets, weights, source = attention_inputs(device, channels)
    apart = offsets.movedim(-1, 1).contiguous().movedim(1, -1)
    assert not apart.is_contiguous()
    expected = deform_attn(values, SHAPES, positions, offsets, weights, source)
    assert torch.equal(deform_attn(values, SHAPES, positions, apart, weights, source), expected)


def test_maps_with_more_rows_than_float32_counts_are_refused(device):
    values, places, offsets, weights, source = attention_inputs(device)
    with pytest.raises(ValueError, match="more than 16777216 rows: take smaller images"):
        tuned.deform_attn(values, ((4000, 4000), *SHAPES[1:]), places, offsets, weights, source)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_compiled_attention_is_that_of_the_reference(monkeypatch, dtype, tolerance, threads):
    """Of values in either type, with queries for several threads and views of all kinds."""
    call = attn_call(300, 3, SHAPES, heads=2, channels=40, points=5, sources=4)
    values, _, positions, offsets, weights, source = call.ordered(*call.tensors, *call.others)
    views = (positions.transpose(0, 1).contiguous().transpose(0, 1), offsets.to(dtype), weights.to(dtype))
    arguments = (values.to(dtype), SHAPES, *views, source.t().contiguous().t())
    rounded = [given.to(dtype).float() for given in (values, offsets, weights)]
    expected = reference.deform_attn(rounded[0], SHAPES, positions, *rounded[1:], source)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert native.takes(*arguments[:1], *views)
    found = native.deform_attn(*arguments)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)


def test_compiled_attention_takes_what_it_is_made_for():
    values, positions, offsets, weights, _ = attention_inputs("cpu", channels=8)
    assert native.takes(values, positions, offsets, weights)
    assert not native.takes(values[..., :5], positions, offsets, weights)
    assert not native.takes(values.double(), positions, offsets, weights)
    for samples, fits in ((1024, True), (1025, False)):
        assert native.takes(values, positions, offsets, torch.empty(1, 1, 1, samples)) is fits
    for cells, fits in (((1 << 28) - 1, True), (1 << 28, False)):
        assert native.takes(torch.empty(1).expand(1, cells, 8, 8), positions, offsets, weights) is fits
    with FakeTensorMode() as fake:
        assert not native.takes(fake.from_tensor(values), positions, offsets, weights)
    for wanting in (values, positions, offsets, weights):
        wanting.requires_grad_()
        assert not native.takes(values, positions, offsets, weights)
        with torch.no_grad():
            assert native.takes(values, positions, offsets, weights)
        wanting.requires_grad_(False)


def test_compiled_attention_takes_other_types_and_defaults(monkeypatch):
    """Whatever a program has set, and numbers in types that torch's operations would take too."""
    values, positions, offsets, weights, source = attention_inputs("cpu", channels=8)
    expected = native.deform_attn(values, SHAPES, positions, offsets, weights, source)
    wide = (values, SHAPES, positions.double(), offsets.double(), weights.double(), source.long())
    torch.testing.assert_close(native.deform_attn(*wide), expected)
    try:
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"):
            torch.testing.assert_close(native.deform_attn(*wide), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"shapes": ((7, 12), *SHAPES[1:])}, r"cells of values: \[.*\], and beside the other arguments it must be"),
        ({"weights": (7,)}, "offsets: "),
        ({"offsets": (7,)}, "offsets: "),
        ({"reference_points": (7,)}, "reference_points: "),
        ({"source": (7,)}, "source: "),
        ({"source": None}, "reference_points: "),
        ({"source": None, "reference_points": (13, 1)}, "values holds 2 maps, and source does not say"),
        ({"source": 2}, "source names map 2, and values holds 2"),
    ],
    ids=str,
)
def test_compiled_attention_refuses_what_does_not_fit(changes, message):
    """It would read memory that is not its own."""
    values, positions, offsets, weights, source = attention_inputs("cpu", channels=8)
    names = ("values", "shapes", "reference_points", "offsets", "weights", "source")
    given = dict(zip(names, (values, SHAPES, positions, offsets, weights, source)))
    for name, change in changes.items():
        if isinstance(change, int):
            given[name] = torch.full_like(given[name], change)
        elif change is None or name == "shapes":
            given[name] = change
        else:
            given[name] = given[name][tuple(slice(size) for size in change)]
    with pytest.raises(ValueError, match=message):
        native.deform_attn(**given)


def test_the_ring_is_what_surrounds_every_map(device):
    cells = sum((rows + 2) * (columns + 2) for rows, columns in SHAPES)
    inside = ringed([torch.ones(1, rows, columns, 1, 1) for rows, columns in SHAPES]).flatten().bool()
    ring = ring_cells(SHAPES, device).cpu()
    assert sorted([*ring.tolist(), *inside.nonzero().squeeze(1).tolist()]) == list(range(cells))


@of_channels
@pytest.mark.parametrize("far", [-1e9, 1e9, float("nan"), float("inf")])
def test_positions_far_away_read_zeros_and_nan_stays_in_its_query(device, far, channels):
    values, positions, offsets, weights, source = attention_inputs(device, channels)
    source[3] = 0
    before = deform_attn(values, SHAPES, positions, offsets, weights, source)
    positions[3] = far
    after = deform_attn(values, SHAPES, positions, offsets, weights, source)
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


def test_voxel_warp_in_half_precision_keeps_float32_places(device):
    tokens = torch.arange(2000.0, device=device)[:, None].repeat(1, 8) / 1000
    motions = torch.eye(3, 4, device=device)[None]
    motions[0, 0, 3] = 0.25
    out = voxel_warp([tokens.half()], motions, (1, 2000, 1))
    # Half precision knows only whole numbers at 1234.
    assert out.dtype == torch.half and out[1234, 0].item() == pytest.approx(1.23425, abs=1e-3)
    exact = voxel_warp([tokens], motions.double(), (1, 2000, 1))
    torch.testing.assert_close(voxel_warp([tokens], motions, (1, 2000, 1)), exact, atol=1e-6, rtol=0)


def test_voxel_warp_puts_the_oldest_volume_where_one_is_missing(device):
    old, new, now = (torch.full((6, 2), value, device=device) for value in (1.0, 2.0, 3.0))
    still = torch.eye(3, 4, device=device)[None].expand(2, -1, -1)
    assert voxel_warp([old, new], still, (1, 2, 3), now, 5)[0].tolist() == [1, 1, 1, 1, 1, 1, 2, 2, 3, 3]
    assert voxel_warp([], still[:0], (1, 2, 3), now, 2)[0].tolist() == [3, 3, 3, 3]
    with pytest.raises(ValueError, match="3 volumes do not fit into 2 slots"):
        voxel_warp([old, new], still, (1, 2, 3), now, 2)


def test_what_an_inference_has_left_serves_a_training(device):
    values, *others = attention_inputs(device)
    tuned._samples.cache_clear()
    with torch.inference_mode():
        deform_attn(values, SHAPES, *others)
    points = others[0].requires_grad_()
    deform_attn(values, SHAPES, points, *others[1:]).sum().backward()
    assert points.grad.abs().max() > 0
