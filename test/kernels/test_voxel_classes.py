"""The kernels of the classes of voxels: values, gates, what is not finite, unwritten memory, what they compile to."""

import pytest
import torch

pytest.importorskip("triton", reason="kernels need triton: pip install -r requirements/kernels.txt")
from panoocc_core.ops.voxel_classes import ClassRule, triton
from panoocc_core.ops.voxel_classes.reference import voxel_classes as reference

from ..core.test_voxel_classes import BEST, CASES, CLASSES, FREE, GATED, SIGMOIDS, check, inputs, mlp
from .compiling import ARCHS, assert_fits, compiling
from .conftest import INTERPRETING

WIDTHS = {
    "one layer": (6,),
    "one hidden layer": (6, 40),
    "two hidden layers": (6, 40, 20),
    "as published": (32, 128, 128),
}


def on(device, points, layers, gate):
    """The tensors of a call on a device."""
    layers = [(weight.to(device), bias.to(device)) for weight, bias in layers]
    return points.to(device), layers, None if gate is None else gate.to(device)


@pytest.mark.parametrize("name", CASES)
def test_classes_are_those_of_the_reference(kernel_device, dirty_memory, name):
    shape, factors, rule = CASES[name]
    points, gate = inputs(shape, rule)
    call = on(kernel_device, points, mlp(6, 20, 9, CLASSES), gate)
    check(triton.voxel_classes(*call, rule, factors), reference(*call, rule, factors))


@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
def test_mlps_of_all_depths(kernel_device, dirty_memory, widths):
    points, gate = inputs((2, 3, 15), GATED, widths[0])
    call = on(kernel_device, points, mlp(*widths, CLASSES), gate)
    assert triton.fits(call[1])
    check(triton.voxel_classes(*call, GATED), reference(*call, GATED))


def test_deeper_and_wider_mlps_are_left_to_others():
    assert not triton.fits(mlp(6, 8, 8, 8, CLASSES)) and not triton.fits(mlp(6, 200, CLASSES))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("rule", "factors"), [(GATED, (1, 1, 1)), (SIGMOIDS, (2, 2, 2))])
def test_half_precision_sums_in_single(kernel_device, dirty_memory, dtype, rule, factors):
    if INTERPRETING and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter multiplies the bits of bfloat16 matrices, not their values")
    points, gate = inputs((2, 4, 9), rule)
    points, layers, gate = on(kernel_device, points, mlp(6, 20, 9, CLASSES), gate)
    half = [(weight.to(dtype), bias.to(dtype)) for weight, bias in layers]
    class_id, probability = triton.voxel_classes(points.to(dtype), half, gate, rule, factors)
    exact = [(weight.float(), bias.float()) for weight, bias in half]
    expected_class, expected = reference(points.to(dtype).float(), exact, gate, rule, factors)
    assert (class_id == expected_class).float().mean() > 0.9
    assert (probability - expected).abs().median() < 40 * torch.finfo(dtype).eps


def test_a_closed_gate_hides_what_is_behind_it_and_a_broken_one_shows(kernel_device, dirty_memory):
    points, gate = inputs((3, 8, 8), GATED)
    points[1], gate[1] = float("nan"), -5.0  # a whole program is closed
    gate[2] = -5.0
    gate[2, 3, 4] = float("nan")
    points, layers, gate = on(kernel_device, points, mlp(6, 9, CLASSES), gate)
    class_id, probability = triton.voxel_classes(points, layers, gate, GATED)
    assert probability.isnan().sum() == 1 and probability[2, 3, 4].isnan() and (class_id[1:] == FREE).all()
    check((class_id[0], probability[0]), tuple(x[0] for x in reference(points[:1], layers, gate[:1], GATED)))


@pytest.mark.parametrize(
    "name", ["sigmoids between voxels", "softmax between voxels", "sigmoids", "gated", "best class"]
)
def test_what_is_not_a_number_shows(kernel_device, dirty_memory, name):
    shape, factors, rule = CASES[name]
    points, gate = inputs(shape, rule)
    points[0, 0, 0, 2] = float("nan")
    if gate is not None:
        gate[0, 0, 0] = 5.0
    call = on(kernel_device, points, mlp(6, 9, CLASSES), gate)
    expected = reference(*call, rule, factors)[1].isnan()
    assert expected.any() and torch.equal(triton.voxel_classes(*call, rule, factors)[1].isnan(), expected)


PUBLISHED = {  # fine grid, widths, classes, rule, factors
    "Occ3D": ((16, 200, 200), (32, 128, 128), 18, GATED, (1, 1, 1)),
    "panoptic": ((32, 200, 200), (32, 128, 128), 17, SIGMOIDS, (2, 2, 2)),
    "nano": ((16, 64, 64), (32,), 18, ClassRule(False, 0.05, FREE), (1, 1, 1)),
    "without a rule": ((16, 64, 64), (32, 32), 18, BEST, (1, 1, 1)),
}


COMPILED = [
    *((name, torch.float16, arch) for name in ("Occ3D", "panoptic") for arch in ARCHS),
    *(("panoptic", torch.float32, arch) for arch in ARCHS),
    ("panoptic", torch.bfloat16, 90),
    ("nano", torch.float16, 90),
    ("without a rule", torch.float16, 90),
]


@pytest.mark.parametrize(("name", "dtype", "arch"), COMPILED)
def test_kernels_fit_into_registers(name, dtype, arch):
    shape, widths, classes, rule, factors = PUBLISHED[name]
    if dtype != torch.float16 and name not in ("Occ3D", "panoptic"):
        pytest.skip("the same kernels with less in them")
    points = torch.empty(*shape, widths[0], dtype=dtype, device="meta")
    layers = [
        (torch.empty(o, i, dtype=dtype, device="meta"), torch.empty(o, dtype=dtype, device="meta"))
        for i, o in zip(widths, (*widths[1:], classes))
    ]
    gate = None if rule.sigmoids or rule.threshold is None else torch.empty(shape, device="meta")
    with compiling(arch) as kernels:
        weights, biases = zip(*layers)
        triton.launched(points, weights, biases, gate, rule, factors)
    assert len(kernels) == 1 + (factors != (1, 1, 1))
    assert_fits(kernels)
