"""The same street through pinholes and through a fisheye of 190 degrees: what each consumer of a lens makes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from panoocc_core import CameraImage, Frame, OccupancyStream, load_model, model_config
from panoocc_core.base.strict_yaml import ConfigError
from panoocc_core.cameras.lens import LensInfo, calibration, distortion_of
from panoocc_core.cameras.rectified import rectified_image
from panoocc_core.data.street_plan import StreetPlan
from panoocc_core.labels import OCC3D
from panoocc_core.optics import LensModel
from panoocc_core.pictures.overlay import camera_overlay, surface_of
from panoocc_core.pictures.voxel_view import VoxelVolume
from panoocc_core.preprocess import network_input, pixels_of_points, view_of
from panoocc_core.sim import Scene, nuscenes_rig
from panoocc_core.sim.camera import SimCamera, mounted, pinhole
from panoocc_core.sim.renderer import Renderer
from panoocc_core.sim.truth import truth
from panoocc_core.sim.visibility import camera_mask
from panoocc_core.types import GridGeometry
from panoocc_core.visibility import eyes_of, visible_voxels
from panoocc_core.voxels import reference_points_m

NANO = model_config("nano")
TIME_S, PLACE_M = 4.0, (1.5, 0.0, 1.6)
GRID = GridGeometry(
    (50, 50, 8), (0.8, 0.8, 0.8), np.array([[1.0, 0, 0, -20], [0, 1, 0, -20], [0, 0, 1, -1], [0, 0, 0, 1]])
)
FISHEYE = SimCamera(
    "FISHEYE",
    480,
    270,
    np.array([[480 / np.radians(190), 0, 239.5], [0, 480 / np.radians(190), 134.5], [0, 0, 1]]),
    mounted(PLACE_M, 0.0),
    lens=LensModel("equidistant", (-0.02, 0.004, -0.001, 0.0)),
)
PINHOLES = tuple(SimCamera(f"P{yaw}", 320, 180, pinhole(320, 180, 70), mounted(PLACE_M, yaw)) for yaw in (-60, 0, 60))


@pytest.fixture(scope="module")
def scene():
    return Scene(0, TIME_S + 1)


@pytest.fixture(scope="module")
def pictures(scene):
    return Renderer(scene).pictures((FISHEYE, *PINHOLES), TIME_S)


def image_of(camera: SimCamera, pixels) -> CameraImage:
    return CameraImage(
        camera.name,
        0,
        torch.from_numpy(np.ascontiguousarray(pixels)),
        camera.intrinsics,
        camera.ego_from_camera,
        np.eye(4),
        lens=camera.lens,
    )


def info_of(camera: SimCamera) -> LensInfo:
    model, distortion = distortion_of(camera.lens)
    k = camera.intrinsics.ravel()
    return LensInfo(camera.height, camera.width, model, distortion, k, np.eye(3), np.zeros(12))


def class_image(camera: SimCamera, picture) -> CameraImage:
    """The classes in place of the colours."""
    return image_of(camera, picture.class_id[..., None].repeat(3, axis=2))


def network_for(cameras):
    """Nano with an input that neither crops nor shrinks the pictures much."""
    images = replace(NANO.images, width=480, height=270, mean=(0, 0, 0), std=(1, 1, 1), preparation="stepwise")
    return replace(NANO, cameras=tuple(camera.name for camera in cameras), images=images)


def test_a_fisheye_shows_every_point_that_a_pinhole_shows_where_its_lens_images_it(pictures):
    fisheye, checked = class_image(FISHEYE, pictures["FISHEYE"]), 0
    for camera in PINHOLES:
        taken = pictures[camera.name]
        rows, columns = np.indices(taken.class_id.shape)[:, ::5, ::5].reshape(2, -1)
        rays = view_of(class_image(camera, taken)).rays(np.stack((columns, rows), axis=1).astype(float))
        pixels, seen = pixels_of_points(fisheye, np.array(PLACE_M) + 20 * rays)
        column, row = np.rint(pixels).astype(int).T
        inside = seen & (column >= 0) & (column < 480) & (row >= 0) & (row < 270)
        assert inside.mean() > 0.95
        same = (
            pictures["FISHEYE"].class_id[row[inside], column[inside]] == taken.class_id[rows[inside], columns[inside]]
        )
        assert same.mean() > 0.95  # edges of things fall into other pixels
        checked += inside.sum()
    assert checked > 5000


def test_the_network_finds_the_same_object_at_the_same_voxel(pictures):
    """Every voxel's reference point finds the same class in the fisheye as in the pinhole that sees it."""
    points = torch.tensor(reference_points_m(NANO.grid, NANO.encoder.reference_heights), dtype=torch.float32)

    def found(cameras):
        frame = Frame(0, np.eye(4), tuple(class_image(camera, pictures[camera.name]) for camera in cameras))
        config = network_for(cameras)
        inputs = network_input(frame, config, torch.device("cpu"))
        pixels, seen = inputs.projections.pixels(points)
        column, row = pixels.round().long().unbind(-1)
        seen &= (column >= 0) & (column < 480) & (row >= 0) & (row < 270)
        image = torch.arange(len(cameras))[:, None].expand_as(column)
        classes = inputs.images[image, 0, row.clamp(0, 269), column.clamp(0, 479)].round().long()
        return classes, seen

    (wide, wide_seen), (flat, flat_seen) = found((FISHEYE,)), found(PINHOLES)
    both = flat_seen & wide_seen
    # Nearest pixels of shrunken class images: a mixed one at an edge is no class.
    assert both.sum() > 2000 and (wide.expand_as(flat)[both] == flat[both]).float().mean() > 0.9
    assert (wide_seen[0] & ~flat_seen.any(0)).any(), "the fisheye sees further"


def test_a_fisheye_sees_the_voxels_that_pinholes_see_and_rays_reach(scene, pictures):
    there = truth(scene, GRID, TIME_S)
    is_occupied = torch.from_numpy(there.class_id != OCC3D.names.index("free"))

    def seen_by(cameras, voxels):
        frame = Frame(0, np.eye(4), tuple(class_image(camera, pictures[camera.name]) for camera in cameras))
        return visible_voxels(voxels, GRID, eyes_of(frame, GRID, network_for(cameras).images)).numpy()

    flat, wide = (seen_by(cameras, is_occupied) for cameras in (PINHOLES, (FISHEYE,)))
    in_flat, in_wide = (seen_by(cameras, torch.zeros_like(is_occupied)) for cameras in (PINHOLES, (FISHEYE,)))
    both = in_flat & in_wide
    assert both.sum() > 5000 and (flat[both] == wide[both]).mean() > 0.98
    assert not wide[~in_wide & ~is_occupied.numpy()].any()
    cast = camera_mask(scene, (FISHEYE,), there, TIME_S)
    assert (wide & cast).sum() / (wide | cast).sum() > 0.8
    middles = GRID.centres_m(np.argwhere(wide))
    assert (middles[:, 0] < PLACE_M[0] - 0.3).any(), "behind its own plane"


def test_an_overlay_lies_on_what_the_fisheye_sees(scene, pictures):
    """Voxels of the truth, drawn into a blue picture, cover its solids and the road, and leave its sky."""
    there, taken = truth(scene, GRID, TIME_S), pictures["FISHEYE"]
    blue = np.zeros((270, 480, 3), np.uint8) + np.uint8((0, 0, 255))
    frame = Frame(0, np.eye(4), (image_of(FISHEYE, blue),))
    drawn = camera_overlay(frame.cameras[0], frame, surface_of(VoxelVolume(there.class_id, GRID, OCC3D)), (270, 480))
    is_drawn = np.abs(drawn.astype(int) - blue).max(axis=2) > 3
    near, sky = taken.depth_m < 12, np.isinf(taken.depth_m)
    sky[:30, :200] = False  # the camera's name
    assert is_drawn[near].mean() > 0.97 and is_drawn[sky].mean() < 0.15 and sky.mean() > 0.2


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_fisheye_mounted_sideways_is_turned_with_its_lens(pictures, turns):
    calibrated = calibration(info_of(FISHEYE), is_rectified=False, use="project")
    assert calibrated.maps is None and calibrated.lens == FISHEYE.lens
    roll = mounted(PLACE_M, 0.0, roll_deg=90.0 * turns)
    taken = np.ascontiguousarray(pictures["FISHEYE"].rgb)
    image, turned = rectified_image("A", taken, calibrated, roll, 0, np.eye(4))
    assert turned != 0 and image.lens == FISHEYE.lens.turned(turned)
    points = np.random.default_rng(0).uniform((0, -20, -1), (20, 20, 5), (500, 3))
    before = pixels_of_points(
        CameraImage("A", 0, torch.from_numpy(taken), calibrated.intrinsics, roll, np.eye(4), lens=calibrated.lens),
        points,
    )
    after = pixels_of_points(image, points)
    np.testing.assert_array_equal(before[1], after[1])
    column, row = np.rint(before[0]).astype(int).T
    inside = before[1] & (column >= 0) & (column < 480) & (row >= 0) & (row < 270)
    new_column, new_row = np.rint(after[0]).astype(int).T
    pixels = image.image.numpy()
    assert inside.sum() > 50
    np.testing.assert_array_equal(taken[row[inside], column[inside]], pixels[new_row[inside], new_column[inside]])


def test_a_mild_lens_gives_nearly_the_same_grid_undistorted_or_projected(scene):
    lens = LensModel("perspective", (-0.08, 0.01, 0.0005, -0.0005, 0.0))
    rig = tuple(replace(camera, lens=lens, shutter_offset_s=0.0) for camera in nuscenes_rig(0.3))
    taken = Renderer(scene).pictures(rig, TIME_S)
    network, grids = load_model("nano"), []
    for use in ("undistort", "project"):
        cameras = []
        for camera in rig:
            found = calibration(info_of(camera), is_rectified=False, use=use)
            cameras.append(
                rectified_image(camera.name, taken[camera.name].rgb, found, camera.ego_from_camera, 0, np.eye(4))[0]
            )
        grids.append(OccupancyStream(network).step(Frame(0, np.eye(4), tuple(cameras))))
    undistorted, projected = grids
    same = (undistorted.class_id == projected.class_id).float().mean()
    print(f"equal voxels: {100 * same:.2f} %")
    assert same > 0.97


def test_drives_on_disk_do_not_lose_lenses_silently():
    with pytest.raises(ConfigError, match="rig 'fisheye': CAM_FRONT, .* have lens distortion"):
        StreetPlan(rig="fisheye").cameras()
