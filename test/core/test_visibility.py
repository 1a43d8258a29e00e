"""What cameras see of a grid: against lines of sight that are walked in small steps, and where the answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from panoocc_core import Frame, OccupancyStream, Wanted, model_config
from panoocc_core.geometry import rigid
from panoocc_core.labels import OCC3D
from panoocc_core.sim.rig_file import load_sim_rig
from panoocc_core.sim.scene import Scene
from panoocc_core.sim.truth import truth as true_voxels
from panoocc_core.sim.visibility import camera_mask
from panoocc_core.stream import output_geometry
from panoocc_core.types import CameraImage, GridGeometry
from panoocc_core.visibility import Eyes, eyes_of, visible_voxels
from panoocc_core.visibility.eyes import columns_in_view
from test.core.conftest import street_frame

NANO = model_config("nano")
FREE = OCC3D.free_id
GRID = GridGeometry((40, 40, 10), (0.5, 0.5, 0.4), rigid(np.eye(3), np.array([-10.0, -10.0, -1.0])))
FORWARD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # vehicle_from_camera: looks along x


def turned(degrees):
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


def camera(name="A", yaw_deg=0.0, position=(0.0, 0.0, 1.5), size_hw=(200, 400), focal=200.0, **more):
    height, width = size_hw
    return CameraImage(
        name=name,
        stamp_ns=0,
        image=torch.zeros((height, width, 3), dtype=torch.uint8),
        intrinsics=np.array([[focal, 0, width / 2 - 0.5], [0, focal, height / 2 - 0.5], [0, 0, 1]]),
        ego_from_camera=rigid(turned(yaw_deg) @ FORWARD, np.array(position)),
        world_from_ego=np.eye(4),
        **more,
    )


def seen_by(cameras, is_occupied, geometry=GRID, world_from_ego=None):
    images = replace(NANO.images, height=200, width=400)  # nothing is cropped
    frame = Frame(0, np.eye(4) if world_from_ego is None else world_from_ego, tuple(cameras))
    return visible_voxels(torch.from_numpy(is_occupied), geometry, eyes_of(frame, geometry, images)).numpy()


def walked(is_occupied, geometry, eyes: Eyes):
    """Free voxels that are seen: the line to the middle of each is walked in eighths of a voxel."""
    shape, metres = is_occupied.shape, np.asarray(geometry.voxel_size_m)
    columns, layer = columns_in_view(eyes, shape), np.arange(shape[2])
    row, z = np.nonzero((layer >= columns.layers[:, :1]) & (layer < columns.layers[:, 1:]))
    target = np.column_stack((columns.place[row], z))
    begin = eyes.position[columns.eye[row]]
    way = target + 0.5 - begin
    distance_m = np.hypot(way[:, 0] * metres[0], way[:, 1] * metres[1])
    steps, is_dark = int(np.abs(way).max() * 8), np.zeros(len(way), bool)
    for step in (np.arange(steps) + 0.5) / steps:
        place = np.floor(begin + way * step).astype(int)
        counts = ((place >= 0) & (place < shape)).all(axis=1) & (place != target).any(axis=1)
        counts &= distance_m * step >= np.hypot(metres[0], metres[1])
        is_dark |= counts & is_occupied[tuple(np.clip(place, 0, np.array(shape) - 1).T)]
    seen = np.zeros(shape, bool)
    seen[tuple(target[~is_dark].T)] = True
    return seen & ~is_occupied


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shadows_are_those_of_lines_that_are_walked(seed):
    random = np.random.default_rng(seed)
    is_occupied = np.zeros(GRID.shape_xyz, bool)
    is_occupied[:, :, 0] = True
    for x, y in random.integers(0, 36, (25, 2)):
        if np.hypot(x - 18, y - 18) > 4:
            low = random.integers(0, 3)
            is_occupied[x : x + 4, y : y + 3, low : low + random.integers(2, 7)] = True
    cameras = [camera(str(k), yaw_deg=60.0 * k, position=(0.3, -0.2, 1.4)) for k in range(6)]
    images = replace(NANO.images, height=200, width=400)
    eyes = eyes_of(Frame(0, np.eye(4), tuple(cameras)), GRID, images)
    seen = visible_voxels(torch.from_numpy(is_occupied), GRID, eyes).numpy() & ~is_occupied
    exact = walked(is_occupied, GRID, eyes)
    assert exact.sum() > 1000
    assert (seen & exact).sum() / (seen | exact).sum() > 0.95
    assert (seen & ~exact).sum() / seen.sum() < 0.03


def test_a_wall_is_seen_and_hides_what_is_behind_it():
    is_occupied = np.zeros(GRID.shape_xyz, bool)
    is_occupied[30:32, 10:30, :] = True  # 5 m ahead, two voxels thick
    seen = seen_by([camera()], is_occupied)
    ahead = seen[:, 20, 6]  # at 1.6 m, a little above the camera
    assert ahead[23:31].all() and not ahead[31:].any() and not ahead[:20].any()
    assert not seen[:18].any(), "behind the camera"


def test_the_road_is_seen_as_far_as_the_space_above_it():
    is_occupied = np.zeros(GRID.shape_xyz, bool)
    is_occupied[:, :, :3] = True  # up to 0.2 m
    seen = seen_by([camera()], is_occupied)
    assert seen[26:, 20, 2].all() and seen[26:, 20, 3].all()
    assert not seen[:, :, :2].any(), "below the road"


def test_cameras_look_from_where_they_were_at_their_shutter():
    is_occupied = np.zeros(GRID.shape_xyz, bool)
    is_occupied[26, :, :] = True
    before = camera(position=(2.0, 0.0, 1.5))
    after = replace(before, world_from_ego=rigid(np.eye(3), np.array([4.0, 0.0, 0.0])))  # it passed the wall at 3 m
    assert seen_by([before], is_occupied)[25, 20, 6] and not seen_by([before], is_occupied)[30, 20, 6]
    assert seen_by([after], is_occupied)[34, 20, 6] and not seen_by([after], is_occupied)[25, 20, 6]


def test_blank_cameras_see_nothing_and_what_is_cropped_is_not_seen():
    is_occupied = np.zeros(GRID.shape_xyz, bool)
    assert not seen_by([camera(is_blank=True)], is_occupied).any()
    tall = camera(size_hw=(400, 400))  # of which the network is given the lower half
    whole = seen_by([camera()], is_occupied)
    assert whole[30, 20, 8] and not seen_by([tall], is_occupied)[30, 20, 8]
    assert seen_by([tall], is_occupied)[30, 20, 3]


def test_a_camera_that_looks_up_sees_all_around():
    is_occupied = np.zeros(GRID.shape_xyz, bool)
    up = replace(camera(focal=100.0), ego_from_camera=rigid(np.eye(3), np.array([0.0, 0.0, -0.9])))
    seen = seen_by([up], is_occupied)
    assert all(seen[x, y, 9] for x, y in ((15, 19), (24, 20), (20, 15), (19, 24)))


def test_the_grid_may_be_turned_and_odd():
    is_occupied = np.zeros((40, 40, 10), bool)
    is_occupied[:, :, 0] = True
    is_occupied[30, 12:28, 0:9] = True
    straight = seen_by([camera()], is_occupied)
    quarter = replace(GRID, ego_from_grid=rigid(turned(90.0), np.array([10.0, -10.0, -1.0])))  # its x is the ego's y
    other = seen_by([camera()], np.ascontiguousarray(is_occupied.transpose(1, 0, 2)[:, ::-1]), quarter)
    assert (straight == other[:, ::-1].transpose(1, 0, 2)).mean() > 0.98
    thin = replace(GRID, shape_xyz=(40, 40, 7))
    low = seen_by([camera()], is_occupied[:, :, :7].copy(), thin)
    assert (low[:, :, :6] == straight[:, :, :6]).mean() > 0.99


def test_on_a_street_nearly_all_that_counts_as_seen_is_seen():
    """Against the simulator's own mask, which is of surfaces: voxels are thicker, and hide more."""
    rig, scene, geometry = load_sim_rig("nuscenes", 0.16), Scene(3, 3.0), output_geometry(NANO)
    truth = true_voxels(scene, geometry, 1.0)
    true = camera_mask(scene, rig, truth, 1.0)
    cameras = tuple(
        CameraImage(
            one.name,
            int((1.0 + one.shutter_offset_s) * 1e9),
            torch.zeros((one.height, one.width, 3), dtype=torch.uint8),
            one.intrinsics,
            one.ego_from_camera,
            scene.world_from_ego(1.0 + one.shutter_offset_s),
        )
        for one in rig
    )
    frame = Frame(1_000_000_000, scene.world_from_ego(1.0), cameras)
    is_occupied = torch.from_numpy(truth.class_id != FREE)
    seen = visible_voxels(is_occupied, geometry, eyes_of(frame, geometry, NANO.images)).numpy()
    assert (seen & ~true).sum() / seen.sum() < 0.006  # docs/numbers.md
    assert (seen & true).sum() / (seen | true).sum() > 0.69


def test_what_nobody_wants_is_not_found(nano_model):
    frame = street_frame(1.0)
    occupancy = OccupancyStream(nano_model).step(frame, Wanted(instances=False, visible=False))
    assert occupancy.visible is None and "visible" not in occupancy.timings_ms
    occupancy = OccupancyStream(nano_model).step(frame, Wanted(instances=False))
    assert occupancy.visible.dtype == torch.bool and occupancy.visible.shape == occupancy.class_id.shape
    assert 0 < occupancy.visible.float().mean() < 1
