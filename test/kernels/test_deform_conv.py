"""The kernels of deformable convolution and aggregation: values, gradients, what they compile to."""

import pytest
import torch

pytest.importorskip("triton", reason="kernels need triton: pip install -r requirements/kernels.txt")
from panoocc_core.ops.deform_aggregate import triton as aggregate
from panoocc_core.ops.deform_conv import reference, triton

from ..core.test_ops import aggregate_call, conv_call
from .compiling import ARCHS, assert_fits, compiling
from .published import CONVOLUTIONS, Convolution

CONVS = (
    conv_call(9, 7, channels=70, outputs=4, stride=2),
    conv_call(1, 4, channels=1, outputs=1, stride=2),
    conv_call(6, 5, channels=128, outputs=2, stride=1, kernel=5),
)


@pytest.mark.parametrize("call", CONVS, ids=lambda call: call.name)
def test_convolution_equals_the_reference(kernel_device, dirty_memory, call):
    tensors = [tensor.to(kernel_device, copy=True) for tensor in call.tensors]
    tensors[1][0, :, 0, 0] = torch.tensor([1e9, float("nan")], device=kernel_device).repeat(tensors[2].shape[1])
    expected = reference.deform_conv(*tensors, *call.others)
    out = triton.deform_conv(*tensors, *call.others)
    assert out.shape == expected.shape and out.is_contiguous(memory_format=torch.channels_last)
    expected[0, :, 0, 0] = 0  # of positions far away, and of none
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=2e-4)


def test_convolution_reads_strided_offsets_and_half_precision(kernel_device, dirty_memory):
    x, offsets, masks, weight = (tensor.to(kernel_device) for tensor in CONVS[0].tensors)
    both = torch.cat((offsets, masks), dim=1).contiguous(memory_format=torch.channels_last)
    expected = reference.deform_conv(x.half().float(), offsets, masks, weight.half().float(), *CONVS[0].others)
    views = both[:, : offsets.shape[1]], both[:, offsets.shape[1] :]
    columns = triton.sampled_taps(x.half(), *views, 3, *CONVS[0].others)
    out = columns.float() @ weight.half().float().permute(2, 3, 1, 0).flatten(0, 2)
    assert columns.dtype == torch.float16
    torch.testing.assert_close(
        out.view(expected.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2), expected, rtol=2e-3, atol=2e-2
    )


@pytest.mark.parametrize("points", [9, 1])
def test_aggregation_equals_the_reference_in_values_and_gradients(kernel_device, dirty_memory, points):
    call = aggregate_call(5, 7, groups=2, channels=3, points=points)
    expected = call.results(".reference", kernel_device)
    for ours, theirs in zip(call.results(".triton", kernel_device), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=5e-5)


def launch(case: Convolution, dtype: torch.dtype) -> None:
    x, offsets, masks, _ = case.inputs(dtype, "meta")
    triton.sampled_taps(x, offsets, masks, 3, 1, 1)


@pytest.mark.parametrize("arch", ARCHS)
def test_convolution_compiles_without_spills(arch):
    with compiling(arch) as kernels:
        for case in CONVOLUTIONS:
            launch(case, torch.float16)
    assert_fits(kernels, registers=64)


def test_other_types_compile_without_spills():
    with compiling(90) as kernels:
        for dtype in (torch.float32, torch.bfloat16):
            launch(Convolution("odd", 48, 28, 64), dtype)
    assert_fits(kernels, registers=64)


def test_pixels_of_an_image_are_those_of_its_map():
    centres, image = aggregate._pixels(2, 3, 4, torch.device("cpu"))
    assert image.flatten().tolist() == [0] * 12 + [1] * 12
    assert torch.equal(centres[5, 0], torch.tensor([1.5 / 4, 1.5 / 3])) and torch.equal(centres[:12], centres[12:])
