"""The instrument itself: a kernel that spills is seen to, and what is compiled is what would be launched."""

from contextlib import contextmanager

import pytest
import torch

pytest.importorskip("triton", reason="kernels need triton: pip install -r requirements/kernels.txt")
import triton
import triton.language as tl
from triton.runtime.jit import JITFunction

from panoocc_core.ops.deform_attn import triton as deform_attn
from panoocc_core.ops.deform_conv import triton as deform_conv
from panoocc_core.ops.voxel_classes import triton as voxel_classes
from panoocc_core.ops.voxel_classes.rule import ClassRule
from panoocc_core.ops.voxel_warp import triton as voxel_warp

from .compiling import ARCHS, assert_fits, compiling


@triton.jit
def _spread(x, out, columns, BLOCK: tl.constexpr):
    """Sum of distances from the largest number of a row: all of the row has to be kept."""
    at = tl.arange(0, BLOCK)
    row = tl.load(x + tl.program_id(0) * columns + at, at < columns, 0.0)
    tl.store(out + tl.program_id(0), tl.sum(tl.max(row, 0) - row, 0))


def launch(columns: int, dtype: torch.dtype, **options: int) -> None:
    x, out = torch.empty(7, columns, dtype=dtype, device="meta"), torch.empty(7, dtype=dtype, device="meta")
    _spread[(7,)](x, out, columns, triton.next_power_of_2(columns), num_warps=1, **options)


@pytest.mark.parametrize("arch", ARCHS)
def test_what_is_launched_is_compiled_and_measured(arch):
    with compiling(arch) as kernels:
        launch(256, torch.float16)
        launch(256, torch.float16)  # nothing new
        launch(255, torch.float32)
    assert [kernel.name for kernel in kernels] == ["_spread"] * 2 and kernels[0].registers > 8
    assert_fits(kernels)
    assert any("LDG.E.128" in line for line in kernels[0].instructions())  # aligned, as pointers of torch are


def test_a_kernel_that_spills_is_seen():
    with compiling(90) as kernels:
        launch(8192, torch.float32, maxnreg=32)
    with pytest.raises(AssertionError, match="bytes of stack"):
        assert_fits(kernels)


def test_nothing_compiled_is_no_success():
    with compiling(90) as kernels:
        pass
    with pytest.raises(AssertionError, match="nothing was launched"):
        assert_fits(kernels)


def launch_all(launches):
    """Every launcher of the operators, once; how many launches there were after each."""
    none = {"device": "meta"}
    values, points = torch.empty(1, 36, 2, 8, **none), torch.empty(5, 1, 2, **none)
    offsets, weights = torch.empty(5, 2, 1, 4, 2, **none), torch.empty(5, 2, 1, 4, **none)
    attention = values, (4, 4), points, offsets, weights, None
    maps = torch.empty(1, 8, 4, 4, **none), torch.empty(1, 18, 4, 4, **none), torch.empty(1, 9, 4, 4, **none)
    grid, layers = torch.empty(2, 2, 2, 8, **none), ([torch.empty(3, 8, **none)], [torch.empty(3, **none)])
    states, motions = [torch.empty(8, 8, **none)], torch.empty(1, 3, 4, **none)
    yield deform_attn.forward(*attention), len(launches)
    yield deform_attn.backward(torch.empty(5, 16, **none), *attention, False), len(launches)
    yield deform_conv.sampled_taps(*maps, 3, 1, 1), len(launches)
    yield voxel_classes.launched(grid, *layers, None, ClassRule(False, None, None), (2, 2, 2)), len(launches)
    yield voxel_warp.launched(states, motions, (2, 2, 2), states[0], 2), len(launches)


def test_kernels_are_launched_on_the_device_of_their_tensors(monkeypatch):
    """Which need not be the current one: `cuda:1` is a network's device by its parameter alone."""
    entered, launches = [], []

    @contextmanager
    def device_of(tensor):
        entered.append(tensor)
        yield
        entered.pop()

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    monkeypatch.setattr(JITFunction, "run", lambda self, *args, **kwargs: launches.append(bool(entered)))
    counts = [count for _, count in launch_all(launches)]
    assert counts == [1, 2, 3, 5, 6] and all(launches)
