"""Calibrations: windows and bins of the sensor, lens distortion undone, everything unusable refused by field."""

import cv2
import numpy as np
import pytest

from panoocc_core.base.reduction import Fit, reduced
from panoocc_core.cameras.lens import CalibrationError, calibration, same_calibration
from panoocc_core.optics import LensModel
from test.ros.messages import camera_info, picture

POINTS = np.random.default_rng(0).uniform((-0.4, -0.3, 1.0), (0.4, 0.3, 1.0), (20, 3))


def test_k_serves_a_camera_without_distortion():
    calibrated = calibration(camera_info(distortion=(0.0,) * 5), is_rectified=False)
    np.testing.assert_array_equal(calibrated.intrinsics, [[50, 0, 32], [0, 50, 24], [0, 0, 1]])
    image = picture()
    assert calibrated.rectify(image) is image


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("plumb_bob", (-0.3, 0.1, 0.001, -0.002, 0.01)),
        ("rational_polynomial", (0.4, 0.2, 0.001, 0.001, 0.02, 0.6, 0.25, 0.04)),
        ("equidistant", (0.05, -0.02, 0.01, -0.003)),
    ],
)
def test_undistorting_moves_a_point_to_where_the_pinhole_model_sees_it(model, distortion):
    info = camera_info(size_hw=(480, 640), focal=500.0, model=model, distortion=distortion)
    calibrated = calibration(info, is_rectified=False)
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    for point in POINTS[:8]:
        seen = project(point.reshape(1, 1, 3), np.zeros(3), np.zeros(3), calibrated.intrinsics, np.array(distortion))[0]
        seen = seen.reshape(2)
        pinhole = (calibrated.intrinsics @ point)[:2]
        image = np.zeros((480, 640, 3), np.uint8)
        cv2.circle(image, tuple(int(v) for v in np.round(seen * 16)), 3 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
        found = np.argwhere(calibrated.rectify(image)[:, :, 0] > 127).mean(axis=0)[::-1]
        assert np.abs(found - pinhole).max() < 0.6
        if np.abs(seen - pinhole).max() > 3:
            assert np.abs(found - seen).max() > 1.5


@pytest.mark.parametrize(("times", "undistorted_hw"), [(2, None), (4, None), (2, (150, 200)), (1, (120, 160))])
def test_an_image_is_reduced_undistorted_and_resized_as_a_whole_one(times, undistorted_hw):
    random = np.random.default_rng(0)
    image = cv2.resize(random.integers(0, 256, (9, 12, 3), dtype=np.uint8), (638, 479), interpolation=cv2.INTER_CUBIC)
    info = camera_info(size_hw=(479, 638), focal=500.0, distortion=(-0.3, 0.1, 0.001, -0.002, 0.01))
    whole, small = calibration(info, False), calibration(info, False, lambda size_hw: Fit(times, undistorted_hw))
    assert (small.size_hw, small.reduction) == ((479, 638), times)
    taken = reduced(image, times)
    found = small.rectify(taken)
    assert found.shape[:2] == (undistorted_hw or taken.shape[:2])
    y, x = np.mgrid[: found.shape[0], : found.shape[1]]  # what lies there in the whole image
    u, v, w = np.tensordot(whole.intrinsics @ np.linalg.inv(small.intrinsics), [x, y, np.ones_like(x)], 1)
    places = (u / w).astype(np.float32), (v / w).astype(np.float32)
    wanted, untouched = (cv2.remap(one, *places, cv2.INTER_LINEAR) for one in (whole.rectify(image), image))
    off, moved = (np.abs(found[8:-8, 8:-8].astype(float) - one[8:-8, 8:-8]).mean() for one in (wanted, untouched))
    assert off < 1 < moved
    with pytest.raises(CalibrationError, match=f"its CameraInfo is for {taken.shape[1]}x{taken.shape[0]}"):
        small.rectify(image[1:])


def test_a_rectified_image_has_p_and_the_axes_of_r():
    info = camera_info(distortion=(-0.3, 0.1, 0, 0, 0))
    turn = cv2.Rodrigues(np.array([0.01, -0.02, 0.005]))[0]
    info.r = turn.reshape(-1)
    info.p = np.array([44.0, 0, 30, -5.0, 0, 44, 22, 0, 0, 0, 1, 0])
    calibrated = calibration(info, is_rectified=True)
    np.testing.assert_array_equal(calibrated.intrinsics, [[44, 0, 30], [0, 44, 22], [0, 0, 1]])
    np.testing.assert_array_equal(calibrated.camera_from_rectified, turn.T)
    image = picture()
    assert calibrated.rectify(image) is image
    raw = calibration(info, is_rectified=False)
    np.testing.assert_array_equal(raw.camera_from_rectified, np.eye(3))


def test_a_window_and_bins_of_the_sensor_shift_and_scale_k():
    info = camera_info(size_hw=(480, 640), focal=500.0)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 40, 400, 320
    info.binning_x, info.binning_y = 2, 4
    calibrated = calibration(info, is_rectified=False)
    np.testing.assert_array_equal(calibrated.intrinsics, [[250, 0, 110], [0, 125, 50], [0, 0, 1]])
    assert calibrated.size_hw == (80, 200)


def test_an_image_of_another_size_is_refused():
    calibrated = calibration(camera_info(), is_rectified=False)
    with pytest.raises(CalibrationError, match="image is 32x24, its CameraInfo is for 64x48"):
        calibrated.rectify(picture(size_hw=(24, 32)))


def changed(**fields):
    info = camera_info()
    for name, value in fields.items():
        setattr(info, name, value)
    return info


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (changed(k=np.zeros(9)), "K is all zero"),
        (changed(k=np.array([np.nan, 0, 1, 0, 1, 1, 0, 0, 1])), "K has entries that are not finite"),
        (changed(k=np.array([-5.0, 0, 1, 0, 1, 1, 0, 0, 1])), "focal lengths -5 and 1"),
        (changed(k=np.zeros(8)), "K has 8 entries, not 9"),
        (changed(d=np.array([np.inf] * 5)), "D has entries that are not finite"),
        (changed(d=np.ones(5), distortion_model="mei"), "'mei' is not one of plumb_bob.*rectify"),
        (changed(d=np.ones(7)), "plumb_bob takes 4 or 5 coefficients, D has 7 .*rational_polynomial"),
        (changed(d=np.ones(3)), "plumb_bob takes 4 or 5 coefficients, not 3"),
        (changed(d=np.ones(100_000), distortion_model="rational_polynomial"), "or 14 coefficients, D has 100000"),
        (changed(d=np.ones(6), distortion_model="equidistant"), "equidistant takes 4 coefficients, D has 6"),
        (
            changed(k=np.array([50.0, 0, 32, 0, 50, 24, 0, 0, 0])),
            "K is no camera matrix: .*not 50 0 32; 0 50 24; 0 0 0",
        ),
        (changed(k=np.array([50.0, 0, 0, 0, 50, 0, 32, 24, 1])), "K is no camera matrix"),
        (changed(k=np.array([1.0, 0, 32, 0, 1, 24, 0, 0, 1])), "focal lengths 1 and 1: they must be above 3.2"),
        (changed(k=np.array([1e308, 0, 32, 0, 50, 24, 0, 0, 1])), "focal lengths 1e.308 and 50"),
        (changed(k=np.array([50.0, 0, 1e9, 0, 50, 24, 0, 0, 1])), "principal point 1e.09, 24"),
        (changed(d=np.array([100.0, 0, 0, 0, 0])), "D leaves . % of the undistorted picture usable"),
        (changed(d=np.array([-8.0, 0, 0, 0, 0])), "usable .the rest is black or folded over"),
        (changed(d=np.array([1e300] * 5)), "D leaves 0 % of"),
        (changed(width=100_000), "width, height, roi and binning: image size 100000x48 is outside"),
        (changed(width=16_384, height=16_384), "16384x16384: more than 67108864 pixels"),
        (changed(binning_x=200), "image size 0x48 is outside"),
        (changed(d=np.ones(5), height=0), "height and width are zero"),
    ],
)
def test_unusable_calibrations_are_refused_by_field(info, message):
    with pytest.raises(CalibrationError, match=message):
        calibration(info, is_rectified=False)


def test_a_window_outside_the_sensor_is_refused():
    info = camera_info()
    info.roi.x_offset, info.roi.width = 40, 30
    with pytest.raises(CalibrationError, match="roi 30x0 at 40, 0 is not inside the sensor of 64x48"):
        calibration(info, is_rectified=False)


FIVE = [-0.0306, 0.0352, -0.000138, -0.000146, -0.01204]


@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial"])
@pytest.mark.parametrize("zeros", [1, 3, 7, 9, 20])
def test_coefficients_that_are_zero_change_nothing(model, zeros):
    five = calibration(changed(d=np.array(FIVE)), is_rectified=False)
    more = calibration(changed(d=np.array(FIVE + [0.0] * zeros), distortion_model=model), is_rectified=False)
    np.testing.assert_array_equal(more.maps.xy, five.maps.xy)


@pytest.mark.parametrize("radial", [-0.37, -0.3, 0.3, 0.5])
def test_lenses_as_people_have_them_are_taken(radial):
    for focal in (35.0, 50.0, 200.0):
        info = camera_info(focal=focal, distortion=(radial, radial**2, 0.001, -0.001, 0.0))
        assert calibration(info, is_rectified=False).maps is not None


def test_nothing_but_calibration_errors_comes_out_of_mutated_calibrations():
    random, used = np.random.default_rng(0), 0
    odd = [0.0, -1.0, 1e-300, 1e308, -1e308, np.nan, np.inf, 5.0, 1e5]
    for _ in range(2000):
        info = camera_info(distortion=FIVE)
        info.distortion_model = random.choice(["plumb_bob", "rational_polynomial", "equidistant", "", "x" * 1000])
        info.d = random.choice([*odd, *FIVE], size=random.choice([0, 1, 4, 5, 8, 12, 14, 15])) * random.choice(
            [1, 1e-9]
        )
        for name in "krp":
            if random.random() < 0.3:
                values = getattr(info, name).copy()
                values[random.integers(values.size)] = random.choice(odd)
                setattr(info, name, values)
        for where, name in ((info, "width"), (info, "binning_x"), (info.roi, "height"), (info.roi, "x_offset")):
            if random.random() < 0.1:
                setattr(where, name, int(random.choice([0, 1, 63, 64, 2**31, 2**32 - 1])))
        try:
            calibrated = calibration(info, is_rectified=bool(random.integers(2)))
        except CalibrationError as error:
            assert len(str(error)) < 400
            continue
        used += 1
        assert np.isfinite(calibrated.intrinsics).all()
    assert used > 50


def test_what_opencv_cannot_undistort_is_no_crash(monkeypatch):
    calibrated = calibration(changed(d=np.array(FIVE)), is_rectified=False)

    def broken(*_, **__):
        raise cv2.error("remap.cpp: error: (-215) dst.cols < SHRT_MAX")

    monkeypatch.setattr(cv2, "remap", broken)
    with pytest.raises(CalibrationError, match="SHRT_MAX"):
        calibrated.rectify(picture())


def test_r_that_is_no_rotation_is_refused():
    with pytest.raises(CalibrationError, match="R is not a rotation"):
        calibration(changed(r=np.full(9, 0.5)), is_rectified=True)


def test_the_header_does_not_make_another_calibration():
    assert same_calibration(camera_info(stamp_ns=1, frame_id="a"), camera_info(stamp_ns=2, frame_id="b"))
    assert not same_calibration(camera_info(), camera_info(focal=51.0))
    assert not same_calibration(camera_info(), changed(binning_x=2))


@pytest.mark.parametrize("zeros", [[], [0.0] * 4])
def test_a_fisheye_without_coefficients_is_no_pinhole(zeros):
    """All-zero D is the ideal lens r = f * theta, as simulators have it."""
    ideal = calibration(changed(distortion_model="equidistant", d=zeros), is_rectified=False)
    nearly = calibration(changed(distortion_model="equidistant", d=[1e-9, 0.0, 0.0, 0.0]), is_rectified=False)
    assert ideal.maps is not None and nearly.maps is not None
    for one, other in ((ideal.maps.xy, nearly.maps.xy), (ideal.maps.part, nearly.maps.part)):
        assert np.abs(one.astype(float) - other.astype(float)).max() < 1.1


def test_a_lens_that_is_projected_through_leaves_picture_and_k():
    for model, distortion, kind in (
        ("plumb_bob", FIVE, "perspective"),
        ("rational_polynomial", [0.4, 0.2, 0.001, 0.001, 0.02, 0.6, 0.25, 0.04], "perspective"),
        ("fisheye", [0.05, -0.02, 0.01, -0.003], "equidistant"),
    ):
        info = camera_info(distortion=distortion, model=model)
        calibrated = calibration(info, is_rectified=False, use="project")
        assert (
            calibrated.maps is None
            and calibrated.lens == LensModel(kind, tuple(distortion))
            and calibrated.cut_off == 0
        )
        image = picture()
        assert calibrated.rectify(image) is image
        np.testing.assert_array_equal(calibrated.intrinsics, info.k.reshape(3, 3))
        assert calibration(info, is_rectified=True, use="project").lens is None
    assert calibration(camera_info(), is_rectified=False, use="project").lens is None  # nothing to project through


def test_what_no_lens_sees_is_refused_and_what_is_too_wide_names_the_option():
    with pytest.raises(CalibrationError, match="D leaves . % of the picture usable .what is further from its centre"):
        calibration(changed(d=np.array([-100.0, 0, 0, 0, 0])), is_rectified=False, use="project")
    with pytest.raises(CalibrationError, match="set lens: project"):
        calibration(changed(d=np.array([-8.0, 0, 0, 0, 0])), is_rectified=False)
