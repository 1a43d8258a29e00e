"""Overlays: voxels, boxes and lines lie where a pinhole puts them, near before far, at every camera's own shutter."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from panoocc_core import CameraImage, Frame
from panoocc_core.geometry import NS_PER_S, rigid
from panoocc_core.labels import LIDARSEG, OCC3D, instance_colours
from panoocc_core.pictures.overlay import OLD_S, camera_overlay, rig_overlay, surface_of
from panoocc_core.pictures.voxel_view import VoxelVolume
from panoocc_core.types import GridGeometry, ScoredBoxes
from test.core.conftest import EGO_FROM_OPTICAL, street_frame

GRID = GridGeometry((40, 40, 8), (0.5, 0.5, 0.5), rigid(np.eye(3), np.array([-10.0, -10.0, -0.5])))
CAR, WALL, ROAD, FREE = (OCC3D.names.index(name) for name in ("car", "manmade", "driveable_surface", "free"))
GREY = 90
SIZE_HW = (240, 320)
K = np.array([[200.0, 0, 160.0], [0, 200.0, 120.0], [0, 0, 1.0]])


def volume(*filled, labels=OCC3D, fill=FREE):
    """Voxels, each of `filled` (x, y, z slices in voxels, class, number) laid over those before."""
    class_id, instance_id = np.full(GRID.shape_xyz, fill, np.uint8), np.zeros(GRID.shape_xyz, np.int32)
    for x, y, z, name, number in filled:
        class_id[x, y, z], instance_id[x, y, z] = name, number
    return VoxelVolume(class_id, GRID, labels, instance_id=instance_id)


def frame(stamp_ns=0, seen_ns=0, world_from_ego=None, camera_world_from_ego=None, **changes):
    """A grey camera that looks ahead from 1.5 m above x = 0, y = 0."""
    camera = CameraImage(
        name="CAM_FRONT",
        stamp_ns=seen_ns,
        image=torch.full((*SIZE_HW, 3), GREY, dtype=torch.uint8),
        intrinsics=K,
        ego_from_camera=rigid(EGO_FROM_OPTICAL, np.array([0, 0, 1.5])),
        world_from_ego=np.eye(4) if camera_world_from_ego is None else camera_world_from_ego,
    )
    return Frame(stamp_ns, np.eye(4) if world_from_ego is None else world_from_ego, (replace(camera, **changes),))


def drawn(voxels, of=None, boxes=None):
    of = of or frame()
    return camera_overlay(of.cameras[0], of, surface_of(voxels), SIZE_HW, boxes)


def difference(one, other):
    return np.abs(one.astype(int) - other).max(axis=2)


def window(mask):
    """Left, top, right and bottom of what is set, the last row and column included."""
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max(), rows.max()


def box(x=6.0, y=0.0, number=7, size=(2.0, 2.0, 2.0)):
    one = {"centre_m": [(x, y, 1.0)], "size_m": [size], "yaw_rad": [0.0], "velocity_mps": [(0.0, 0.0)], "score": [0.9]}
    columns = {name: np.array(values, np.float32) for name, values in one.items()}
    return ScoredBoxes(**columns, class_id=np.array([0]), instance_id=np.array([number], np.int32))


BLOCK = (slice(30, 34), slice(18, 22), slice(1, 5))  # x 5..7 m, y -1..1 m, z 0..2 m


def test_a_thing_is_coloured_where_its_near_side_projects():
    changed = difference(drawn(volume((*BLOCK, CAR, 0))), drawn(volume())) > 20
    # The near side at x = 5 m: 200 px * 1 m / 5 m to both sides of the middle; 0.5 m above the axis, 1.5 m below it.
    np.testing.assert_allclose(window(changed), (120, 100, 200, 180), atol=1)
    assert changed[101:180, 121:200].mean() > 0.99


def test_every_camera_is_drawn_from_the_pose_of_its_own_shutter():
    """The vehicle has moved by 1 m to the left: what was ahead lies to the right."""
    moved = rigid(np.eye(3), np.array([0.0, 1.0, 0]))
    voxels, bare = volume((*BLOCK, CAR, 0)), volume()
    late = frame(camera_world_from_ego=moved)
    found = window(difference(drawn(voxels, late), drawn(bare, late)) > 20)
    np.testing.assert_allclose(found, (160, 100, 240, 180), atol=1)
    both = frame(world_from_ego=moved, camera_world_from_ego=moved)
    np.testing.assert_array_equal(drawn(voxels, both), drawn(voxels))


def test_what_is_near_hides_what_is_far_and_the_ground():
    near = (slice(26, 28), slice(18, 22), slice(1, 5), WALL, 0)
    far = (*BLOCK, CAR, 0)
    ground = (slice(None), slice(None), slice(0, 1), ROAD, 0)
    hidden = slice(80, 190), slice(120, 200)  # of the near wall, at 3 m: 93..227 across, 87..220 down
    with_far, without = (drawn(volume(ground, *things)) for things in ((far, near), (near,)))
    np.testing.assert_array_equal(with_far[hidden], without[hidden])
    assert (difference(drawn(volume(ground, far)), drawn(volume(ground)))[hidden] > 20).any()
    # In either order in the arrays: it is depth that counts.
    np.testing.assert_array_equal(drawn(volume(ground, near, far)), drawn(volume(ground, far, near)))


def test_the_ground_has_its_colour_below_the_horizon_alone():
    grassy = drawn(volume((slice(None), slice(None), slice(0, 1), OCC3D.names.index("terrain"), 0)))
    changed = difference(grassy, drawn(volume())) > 5
    assert not changed[:149].any() and changed[160:200].mean() > 0.9  # the grid ends at 10 m: 1.5 m * 200 px / 10 m


def test_lines_on_the_ground_run_where_nothing_stands():
    open_ground, wall = drawn(volume()), drawn(volume((slice(30, 34), slice(None), slice(1, 5), WALL, 0)))
    line = open_ground[160:, 160].max(axis=1)  # y = 0 runs straight ahead
    assert (line > GREY + 60).mean() > 0.95 and open_ground[110, 160].max() == GREY
    bright = (wall.min(axis=2) > 240)[105:175, 30:290]
    assert not bright.any() and (wall[200:, 160].max(axis=1) > GREY + 60).all()
    across = open_ground[:, 250].max(axis=1)  # x = 5 m and 10 m, at 1.5 m * 200 px / x below the middle
    assert (across[[180, 150]] > GREY + 40).all() and across[165] == GREY


def test_things_and_boxes_have_the_colour_of_their_number():
    numbered, plain = drawn(volume((*BLOCK, CAR, 7))), drawn(volume((*BLOCK, CAR, 0)))
    colour = instance_colours(np.array([7]))[0].astype(int)
    towards = numbered[140, 140].astype(int) - GREY
    assert np.dot(towards, colour - GREY) / np.linalg.norm(towards) / np.linalg.norm(colour - GREY) > 0.9
    assert difference(numbered, plain)[140, 140] > 20
    boxed = difference(drawn(volume((*BLOCK, CAR, 7)), boxes=box()), numbered) > 20
    np.testing.assert_allclose(window(boxed)[0::2], (120, 200), atol=1)


def test_boxes_whose_voxels_are_all_hidden_are_left_out():
    wall = (slice(26, 28), slice(None), slice(1, 8), WALL, 0)
    hidden = volume((*BLOCK, CAR, 7), wall)
    np.testing.assert_array_equal(drawn(hidden, boxes=box()), drawn(hidden))
    assert (drawn(hidden, boxes=box(number=8)) != drawn(hidden)).any()  # has no voxels that could say so


def test_a_box_that_reaches_behind_the_camera_is_cut_off_there():
    bare = drawn(volume())
    beside = difference(drawn(volume(), boxes=box(x=0.5, y=2.0, size=(8.0, 2.0, 2.0))), bare) > 20
    assert beside[:, :155].any() and not beside[:, 200:].any()
    np.testing.assert_array_equal(drawn(volume(), boxes=box(x=-6.0)), bare)
    drawn(volume(), boxes=box(x=0.0, size=(4.0, 4.0, 4.0)))  # around the camera


def test_blank_and_old_images_are_marked():
    def has_amber(picture):
        return (np.abs(picture.astype(int) - (255, 196, 70)).max(axis=2) < 40).any()

    voxels = volume((*BLOCK, CAR, 0))
    old = frame(stamp_ns=round((OLD_S + 0.5) * NS_PER_S))
    assert has_amber(drawn(voxels, old)) and not has_amber(drawn(voxels, frame(stamp_ns=round(OLD_S / 2 * NS_PER_S))))
    assert has_amber(drawn(voxels, frame(stamp_ns=-NS_PER_S)))
    blank = drawn(voxels, frame(is_blank=True))
    assert has_amber(blank) and blank[:200].max() < GREY


def test_more_things_than_colours_have_those_of_their_classes():
    cars = [
        (slice(x, x + 1), slice(y, y + 1), slice(1, 2), CAR, 1 + x + 40 * y)
        for x in range(24, 40)
        for y in range(0, 40, 2)
    ]
    plain = [(*where, name, 0) for *where, name, _ in cars]
    np.testing.assert_array_equal(drawn(volume(*cars)), drawn(volume(*plain)))
    np.testing.assert_array_equal(drawn(volume(*cars[:3]))[:100], drawn(volume(*plain[:3]))[:100])
    assert (drawn(volume(*cars[-40:])) != drawn(volume(*plain[-40:]))).any()


def test_grids_without_a_free_class_show_one_voxel_of_each_column():
    labels = LIDARSEG
    road = labels.names.index("driveable_surface")
    voxels = volume((slice(30, 34), slice(18, 22), slice(2, 4), labels.names.index("car"), 0), labels=labels, fill=road)
    confidence = np.zeros(GRID.shape_xyz, np.uint8)
    confidence[..., 0], confidence[30:34, 18:22, 3] = 100, 200
    changed = difference(drawn(replace(voxels, confidence=confidence)), drawn(volume())) > 5
    assert changed[145:200].mean() > 0.8 and not changed[:110, :100].any()
    noise = np.zeros(GRID.shape_xyz, np.uint8)  # drawn nowhere
    np.testing.assert_array_equal(drawn(VoxelVolume(noise, GRID, labels)), drawn(volume()))


def test_voxels_far_smaller_than_pixels_are_dots_in_the_right_place():
    fine = GridGeometry((40, 40, 40), (0.01, 0.01, 0.01), rigid(np.eye(3), np.array([5.0, -0.2, 1.3])))
    solid, bare = (VoxelVolume(np.full(fine.shape_xyz, name, np.uint8), fine, OCC3D) for name in (CAR, FREE))
    found = window(difference(drawn(solid), drawn(bare)) > 20)
    np.testing.assert_allclose(found, (152, 112, 168, 128), atol=2)  # 0.2 m to each side, at 5 m


@pytest.mark.parametrize("width_px", [300, 1201])
def test_all_cameras_make_one_picture(width_px):
    street, voxels = street_frame(1.0), volume((slice(None), slice(None), slice(0, 1), ROAD, 0))
    picture = rig_overlay(street, voxels, width_px=width_px)
    assert picture.dtype == np.uint8 and picture.shape[1:] == (width_px, 3)
    each = (width_px - 8) // 3
    assert picture.shape[0] == 2 * round(each * 90 / 160) + 4
    blind = replace(street, cameras=tuple(replace(camera, is_blank=True) for camera in street.cameras))
    assert rig_overlay(blind, voxels, width_px=width_px).mean() < picture.mean()


def test_a_wrong_mount_shows():
    """Voxels of a camera that is turned by 3 degrees no longer cover the thing that is in its image."""
    right = difference(drawn(volume((*BLOCK, CAR, 0))), drawn(volume())) > 20
    turn = np.radians(3)
    turned = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    off = frame(ego_from_camera=rigid(turned @ EGO_FROM_OPTICAL, np.array([0, 0, 1.5])))
    wrong = difference(drawn(volume((*BLOCK, CAR, 0)), off), drawn(volume(), off)) > 20
    assert window(wrong)[0] - window(right)[0] == pytest.approx(200 * np.tan(turn), abs=2)
