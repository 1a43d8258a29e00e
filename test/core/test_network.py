"""The contract of networks: a family of another kind runs through everything that is around a network."""

import copy
import pickle
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from panoocc_core import OccupancyStream, Wanted, load_model, model_config
from panoocc_core.base.constants import Constant
from panoocc_core.base.devices import full_float32
from panoocc_core.base.stopwatch import Stopwatch
from panoocc_core.bench import Effort, stream_times
from panoocc_core.config import PanopticConfig
from panoocc_core.evaluation import Measures, evaluate
from panoocc_core.ground_truth import GroundTruth
from panoocc_core.models import build_network, panoocc
from panoocc_core.models.layers import Conv2d, Linear
from panoocc_core.network import Network, VoxelLogits
from panoocc_core.optics import Projections
from panoocc_core.step import BoxPrediction
from panoocc_core.stream import output_geometry
from panoocc_core.voxels import centres_m, token_count
from panoocc_core.weights.inference import fold_norms, ready_for_inference

from .conftest import street_frame


class Mean(Network):
    """Another family: a voxel's features are the mean colour of all images, its height, and the mean with the past."""

    def __init__(self, config):
        super().__init__(config)
        self.head = nn.Linear(4, config.class_count)
        self.fused_with: list[int] = []

    def encode_images(self, images: Tensor) -> list[Tensor]:
        return [images.mean((0, 2, 3))]

    def encode_voxels(self, maps: list[Tensor], projections: Projections, ego_motion: Tensor) -> Tensor:
        height = torch.as_tensor(centres_m(self.config.grid)[:, 2:]).to(self.dtype)
        return torch.cat((maps[0].expand(len(height), 3), height), dim=1)

    def fuse(self, states: Sequence[Tensor], motions: Tensor, current: Tensor) -> Tensor:
        self.fused_with.append(len(states))
        return torch.stack([*self.align(states, motions), current]).mean(0)

    def state(self, current: Tensor, fused: Tensor) -> Tensor:
        return fused

    def decode(self, fused: Tensor) -> VoxelLogits:
        grid, (x, y, z) = self.config.grid, self.config.output_shape_xyz
        coarse = self.head(fused).view(grid.rows, grid.columns, grid.layers, -1).transpose(0, 1)
        factors = (x // grid.columns, y // grid.rows, z // grid.layers)
        for axis, factor in enumerate(factors):
            coarse = coarse.repeat_interleave(factor, dim=axis)
        return VoxelLogits(coarse, None, None)

    def occupancy(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        probability, class_id = self.decode(fused).classes.softmax(-1).max(-1)
        return class_id.to(torch.uint8), probability

    def box_map(self, fused: Tensor) -> Tensor:
        raise NotImplementedError("a family without boxes")

    def boxes_in(self, box_map: Tensor) -> BoxPrediction:
        raise NotImplementedError("a family without boxes")

    @property
    def classifier(self) -> nn.Linear:
        return self.head


@pytest.fixture
def mean(nano) -> Network:
    torch.manual_seed(0)
    return ready_for_inference(Mean(replace(nano, panoptic=PanopticConfig(instances="none"))))


class Street:
    """Six frames and arbitrary truth."""

    name = "street"

    def __init__(self, config):
        self.config = config

    def __len__(self) -> int:
        return 6

    def frame(self, index: int):
        return street_frame(index * 0.5, x_m=index)

    def world_from_ego(self, index: int) -> np.ndarray:
        return self.frame(index).world_from_ego

    def truth(self, index: int) -> GroundTruth:
        geometry = output_geometry(self.config)
        class_id = np.random.default_rng(index).integers(0, 18, geometry.shape_xyz).astype(np.uint8)
        return GroundTruth(self.frame(index).stamp_ns, geometry=geometry, class_id=class_id)


def test_another_family_streams(mean):
    stream = OccupancyStream(mean)
    results = [stream.step(street_frame(i * 0.5, x_m=i)) for i in range(5)]
    assert mean.fused_with == [0, 1, 2, 2, 2]  # a second and half a second ago
    assert tuple(results[-1].class_id.shape) == mean.config.output_shape_xyz
    assert [len(result.history.ages_s) for result in results] == mean.fused_with
    assert all(len(state.tokens) == token_count(mean.config.grid) for state in stream.memory.states)


def test_another_family_is_measured(mean):
    drive = Street(mean.config)
    scores = evaluate(mean, [drive], Measures(panoptic=False, rays=False))
    assert scores.frames == len(drive) and scores.voxels.total.counts.sum() > 0
    times, stream = stream_times(mean, [drive.frame(i) for i in range(3)], Effort(frames=2), with_outputs=True)
    assert times.frames == 2 and {"backbone", "total", "visible"} <= set(times.stages) and stream.network is mean


def test_what_is_left_out_of_the_contract_is_said_at_once(nano):
    class Half(Network):
        def fuse(self, states, motions, current):
            return current

    with pytest.raises(TypeError, match="encode_images"):
        Half(nano)


def test_constants_follow_the_device_keep_their_dtype_and_are_no_weights():
    holder = nn.Sequential(nn.Linear(2, 2), Constant(torch.tensor([1 / 3, 1e-9])), Constant(torch.arange(3)))
    before = holder[1].value.clone()
    holder.to(torch.float16)
    assert holder[0].weight.dtype == torch.float16 and torch.equal(holder[1].value, before)
    assert holder.double()[1].value.dtype == torch.float32 and holder[2].value.dtype == torch.int64
    assert holder.to("meta")[1].value.device.type == "meta"
    assert set(holder.state_dict()) == {"0.weight", "0.bias"}


@pytest.mark.parametrize("preset", ["nano", "pano_small_4f"])
def test_every_constant_of_a_network_moves_with_it(preset):
    """What stays behind on the CPU is uploaded at every frame."""
    with torch.device("meta"):
        network = build_network(model_config(preset))
    tensors = [value for module in network.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    assert tensors == []


def test_no_stage_uploads_constants(nano_model, monkeypatch):
    """On CUDA every tensor made of numbers of the host is a wait: one frame may make none in the network itself."""
    frame = street_frame(0.0)
    stream = OccupancyStream(nano_model)
    for i in range(3):
        stream.step(street_frame(i * 0.5, x_m=i))
    made = []

    def counted(name: str, original):
        def call(*arguments, **options):
            made.append(name)
            return original(*arguments, **options)

        return call

    for owner, name in ((torch, "tensor"), (torch, "as_tensor"), (torch, "from_numpy"), (Tensor, "new_tensor")):
        monkeypatch.setattr(owner, name, counted(name, getattr(owner, name)))
    stream.step(replace(frame, stamp_ns=1_500_000_000), Wanted(visible=False))  # whose lines of sight come after it
    # All images at once, the projections, the ego-motion vector, and the motions since the states; then, after the
    # network, the instances, which stay on the CPU, and classes where boxes changed some.
    assert made[:4] == ["from_numpy", *["as_tensor"] * 3] and made[4:] in (["from_numpy"], ["from_numpy"] * 2)


def test_float32_is_float32_only_while_a_network_works():
    conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = conv.fp32_precision, matmul.fp32_precision
    with pytest.raises(KeyError), full_float32():
        assert (conv.fp32_precision, matmul.fp32_precision) == ("ieee", "ieee")
        raise KeyError
    assert (conv.fp32_precision, matmul.fp32_precision) == before


def test_a_stream_leaves_the_switches_of_the_process_alone(nano_model):
    inside = []
    handle = nano_model.backbone.register_forward_hook(
        lambda *_: inside.append(torch.backends.cudnn.conv.fp32_precision)
    )
    before = torch.backends.cudnn.conv.fp32_precision
    OccupancyStream(nano_model).step(street_frame(0.0))
    handle.remove()
    assert inside == ["ieee"] and torch.backends.cudnn.conv.fp32_precision == before != "ieee"


def test_scopes_of_exact_float32_may_end_in_any_order():
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    one, two = full_float32(), full_float32()
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert conv.fp32_precision == "ieee"  # the second stream is still at work
    two.__exit__(None, None, None)
    assert conv.fp32_precision == before != "ieee"


def test_loading_a_network_changes_no_switch(nano):
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        load_model(nano, seeded_weights=True)
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def test_stages_are_added_and_what_is_not_measured_is_absent(device):
    for exact in (False, True):
        watch = Stopwatch(device, exact)
        for name in ("one", "two", "one"):
            with watch.stage(name):
                torch.ones(100, 100, device=device).sum()
        assert list(watch.wall_ms()) == ["one", "two"] and all(value > 0 for value in watch.wall_ms().values())
        assert set(watch.cpu_ms()) == (set() if device.type == "cuda" and not exact else {"one", "two"})


class Pair(nn.Module):
    """Registered the other way round than it is called."""

    norm_pairs = (("conv", "norm"), ("shortcut.0", "shortcut.1"))

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(3, 4, 3)
        self.shortcut = None

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def with_statistics(module: nn.Module) -> nn.Module:
    draw = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            norm.running_mean.copy_(torch.randn(norm.num_features, generator=draw))
            norm.running_var.copy_(torch.rand(norm.num_features, generator=draw) + 0.5)
    return module.eval().requires_grad_(False)


def test_norms_are_folded_by_their_pairs_not_by_their_order():
    pair, x = with_statistics(Pair()), torch.randn(1, 3, 8, 8)
    expected = pair(x)
    fold_norms(pair)
    assert isinstance(pair.norm, nn.Identity)
    torch.testing.assert_close(pair(x), expected)


def test_what_is_no_pair_is_refused():
    class Undeclared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    with pytest.raises(TypeError, match="batch norms that no module declares in norm_pairs: 1.norm"):
        fold_norms(nn.Sequential(nn.Identity(), Undeclared()))
    wrong = Pair()
    wrong.conv = nn.Identity()
    with pytest.raises(TypeError, match="conv and norm are Identity and BatchNorm2d, not a convolution"):
        fold_norms(wrong)


@pytest.mark.parametrize("preset", ["nano", "pano_small_occ3d"])
def test_folding_does_not_change_what_a_network_computes(preset):
    config = model_config(preset)
    grid, images = replace(config.grid, rows=4, columns=4), replace(config.images, height=32, width=64)
    small = replace(config, grid=grid, images=images)
    torch.manual_seed(2)
    network = with_statistics(build_network(small))
    images = torch.randn(len(small.cameras), 3, 32, 64)
    current = torch.randn(token_count(small.grid), small.embed)

    def outputs() -> list[Tensor]:
        fused = network.fuse([current.flip(0)], torch.eye(3, 4)[None], current)
        return [network.encode_images(images).tokens, fused, network.decode(fused).classes]

    before = outputs()
    ready_for_inference(network)
    for ours, theirs in zip(outputs(), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.fixture
def frozen():
    torch.manual_seed(3)
    layers = nn.Sequential(Conv2d(3, 8, 3, padding=1), nn.Flatten(2), Linear(30, 4))
    for layer in (layers[0], layers[2]):
        layer.freeze()
    return layers.requires_grad_(False)


IMAGES = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(4))


def test_frozen_layers_are_copied_and_pickled(frozen):
    expected = frozen(IMAGES)
    assert torch.equal(copy.deepcopy(frozen)(IMAGES), expected)
    assert torch.equal(pickle.loads(pickle.dumps(frozen))(IMAGES), expected)


def test_frozen_layers_follow_weights_that_are_loaded_and_dtypes(frozen):
    with torch.inference_mode():
        twice = {name: 2 * value for name, value in frozen.state_dict().items()}
        frozen.load_state_dict(twice)
        plain = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(2), nn.Linear(30, 4))
        plain.load_state_dict(twice)
        torch.testing.assert_close(frozen(IMAGES), plain(IMAGES))
        assert frozen.double()(IMAGES.double()).dtype == torch.float64


@pytest.mark.parametrize("first", [(6, 96, 7, 16), (1, 96, 40, 30)], ids=["small first", "large first"])
def test_a_frozen_convolution_is_right_for_maps_of_any_size(first):
    torch.manual_seed(6)
    for kernel, stride in ((1, 1), (3, 2)):
        conv = Conv2d(96, 32, kernel, stride, padding=kernel // 2).requires_grad_(False)
        conv.freeze()
        for size in (first, (6, 96, 7, 16), (2, 96, 9, 33), (1, 96, 40, 30)):
            x = torch.randn(size).to(memory_format=torch.channels_last)
            expected = nn.functional.conv2d(x, conv.weight, conv.bias, stride, kernel // 2)
            torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(conv(x, expected.clone(), True), (2 * expected).relu(), rtol=1e-4, atol=1e-4)


def test_gradients_flow_through_frozen_layers_to_their_input(frozen):
    images = IMAGES.clone().requires_grad_()
    frozen(images).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_images_in_parts_become_the_tokens_of_the_whole(monkeypatch):
    network = load_model(model_config("nano"), seeded_weights=True)
    images = torch.randn(6, 3, 64, 96, generator=torch.Generator().manual_seed(7))
    taken = []
    network.backbone.register_forward_pre_hook(lambda module, given: taken.append(len(given[0])))
    with torch.inference_mode():
        whole = network.encode_images(images)
        monkeypatch.setattr(panoocc, "PIXELS_AT_ONCE", 4 * 64 * 96)
        parts = network.encode_images(images)
        monkeypatch.setattr(panoocc, "PIXELS_AT_ONCE", 1)
        single = network.encode_images(images)
    assert taken == [6, 4, 2, 1, 1, 1, 1, 1, 1]
    assert whole.shapes == parts.shapes == single.shapes
    for other in (parts, single):
        torch.testing.assert_close(other.tokens, whole.tokens, rtol=1e-4, atol=1e-4)


def test_a_frozen_backbone_leaves_its_images_and_its_maps_alone():
    """Residuals are written over: never one that somebody else has."""
    network = load_model(model_config("nano"), seeded_weights=True)
    images = torch.randn(6, 3, 32, 64, generator=torch.Generator().manual_seed(5))
    images = images.to(memory_format=torch.channels_last)
    kept = images.clone()
    with torch.inference_mode():
        maps = network.backbone(images)
        before = [level.clone() for level in maps]
        network.neck(maps)
    assert torch.equal(images, kept)
    assert all(torch.equal(level, other) for level, other in zip(maps, before))
    stages = [network.backbone.get_submodule(f"layer{number}") for number in (1, 2, 3)]
    assert all(stage[0].downsample is not None for stage in stages)  # no stage writes over the map before it
