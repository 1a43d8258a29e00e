"""Calibrations from a file: the example loads, every mistake is named, and the numbers arrive."""

import numpy as np
import pytest
import yaml

from panoocc_core.base.resources import folder
from panoocc_core.base.strict_yaml import ConfigError
from panoocc_core.cameras.calibration_file import load_calibration
from panoocc_core.cameras.lens import calibration

EXAMPLE = folder("config") / "calibration_example.yaml"
AHEAD = {"translation_m": [1.7, 0, 1.5], "rotation_xyzw": [-0.5, 0.5, -0.5, 0.5]}
LENS = {"width": 64, "height": 48, "K": [50, 0, 32, 0, 50, 24, 0, 0, 1]}


def load(tmp_path, camera, **options):
    path = tmp_path / "calibration.yaml"
    path.write_text(yaml.safe_dump({"cameras": camera if isinstance(camera, list) else [{"name": "A", **camera}]}))
    return load_calibration(path, **options)


def test_the_example_has_cameras_that_look_ahead_and_back():
    found = load_calibration(EXAMPLE)
    axes = {name: np.round(mount[:3, 2], 6).tolist() for name, mount in found.mounts.items()}
    assert axes == {"CAM_FRONT": [1, 0, 0], "CAM_BACK": [-1, 0, 0]}
    assert found.mounts["CAM_FRONT"][:3, 3].tolist() == [1.70, 0.02, 1.51]
    assert list(found.infos) == ["CAM_FRONT"] and found.ego_from_network is None
    lens = calibration(found.infos["CAM_FRONT"], is_rectified=False)
    assert lens.size_hw == (900, 1600) and lens.intrinsics[0, 2] == 816.3 and lens.maps is not None
    assert found.infos["CAM_FRONT"].d[0] == -0.32
    assert calibration(found.infos["CAM_FRONT"], is_rectified=True).intrinsics[1, 1] == 1266.4  # P follows from K


def test_p_and_r_serve_for_rectified_images(tmp_path):
    p = [40, 0, 30, 0, 0, 40, 20, 0, 0, 0, 1, 0]
    found = load(tmp_path, {"intrinsics": LENS | {"P": p, "R": [0, -1, 0, 1, 0, 0, 0, 0, 1]}})
    lens = calibration(found.infos["A"], is_rectified=True)
    assert lens.intrinsics[0, 0] == 40 and lens.camera_from_rectified[0, 1] == 1


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ({}, "camera 'A' has neither ego_from_camera nor intrinsics"),
        ({"mount": AHEAD}, "unknown key 'mount'"),
        ({"ego_from_camera": AHEAD | {"rotation_xyzw": [0, 0, 0, 0]}}, "cameras.0..ego_from_camera: quaternion"),
        ({"ego_from_camera": AHEAD | {"rotation_xyzw": [0, 0, 1]}}, "list of 4 values"),
        ({"ego_from_camera": AHEAD | {"translation_m": [float("nan"), 0, 0]}}, "translation_m.*must be metres"),
        ({"ego_from_camera": AHEAD | {"translation_m": [1700, 0, 0]}}, "translation_m.*must be metres"),
        ({"intrinsics": LENS | {"K": [0] * 9}}, "intrinsics: K is all zero"),
        ({"intrinsics": LENS | {"width": 10**9}}, "width and height must be"),
        ({"intrinsics": LENS | {"D": [0.1, 0.2]}}, "plumb_bob takes"),
        ({"intrinsics": LENS | {"D": [0.1] * 4, "distortion_model": "mine"}}, "distortion_model 'mine'"),
    ],
)
def test_mistakes_are_named(tmp_path, camera, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, camera)


def test_a_camera_named_twice_and_one_that_the_rig_lacks(tmp_path):
    twice = [{"name": "A", "ego_from_camera": AHEAD}] * 2
    with pytest.raises(ConfigError, match="'A' is named twice"):
        load(tmp_path, twice)
    with pytest.raises(ConfigError, match="no camera 'A', only B, C"):
        load(tmp_path, {"ego_from_camera": AHEAD}, cameras=("B", "C"))
    assert load(tmp_path, {"ego_from_camera": AHEAD}, cameras=("A", "C")).mounts.keys() == {"A"}


def test_the_frame_of_the_voxels_can_be_given_alone_or_not_at_all(tmp_path):
    path = tmp_path / "calibration.yaml"
    path.write_text(yaml.safe_dump({"ego_from_network": AHEAD}))
    found = load_calibration(path, cameras=("A",))
    assert found.ego_from_network.matrix[:3, 3].tolist() == [1.7, 0, 1.5] and not found.mounts and not found.infos
    path.write_text(yaml.safe_dump({"ego_from_network": AHEAD | {"translation_m": [1700, 0, 0]}}))
    with pytest.raises(ConfigError, match="ego_from_network: translation_m.*must be metres"):
        load_calibration(path)
    path.write_text("cameras: []")
    with pytest.raises(ConfigError, match="neither cameras nor ego_from_network"):
        load_calibration(path)
