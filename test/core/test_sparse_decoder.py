"""The sparse decoder: convolutions of some voxels alone, what is kept, what dropped voxels say, how its heads learn."""

import dataclasses
import math

import pytest
import torch
import yaml
from torch.nn import functional

from panoocc_core.config import ConfigError, ModelConfig, SparseConfig, model_config
from panoocc_core.models import build_network
from panoocc_core.models.sparse_decoder import SparseVoxelDecoder, build_decoder
from panoocc_core.models.voxel_decoder import VoxelDecoder, classify
from panoocc_core.models.voxel_sets import VoxelSet, conv_transpose, interpolated, repeated, scalar_conv
from panoocc_core.network import StageOccupancy, VoxelLogits
from panoocc_core.train.loss_config import LossConfig
from panoocc_core.train.objective import loss_terms
from panoocc_core.train.targets import Targets
from panoocc_core.train.train_config import train_config
from panoocc_core.voxels import token_count
from panoocc_core.weights.checkpoint import compare, seeded_tensors, with_fresh_heads
from panoocc_core.weights.inference import fold_norms

SHAPE = (3, 4, 5)
PRESETS = {"nano": 2, "pano_small_occ3d": 2, "pano_small_4f": 3}


def some_voxels(share: float, shape=SHAPE) -> VoxelSet:
    """A random part of a volume, in no order."""
    count = math.prod(shape)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(3))
    return VoxelSet(order[: round(share * count)], shape)


def as_volume(features: torch.Tensor, voxels: VoxelSet) -> torch.Tensor:
    """Features [k, C] in a volume [1, C, Z, Y, X] of zeros."""
    volume = features.new_zeros(math.prod(voxels.shape), features.shape[1]).index_copy(0, voxels.index, features)
    return volume.view(1, *voxels.shape, -1).permute(0, 4, 1, 2, 3)


def at(volume: torch.Tensor, voxels: VoxelSet) -> torch.Tensor:
    """Features [k, C] out of a volume [1, C, Z, Y, X]."""
    assert tuple(volume.shape[2:]) == voxels.shape
    return volume[0].flatten(1).t()[voxels.index]


@pytest.mark.parametrize("share", [1.0, 0.4])
@pytest.mark.parametrize(
    ("stride", "padding"),
    [
        ((1, 2, 2), (0, 1, 1)),
        ((2, 2, 2), (0, 1, 1)),
        ((1, 1, 1), (0, 2, 2)),
        ((3, 1, 2), (1, 1, 2)),
        ((2, 1, 1), (0, 0, 0)),
    ],
)
def test_a_convolution_of_some_voxels_is_that_of_a_volume_with_zeros_elsewhere(stride, padding, share):
    torch.manual_seed(0)
    kernel = [s + 2 * p for s, p in zip(stride, padding)]
    voxels = some_voxels(share)
    features = torch.randn(len(voxels.index), 4, requires_grad=True)
    weight, bias = torch.randn(4, 6, *kernel, requires_grad=True), torch.randn(6)
    found, children = conv_transpose(features, voxels, weight, bias, stride, padding)
    assert len(children.index) == len(children.index.unique()) == len(voxels.index) * math.prod(stride)
    dense = functional.conv_transpose3d(as_volume(features, voxels), weight, bias, stride, padding)
    expected = at(dense, children)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    steps = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad((out * steps).sum(), (features, weight)) for out in (found, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_children_lie_within_their_voxel():
    voxels = VoxelSet(torch.tensor([0, 33]), SHAPE)  # (0, 0, 0) and (1, 2, 3)
    child = voxels.children((1, 2, 2))[2]  # the second row, the first column
    assert child.shape == (3, 8, 10) and [place.tolist() for place in child.places()] == [[0, 1], [1, 5], [0, 6]]


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_gate_of_some_voxels_is_that_of_a_volume_with_zeros_elsewhere(kernel):
    voxels = some_voxels(0.5)
    features, weight, bias = torch.randn(len(voxels.index), 4), torch.randn(1, 4, *[kernel] * 3), torch.randn(1)
    dense = functional.conv3d(as_volume(features, voxels), weight, bias, padding=kernel // 2)
    torch.testing.assert_close(scalar_conv(features, voxels, weight, bias), at(dense, voxels)[:, 0])


@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 3, 4)])
def test_interpolation_of_all_voxels_is_trilinear(factors):
    voxels = some_voxels(1.0)
    values = torch.randn(len(voxels.index), 3)
    dense = functional.interpolate(
        as_volume(values, voxels), scale_factor=[float(f) for f in factors], mode="trilinear"
    )
    parts = list(interpolated(values, voxels, factors))
    assert len(torch.cat([children.index for _, children in parts]).unique()) == math.prod(dense.shape[2:])
    for found, children in parts:
        torch.testing.assert_close(found, at(dense, children))


def test_interpolation_of_some_voxels_knows_of_no_others():
    voxels = some_voxels(0.4)
    for found, _ in interpolated(torch.full((len(voxels.index), 1), 7.0), voxels, (2, 2, 2)):
        torch.testing.assert_close(found, torch.full_like(found, 7.0))


def test_a_repeated_volume_has_each_value_below_its_voxel():
    volume = torch.arange(60.0).view(SHAPE)
    fine = repeated(volume, (2, 1, 3))
    assert fine.shape == (6, 4, 15) and torch.equal(fine[1::2, :, 2::3], volume) and fine[3, 2, 10] == volume[1, 2, 3]


def sparse(name: str, capacity: tuple[float, ...], **decoder: object) -> ModelConfig:
    """A preset on a grid of a few voxels, with a sparse decoder."""
    config = model_config(name)
    return dataclasses.replace(
        config,
        grid=dataclasses.replace(config.grid, rows=5, columns=7, layers=3),
        decoder=dataclasses.replace(config.decoder, sparse=SparseConfig(capacity), **decoder),
    )


def made(config: ModelConfig) -> tuple[SparseVoxelDecoder, torch.Tensor]:
    """The decoder with random weights and statistics whose gate is open here and there, and random features."""
    torch.manual_seed(5)
    decoder = build_decoder(config).eval()
    assert isinstance(decoder, SparseVoxelDecoder)
    for module in decoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    tokens = torch.randn(token_count(config.grid), config.embed)
    with torch.no_grad():
        logits = VoxelDecoder.forward(decoder, tokens)
        decoder.mlp[-1].bias -= logits.classes.flatten(0, 2).mean(0)
        if decoder.gate is not None:
            decoder.gate.bias += math.log(0.05 / 0.95) - logits.gate.median()
    return decoder, tokens


@pytest.mark.parametrize("folded", [False, True], ids=["norms", "folded"])
@pytest.mark.parametrize("name", PRESETS)
def test_with_all_voxels_it_is_the_dense_decoder(name, folded):
    decoder, tokens = made(sparse(name, (1.0,) * PRESETS[name]))
    if folded:
        fold_norms(decoder)
    with torch.inference_mode():
        dense, found = VoxelDecoder.forward(decoder, tokens), decoder(tokens)
        torch.testing.assert_close(found.classes, dense.classes, atol=1e-4, rtol=1e-4)
        for ours, theirs in ((found.gate, dense.gate), (found.things, dense.things)):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        class_id, probability = decoder.occupancy(tokens, 17)
        dense_class, dense_probability = decoder.occupancy_of(tokens, None)
    torch.testing.assert_close(probability, dense_probability, atol=1e-4, rtol=1e-4)
    assert (class_id == dense_class).float().mean() > 0.999
    assert 0.02 < (class_id == 17).float().mean() < 0.98 or name == "pano_small_4f"  # whose sigmoids are around 0.5


@pytest.mark.parametrize(("name", "capacity"), [("nano", (0.6, 0.3)), ("pano_small_4f", (0.7, 0.5, 0.2))])
def test_occupancy_is_what_the_logits_say_and_all_shapes_are_fixed(name, capacity):
    config = sparse(name, capacity)
    decoder, tokens = made(config)
    with torch.inference_mode():
        logits = decoder(tokens)
        expected_class, expected = classify(logits, config.decoder, 17)
        class_id, probability = decoder.occupancy(tokens, 17)
        other = decoder(torch.randn_like(tokens))
    assert torch.equal(class_id, expected_class)
    # Dropped voxels stay 1 % below the threshold.
    torch.testing.assert_close(probability, expected, atol=0.01 * config.decoder.free_below, rtol=0)
    computed = [len(stage.index) for stage in logits.stages]
    assert computed == [len(stage.index) for stage in other.stages]
    volume = 3 * 5 * 7
    if name == "nano":
        assert computed == [4 * volume]
    else:
        assert computed == [volume, 4 * math.ceil(0.7 * volume), 8 * math.ceil(0.5 * 4 * volume)]
    free = class_id == 17
    assert free.float().mean() >= 0.99 - capacity[-1]
    if name != "nano":  # whose class for free space may win with less
        assert (probability[free] >= 1 - config.decoder.free_below).all()


def test_the_likeliest_voxels_go_on():
    decoder, tokens = made(sparse("nano", (0.25, 0.25)))
    head = decoder.heads[0]
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    head.narrow.weight.data[0] = 1.0  # the sum of the channels is the score
    head.gate.weight.data[0, 0, 1, 1, 1] = 1.0
    with torch.inference_mode():
        kept = decoder.kept(tokens, (0.25, 0.25))
        features, voxels = decoder._first_stage(tokens)
    score = features.sum(1)
    best = score.sort(descending=True).values
    count = math.ceil(0.25 * len(score))
    assert best[count - 1] > best[count]  # else the test would not know which
    wanted = VoxelSet((score >= best[count - 1]).nonzero()[:, 0], voxels.shape)
    below = torch.cat([child.index for child in wanted.children((2, 1, 1))])
    assert set(kept.voxels.index.tolist()) == set(below.tolist())  # as many children as the last stage keeps


def test_a_dropped_voxel_has_the_doubt_of_its_head():
    decoder, tokens = made(sparse("nano", (0.5, 0.5)))
    torch.nn.init.zeros_(decoder.heads[0].gate.weight)
    torch.nn.init.constant_(decoder.heads[0].gate.bias, -4.0)
    with torch.inference_mode():
        class_id, probability = decoder.occupancy(tokens, 17)
        untouched = (probability - 1 / (1 + math.exp(-4.0))).abs() < 1e-6
        assert (class_id[untouched] == 17).all() and untouched.float().mean().item() >= 0.49
        torch.nn.init.constant_(decoder.heads[0].gate.bias, 3.0)  # surely occupied, but there is no room
        probability = decoder.occupancy(tokens, 17)[1]
    assert ((probability - (1 - 0.99 * 0.05)).abs() < 1e-6).float().mean().item() >= 0.49


def test_a_broken_feature_shows_in_the_probability():
    for name, capacity in (("nano", (0.5, 0.2)), ("pano_small_4f", (0.5, 0.4, 0.2))):
        decoder, tokens = made(sparse(name, capacity))
        tokens[7, 3] = float("nan")
        with torch.inference_mode():
            assert not decoder.occupancy(tokens, 17)[1].isfinite().all()


@pytest.mark.parametrize(
    ("base", "decoder", "message"),
    [
        ("nano", {"sparse": {"share": 0.5}}, "sparse: unknown key 'share'; the keys here are capacity"),
        ("nano", {"sparse": {}}, "sparse: the key 'capacity' is missing"),
        ("nano", {"sparse": {"capacity": [0.5, 0.0]}}, r"capacity\[1\] must be above 0 and at most 1, not 0"),
        ("nano", {"sparse": {"capacity": [0.5, 1.5]}}, r"capacity\[1\] must be above 0 and at most 1, not 1\.5"),
        ("nano", {"sparse": {"capacity": [0.2, 0.5]}}, r"must not grow from stage to stage, .* not \[0\.2, 0\.5\]"),
        ("nano", {"sparse": {"capacity": [0.5]}}, "one share for each of the 2 stages of upsample, not 1"),
        (
            "nano",
            {"sparse": {"capacity": [1.0, 0.5]}, "gate_threshold": None},
            "sparse needs gate_threshold or empty_b",
        ),
        ("nano", {"sparse": {"capacity": [1.0, 0.5]}, "gate_threshold": 0.0}, "sparse needs gate_threshold or empty_b"),
        ("nano", {"sparse": {"capacity": [1.0, 0.5]}, "logit_upsample": [1, 2, 2]}, "must have no logit_upsample"),
        (
            "nano",
            {
                "sparse": {"capacity": [1.0]},
                "upsample": [{"kernel": [3, 3, 3], "stride": [1, 2, 2], "padding": [1, 0, 0], "channels": 32}],
            },
            r"sparse: upsample\[0\]\.kernel must be stride \+ 2 \* padding",
        ),
    ],
)
def test_a_sparse_decoder_that_cannot_be_is_refused(tmp_path, base, decoder, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": base, "decoder": decoder}))
    with pytest.raises(ConfigError, match=message):
        model_config(path)


def test_the_heads_loss_by_hand():
    """Two coarse voxels; below the first one of four fine ones is occupied, below the second one is, but unseen."""
    config = sparse("nano", (0.5, 0.5))
    classes = torch.full((4, 2, 1), 17, dtype=torch.uint8)  # [X, Y, Z]
    classes[1, 0, 0] = classes[2, 1, 0] = 3
    mask = torch.ones(4, 2, 1, dtype=torch.bool)
    mask[2, 1, 0] = False
    scores = torch.tensor([0.0, 1.0], requires_grad=True)
    stage = StageOccupancy(torch.tensor([0, 1]), scores, (1, 1, 2))
    logits = VoxelLogits(torch.zeros(4, 2, 1, 18), None, None, (stage,))
    terms = loss_terms(logits, None, Targets(classes, mask), LossConfig(sparse_focal=2.0), config)
    p = 1 / (1 + math.exp(-1.0))
    expected = 2.0 * (0.25 * 0.25 * math.log(2) - 0.75 * p * p * math.log(1 - p))
    assert set(terms) == {"sparse_focal"} and terms["sparse_focal"].item() == pytest.approx(expected, rel=1e-5)
    pair = StageOccupancy(torch.tensor([1]), scores[1:], (1, 1, 2))  # only what was computed counts, and none is one
    alone = loss_terms(
        VoxelLogits(logits.classes, None, None, (pair,)),
        None,
        Targets(classes, mask),
        LossConfig(sparse_focal=1.0),
        config,
    )
    assert alone["sparse_focal"].item() == pytest.approx(-0.75 * p * p * math.log(1 - p), rel=1e-5)


def test_heads_learn_from_points_too_and_only_where_there_are_heads():
    config = sparse("pano_small_4f", (0.5, 0.4, 0.3))
    decoder, tokens = made(config)
    points = torch.full(config.output_shape_xyz, config.class_count, dtype=torch.uint8)
    points[3, 5, 1] = 4
    weights = LossConfig(sparse_focal=1.0)
    loss_terms(decoder(tokens), None, Targets(point_classes=points), weights, config)["sparse_focal"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in decoder.heads.parameters())
    with pytest.raises(ValueError, match="sparse_focal needs a network with occupancy heads"):
        loss_terms(VoxelDecoder.forward(decoder, tokens), None, Targets(point_classes=points), weights, config)


def test_all_parts_of_the_decoder_learn_by_what_was_kept():
    decoder, tokens = made(sparse("nano", (0.5, 0.25)))
    logits = decoder.train()(tokens)
    assert logits.gate is not None
    (logits.classes.square().mean() + logits.gate.mean() + logits.stages[0].logits.mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())


def test_a_recipe_must_teach_the_heads_and_only_heads_that_are_there():
    assert train_config("nano_sparse").losses.sparse_focal == 1.0
    with pytest.raises(ConfigError, match=r"losses\.sparse_focal: nothing else teaches the occupancy heads of nano_sp"):
        train_config("nano_sparse", {"losses": {"sparse_focal": 0.0, "occupancy_ce": 1.0}})
    with pytest.raises(ConfigError, match=r"losses\.sparse_focal: nano \(truth: voxels\) has nothing that learns"):
        train_config("nano", {"losses": {"sparse_focal": 1.0}})


def test_a_dense_checkpoint_begins_a_sparse_training():
    network = build_network(model_config("nano_sparse"))
    dense = seeded_tensors(build_network(model_config("nano")))
    assert compare(network, dense).missing  # strict where nothing is trained
    complete = with_fresh_heads(network, dense)
    assert not compare(network, complete) and len(complete) == len(dense) + 4
    assert with_fresh_heads(network, complete).keys() == complete.keys()
    own = {name: value + 1 for name, value in complete.items()}
    assert all(torch.equal(value, own[name]) for name, value in with_fresh_heads(network, own).items())
    assert with_fresh_heads(build_network(model_config("nano")), dense).keys() == dense.keys()
