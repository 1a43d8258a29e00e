"""Ground, grid and horizon are drawn where the calibration says, in every camera's own image."""

import numpy as np
import torch

from panoocc_core.pictures.rig_view import rig_montage, rig_view
from panoocc_core.sim.rig import nuscenes_rig
from panoocc_core.types import CameraImage, GridGeometry

CORNER = np.array([[1.0, 0, 0, -40], [0, 1, 0, -40], [0, 0, 1, -1], [0, 0, 0, 1]])
GEOMETRY = GridGeometry((200, 200, 16), (0.4, 0.4, 0.4), CORNER)


def is_red(picture):
    return (picture[..., 0] > 200) & (picture[..., 1] < 120)


def is_yellow(picture):
    return (picture[..., 0] > 150) & (picture[..., 1] > 120) & (picture[..., 2] < 90)


def is_blue(picture):
    return (picture[..., 2] > 150) & (picture[..., 0] < 120)


def cameras(scale=0.4):
    return [
        CameraImage(
            one.name,
            0,
            torch.zeros(one.height, one.width, 3, dtype=torch.uint8),
            one.intrinsics,
            one.ego_from_camera,
            np.eye(4),
        )
        for one in nuscenes_rig(scale)
    ]


def test_the_arrow_points_ahead_from_below_and_the_horizon_is_level():
    front = cameras()[0]
    height, width = front.size_hw
    picture = rig_view(front, GEOMETRY, front.size_hw)
    rows, columns = np.nonzero(is_red(picture))
    assert rows.max() == height - 1 and abs(np.median(columns) - width / 2) <= 2
    tip = front.intrinsics @ np.linalg.inv(front.ego_from_camera)[:3] @ (10, 0, 0, 1)
    assert abs(rows.min() - tip[1] / tip[2]) <= 2
    rows, _ = np.nonzero(is_yellow(picture))  # this camera looks level
    assert set(rows) <= {int(height / 2) + k for k in (-2, -1, 0, 1)}
    assert is_blue(picture).any()


def test_a_smaller_picture_shows_the_same_and_a_camera_that_looks_back_has_no_arrow():
    front, *_ = cameras()
    whole, half = (rig_view(front, GEOMETRY, (180 * k, 320 * k)) for k in (2, 1))
    places = [np.median(np.argwhere(is_red(picture)), axis=0) / picture.shape[:2] for picture in (whole, half)]
    assert np.abs(places[0] - places[1]).max() < 0.02
    back = next(camera for camera in cameras() if camera.name == "CAM_BACK")
    assert not is_red(rig_view(back, GEOMETRY, back.size_hw)).any()


def test_the_montage_has_a_place_for_every_camera():
    some = cameras(0.1)
    names = [camera.name for camera in some]
    whole = rig_montage(some, GEOMETRY, names, {})
    lacking = rig_montage(some[:3], GEOMETRY, names, {"CAM_BACK": "FAULT"})
    assert whole.shape == lacking.shape and whole.shape[1] == 1600
    half = whole.shape[0] // 2
    assert (whole[:half] != 0).any() and is_red(whole[:half]).any()
    assert np.array_equal(whole[:half], lacking[:half]) and not np.array_equal(whole[half:], lacking[half:])
