"""Operators against naive versions: values and gradients, odd sizes, positions far outside, NaN."""

import pytest
import torch
from torch.nn import functional

from panoocc_core.ops.deform_aggregate import deform_aggregate
from panoocc_core.ops.deform_attn import deform_attn, reference
from panoocc_core.ops.deform_conv import deform_conv
from panoocc_core.ops.short_softmax import short_softmax
from panoocc_core.ops.voxel_warp import voxel_warp

SHAPES = ((7, 11), (4, 6), (1, 1))


def naive_deform_attn(values, shapes, positions, offsets, weights, query, source):
    """One grid_sample a visit, head and level."""
    visits, heads = len(positions), weights.shape[1]
    levels = values.split([r * c for r, c in shapes], dim=1)
    out = []
    for v, q in enumerate(query):
        for h in range(heads):
            total = 0
            for level, (tokens, (rows, columns)) in enumerate(zip(levels, shapes)):
                image = tokens[source[v], :, h].T.reshape(1, -1, rows, columns)
                locations = positions[v] + offsets[q, h, level] / offsets.new_tensor((columns, rows))
                grid = locations[None, None] * 2 - 1
                sampled = functional.grid_sample(image, grid, align_corners=False)[0, :, 0]  # [channel, point]
                total = total + sampled @ weights[q, h, level]
            out.append(total)
    return torch.stack(out).view(visits, -1)


def attention_inputs(device, visits=13, queries=9, heads=3, channels=5, points=4, sources=2):
    """Values, positions, offsets and weights; which query and source every visit belongs to."""
    draw = torch.Generator().manual_seed(1)
    tokens = sum(r * c for r, c in SHAPES)
    rand = lambda *shape: torch.rand(*shape, generator=draw)  # noqa: E731
    values = torch.randn(sources, tokens, heads, channels, generator=draw)
    positions = rand(visits, 2) * 1.6 - 0.3  # some lie outside
    offsets = (rand(queries, heads, len(SHAPES), points, 2) - 0.5) * 6
    weights = rand(queries, heads, len(SHAPES), points)
    query, source = (torch.randint(0, most, (visits,), generator=draw) for most in (queries, sources))
    return [x.to(device) for x in (values, positions, offsets, weights)], [query.to(device), source.to(device)]


def test_deform_attn_agrees_with_grid_sample_in_values_and_gradients(device):
    tensors, visits = attention_inputs(device)
    results = []
    for op in (deform_attn, naive_deform_attn):
        values, *others = leaves = [x.clone().requires_grad_() for x in tensors]
        out = op(values, SHAPES, *others, *visits)
        (out * torch.linspace(-1, 1, out.numel(), device=device).view_as(out)).sum().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_deform_attn_in_chunks_equals_the_whole(device, monkeypatch):
    (values, *others), visits = attention_inputs(device)
    whole = deform_attn(values, SHAPES, *others, *visits)
    monkeypatch.setitem(reference.SAMPLES_AT_ONCE, device.type, 50)
    torch.testing.assert_close(deform_attn(values, SHAPES, *others, *visits), whole)


def test_deform_attn_with_one_visit_a_query_needs_no_list_of_them(device):
    (values, positions, offsets, weights), _ = attention_inputs(device, visits=9, queries=9)
    everyone, first = torch.arange(9, device=device), torch.zeros(9, dtype=torch.int64, device=device)
    listed = deform_attn(values, SHAPES, positions, offsets, weights, everyone, first)
    assert torch.equal(deform_attn(values[:1], SHAPES, positions, offsets, weights), listed)


def test_deform_attn_without_visits(device):
    (values, positions, offsets, weights), _ = attention_inputs(device)
    nobody = torch.zeros(0, dtype=torch.int64, device=device)
    assert deform_attn(values, SHAPES, positions[:0], offsets, weights, nobody, nobody).shape == (0, 15)


@pytest.mark.parametrize("far", [-1e9, 1e9, float("nan"), float("inf")])
def test_positions_far_away_read_zeros_and_nan_stays_in_its_visit(device, far):
    (values, positions, offsets, weights), visits = attention_inputs(device)
    before = deform_attn(values, SHAPES, positions, offsets, weights, *visits)
    positions[3] = far
    after = deform_attn(values, SHAPES, positions, offsets, weights, *visits)
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


def test_deform_aggregate_agrees_with_deform_attn(device):
    draw = torch.Generator().manual_seed(3)
    rows, columns, groups, channels, points = 5, 7, 2, 3, 9
    values = torch.randn(1, rows, columns, groups, channels, generator=draw).to(device)
    offsets = (torch.randn(1, rows, columns, groups, points, 2, generator=draw) * 2).to(device)
    weights = torch.rand(1, rows, columns, groups, points, generator=draw).to(device)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centres = (torch.stack((x, y), -1).view(-1, 2) + 0.5) / torch.tensor([columns, rows])
    expected = deform_attn(
        values.flatten(1, 2),
        ((rows, columns),),
        centres.to(device),
        offsets.reshape(rows * columns, groups, 1, points, 2),
        weights.reshape(rows * columns, groups, 1, points),
    )
    out = deform_aggregate(values, offsets, weights)
    torch.testing.assert_close(out.view(rows * columns, -1), expected, rtol=1e-4, atol=1e-5)


def test_voxel_warp_agrees_with_grid_sample(device):
    draw = torch.Generator().manual_seed(4)
    rows, columns, layers = 5, 6, 3
    tokens = torch.randn(rows * columns * layers, 4, generator=draw).to(device)
    positions = (torch.rand(200, 3, generator=draw) * 9 - 1.5).to(device)
    volume = tokens.view(rows, columns, layers, 4).permute(3, 2, 0, 1)[None]
    grid = (positions + 0.5) / torch.tensor([columns, rows, layers], device=device) * 2 - 1
    expected = functional.grid_sample(volume, grid[None, :, None, None], align_corners=False)[0, :, :, 0, 0].T
    torch.testing.assert_close(voxel_warp(tokens, (rows, columns, layers), positions), expected, rtol=1e-4, atol=1e-5)


def test_voxel_warp_in_half_precision_keeps_float32_positions(device):
    tokens = torch.arange(2000.0, device=device)[:, None].repeat(1, 8) / 1000
    positions = torch.zeros(1, 3, device=device)
    positions[0, 0] = 1234.25  # half precision knows only whole numbers here
    out = voxel_warp(tokens.half(), (1, 2000, 1), positions)
    assert out[0, 0].item() == pytest.approx(1.23425, abs=2e-3)


@pytest.mark.parametrize("shape", [(5, 2, 12), (3, 1, 1), (0, 2, 4)])
def test_short_softmax_is_softmax(device, shape):
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(5)).mul_(40).to(device)
    ours = short_softmax(logits)
    assert ours.is_contiguous()
    torch.testing.assert_close(ours, logits.softmax(-1))
