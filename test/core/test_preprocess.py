"""Image preparation and projections: published crop, any size, motion between shutters."""

import dataclasses

import numpy as np
import pytest
import torch

from panoocc_core.base.reduction import Fit
from panoocc_core.config import model_config, presets
from panoocc_core.geometry import rigid
from panoocc_core.preprocess import (
    crop_window,
    fit,
    input_from_pixels,
    network_input,
    network_pixels,
    normalised_and_padded,
    pixels_from_ego,
    reduction,
)
from panoocc_core.types import Frame
from panoocc_core.voxels import ego_from_grid

from .conftest import heading, street_frame

OCC, BASE, PAN = (model_config(name) for name in ("pano_small_occ3d", "pano_base_occ3d", "pano_small_4f"))


def input_of(image: torch.Tensor, config) -> torch.Tensor:
    return normalised_and_padded(network_pixels([image], config), config)[0]


def image_from_world_points(image_from_points: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [n, 2] and depths [n] of points [n, 3], through a projection [3, 4]."""
    projected = points @ image_from_points[:, :3].T + image_from_points[:, 3]
    return projected[:, :2] / projected[:, 2:], projected[:, 2]


@pytest.mark.parametrize(
    ("config", "window"), [(OCC, (36, 0, 864, 1600)), (BASE, (36, 0, 864, 1600)), (PAN, (260, 0, 640, 1600))]
)
def test_the_published_crop_takes_the_top_rows_away(config, window):
    assert crop_window((900, 1600), config.images) == window


@pytest.mark.parametrize("size_hw", [(1080, 1920), (1280, 1920), (480, 640), (300, 2000), (3, 5)])
def test_any_image_size_fits(size_hw):
    top, left, rows, columns = crop_window(size_hw, OCC.images)
    assert top + rows == size_hw[0] and left >= 0 and left + columns <= size_hw[1] and min(rows, columns) > 0
    out = input_of(torch.zeros(*size_hw, 3, dtype=torch.uint8), OCC.images)
    assert out.shape == (3, 448, 800)


def test_intrinsics_follow_crop_and_resize():
    matrix = input_from_pixels((900, 1600), OCC.images)
    assert matrix @ (100.0, 436.0, 1.0) == pytest.approx((50.0, 200.0, 1.0))


@pytest.mark.parametrize("size_hw", [(448, 1024), (230, 512), (112, 300), (112, 256), (100, 200)])
def test_the_exact_projection_finds_what_lies_at_a_pixel(size_hw):
    """An image whose colours are its pixels' places tells where every pixel of the network's input came from."""
    config = dataclasses.replace(model_config("nano").images, preparation="stepwise")
    rows, columns = torch.meshgrid(*(torch.arange(size) for size in size_hw), indexing="ij")
    place = torch.stack((columns // 4, rows // 4, torch.zeros_like(rows)), dim=-1).to(torch.uint8)
    out = input_of(place, config)[:2] * torch.tensor(config.std)[:2, None, None]
    found = (out + torch.tensor(config.mean)[:2, None, None]).numpy() * 4 + 1.5  # the middle of four pixels
    matrix = np.linalg.inv(input_from_pixels(size_hw, config))
    inner = np.s_[:, 8:-8, 8:-8]  # away from clamped borders
    v, u = np.mgrid[:112, :256]
    expected = np.stack((matrix[0, 0] * u + matrix[0, 2], matrix[1, 1] * v + matrix[1, 2]))
    off = (found - expected)[inner].mean((1, 2))
    assert np.abs(off).max() < 0.1  # steps of four pixels, on the mean
    scaled = dataclasses.replace(config, resized_intrinsics="scaled")
    missed = input_from_pixels(size_hw, scaled) - input_from_pixels(size_hw, config)
    assert missed[0, 2] == pytest.approx(0.5 - 0.5 / matrix[0, 0]) and missed[1, 2] == pytest.approx(
        0.5 - 0.5 / matrix[1, 1]
    )


@pytest.mark.parametrize("size_hw", [(900, 1600), (1080, 1920), (447, 1023), (299, 701), (112, 256), (90, 200)])
def test_what_is_prepared_directly_is_what_lies_there(size_hw):
    """Waves are found where the projection says, although the image is reduced first: to a tenth of a pixel."""
    config = model_config("nano").images
    assert config.preparation == "direct"
    matrix = np.linalg.inv(input_from_pixels(size_hw, config))

    def waves(x, y):  # some thirty pixels of the network's input from crest to crest
        return np.stack((np.sin(x / matrix[0, 0] / 5), np.sin(y / matrix[1, 1] / 5), np.sin((x + y) / 40))) * 100 + 128

    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    image = torch.from_numpy(waves(x, y).round().astype(np.uint8).transpose(1, 2, 0).copy())
    y, x = np.mgrid[:112, :256]
    expected = waves(matrix[0, 0] * x + matrix[0, 2], matrix[1, 1] * y + matrix[1, 2])
    off = network_pixels([image], config)[0].numpy() - expected
    inner = np.s_[:2, 4:-4, 4:-4]
    slope = np.abs(np.gradient(expected, axis=(1, 2))).max()
    assert np.abs(off[inner]).mean() < 0.1 * slope and np.abs(off[inner]).max() < 0.2 * slope


def test_images_that_fit_are_taken_as_they_are():
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (144, 256, 3), generator=draw, dtype=torch.uint8)
    config = model_config("nano").images
    ours, published = (
        network_pixels([image], dataclasses.replace(config, preparation=preparation))
        for preparation in ("direct", "stepwise")
    )
    assert torch.equal(ours, published)


@pytest.mark.parametrize(
    ("size_hw", "times"), [((900, 1600), 4), ((1080, 1920), 4), ((450, 800), 2), ((223, 600), 1), ((2160, 3840), 8)]
)
def test_an_image_is_reduced_as_long_as_it_shows_more_than_the_network_is_given(size_hw, times):
    assert reduction(size_hw, model_config("nano").images) == times
    assert reduction(size_hw, OCC.images) == reduction(size_hw, PAN.images) == 1


@pytest.mark.parametrize("size_hw", [(900, 1600), (1080, 1920), (901, 1603), (480, 640), (1100, 480), (100, 200)])
def test_an_undistorted_image_needs_no_resizing_any_more(size_hw):
    config = model_config("nano").images
    undistorted_hw = fit(size_hw, config).undistorted_hw
    assert crop_window(undistorted_hw, config)[2:] == (112, 256)
    scale_y, scale_x = (after / before for after, before in zip(undistorted_hw, size_hw))
    assert scale_y == pytest.approx(scale_x, abs=0.6 / min(size_hw))
    assert fit(size_hw, OCC.images) == Fit()


def test_published_networks_are_prepared_as_they_were_trained():
    configs = [model_config(name) for name in presets()]
    direct = {config.name for config in configs if config.images.preparation == "direct"}
    assert direct == {"nano", "nano_sparse", "nano_waymo"}
    with pytest.raises(ValueError, match="preparation: direct needs resized_intrinsics: exact"):
        dataclasses.replace(OCC.images, preparation="direct")


def test_published_networks_keep_the_intrinsics_that_they_were_trained_with():
    configs = [model_config(name) for name in presets()]
    ours = {config.name for config in configs if config.images.resized_intrinsics == "exact"}
    assert ours == {"nano", "nano_sparse", "nano_waymo", "pano_waymo_small", "pano_waymo_base"}


def test_channels_normalisation_and_padding():
    image = torch.zeros(900, 1600, 3, dtype=torch.uint8)
    image[..., 0] = 200  # red
    bgr, rgb = input_of(image, OCC.images), input_of(image, PAN.images)
    assert bgr[2, 0, 0].item() == pytest.approx(200 - 123.675) and bgr[0, 0, 0].item() == pytest.approx(-103.53)
    assert rgb[0, 0, 0].item() == pytest.approx((200 - 123.675) / 58.395, abs=1e-5)
    assert bgr[:, 432:].abs().max() == 0 and bgr[:, 431].abs().min() > 0


def test_halving_averages_four_pixels():
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (900, 1600, 3), generator=draw, dtype=torch.uint8)
    out = input_of(image, OCC.images)
    mean = image[36:38, 0:2].float().mean((0, 1)).flip(0) - torch.tensor(OCC.images.mean)
    torch.testing.assert_close(out[:, 0, 0], mean, atol=1e-4, rtol=0)


def test_a_point_ahead_is_in_the_middle_of_the_front_image():
    frame = street_frame(0.0)
    pixels, depth = image_from_world_points(pixels_from_ego(frame.cameras[0], frame), np.array([[11.0, 0.0, 1.5]]))
    assert pixels[0] == pytest.approx((80.0, 45.0)) and depth[0] == pytest.approx(10.0)


def test_motion_between_the_shutters_counts():
    """The camera saw the world from a place 0.5 m further on and turned: a still point of the world keeps its pixel."""
    frame = street_frame(0.0)
    late = rigid(heading(2.0), np.array([0.5, 0.1, 0.0]))
    camera = dataclasses.replace(frame.cameras[0], world_from_ego=late)
    point_world = np.array([[14.0, 2.0, 1.0]])
    pixels, _ = image_from_world_points(pixels_from_ego(camera, frame), point_world)  # the ego frame is the world here
    camera_from_world = np.linalg.inv(late @ camera.ego_from_camera)
    expected, _ = image_from_world_points(camera.intrinsics @ camera_from_world[:3], point_world)
    assert pixels == pytest.approx(expected)
    unmoved, _ = image_from_world_points(pixels_from_ego(frame.cameras[0], frame), point_world)
    assert np.abs(unmoved - expected).max() > 1


def test_projection_of_a_network_frame_that_is_not_the_vehicles():
    """The panoptic networks predict in the frame of a roof LiDAR: its y axis points ahead."""
    frame = street_frame(0.0, size_hw=(900, 1600))
    inputs = network_input(frame, PAN, torch.device("cpu"))
    ahead = np.array([0.0, 20.0, 0.0, 1.0])
    u, v, depth = inputs.projections.image_from_network[0].double().numpy() @ ahead
    assert depth > 18 and abs(u / depth - 400) < 12  # the middle column of the front camera
    corner = ego_from_grid(PAN.grid)
    assert corner[:3, 0] == pytest.approx((0, -1, 0), abs=0.05)  # x of the grid points to the right


def test_wrong_frames_are_refused():
    frame = street_frame(0.0)
    camera = frame.cameras[0]
    for changes, message in (
        ({"image": camera.image.float()}, "camera CAM_FRONT: image must be uint8"),
        ({"intrinsics": np.zeros((3, 3))}, "camera CAM_FRONT: intrinsics"),
        (
            {"ego_from_camera": np.full((4, 4), np.nan)},
            "camera CAM_FRONT: ego_from_camera has entries that are not finite",
        ),
        ({"world_from_ego": 2 * np.eye(4)}, "camera CAM_FRONT: world_from_ego is not a rigid transform"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(camera, **changes)
    with pytest.raises(ValueError, match="cameras given twice in one frame: CAM_FRONT"):
        Frame(0, np.eye(4), (camera, camera))


def test_a_blank_camera_sees_nothing_and_changes_no_other():
    frame = street_frame(0, size_hw=(90, 160))
    blank = dataclasses.replace(
        frame.cameras[2], is_blank=True, intrinsics=np.eye(3), image=torch.zeros(4, 4, 3, dtype=torch.uint8)
    )
    cameras = (*frame.cameras[:2], blank, *frame.cameras[3:])
    config, device = model_config("nano"), torch.device("cpu")
    full, without = (network_input(one, config, device) for one in (frame, dataclasses.replace(frame, cameras=cameras)))
    place = config.cameras.index(blank.name)
    points = torch.tensor([[x, y, 1.0, 1.0] for x in range(-20, 21, 5) for y in range(-20, 21, 5)])
    assert ((without.projections.image_from_network[place] @ points.T)[2] < 0).all()
    others = [k for k in range(len(config.cameras)) if k != place]
    assert torch.equal(full.projections.image_from_network[others], without.projections.image_from_network[others])
