"""Classes of voxels a piece at a time against those of all logits at once."""

import math
from importlib import import_module

import pytest
import torch
from torch import Tensor

from panoocc_core.bench.capacity import peak_mb
from panoocc_core.config import ConfigError, ModelConfig, model_config
from panoocc_core.models.voxel_decoder import ClassMlp
from panoocc_core.ops.voxel_classes import ClassRule, Mlp, tuned, voxel_classes
from panoocc_core.ops.voxel_classes.reference import voxel_classes as reference

FREE, CLASSES = 17, 17
SIGMOIDS, GATED, BEST = ClassRule(True, 0.999, FREE), ClassRule(False, 0.4, FREE), ClassRule()
CASES = {
    "sigmoids between voxels": ((3, 5, 7), (2, 2, 2), SIGMOIDS),
    "along some axes": ((2, 3, 4), (3, 1, 2), SIGMOIDS),
    "softmax between voxels": ((2, 5, 3), (1, 3, 2), BEST),
    "of one voxel": ((1, 1, 1), (4, 2, 3), SIGMOIDS),
    "sigmoids": ((3, 5, 7), (1, 1, 1), SIGMOIDS),
    "gated": ((3, 5, 7), (1, 1, 1), GATED),
    "no class for free space": ((3, 5, 7), (1, 1, 1), ClassRule(False, 0.4, None)),
    "best class": ((1, 2, 3), (1, 1, 1), BEST),
}


def mlp(*widths: int, device: torch.device | str = "cpu") -> Mlp:
    """Random layers whose outputs have deviations of about one."""
    draw = torch.Generator().manual_seed(len(widths))
    return [
        (torch.randn(outs, ins, generator=draw).to(device) * 2 / ins**0.5, torch.randn(outs, generator=draw).to(device))
        for ins, outs in zip(widths, widths[1:])
    ]


def inputs(shape: tuple[int, int, int], rule: ClassRule, channels: int = 6) -> tuple[Tensor, Tensor | None]:
    """Features and, where the rule asks for one, a gate."""
    draw = torch.Generator().manual_seed(3)
    points = torch.randn(*shape, channels, generator=draw) * 3
    gated = rule.threshold is not None and not rule.sigmoids
    return points, torch.randn(shape, generator=draw) if gated else None


@pytest.fixture(params=CASES)
def case(request):
    shape, factors, rule = CASES[request.param]
    points, gate = inputs(shape, rule)
    return points, mlp(6, 20, 9, CLASSES), gate, rule, factors


def check(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    assert [x.dtype for x in found] == [torch.uint8, torch.float32]
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("implementation", ["", ".tuned"])
@pytest.mark.parametrize("at_once", [4, 2000])
def test_pieces_are_the_whole(case, implementation, at_once, device, monkeypatch):
    monkeypatch.setattr(tuned, "VOXELS_AT_ONCE", at_once)
    points, layers, gate, rule, factors = case
    expected = reference(points, layers, gate, rule, factors)
    function = import_module(f"panoocc_core.ops.voxel_classes{implementation}").voxel_classes
    on_device = [(weight.to(device), bias.to(device)) for weight, bias in layers]
    found = function(points.to(device), on_device, None if gate is None else gate.to(device), rule, factors)
    check(tuple(x.cpu() for x in found), expected)


def test_where_values_may_decide_no_shape_the_classes_are_the_same(case, monkeypatch):
    """As on CUDA without kernels, or with an MLP that does not fit them: nothing waits, and a graph can be captured."""
    monkeypatch.setattr(tuned, "_waits_for_values", lambda device: True)
    points, layers, gate, rule, factors = case
    check(tuned.voxel_classes(*case), reference(*case))
    to_meta = [(weight.to("meta"), bias.to("meta")) for weight, bias in layers]
    gate = None if gate is None else gate.to("meta")
    class_id, _ = tuned.voxel_classes(points.to("meta"), to_meta, gate, rule, factors)  # which has no values
    assert class_id.shape == reference(*case)[0].shape


def test_the_cases_tell_free_voxels_from_others():
    for name, (shape, factors, rule) in CASES.items():
        points, gate = inputs(shape, rule)
        share = (reference(points, mlp(6, 20, 9, CLASSES), gate, rule, factors)[0] == FREE).float().mean()
        decides = rule.free_id is not None and rule.threshold is not None and math.prod(shape) > 1
        assert 0.05 < share < 0.95 if decides else share in (0, 1), name


def test_memory_that_is_not_written_is_not_read(case):
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.empty(3).isnan().all()
        check(voxel_classes(*case), reference(*case))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("size", [60.0, 1e4])
def test_features_too_large_for_a_power_of_two_are_no_error(case, size):
    """A softplus of 90 overflows in the formula that is used below."""
    points, layers, gate, rule, factors = case
    layers = [(weight, bias + size) for weight, bias in layers[:-1]] + [layers[-1]]
    class_id, probability = voxel_classes(points, layers, gate, rule, factors)
    expected = reference(points, layers, gate, rule, factors)
    assert probability.isfinite().all() and (class_id == expected[0]).float().mean() > 0.99  # logits in the thousands
    torch.testing.assert_close(probability, expected[1], atol=5e-3, rtol=0)


def test_softplus_is_exact_where_it_is_small_and_where_it_is_large():
    layers = [(torch.eye(4), torch.zeros(4)), (torch.eye(4), torch.zeros(4))]
    points = torch.linspace(-60, 80, 400).view(1, 10, 10, 4)
    logits = tuned._ClassLogits(layers, points).whole(points.flatten(0, 2)).t()
    expected = torch.nn.functional.softplus(points.double().flatten(0, 2), threshold=1000)
    torch.testing.assert_close(logits.double(), expected, rtol=5e-6, atol=0)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_not_finite_shows_where_it_decides(broken):
    for shape, factors, rule in CASES.values():
        points, gate = inputs(shape, rule)
        layers = mlp(6, 20, 9, CLASSES)
        points[0, 0, 0] = broken
        open_gate = None if gate is None else gate.index_fill(0, torch.tensor([0]), 5.0)
        probability = voxel_classes(points, layers, open_gate, rule, factors)[1]
        assert not probability[0, 0, 0].isfinite() or probability[0, 0, 0] == 1.0  # a sigmoid of infinity is one
        if math.isnan(broken):
            assert probability.isnan().any()


def test_a_broken_gate_shows_and_what_lies_behind_a_closed_one_does_not():
    points, gate = inputs((3, 5, 7), GATED)
    points[1] = float("nan")
    gate[1] = -5.0
    class_id, probability = voxel_classes(points, mlp(6, 9, CLASSES), gate, GATED)
    assert probability.isfinite().all() and (class_id[1] == FREE).all()
    gate[1, 2, 3] = float("nan")
    assert voxel_classes(points, mlp(6, 9, CLASSES), gate, GATED)[1].isnan().sum() == 1


def test_half_precision_decides_in_single(case):
    points, layers, gate, rule, factors = case
    half = [(weight.bfloat16(), bias.bfloat16()) for weight, bias in layers]
    class_id, probability = voxel_classes(points.bfloat16(), half, gate, rule, factors)
    expected_class, expected = reference(points, layers, gate, rule, factors)
    assert probability.dtype == torch.float32
    assert (class_id == expected_class).float().mean() > 0.9
    assert (probability - expected).abs().median() < 0.03


def test_the_logits_of_the_whole_grid_are_never_held():
    points, _ = inputs((8, 40, 40), SIGMOIDS)
    layers = mlp(6, 32, 32, CLASSES)
    whole_mb = 8 * 8 * 40 * 40 * CLASSES * 4 / 1e6
    host = torch.device("cpu")
    assert peak_mb(lambda: reference(points, layers, None, SIGMOIDS, (2, 2, 2)), host) > whole_mb
    assert peak_mb(lambda: voxel_classes(points, layers, None, SIGMOIDS, (2, 2, 2)), host) < whole_mb / 2


def test_the_last_two_layers_of_the_mlp_are_one():
    torch.manual_seed(0)
    for widths in ((6, 20, 20, 9), (6, 9)):
        module, x = ClassMlp(widths, CLASSES), torch.randn(50, 6)
        merged = module.merged()
        assert len(merged) == len(widths) - 1
        out = x
        for number, (weight, bias) in enumerate(merged):
            out = torch.nn.functional.linear(out if number == 0 else torch.nn.functional.softplus(out), weight, bias)
        torch.testing.assert_close(out, module(x), atol=1e-5, rtol=1e-5)


def test_what_cannot_be_is_refused():
    points, gate = inputs((1, 2, 3), GATED)
    with pytest.raises(ValueError, match="gate and factors"):
        voxel_classes(points, mlp(6, CLASSES), gate, GATED, (1, 2, 2))
    with pytest.raises(ValueError, match="300 classes"):
        voxel_classes(points, mlp(6, 300), None, BEST)


def test_a_gate_goes_with_no_finer_logits(tmp_path):
    text = "extends: nano\ndecoder: {logit_upsample: [2, 2, 2]}\n"
    path = tmp_path / "finer.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="gate_threshold must have no logit_upsample"):
        model_config(str(path))
    assert isinstance(model_config("nano"), ModelConfig)
