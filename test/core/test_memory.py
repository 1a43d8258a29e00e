"""The temporal memory: time decides what is kept and recalled; every rule of reset."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from panoocc_core.config import GridConfig, ModelConfig, PoseConfig, TemporalConfig, model_config
from panoocc_core.geometry import NS_PER_S, rigid
from panoocc_core.memory import (
    VoxelMemory,
    begin,
    cleared,
    past_from_current,
    remember,
    reset_reason,
    states_kept,
    voxel_motion,
)
from panoocc_core.ops.voxel_warp import voxel_warp
from panoocc_core.optics import LensModel
from panoocc_core.types import Frame
from panoocc_core.voxels import centres_m, shape_hwz, token_count

from .conftest import heading, street_frame

OCC = model_config("pano_small_occ3d")
PAN = model_config("pano_small_4f")
TOKENS = torch.zeros(1, 1)


def drive(config, rate_hz: float, seconds: float, jitter_s: float = 0.0):
    """Memories and recalled ages frame by frame of a steady stream."""
    draw = np.random.default_rng(0)
    memory, ages = VoxelMemory(), []
    for i in range(round(rate_hz * seconds) + 1):
        frame = street_frame(100 + i / rate_hz + draw.uniform(-jitter_s, jitter_s), size_hw=(2, 2))
        past = begin(memory, frame, config)
        assert past.reset is None and past.poses[-1].stamp_ns == frame.stamp_ns
        ages.append(list(past.ages_s))
        memory = remember(past, TOKENS, config)
    return memory, ages


@pytest.mark.parametrize("rate_hz", [2, 10, 12, 30])
@pytest.mark.parametrize("jitter_s", [0.0, 0.01])
def test_any_rate_gives_the_trained_spacing(rate_hz, jitter_s):
    memory, ages = drive(OCC, rate_hz, 10, jitter_s)
    for found in ages[round(rate_hz * 7) :]:
        assert found == pytest.approx([6.0, 4.0, 2.0], abs=0.27)
    spacing = np.diff([state.stamp_ns for state in memory.states]) / NS_PER_S
    assert spacing == pytest.approx(0.5, abs=0.05)
    assert len(memory.states) <= 14  # six seconds at half a second, whatever the rate


@pytest.mark.parametrize("rate_hz", [2, 10, 12, 30])
def test_the_recurrent_state_is_half_a_second_old(rate_hz):
    memory, ages = drive(PAN, rate_hz, 4)
    for found in ages[round(rate_hz) :]:
        assert found == pytest.approx([0.5], abs=0.07)
    assert len(memory.states) <= 10


@pytest.mark.parametrize("rate_hz", [10, 20])
@pytest.mark.parametrize("preset", ["pano_small_occ3d", "pano_small_4f", "pano_small_1f", "pano_base_4f_cat", "nano"])
def test_the_number_of_kept_states_is_known_beforehand(preset, rate_hz):
    config = model_config(preset)
    memory, _ = drive(config, rate_hz, 8)
    assert abs(len(memory.states) - states_kept(config.temporal)) <= (preset != "pano_small_1f")


@pytest.mark.parametrize("rate_hz", [1.7, 2.3, 3.1, 3.8, 4.4, 7.3, 25])
def test_odd_rates_find_all_ages_with_bounded_memory(rate_hz):
    memory, ages = drive(OCC, rate_hz, 12, jitter_s=0.01)
    assert all(found == pytest.approx([6.0, 4.0, 2.0], abs=0.301) for found in ages[round(rate_hz * 7) :])
    assert len(memory.states) <= 2 * 6.3 / 0.5


def test_history_grows_from_nothing():
    _, ages = drive(OCC, 2, 6.5)
    assert [len(found) for found in ages] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3]


def test_a_state_serves_one_age_only():
    temporal = TemporalConfig(kind="concat", ages_s=(1.2, 1.0), tolerance_s=0.25)
    config = replace(model_config("nano"), temporal=temporal)
    memory = after(VoxelMemory(), street_frame(0, size_hw=(2, 2)), config)
    assert len(begin(memory, street_frame(1.1, size_hw=(2, 2)), config).states) == 1


def after(memory: VoxelMemory, frame: Frame, config: ModelConfig = OCC) -> VoxelMemory:
    return remember(begin(memory, frame, config), TOKENS, config)


def remembered(**changes) -> VoxelMemory:
    return after(VoxelMemory(), street_frame(100, **changes))


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (street_frame(100.5, x_m=5.0), None),
        (street_frame(99.9), "clock_jump"),
        (street_frame(106.4), "gap"),
        (street_frame(106.2), None),
        (street_frame(100.5, x_m=60.0), "teleport"),
        (street_frame(100.5, yaw_deg=170.0), "teleport"),
        (street_frame(100.5, mount_z_m=1.8), "calibration"),
        (street_frame(100.5, mount_z_m=1.53), None),
        (street_frame(100.5, size_hw=(180, 320)), "calibration"),
    ],
)
def test_reset_rules(frame, reason):
    assert reset_reason(remembered(), frame, OCC) == reason


def changed_cameras(frame: Frame, focal=1.0, centre_px=(0.0, 0.0), turn_deg=0.0) -> Frame:
    """The frame with other intrinsics and mounts of all cameras."""
    cameras = []
    for camera in frame.cameras:
        intrinsics = camera.intrinsics * np.array([[focal], [focal], [1.0]])
        intrinsics[:2, 2] = camera.intrinsics[:2, 2] + centre_px
        mount = camera.ego_from_camera @ rigid(heading(turn_deg), np.zeros(3))
        cameras.append(replace(camera, intrinsics=intrinsics, ego_from_camera=mount))
    return replace(frame, cameras=tuple(cameras))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"focal": 1.003}, None),  # autofocus
        ({"focal": 0.96}, None),
        ({"focal": 1.06}, "calibration"),  # zoom, another lens
        ({"centre_px": (9.0, 0.0)}, None),
        ({"centre_px": (17.0, 0.0)}, "calibration"),  # of 160 columns
        ({"centre_px": (0.0, 10.0)}, "calibration"),  # of 90 rows
        ({"turn_deg": 2.0}, None),
        ({"turn_deg": -7.0}, "calibration"),
    ],
)
def test_a_camera_that_trembles_is_the_same_one(change, reason):
    assert reset_reason(remembered(), changed_cameras(street_frame(100.5), **change), OCC) == reason


def test_limits_are_those_of_the_configuration():
    strict = replace(OCC.temporal, max_focal_change=0.002, max_mount_turn_deg=0.5)
    for change in ({"focal": 1.003}, {"turn_deg": 0.6}):
        frame = changed_cameras(street_frame(100.5), **change)
        assert reset_reason(remembered(), frame, replace(OCC, temporal=strict)) == "calibration"
    for limit in ("max_focal_change", "max_centre_shift", "max_mount_shift_m", "max_mount_turn_deg", "max_speed_mps"):
        for value in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"{limit} must be above 0 and at most 1000"):
                replace(OCC.temporal, **{limit: value})


def test_a_camera_that_drifts_is_noticed_once_and_then_the_one_to_compare_with():
    memory, reasons = VoxelMemory(), []
    for i in range(40):
        past = begin(memory, street_frame(100 + i, mount_z_m=1.5 + 0.01 * i, size_hw=(2, 2)), OCC)
        memory = remember(past, TOKENS, OCC)
        reasons.append(past.reset)
    assert dict(memory.resets) == {"calibration": 1}
    assert [i for i, reason in enumerate(reasons) if reason] == [26] and reasons[26] == "calibration"


def test_a_network_without_history_knows_no_gap():
    config = model_config("pano_small_1f")
    assert reset_reason(after(VoxelMemory(), street_frame(100), config), street_frame(200), config) is None


def test_a_frame_that_cannot_go_on_begins_with_an_empty_memory():
    past = begin(remembered(), street_frame(100.5, x_m=60.0), OCC)
    assert past.reset == "teleport" and past.states == () and past.memory.states == () and len(past.poses) == 1
    memory = remember(past, TOKENS, OCC)
    assert len(memory.states) == 1 and dict(memory.resets) == {"teleport": 1} and memory.poses == past.poses


def test_a_clear_counts_its_reason_and_keeps_nothing():
    memory = cleared(cleared(cleared(remembered(), "gap"), "teleport"), "gap")
    assert memory.states == () and memory.poses == () and dict(memory.resets) == {"gap": 2, "teleport": 1}


GRID = GridConfig(rows=20, columns=16, layers=4, range_m=(-16.0, -20.0, -2.0, 16.0, 20.0, 6.0))


def warped(tokens: torch.Tensor, motion: np.ndarray) -> torch.Tensor:
    """A past volume [N, C] at the voxels of now, by the motion [4, 4] of the grid's frame since."""
    motions = torch.as_tensor(voxel_motion(motion, GRID)[None], dtype=torch.float32)
    return voxel_warp((tokens,), motions, shape_hwz(GRID))


def field_in_world(world_from_ego: np.ndarray) -> torch.Tensor:
    """A smooth function of the world, seen at the voxel centres of a vehicle's grid: [N, 1]."""
    world = centres_m(GRID) @ world_from_ego[:3, :3].T + world_from_ego[:3, 3]
    return torch.tensor(world @ (0.3, -0.2, 0.5), dtype=torch.float32)[:, None]


def test_a_still_world_stays_still_under_the_moving_vehicle():
    past = rigid(heading(20), np.array([1003.0, 502.0, 1.0]))
    now = past @ rigid(heading(-7), np.array([3.3, 0.4, 0.1]))
    out = warped(field_in_world(past), past_from_current(past, now, OCC.temporal)).view(20, 16, 4)
    expected = field_in_world(now).view(20, 16, 4)
    inner = (slice(4, -4), slice(2, -5), slice(1, -1))  # where the past grid covers the present one
    torch.testing.assert_close(out[inner], expected[inner], atol=1e-3, rtol=0)
    assert not torch.allclose(field_in_world(past).view(20, 16, 4)[inner], expected[inner], atol=0.3)


def test_the_warp_happens_in_the_networks_frame():
    """A network frame that is turned by 90 degrees sees a drive ahead as a drive along its y axis."""
    turned = PoseConfig(translation_m=(0.9, 0.0, 1.8), rotation_xyzw=(0.0, 0.0, -(0.5**0.5), 0.5**0.5))
    config = replace(OCC, grid=replace(GRID, ego_from_network=turned))
    before, frame = street_frame(100, size_hw=(2, 2)), street_frame(100.5, x_m=4.0, size_hw=(2, 2))
    raised = replace(frame, world_from_ego=rigid(np.eye(3), np.array([4.0, 0, 0.3])))
    past, now = (begin(VoxelMemory(), one, config).world_from_network for one in (before, raised))
    tall, flat = (replace(OCC.temporal, keep_height=kept) for kept in (False, True))
    assert past_from_current(past, now, flat)[:3, 3] == pytest.approx([0.0, 4.0, 0.0], abs=1e-9)
    assert past_from_current(past, now, tall)[2, 3] == pytest.approx(0.3)


def test_voxels_from_outside_are_zero():
    tokens = torch.ones(token_count(GRID), 1)
    out = warped(tokens, rigid(np.eye(3), np.array([100.0, 0, 0])))
    assert out.abs().max() == 0


def test_a_camera_that_is_blank_for_a_while_is_the_same_camera():
    def frame(time_s, is_blank, **change):
        made = street_frame(time_s, **change)
        blank = replace(made.cameras[1], is_blank=True, intrinsics=np.eye(3), ego_from_camera=np.eye(4))
        return replace(made, cameras=(made.cameras[0], blank, *made.cameras[2:])) if is_blank else made

    for first_is_blank in (True, False):
        memory = after(VoxelMemory(), frame(100, first_is_blank))
        memory = after(memory, frame(100.5, not first_is_blank))
        assert len(memory.calibration) == 6
        assert reset_reason(memory, frame(101, False), OCC) is None
        assert reset_reason(memory, frame(101, True), OCC) is None
        assert reset_reason(memory, frame(101, False, size_hw=(180, 320)), OCC) == "calibration"


def placed(config: ModelConfig, shift_m: float = 0.0, turn_deg: float = 0.0) -> ModelConfig:
    """The network with its frame elsewhere on the vehicle than it was trained with."""
    return config.placed(config.grid.ego_from_network.matrix @ rigid(heading(turn_deg), np.array([shift_m, 0.0, 0.0])))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"shift_m": 0.2, "turn_deg": 4.0}, None),  # a cabin on springs
        ({"shift_m": 0.3}, "calibration"),
        ({"turn_deg": -6.0}, "calibration"),
    ],
)
def test_a_network_frame_that_moves_on_the_vehicle_clears_the_memory(change, reason):
    memory = after(VoxelMemory(), street_frame(100, size_hw=(2, 2)), PAN)
    past = begin(memory, street_frame(100.5, size_hw=(2, 2)), placed(PAN, **change))
    assert past.reset == reason and len(past.states) == (reason is None)


def test_a_still_world_stays_still_while_the_network_frame_trembles():
    config = replace(OCC, grid=GRID, temporal=replace(OCC.temporal, ages_s=(0.5,)))
    moved = placed(config, shift_m=0.2, turn_deg=4.0)
    past = begin(VoxelMemory(), street_frame(100, size_hw=(2, 2)), config)
    memory = remember(past, field_in_world(past.world_from_network), config)
    now = begin(memory, street_frame(100.5, x_m=2.0, size_hw=(2, 2)), moved)
    motion = past_from_current(now.states[0].world_from_network, now.world_from_network, config.temporal)
    out = warped(now.states[0].tokens, motion).view(20, 16, 4)
    inner = (slice(4, -4), slice(2, -5), slice(1, -1))
    expected = field_in_world(now.world_from_network).view(20, 16, 4)[inner]
    torch.testing.assert_close(out[inner], expected, atol=1e-3, rtol=0)
    trembles_not = past_from_current(past.world_from_network, now.frame.world_from_ego, config.temporal)
    ignored = warped(now.states[0].tokens, trembles_not).view(20, 16, 4)[inner]
    assert not torch.allclose(ignored, expected, atol=0.05)


def test_another_lens_is_another_camera():
    lens = LensModel("equidistant", (0.05, -0.02, 0.01, -0.003))

    def seen_through(lens):
        frame = street_frame(100.5)
        return replace(frame, cameras=tuple(replace(camera, lens=lens) for camera in frame.cameras))

    memory = after(VoxelMemory(), seen_through(lens))
    trembling, others = replace(lens, coefficients=(0.051, -0.02, 0.01, -0.003)), LensModel("perspective", (0.1,) * 4)
    assert reset_reason(memory, seen_through(trembling), OCC) is None
    for other in (None, others, replace(lens, coefficients=(0.2, -0.02, 0.01, -0.003)), replace(lens, turns=1)):
        assert reset_reason(memory, seen_through(other), OCC) == "calibration"
