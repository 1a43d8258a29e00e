"""Clips, schedules, groups and initial weights: numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from panoocc_core import model_config
from panoocc_core.base.strict_yaml import ConfigError
from panoocc_core.models import build_network
from panoocc_core.network import Network
from panoocc_core.train.clips import Clip, consecutive_clips, length_of_round, rounds_of_epoch, windows
from panoocc_core.train.optimiser import build_optimiser, kept_norms, lr_share, set_lr, set_training_mode
from panoocc_core.train.train_config import GroupConfig, OptimiserConfig, ScheduleConfig, recipes, train_config
from panoocc_core.weights.initial import initialise, place_features
from panoocc_ros.commands.train import changes_from

from .toy_training import assert_same_weights, recipe, write_network


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def model(network) -> Network:
    built = build_network(model_config(network))
    initialise(built, 0)
    return built


def indices(clip: Clip) -> list[int]:
    return [clip.index(i) for i in range(clip.frames)]


def test_windows_end_at_every_frame_as_published():
    """The published Occ3D networks learn from t with t - 12, t - 8 and t - 4 before it."""
    found = {clip.index(clip.frames - 1): indices(clip) for clip in windows([20], frames=4, stride=4)}
    assert sorted(found) == list(range(20))
    assert found[13] == [1, 5, 9, 13] and found[12] == [0, 4, 8, 12] and found[19] == [7, 11, 15, 19]
    assert found[11] == [3, 7, 11] and found[4] == [0, 4] and found[3] == [3] and found[0] == [0]


def test_windows_of_neighbours_are_cut_at_the_start_of_a_drive():
    found = windows([5, 3], frames=4, stride=1)
    assert [(clip.drive, indices(clip)) for clip in found if clip.drive == 1] == [
        (1, [0]),
        (1, [0, 1]),
        (1, [0, 1, 2]),
    ]
    assert indices(found[4]) == [1, 2, 3, 4]


def test_published_recipes_have_the_published_queues():
    for name in recipes():
        config = train_config(name)
        if name.endswith("occ3d"):
            assert (config.supervise, config.clip_frames, config.clip_stride) == ("last", 4, 4), name
        elif not name.startswith("nano"):
            frames = 1 if name == "pano_small_1f" else 4
            assert (config.supervise, config.clip_frames, config.clip_stride) == ("last", frames, 1), name


@pytest.mark.parametrize("frames", [1, 3, 12, 50])
def test_consecutive_clips_never_overlap_and_use_almost_all(frames):
    lengths = [24, 7, 0, 1, 40]
    for seed in range(20):
        used = [
            (clip.drive, index)
            for clip in consecutive_clips(lengths, frames, np.random.default_rng(seed))
            for index in indices(clip)
        ]
        assert len(used) == len(set(used))
        assert all(0 <= index < lengths[drive] for drive, index in used)
        per_drive = [sum(1 for drive, _ in used if drive == d) for d in range(len(lengths))]
        assert per_drive == [length - length % min(frames, length) if length else 0 for length in lengths]


@pytest.mark.parametrize("supervise", ["all", "last"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_rounds_follow_from_seed_and_epoch(network, supervise, lanes):
    config = recipe(network, supervise=supervise, clip_frames=5, seed=4)
    lengths = [64, 64, 33, 12]
    first = rounds_of_epoch(lengths, config, lanes, 0)
    assert first == rounds_of_epoch(lengths, config, lanes, 0)
    assert first != rounds_of_epoch(lengths, config, lanes, 1)
    assert first != rounds_of_epoch(lengths, recipe(network, supervise=supervise, clip_frames=5), lanes, 0)
    assert all(len(clips) == lanes for clips in first)
    learned = [
        (clip.drive, clip.index(i))
        for clips in first
        for clip in clips
        for i in range(clip.frames)
        if supervise == "all" or i == clip.frames - 1
    ]
    assert len(learned) == len(set(learned)) and len(learned) > 0.75 * sum(lengths)
    assert np.mean([len({clip.frames for clip in clips}) == 1 for clips in first]) > 0.7
    assert all(length_of_round(clips) == min(clip.frames for clip in clips) for clips in first)


def test_cosine_with_warm_up():
    config = ScheduleConfig(kind="cosine", warmup_steps=10, warmup_from=0.2, final_share=0.1)

    def cosine(done: float) -> float:
        return 0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2

    assert lr_share(0, 100, 50, config) == pytest.approx(0.2)
    assert lr_share(5, 100, 50, config) == pytest.approx(cosine(0.05) * 0.6)
    assert lr_share(10, 100, 50, config) == pytest.approx(cosine(0.1))
    assert lr_share(50, 100, 50, config) == pytest.approx(0.55)
    assert lr_share(100, 100, 50, config) == pytest.approx(0.1)


def test_steps_divide_by_ten_after_their_epochs():
    config = ScheduleConfig(kind="steps", warmup_steps=4, warmup_from=1 / 30, drop_epochs=(2, 3))
    shares = [lr_share(step, 40, 10, config) for step in range(40)]
    assert shares[0] == pytest.approx(1 / 30) and shares[2] == pytest.approx((1 + 1 / 30) / 2)
    assert shares[4:20] == pytest.approx([1.0] * 16)
    assert shares[20:30] == pytest.approx([0.1] * 10) and shares[30:] == pytest.approx([0.01] * 10)


def test_every_parameter_is_in_the_group_of_its_first_prefix(network):
    groups = (GroupConfig("backbone.conv1", 0.0), GroupConfig("backbone", 0.1), GroupConfig("boxes", 0.0))
    model = build_network(model_config(network))
    optimiser = build_optimiser(model, OptimiserConfig(lr=1.0, groups=groups), ("decoder",))
    set_lr(optimiser, 0.5)
    rate = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    norms = {
        id(p) for norm in kept_norms(model, OptimiserConfig(groups=groups), ("decoder",)) for p in norm.parameters()
    }
    for name, parameter in model.named_parameters():
        frozen = name.startswith(("backbone.conv1", "boxes.")) or id(parameter) in norms
        expected = None if frozen else 0.05 if name.startswith("backbone.") else 0.5
        assert rate.get(id(parameter)) == (expected if expected is None else pytest.approx(expected)), name
        assert parameter.requires_grad == (expected is not None), name


def test_a_prefix_is_a_whole_name(network):
    """ "back" is no part of the network though "backbone" begins with it; neither may all be frozen."""
    model = build_network(model_config(network))
    with pytest.raises(ConfigError, match=r"optimiser\.groups: no parameter begins with 'back'; the parts are"):
        build_optimiser(model, OptimiserConfig(groups=(GroupConfig("back"),)))
    parts = {name.split(".")[0] for name, _ in model.named_parameters()}
    with pytest.raises(ConfigError, match="freeze the whole network"):
        build_optimiser(model, OptimiserConfig(groups=tuple(GroupConfig(part, 0.0) for part in parts)))


def test_training_mode_leaves_kept_norms_in_evaluation_mode(model):
    config = OptimiserConfig(groups=(GroupConfig("backbone.layer1", 0.0),))
    set_training_mode(model, config, ("decoder",))
    norms = {
        name: m.training for name, m in model.named_modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)
    }
    for name, trains in norms.items():
        assert trains == (not name.startswith(("backbone.layer1.", "decoder."))), name
    assert len(set(norms.values())) == 2
    model.eval()


def test_initial_weights_follow_from_the_seed_and_leave_other_random_numbers_alone(network, model):
    again, other = build_network(model_config(network)), build_network(model_config(network))
    torch.manual_seed(11)
    before = torch.get_rng_state()
    initialise(again, 0)
    initialise(other, 1)
    assert torch.equal(before, torch.get_rng_state())
    assert_same_weights(model, again)
    assert not torch.equal(
        other.neck.state_dict()[next(iter(model.neck.state_dict()))], next(iter(model.neck.state_dict().values()))
    )
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize(
    "backbone",
    [
        {"kind": "resnet", "blocks": [1, 1], "output_stages": [1, 2], "width": 8, "deformable_stages": [2]},
        {"kind": "internimage", "blocks": [1, 1], "heads": [2, 2], "output_stages": [1, 2], "width": 8},
    ],
    ids=["deformable", "internimage"],
)
def test_no_initial_weight_depends_on_how_the_network_was_built(tmp_path, backbone):
    config = model_config(write_network(tmp_path, backbone=backbone))
    built = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        built.append(build_network(config))
        initialise(built[-1], 0)
    assert_same_weights(*built)


def test_place_features_are_alike_nearby_and_differ_far_away():
    grid = model_config("nano").grid
    features = place_features(grid, 64)
    assert features.shape == (32 * 32 * 8, 64) and features.mean(0).abs().max() < 1e-4
    unit = torch.nn.functional.normalize(features, dim=1).view(32, 32, 8, 64)
    steps = [(unit[:, n:] * unit[:, :-n]).sum(-1).mean().item() for n in (1, 4, 16)]
    assert steps[0] > 0.8 > steps[1] > steps[2] + 0.05
    same = (features @ features.T)[:200, :200].fill_diagonal_(0)
    assert (same < 64 * 1.5).all() and len(torch.unique(features, dim=0)) == len(features)


def test_deformable_offsets_start_as_a_ring(model):
    """Heads look in directions that are evenly spaced, and every further point of a head looks one step farther."""
    found = 0
    for name, module in model.named_modules():
        offsets = getattr(module, "sampling_offsets", None)
        if offsets is None or name.startswith("fusion"):
            continue
        points = getattr(module, "points", None)
        if points is None:
            continue
        assert offsets.weight.abs().max() == 0
        ring = offsets.bias.detach().view(module.heads, -1, points, 2)
        assert torch.equal(ring[:, :1].expand_as(ring), ring)  # all levels alike
        reach = ring[:, 0].abs().amax(-1)
        expected = torch.arange(points).float() if points > 1 else torch.tensor([0.5])
        torch.testing.assert_close(reach, expected.expand(module.heads, points))
        torch.testing.assert_close(ring[:, 0].sum(0), torch.zeros(points, 2), atol=1e-5, rtol=0)
        found += 1
    assert found >= 2


def test_changes_from_the_command_line():
    assert changes_from(["optimiser.lr=1e-4", "optimiser.clip_norm=3", "epochs=2", "name=x", "fixed_norms=[a, b]"]) == {
        "optimiser": {"lr": 1e-4, "clip_norm": 3},
        "epochs": 2,
        "name": "x",
        "fixed_norms": ["a", "b"],
    }
    for bad in ("epochs", "=3"):
        with pytest.raises(ConfigError, match="write KEY=VALUE"):
            changes_from([bad])
    with pytest.raises(ConfigError, match="cannot be read"):
        changes_from(["epochs=[1"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs=0", "epochs must be 1 to 100000, not 0"),
        ("clip_stride=0", "clip_stride must be 1 to 1000, not 0"),
        ("seed=-1", "seed must be 0 to 9223372036854775807, not -1"),
        ("optimiser.lr=-1", r"optimiser: lr must be above 0 and at most 10, not -1\.0"),
        ("optimiser.lr=.nan", "optimiser: lr must be above 0 and at most 10, not nan"),
        ("optimiser.clip_norm=0", r"optimiser: clip_norm must be above 0 and at most 1000000, not 0\.0"),
        ("optimiser.clip_norm=-1", r"optimiser: clip_norm must be above 0 and at most 1000000, not -1\.0"),
        ("optimiser.clip_norm=.inf", "optimiser: clip_norm must be above 0 and at most 1000000, not inf"),
        ("optimiser.weight_decay=-0.1", r"weight_decay must be 0 to 10, not -0\.1"),
        ("optimiser.groups=[{prefix: neck, lr_scale: -1}]", r"groups\[0\]: lr_scale must be 0 to 1000, not -1\.0"),
        ("optimiser.groups=[{prefix: neck, lr_scale: .nan}]", "lr_scale must be 0 to 1000, not nan"),
        ("schedule.warmup_steps=-5", "schedule: warmup_steps must be 0 to 10000000, not -5"),
        ("schedule.warmup_from=7", r"schedule: warmup_from must be 0 to 1, not 7\.0"),
        ("schedule.final_share=-0.5", r"schedule: final_share must be 0 to 1, not -0\.5"),
        ("schedule.drop_epochs=[2, 0]", r"schedule: drop_epochs\[1\] must be 1 to 100000, not 0"),
        ("augment.mirror=1.5", r"augment: mirror must be 0 to 1, not 1\.5"),
        ("data.first_seed=-3", "data: first_seed must be 0 to 9223372036854775807, not -3"),
        ("data.validation_first_seed=-3", "data: validation_first_seed must be 0 to 9223372036854775807, not -3"),
        ("epoch=3", "unknown key 'epoch'"),
        ("epochs=two", "'two' is not of type int"),
        ("model=nanu", "unknown model preset 'nanu'"),
        ("losses.occupancy_ce=-1", "occupancy_ce must be 0 to 1000000"),
        ("data.drives=0", "data: drives must be 1 to 100000, not 0"),
        ("data.validation_first_seed=10001", "seed 10001 is in both"),
        ("schedule.kind=steps", "a schedule of steps needs drop_epochs"),
        ("losses.class_weights.nocar=2", r"nano\.yaml: losses\.class_weights: 'nocar' is not one of others, barrier"),
        ("losses.class_weights={3: 2}", r"nano\.yaml\.losses\.class_weights, its key: 3 is not of type str"),
        ("losses.semantic_focal=1", r"losses\.semantic_focal: nano \(truth: voxels\) has nothing .*; set it to 0"),
    ],
)
def test_bad_recipes_are_refused_by_name(change, message):
    with pytest.raises(ConfigError, match=message):
        train_config("nano", changes_from([change]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("calibrate=true", r"pano_small_1f\.yaml: calibrate: needs dense voxels .*pano_small_1f .*; set it to false"),
        ("losses.occupancy_ce=1", r"losses\.occupancy_ce: pano_small_1f \(truth: points\) has nothing"),
        ("losses.class_weights={free: 2}", r"losses\.class_weights: 'free' is not one of noise, barrier"),
    ],
)
def test_recipes_for_points_are_refused_what_is_for_voxels(change, message):
    with pytest.raises(ConfigError, match=message):
        train_config("pano_small_1f", changes_from([change]))


@pytest.mark.parametrize(
    ("network", "term"),
    [
        ({"decoder": {"gate_threshold": None}}, "gate_focal"),
        ({"boxes": {"classes": []}, "panoptic": {"instances": "none"}}, "box_class"),
    ],
)
def test_losses_need_the_part_of_the_network_that_learns_by_them(tmp_path, network, term):
    changes = {"model": str(write_network(tmp_path, **network)), "losses": {"box_class": 1.0}}
    with pytest.raises(ConfigError, match=rf"losses\.{term}: toy \(truth: voxels\) has nothing that learns by it"):
        train_config("nano", changes)
    train_config("nano", {**changes, "losses": {term: 0.0}})
