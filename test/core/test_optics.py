"""Points through lenses: against OpenCV, at the edge of the field, behind the lens, and back from pixels to rays."""

import math

import cv2
import numpy as np
import pytest
import torch

from panoocc_core.cameras.upright import turned_camera
from panoocc_core.geometry import rigid
from panoocc_core.optics import CameraView, LensModel, Projections
from panoocc_core.optics.lens_model import imaged
from panoocc_core.optics.projections import UNSEEN, LensedImage, lens_groups

K = np.array([[500.0, 0, 320], [0, 480, 240], [0, 0, 1]])
HERE = np.eye(4)[:3]
RATIONAL = (0.4, 0.2, 0.001, 0.001, 0.02, 0.6, 0.25, 0.04)
LENSES = {
    "plumb_bob of 4": LensModel("perspective", (-0.3, 0.1, 0.001, -0.002)),
    "plumb_bob of 5": LensModel("perspective", (-0.3, 0.1, 0.001, -0.002, 0.01)),
    "rational": LensModel("perspective", RATIONAL),
    "thin prism": LensModel("perspective", (*RATIONAL, 0.001, -0.002, 0.003, 0.001)),
    "tilted sensor": LensModel("perspective", (*RATIONAL, 0.001, -0.002, 0.003, 0.001, 0.02, -0.03)),
    "fisheye": LensModel("equidistant", (0.05, -0.02, 0.01, -0.003)),
    "ideal fisheye": LensModel("equidistant", (0.0, 0.0, 0.0, 0.0)),
}


@pytest.fixture(params=LENSES)
def lens(request):
    return LENSES[request.param]


def points(angles_rad, seed=0):
    """A point at each angle from the axis, in any direction, between half a metre and 50 m away: [n, 3]."""
    random, angles = np.random.default_rng(seed), np.asarray(angles_rad)
    azimuth, far_m = random.uniform(0, 2 * np.pi, angles.shape), random.uniform(0.5, 50, (*angles.shape, 1))
    sine = np.sin(angles)
    return np.stack((sine * np.cos(azimuth), sine * np.sin(azimuth), np.cos(angles)), axis=-1) * far_m


def opencv_pixels(lens, where):
    """Pixels [n, 2] of points [n, 3] as OpenCV has them."""
    still, distortion = np.zeros(3), np.array(lens.coefficients)
    if lens.kind == "equidistant":
        return cv2.fisheye.projectPoints(where[:, None], still, still, K, distortion)[0][:, 0]
    return cv2.projectPoints(where, still, still, K, distortion)[0][:, 0]


@pytest.mark.parametrize("share", [(0.0, 0.5), (0.5, 0.95)], ids=["interior", "towards the edge"])
def test_points_lie_where_opencv_projects_them(lens, share):
    widest = min(lens.field_rad, math.radians(85))
    where = points(np.random.default_rng(1).uniform(*share, 1000) * widest)
    for dtype, tolerance in ((np.float64, 1e-8), (np.float32, 2e-5)):
        pixels, seen = CameraView(K, HERE, lens).pixels(where.astype(dtype))
        expected = opencv_pixels(lens, where)
        assert seen.all() and pixels.dtype == dtype
        assert (np.abs(pixels - expected) <= tolerance * np.maximum(np.abs(expected), 500)).all()


def test_rays_lead_back_to_the_points(lens):
    where = points(np.random.default_rng(2).uniform(0, 0.97, 300) * min(lens.field_rad, math.radians(150)))
    view = CameraView(K, rigid(cv2.Rodrigues(np.array([0.3, -0.2, 0.1]))[0], np.zeros(3))[:3], lens)
    rays = view.rays(view.pixels(where @ view.camera_from_points[:, :3])[0])
    expected = where @ view.camera_from_points[:, :3] / np.linalg.norm(where, axis=1)[:, None]
    np.testing.assert_allclose(rays, expected, atol=1e-8)


@pytest.mark.parametrize(
    ("lens", "expected_rad"),
    [
        (LensModel("perspective", (-0.3, 0.0, 0.0, 0.0)), math.atan(math.sqrt(1 / 0.9))),  # of r - 0.3 r^3
        (LensModel("perspective", (0.0, 0.0, 0.0, 0.01)), math.atan(1 / 0.06)),  # of -r + 0.03 r^2, on one side
        (LensModel("perspective", (0.0, 0.0, 0.0, 0.0, 0.0, -0.25, 0.0, 0.0)), math.atan(2)),  # a pole
        (LensModel("perspective", (0.1, 0.0, 0.0, 0.0)), math.radians(89.9)),
        (LensModel("equidistant", (-0.1, 0.0, 0.0, 0.0)), math.sqrt(1 / 0.3)),  # of a - 0.1 a^3
        (LensModel("equidistant", (0.0, 0.0, 0.0, 0.0)), math.radians(179.9)),
    ],
)  # fmt: skip
def test_the_field_ends_where_the_picture_would_fold_over(lens, expected_rad):
    assert expected_rad - 0.0035 <= lens.field_rad <= expected_rad + 1e-9
    view, inside, outside = CameraView(K, HERE, lens), lens.field_rad - 1e-6, expected_rad + 0.002
    assert view.pixels(points(np.full(50, inside)))[1].all()
    assert not view.pixels(points(np.linspace(outside, np.pi, 200)))[1].any()


def test_no_point_beyond_the_field_or_behind_is_seen_and_all_numbers_are_finite(lens):
    where = np.concatenate(
        (
            points(np.linspace(0, np.pi, 500)),
            np.random.default_rng(3).normal(size=(200, 3)) * (100, 100, 1e-3),
            [[0, 0, 1], [0, 0, -1], [0, 0, 0], [1e-9, 0, 0], [0, 0, 1e-9], [1e6, -1e6, 0], [0, 0, 1e8]],
        )
    )
    angle = np.arctan2(np.hypot(where[:, 0], where[:, 1]), where[:, 2])
    for dtype in (torch.float64, torch.float32):
        wanted = torch.tensor(where, dtype=dtype, requires_grad=True)
        numbers = torch.tensor(lens.coefficients, dtype=dtype, requires_grad=True)
        field = torch.tensor(lens.field_rad, dtype=dtype)
        places, seen = imaged(lens.kind, numbers, field, wanted)
        assert torch.isfinite(places).all()
        (places * places).sum().backward()
        assert torch.isfinite(wanted.grad).all() and torch.isfinite(numbers.grad).all()
        assert not seen[angle > lens.field_rad + 1e-4].any()
        assert not seen[np.linalg.norm(where, axis=1) < 1e-6].any()
        if lens.kind == "perspective":
            assert not seen[where[:, 2] <= 0].any()


def test_a_fisheye_sees_behind_its_own_plane():
    lens, view = LENSES["ideal fisheye"], CameraView(K, HERE, LENSES["ideal fisheye"])
    pixels, seen = view.pixels(np.array([[1.0, 0, -0.1], [0, -2.0, -0.2]]))
    angle = np.pi / 2 + math.atan(0.1)
    assert lens.field_rad > angle and seen.all()
    np.testing.assert_allclose(pixels, [[320 + 500 * angle, 240], [320, 240 - 480 * angle]])


def test_gradients_are_those_of_finite_differences(lens):
    where = torch.tensor(points(np.linspace(0.05, 0.9, 12) * lens.field_rad), requires_grad=True)
    numbers = torch.tensor(lens.coefficients, dtype=torch.float64, requires_grad=True)
    field = torch.tensor(lens.field_rad, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda k, p: imaged(lens.kind, k, field, p)[0] * p[:, 2:].sigmoid(), (numbers, where)
    )


def test_rays_of_pixels_that_a_lens_does_not_reach_are_none():
    lens = LensModel("equidistant", (-0.1, 0.0, 0.0, 0.0))
    reach = lens.field_rad - 0.1 * lens.field_rad**3
    pixels = np.array([[320 + 500 * reach * share, 240] for share in (0.0, 0.5, 0.999, 1.01, 2.0, 1e6)])
    assert np.isnan(CameraView(K, HERE, lens).rays(pixels)).any(axis=1).tolist() == [False] * 3 + [True] * 3


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_point_keeps_its_detail_of_the_picture_when_that_is_turned(lens, turns):
    image, mount = np.zeros((480, 640, 3), np.uint8), np.eye(4)
    where = points(np.random.default_rng(4).uniform(0, 0.9, 200) * min(lens.field_rad, 1.4))
    before, seen = CameraView(K, HERE, lens).pixels(where)
    intrinsics, pose = turned_camera(image.shape[:2], K, mount, turns)
    camera_from_points = np.linalg.inv(pose)[:3]
    after, still_seen = CameraView(intrinsics, camera_from_points, lens.turned(turns)).pixels(where)
    for _ in range(turns):  # counter-clockwise: the upper right corner becomes the upper left one
        before = np.stack((before[:, 1], 639 - before[:, 0] if image.shape[1] == 640 else 479 - before[:, 0]), axis=1)
        image = np.rot90(image)
    np.testing.assert_allclose(after, before, atol=1e-7)
    np.testing.assert_array_equal(still_seen, seen)


def test_a_set_of_pinholes_and_lenses_is_projected_as_each_alone():
    random = np.random.default_rng(5)
    names, mounts = list(LENSES), random.normal(size=(len(LENSES) + 2, 3)) * 0.2
    views = [CameraView(K, rigid(cv2.Rodrigues(turn)[0], turn)[:3], LENSES[name]) for name, turn in zip(names, mounts)]
    views.insert(3, CameraView(K, rigid(cv2.Rodrigues(mounts[-1])[0], mounts[-1])[:3]))
    matrices = [UNSEEN if one.lens else one.image_from_camera @ one.camera_from_points for one in views]
    lensed = [
        (place, LensedImage(one.lens, one.image_from_camera, one.camera_from_points))
        for place, one in enumerate(views)
        if one.lens
    ]
    groups = lens_groups(lensed, torch.float64, torch.device("cpu"))
    assert len(groups) == 6  # the two fisheyes share one
    where = points(np.linspace(0, 3, 200))
    projections = Projections(torch.tensor(np.stack(matrices)), groups)
    pixels, seen = projections.pixels(torch.tensor(where))
    for place, one in enumerate(views):
        expected = one.pixels(where)
        np.testing.assert_allclose(pixels[place], expected[0], rtol=1e-9, atol=1e-7)
        np.testing.assert_array_equal(seen[place], expected[1])
    mirrored = projections.mirrored(640).pixels(torch.tensor(where))
    np.testing.assert_allclose(mirrored[0][seen][:, 0], 640 - pixels[seen][:, 0], atol=1e-6)
    np.testing.assert_allclose(mirrored[0][seen][:, 1], pixels[seen][:, 1], atol=1e-6)


def test_what_is_no_lens_is_refused():
    for kind, numbers, message in (
        ("perspective", (0.1,), "has no 1 coefficients"),
        ("equidistant", (0.1,) * 5, "has no 5"),
        ("mirror", (0.1,) * 4, "'mirror' has no 4"),
        ("equidistant", (0.1, math.nan, 0.0, 0.0), "must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            LensModel(kind, numbers)
