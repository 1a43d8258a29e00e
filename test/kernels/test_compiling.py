"""The instrument itself: a kernel that spills is seen to, and what is compiled is what would be launched."""

import pytest
import torch

pytest.importorskip("triton", reason="kernels need triton: pip install -r requirements/kernels.txt")
import triton
import triton.language as tl

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
