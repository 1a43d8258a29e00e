"""The kernels of multi-scale deformable attention: values, gradients, unwritten memory, what they compile to."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton", reason="kernels need triton: pip install -r requirements/kernels.txt")
from panoocc_core.ops.deform_attn import reference, triton

from ..core.test_ops import SHAPES, attn_call
from .compiling import ARCHS, assert_fits, compiling
from .published import ATTENTIONS, SEEN, Attention

PUBLISHED = {case.name: case for case in ATTENTIONS}
CALLS = (
    attn_call(13, 3, SHAPES, heads=3, channels=5, points=4, sources=2),
    attn_call(1, 1, ((1, 1),), heads=1, channels=1, points=1, sources=1),
    attn_call(140, 3, ((3, 1), (1, 5)), heads=1, channels=8, points=3, sources=5),
    attn_call(17, 2, ((4, 6),), heads=1, channels=32, points=16, sources=3),
)


def inputs(device, call=CALLS[0]):
    """Values, shapes, reference points, offsets, weights and sources."""
    values, shapes, *others = call.ordered(*call.tensors, *call.others)
    return values.to(device), shapes, *(other.to(device) for other in others)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_values_and_gradients_are_those_of_the_reference(kernel_device, dirty_memory, call):
    expected = call.results(".reference", kernel_device)
    for ours, theirs in zip(call.results(".triton", kernel_device), expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_values_and_the_result_alone(kernel_device, dirty_memory, dtype):
    values, shapes, points, offsets, weights, source = inputs(kernel_device, CALLS[3])
    values, points = values.to(dtype), points + 1000  # a half knows no fractions of a cell so far from the start
    offsets = offsets - 1000 * offsets.new_tensor([(columns, rows) for rows, columns in shapes])[:, None]
    expected = reference.deform_attn(values.float(), shapes, points, offsets, weights, source)
    out = triton.deform_attn(values, shapes, points, offsets, weights, source)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, rtol=4 * torch.finfo(dtype).eps, atol=1e-3)


def test_gradients_of_half_values_are_summed_in_float32(kernel_device, dirty_memory):
    values, shapes, *others = inputs(kernel_device, CALLS[3])
    half = values.half().requires_grad_()
    full = values.half().float().requires_grad_()
    triton.deform_attn(half, shapes, *others).float().square().sum().backward()
    reference.deform_attn(full, shapes, *others).square().sum().backward()
    assert half.grad.dtype == torch.float16
    torch.testing.assert_close(half.grad.float(), full.grad, rtol=5e-3, atol=5e-3)


def test_layouts_are_read_as_they_are(kernel_device):
    values, shapes, points, offsets, weights, source = inputs(kernel_device)
    expected = triton.deform_attn(values, shapes, points, offsets, weights, source)
    by_head = values.transpose(1, 2).contiguous().transpose(1, 2)
    planes = offsets.movedim(-1, 1).contiguous().movedim(1, -1)  # x and y far apart
    assert torch.equal(triton.deform_attn(by_head, shapes, points, planes, weights, source), expected)
    rounded = triton.deform_attn(values, shapes, points, offsets.half().float(), weights, source)
    assert torch.equal(triton.deform_attn(values, shapes, points, planes.half(), weights, source), rounded)


def test_one_source_needs_no_list_and_queries_may_see_nothing(kernel_device, dirty_memory):
    values, shapes, points, offsets, weights, source = inputs(kernel_device)
    one = (values[:1], shapes, points[:, :1], offsets, weights)
    listed = triton.deform_attn(*one, torch.zeros_like(source[:, :1]))
    torch.testing.assert_close(triton.deform_attn(*one), listed)
    torch.testing.assert_close(reference.deform_attn(*one), listed)
    assert not triton.deform_attn(values, shapes, points, offsets, weights, torch.full_like(source, -1)).any()
    none = (points[:0], offsets[:0], weights[:0], source[:0])
    assert triton.deform_attn(values, shapes, *none).shape == (0, 15)


@pytest.mark.parametrize("far", [-1e9, 1e9, float("nan"), float("inf")])
def test_positions_far_away_read_zeros(kernel_device, dirty_memory, far):
    values, shapes, points, offsets, weights, source = inputs(kernel_device)
    before = triton.deform_attn(values, shapes, points, offsets, weights, source)
    points[3], source[3] = far, 0
    after = triton.deform_attn(values, shapes, points, offsets, weights, source)
    assert not after[3].abs().gt(0).any()
    others = [i for i in range(len(after)) if i != 3]
    assert torch.equal(after[others], before[others])


def test_torch_compile_and_export_see_one_operator(kernel_device):
    values, shapes, *others = inputs(kernel_device, CALLS[1])
    arguments = (values.requires_grad_(), [size for shape in shapes for size in shape], *others)
    torch.library.opcheck(torch.ops.panoocc.deform_attn.default, arguments)


def test_more_slots_than_bits_are_refused():
    points = torch.empty(3, 32, 2, device="meta")
    with pytest.raises(ValueError, match="32 slots"):
        triton.forward(
            points.new_empty(1, 9, 1, 4),
            [1, 1],
            points,
            points.new_empty(3, 1, 1, 1, 2),
            points.new_empty(3, 1, 1, 1),
            None,
        )


def launch(case: Attention, dtype: torch.dtype = torch.float16) -> None:
    values, points, offsets, *others = case.inputs(dtype, "meta")
    triton.forward(values, case.sizes, points, offsets.to(dtype), *others)


@pytest.mark.parametrize("arch", ARCHS)
def test_inference_compiles_without_spills(arch):
    with compiling(arch) as kernels:
        launch(PUBLISHED["Pano-small, cameras"])
        launch(PUBLISHED["Pano-small, voxels"])
    assert len(kernels) == 2
    assert_fits(kernels, registers=64)  # four programs of 256 threads on a multiprocessor


def test_other_types_and_sizes_compile_without_spills():
    with compiling(90) as kernels:
        for case in ATTENTIONS[1:]:
            launch(case)
        launch(ATTENTIONS[0], torch.float32)
        launch(ATTENTIONS[0], torch.bfloat16)
        launch(replace(PUBLISHED["own layers"], points=9, heads=10, channels=16))  # of an InternImage
    assert_fits(kernels, registers=64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_training_compiles_without_spills(dtype):
    with compiling(90) as kernels:
        for moves_reference in (False, True):
            values, *others = ATTENTIONS[0].inputs(dtype, "meta")
            grad = torch.empty(ATTENTIONS[0].queries, 256, dtype=dtype, device="meta")
            triton.backward(grad, values, ATTENTIONS[0].sizes, *others, moves_reference)
    assert len(kernels) == 2
    assert_fits(kernels, registers=128)


def test_the_scene_is_one_of_overlapping_cameras():
    """What the tests on a GPU and the speeds are taken from; a case without sources would prove little."""
    points, source = PUBLISHED["Pano-small, cameras"]._seen("cpu")
    seen = source >= 0
    assert seen.any(1).all() and abs(seen.sum() / len(seen) - SEEN) < 0.02
    assert ((points[seen] > 0) & (points[seen] < 1)).all()
