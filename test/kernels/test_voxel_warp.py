"""The kernel of the voxel warp: values, layout, half precision, unwritten memory, what it compiles to."""

import pytest
import torch

pytest.importorskip("triton", reason="kernels need triton: pip install -r requirements/kernels.txt")
from panoocc_core.ops.voxel_warp import reference, triton

from ..core.test_ops import warp_call
from .compiling import ARCHS, assert_fits, compiling

CALLS = (
    warp_call(5, 6, 3, states=2),
    warp_call(1, 1, 1, states=1),
    warp_call(4, 7, 2, states=2, slots=5),
    warp_call(3, 2, 1, states=0, slots=2),
    warp_call(6, 5, 4, states=1, slots=2),
)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
@pytest.mark.parametrize("motion_dtype", [torch.float32, torch.float64])
def test_volumes_are_those_of_the_reference(kernel_device, dirty_memory, call, motion_dtype):
    states, motions, *others, current, slots = call.ordered(*(x.to(kernel_device) for x in call.tensors))
    arguments = (states, motions.to(motion_dtype), *others, current, slots)
    torch.testing.assert_close(triton.voxel_warp(*arguments), reference.voxel_warp(*arguments), rtol=1e-4, atol=2e-5)


def test_places_in_half_precision_are_float32(kernel_device, dirty_memory):
    tokens = torch.arange(2000.0, device=kernel_device)[:, None].repeat(1, 8) / 1000
    motions = torch.eye(3, 4, device=kernel_device)[None]
    motions[0, 0, 3] = 0.25
    out = triton.voxel_warp([tokens.half()], motions, (1, 2000, 1), None, 1)
    assert out.dtype == torch.half and out[1234, 0].item() == pytest.approx(1.23425, abs=1e-3)
    assert out[1999, 0].item() == pytest.approx(1.999 * 0.75, abs=1e-3)  # a quarter lies outside


def test_a_motion_of_metres_is_no_further_off_in_single_precision(kernel_device):
    """On the largest grid, 0.8 m a voxel: what float32 places cost."""
    turn = torch.tensor([[0.995, -0.0998, 0.003, 12.3], [0.0998, 0.995, -0.002, -7.7], [-0.003, 0.002, 1.0, 0.4]])
    exact = reference.places(turn.double(), (100, 100, 16))
    assert (reference.places(turn, (100, 100, 16)) - exact).abs().max() < 3e-5  # voxels


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_kernel_fits_into_registers(dtype, arch):
    states = [torch.empty(40_000, 256, dtype=dtype, device="meta") for _ in range(3)]
    motions = torch.empty(3, 3, 4, device="meta")
    with compiling(arch) as kernels:
        triton.launched(states, motions, (50, 50, 16), states[0], 4)
    assert len(kernels) <= 2  # copies of one state may be made by a kernel of their own
    assert_fits(kernels, registers=128)
