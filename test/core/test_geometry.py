"""Rigid transforms against their definitions; voxel layouts there and back."""

import math

import numpy as np
import pytest
import torch

from panoocc_core import geometry as g
from panoocc_core import voxels
from panoocc_core.config import model_config

from .conftest import heading

DRAW = np.random.default_rng(0)


def random_rotation() -> np.ndarray:
    return g.rotation_from_quaternion(DRAW.normal(size=4))


@pytest.mark.parametrize(
    "turn", [np.eye(3), heading(180), np.diag([1.0, -1, -1]), *(random_rotation() for _ in range(20))]
)
def test_quaternions_there_and_back(turn):
    quaternion = g.quaternion_from_rotation(turn)
    assert quaternion[3] >= 0 and np.linalg.norm(quaternion) == pytest.approx(1)
    assert g.rotation_from_quaternion(quaternion) == pytest.approx(turn, abs=1e-12)


def test_a_quaternion_turns_as_ros_says():
    quarter = [0, 0, math.sin(math.pi / 4), math.cos(math.pi / 4)]
    assert g.rotation_from_quaternion(np.array(quarter)) @ (1, 0, 0) == pytest.approx((0, 1, 0))
    with pytest.raises(ValueError, match="has no direction"):
        g.rotation_from_quaternion(np.zeros(4))


def test_inverse_and_interpolation():
    start, end = g.rigid(heading(10), np.array([1.0, 2, 3])), g.rigid(heading(-30), np.array([3.0, 2, 1]))
    assert start @ g.invert(start) == pytest.approx(np.eye(4), abs=1e-12)
    middle = g.interpolate(start, end, 0.25)
    assert middle == pytest.approx(g.rigid(heading(0), np.array([1.5, 2, 2.5])))
    assert g.interpolate(start, end, 0.0) is start and g.interpolate(start, end, 1.0) is end


def test_interpolation_takes_the_shorter_arc():
    middle = g.interpolate(g.rigid(heading(170), np.zeros(3)), g.rigid(heading(-170), np.zeros(3)), 0.5)
    assert middle[:3, :3] == pytest.approx(heading(180), abs=1e-9)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3), "must be a 4x4 matrix"),
        (np.full((4, 4), np.inf), "not finite"),
        (np.diag([1.0, 1, -1, 1]), "not a rigid transform"),
        (np.diag([1.0, 1, 1.1, 1]), "not a rigid transform"),
    ],
)
def test_what_is_not_rigid_is_refused(matrix, message):
    with pytest.raises(ValueError, match=f"here.*{message}"):
        g.check_rigid(matrix, "here")


def test_layouts_there_and_back():
    shape, channels = (3, 4, 2), 5
    tokens = torch.arange(3 * 4 * 2 * channels).view(-1, channels)
    volume = voxels.token_order_volume(tokens, shape)
    assert volume.shape == (1, channels, 3, 4, 2)
    assert torch.equal(voxels.token_order_volume_to_tokens(volume), tokens)
    layers = voxels.tokens_to_layers(tokens, shape)  # [Z, C, Y, X]
    row, column, layer = 2, 1, 1
    token = tokens[(row * 4 + column) * 2 + layer]
    assert torch.equal(layers[layer, :, row, column], token)
    zyx = voxels.layers_to_volume(layers)
    assert zyx.shape == (1, channels, 2, 3, 4) and torch.equal(voxels.volume_to_layers(zyx), layers)
    grid = voxels.volume_to_grid(zyx)
    assert torch.equal(grid[column, row, layer], token) and torch.equal(voxels.grid_to_volume(grid), zyx)
    assert torch.equal(voxels.points_to_grid(voxels.layers_to_points(layers)), grid)


def test_reference_heights_are_the_published_ones():
    grid = model_config("pano_small_occ3d").grid
    inherited = voxels.reference_points_m(grid, "metric_linspace")[:16, 2]
    assert inherited == pytest.approx(np.linspace(-0.5, 4.9, 16))
    centres = voxels.reference_points_m(grid, "voxel_centres")
    assert centres[:16, 2] == pytest.approx(-1 + 0.4 * (np.arange(16) + 0.5))
    assert centres[16 * 50 + 16][:2] == pytest.approx((-37.6, -37.6))  # row 1, column 1


def test_positions_of_voxel_centres_are_whole_numbers():
    grid = model_config("nano").grid
    matrix = voxels.voxel_from_network(grid)
    positions = voxels.centres_m(grid) @ matrix[:3, :3].T + matrix[:3, 3]
    assert positions.max(0) == pytest.approx([31, 31, 7])
    np.testing.assert_allclose(positions, positions.round(), atol=1e-9)


def test_two_poses_are_apart_by_metres_and_degrees():
    turned = g.rigid(g.rotation_from_quaternion(np.array([0, 0, np.sin(np.pi / 12), np.cos(np.pi / 12)])), np.zeros(3))
    assert g.shift_and_turn(turned, g.rigid(np.eye(3), np.array([3.0, 0, 4]))) == pytest.approx((5, 30))
    assert g.shift_and_turn(turned, turned) == pytest.approx((0, 0), abs=1e-5)


def test_a_transform_to_nowhere_is_refused():
    """Products of such entries are infinite or NaN."""
    for far in (1e9, 1e308):
        with pytest.raises(ValueError, match="mount has entries up to 1e.*is no place"):
            g.check_rigid(g.rigid(np.eye(3), np.array([0.0, far, 0.0])), "mount")
    g.check_rigid(g.rigid(np.eye(3), np.array([4.5e5, 5.4e6, 100.0])), "mount")  # UTM
