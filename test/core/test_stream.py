"""The streaming core on a small network: history, resets, reports, order of cameras, precision."""

from dataclasses import replace

import pytest
import torch

from panoocc_core import NonFiniteError, OccupancyStream, VehicleMotion, load_model, model_config
from panoocc_core.config import BoxConfig, ModelConfig, PanopticConfig, ResNetConfig
from panoocc_core.labels import OCC3D_WAYMO
from panoocc_core.memory import VoxelMemory
from panoocc_core.models.box_head import decode_boxes
from panoocc_core.stream import encode
from panoocc_core.types import Frame
from panoocc_core.weights.checkpoint import seeded_tensors

from .conftest import street_frame


def grids_equal(a, b) -> bool:
    return torch.equal(a.class_id, b.class_id) and torch.equal(a.confidence, b.confidence)


@pytest.fixture(params=["concat", "recurrent"])
def model(request, nano: ModelConfig):
    """Both state contracts."""
    if request.param == "concat":
        return load_model(nano, seeded_weights=True)
    temporal = replace(nano.temporal, kind="recurrent", ages_s=(0.5,), spacing_s=0.1)
    return load_model(replace(nano, temporal=temporal), seeded_weights=True)


def drive(stream: OccupancyStream, start_s: float = 0.0, frames: int = 5):
    return [stream.step(street_frame(start_s + i * 0.5, x_m=i * 2.0)) for i in range(frames)]


def test_output_says_what_it_is(nano_model, nano):
    occupancy = OccupancyStream(nano_model).step(street_frame(3.0))
    assert tuple(occupancy.class_id.shape) == nano.output_shape_xyz == occupancy.geometry.shape_xyz
    assert occupancy.class_id.dtype == torch.uint8 and occupancy.stamp_ns == 3_000_000_000
    assert occupancy.cameras == nano.cameras and occupancy.history.ages_s == ()
    assert set(occupancy.timings_ms) == {
        "prepare",
        "backbone",
        "encoder",
        "temporal",
        "decoder",
        "instances",
        "visible",
    }
    assert occupancy.geometry.centres_m([[0, 0, 0]])[0] == pytest.approx([-25.2, -25.2, -0.8], abs=1e-6)


def narrow(config: ModelConfig) -> ModelConfig:
    """A network of the same build with few channels, on a tenth of the voxels."""
    stages = tuple(replace(stage, channels=32) for stage in config.decoder.upsample)
    backbone = ResNetConfig(blocks=(1, 1, 1, 1), style="caffe", deformable_stages=(3, 4), width=8)
    return replace(
        config,
        images=replace(config.images, height=64, width=160),
        backbone=backbone,
        grid=replace(config.grid, rows=16, columns=16),
        decoder=replace(config.decoder, upsample=stages),
        boxes=replace(config.boxes, queries=30, layers=2),
        embed=32,
        heads=4,
        ffn=64,
    )


@pytest.mark.parametrize("preset", ["pano_base_4f_cat", "pano_xl_4f_cat"])
def test_concatenated_history_goes_with_the_decoder_without_a_free_class(preset):
    """Unfused volumes, aligned in the LiDAR's frame; what sets these variants apart from both published kinds."""
    config = narrow(model_config(preset))
    model = load_model(config, seeded_weights=True)
    results = drive(OccupancyStream(model))
    assert [len(one.history.ages_s) for one in results] == [0, 1, 2, 3, 3]
    assert results[-1].history.ages_s == pytest.approx((1.5, 1.0, 0.5))
    assert results[-1].labels.names[-1] == "free" and model.config.class_count == 17
    alone = OccupancyStream(model).step(street_frame(2.0, x_m=8.0))
    assert not grids_equal(results[-1], alone)
    published = seeded_tensors(model)  # under the names of the panoptic files, with the fusion's of the other family
    assert "pts_bbox_head.transformer.temporal_encoder.temporal_block.0.conv2.weight" in published
    assert "pts_bbox_head.transformer.voxel_encoder.semantic_det1.0.weight" in published


def test_a_network_without_box_classes_has_no_box_branch(nano):
    model = load_model(replace(nano, boxes=BoxConfig(), panoptic=PanopticConfig("none")), seeded_weights=True)
    assert not [name for name in model.state_dict() if name.startswith("boxes.")]
    step = encode(model, street_frame(0.0), VoxelMemory())
    found = decode_boxes(model.detect(step.fused), model.config.boxes)
    assert found.boxes.shape == (0, 9) and len(found.scores) == len(found.labels) == 0


def test_five_cameras_and_the_classes_of_waymo():
    """Things are the connected voxels of its own thing classes, with the nearest box class."""
    model = load_model("nano_waymo", seeded_weights=True)
    frame = street_frame(0.0)
    cameras = tuple(replace(one, name=name) for one, name in zip(frame.cameras, model.config.cameras))
    occupancy = OccupancyStream(model).step(
        replace(frame, cameras=cameras),
    )
    assert occupancy.labels is OCC3D_WAYMO and occupancy.instances == "components"
    assert occupancy.cameras == model.config.cameras and int(occupancy.class_id.max()) <= 15
    assert len(occupancy.boxes) == len(set(occupancy.instance_id.unique().tolist()) - {0}) > 0


def test_history_matters_and_reset_equals_fresh(model):
    stream = OccupancyStream(model)
    first = drive(stream)
    assert first[-1].history.ages_s and first[-1].history.reset is None
    alone = OccupancyStream(model).step(street_frame(2.0, x_m=8.0))
    assert not grids_equal(first[-1], alone)
    stream.reset()
    again = drive(stream)
    assert again[0].history.reset == "requested" and again[0].history.resets == {"requested": 1}
    assert all(grids_equal(a, b) for a, b in zip(first, again))


def test_a_looped_bag_goes_on_as_if_new(model):
    stream = OccupancyStream(model)
    first, second = drive(stream), drive(stream)
    assert second[0].history.reset == "clock_jump" and second[0].history.ages_s == ()
    assert all(grids_equal(a, b) for a, b in zip(first, second))
    assert second[-1].history.reset is None and second[-1].history.resets == {"clock_jump": 1}


def test_a_step_does_not_change_the_memory_it_was_given(model):
    stream = OccupancyStream(model)
    drive(stream, frames=3)
    before = stream.memory
    snapshot = [state.tokens.clone() for state in before.states]
    one = stream.step(street_frame(1.5, x_m=6.0))
    assert all(torch.equal(a, b.tokens) for a, b in zip(snapshot, before.states))
    stream.memory = before
    assert grids_equal(one, stream.step(street_frame(1.5, x_m=6.0)))


def test_cameras_are_matched_by_name_in_any_order(nano_model):
    frame = street_frame(0.0)
    shuffled = Frame(frame.stamp_ns, frame.world_from_ego, frame.cameras[::-1])
    assert grids_equal(OccupancyStream(nano_model).step(frame), OccupancyStream(nano_model).step(shuffled))


def test_wrong_cameras_are_named(nano_model):
    frame = street_frame(0.0)
    stranger = replace(frame.cameras[0], name="CAM_ROOF")
    with pytest.raises(
        ValueError, match="lacks CAM_FRONT and has CAM_ROOF; the network takes CAM_FRONT, CAM_FRONT_RIGHT"
    ):
        OccupancyStream(nano_model).step(Frame(0, frame.world_from_ego, (stranger, *frame.cameras[1:])))


def test_the_source_of_the_rates_is_reported_and_matters(nano_model):
    motion = VehicleMotion((0.5, 0.0, 9.7), (0.0, 0.0, 0.2), (9.0, 0.0, 0.0))
    config = nano_model.config
    results = {}
    for rates in ("auto", "poses", "zeros"):
        nano_model.config = replace(config, ego_motion=replace(config.ego_motion, rates=rates))
        try:
            results[rates] = OccupancyStream(nano_model).step(street_frame(0.0, motion=motion))
        finally:
            nano_model.config = config
    assert [results[r].history.ego_motion for r in ("auto", "poses", "zeros")] == ["sensors", "at_rest", "zeros"]
    moved = {
        pair: (results[pair[0]].class_id != results[pair[1]].class_id).float().mean().item()
        for pair in (("auto", "poses"), ("poses", "zeros"))
    }
    # A vehicle at 9 m/s against one at rest against no record at all: seeded weights move up to half of the voxels.
    assert all(0 < share < 0.6 for share in moved.values()), moved


def test_a_poisoned_memory_is_reported_and_cleared(nano_model):
    stream = OccupancyStream(nano_model)
    drive(stream, frames=3)
    poisoned = tuple(replace(s, tokens=torch.full_like(s.tokens, float("nan"))) for s in stream.memory.states)
    stream.memory = replace(stream.memory, states=poisoned)
    with pytest.raises(NonFiniteError):
        stream.step(street_frame(1.5, x_m=6.0))
    after = stream.step(street_frame(2.0, x_m=8.0))
    assert after.history.reset == "non_finite" and after.history.ages_s == ()


def test_the_teleporting_vehicle_starts_afresh(nano_model):
    stream = OccupancyStream(nano_model)
    drive(stream, frames=4)
    jumped = stream.step(street_frame(2.0, x_m=500.0))
    assert jumped.history.reset == "teleport" and jumped.history.ages_s == ()
    # The ego-motion vector must not carry the jump either.
    assert grids_equal(jumped, OccupancyStream(nano_model).step(street_frame(2.0, x_m=500.0)))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_lower_precision_stays_near(nano, nano_model, precision):
    half = load_model(nano, seeded_weights=True, precision=precision)
    full = drive(OccupancyStream(nano_model), frames=3)[-1]
    low = drive(OccupancyStream(half), frames=3)[-1]
    agreement = (full.class_id == low.class_id).float().mean().item()
    assert agreement > (0.97 if precision == "fp16" else 0.9)


def test_the_device_holds_model_memory_and_result(nano, nano_model, device):
    model = load_model(nano, seeded_weights=True, device=device)
    stream = OccupancyStream(model)
    result = drive(stream, frames=4)[-1]
    assert result.class_id.device.type == device.type
    assert all(state.tokens.device.type == device.type for state in stream.memory.states)
    expected = drive(OccupancyStream(nano_model), frames=4)[-1]
    assert (result.class_id.cpu() == expected.class_id).float().mean() > 0.999


@pytest.mark.parametrize("name", ["pano_small_4f", "pano_small_occ3d"])
def test_presets_carry_the_inherited_quirks(name):
    config = model_config(name)
    assert config.encoder.self_memory == "first_tokens" and config.ego_motion.quaternion == "scalar_repeated"
