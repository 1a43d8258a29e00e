"""Rigs of the simulator: the shipped ones agree with what they imitate, and a bad file is refused by name."""

import math
import re

import numpy as np
import pytest
import yaml

from panoocc_core.base.resources import listing
from panoocc_core.base.strict_yaml import ConfigError
from panoocc_core.sim.rig import OPTICAL_FROM_FORWARD, mounted, nuscenes_rig, pinhole, waymo_rig
from panoocc_core.sim.rig_file import load_sim_rig

CAMERA = {"name": "A", "width": 320, "height": 200, "horizontal_fov_deg": 90, "position_m": [1, 0, 2], "yaw_deg": 0}
LENS = {"fx": 150.0, "fy": 160.0, "cx": 159.0, "cy": 80.0}


def written(tmp_path, *cameras, **more):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"cameras": list(cameras), **more}))
    return path


def yaw_deg(camera) -> float:
    ahead = camera.ego_from_camera[:3, 2]
    return math.degrees(math.atan2(ahead[1], ahead[0]))


def test_waymo_has_the_published_arrangement():
    rig = waymo_rig(1)
    assert [camera.name for camera in rig] == ["FRONT", "FRONT_LEFT", "FRONT_RIGHT", "SIDE_LEFT", "SIDE_RIGHT"]
    assert [(camera.width, camera.height) for camera in rig] == [(1920, 1280)] * 3 + [(1920, 886)] * 2
    for camera, yaw in zip(rig, (0, 45, -45, 90, -90)):
        assert yaw_deg(camera) == pytest.approx(yaw)
        assert camera.ego_from_camera[2, 3] == pytest.approx(2.1, abs=0.05)
        assert 2 * math.degrees(math.atan(960 / camera.intrinsics[0, 0])) == pytest.approx(50, abs=1)


def test_nuscenes_keeps_its_numbers():
    """Weights are trained on these cameras: the file may be rewritten, the numbers may not move."""
    rig = nuscenes_rig(0.18)
    assert [camera.shutter_offset_s for camera in rig] == [0.0, 0.008, -0.008, 0.025, 0.035, 0.016]
    for camera in rig:
        fov_deg = 110 if camera.name == "CAM_BACK" else 70
        assert np.array_equal(camera.intrinsics, pinhole(288, 162, fov_deg))
    yaw = math.radians(-110)
    turn = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
    assert np.array_equal(rig[-1].ego_from_camera[:3, :3], turn @ OPTICAL_FROM_FORWARD.T)
    assert rig[-1].ego_from_camera[:3, 3].tolist() == [1.05, -0.48, 1.55]


def test_every_shipped_rig_fits_its_topics():
    """`config/rigs` names the same cameras, and lets their shutters be as far apart as they are here."""
    topics = listing("rigs")
    for name, path in listing("sim_rigs").items():
        topics_of = topics["nuscenes" if name == "fisheye" else name]  # fisheyes in the places of nuScenes' cameras
        rig, wanted = load_sim_rig(path), yaml.safe_load(topics_of.read_text())
        assert [camera.name for camera in rig] == [camera["name"] for camera in wanted["cameras"]]
        reference = next(camera for camera in rig if camera.name == wanted["reference"])
        apart_s = [abs(camera.shutter_offset_s - reference.shutter_offset_s) for camera in rig]
        assert 0 < max(apart_s) <= wanted["spread_ms"] / 1000


@pytest.mark.parametrize("scale", [0, -1, 5, float("nan")])
def test_useless_scales_are_refused(scale):
    with pytest.raises(ValueError, match="scale must be in"):
        waymo_rig(scale)


def test_an_own_rig_may_give_lenses_in_pixels(tmp_path):
    lens = {key: value for key, value in CAMERA.items() if key != "horizontal_fov_deg"} | LENS
    path = written(tmp_path, CAMERA, {**lens, "name": "B", "yaw_deg": 30, "shutter_offset_s": 0.01})
    wide, own = load_sim_rig(str(path))
    assert wide.intrinsics[0, 0] == pytest.approx(160) and yaw_deg(own) == pytest.approx(30)
    assert own.intrinsics.tolist() == [[150, 0, 159], [0, 160, 80], [0, 0, 1]] and own.shutter_offset_s == 0.01
    half = load_sim_rig(path, 0.5)[1]
    assert (half.width, half.height) == (160, 100)
    assert half.intrinsics[0, 0] == 75 and half.intrinsics[0, 2] == 79.25  # (159 + 0.5) / 2 - 0.5


def test_pitch_looks_down_and_roll_lowers_the_right_side():
    down = mounted((0, 0, 1), yaw_deg=90, pitch_deg=10)[:3, 2]
    assert down == pytest.approx([0, math.cos(math.radians(10)), -math.sin(math.radians(10))])
    rolled = mounted((0, 0, 1), yaw_deg=-60, pitch_deg=20, roll_deg=5)
    assert rolled[2, 0] < 0  # the image's x axis, to the right
    assert rolled[:3, 2] == pytest.approx(mounted((0, 0, 1), yaw_deg=-60, pitch_deg=20)[:3, 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, r"mine.yaml.cameras\[0\]: unknown key 'colour'"),
        ({"width": "wide"}, r"mine.yaml.cameras\[0\].width: 'wide' is not of type int"),
        ({"width": 0}, r"mine.yaml.cameras\[0\]: width must be 1 to 16384, not 0"),
        ({"height": 100_000}, "height must be 1 to 16384, not 100000"),
        ({"position_m": [1, 2]}, "must be a list of 3 values, not 2"),
        ({"position_m": [1, 2, float("nan")]}, r"cameras\[0\]: position_m\[2\] must be -1000 to 1000, not nan"),
        ({"yaw_deg": float("inf")}, "yaw_deg must be -360 to 360, not inf"),
        ({"horizontal_fov_deg": 351}, "horizontal_fov_deg must be 1 to 350"),
        ({"horizontal_fov_deg": 180}, "more than 178, which takes the distortion_model equidistant"),
        ({"distortion_model": "equidistant", "D": [0.1] * 5}, "camera A: equidistant takes 4 coefficients, D has 5"),
        ({"horizontal_fov_deg": None}, "give either horizontal_fov_deg or all of fx, fy, cx and cy"),
        (LENS, "give either horizontal_fov_deg or all of"),
        ({"horizontal_fov_deg": None, "fx": 100.0}, "give either horizontal_fov_deg or all of"),
        ({"horizontal_fov_deg": None, **LENS, "fy": -1.0}, "fy must be 1 to 1638400, not -1.0"),
        ({"shutter_offset_s": 40}, "shutter_offset_s must be -1 to 1"),
        *[
            ({"name": name}, rf"mine.yaml.cameras\[0\]: name {re.escape(repr(name)[:90])}.* makes no ROS topic")
            for name in ("", "my cam", "a/b", "/a", "1st", "a__b", "a\n", "caméra", "İ", "a" * 101)
        ],
        ({"name": "Base_Link"}, "name 'Base_Link' is that of a frame of the vehicle"),
        (
            {"position_m": [1, 0, 0]},
            r"mine.yaml.cameras\[0\]: camera A: position_m has z = 0: it must be above the ground",
        ),
        ({"position_m": [1, 0, -0.5]}, "z = -0.5"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_sim_rig(written(tmp_path, CAMERA | changes))


def test_files_that_are_no_rig(tmp_path):
    with pytest.raises(ConfigError, match="cameras must have 1 to 100 entries, not 0"):
        load_sim_rig(written(tmp_path))
    with pytest.raises(ConfigError, match="name 'A' is used twice"):
        load_sim_rig(written(tmp_path, CAMERA, CAMERA))
    with pytest.raises(ConfigError, match="mine.yaml: cameras: names 'A' and 'a' make the same topics, /a/..."):
        load_sim_rig(written(tmp_path, CAMERA, CAMERA | {"name": "a"}))
    with pytest.raises(ConfigError, match="unknown key 'fps'"):
        load_sim_rig(written(tmp_path, CAMERA, fps=10))
    with pytest.raises(ConfigError, match="the key 'yaw_deg' is missing"):
        load_sim_rig(written(tmp_path, {key: value for key, value in CAMERA.items() if key != "yaw_deg"}))
    with pytest.raises(
        ConfigError, match="unknown simulated rig 'kitti': give a YAML file or one of fisheye, nuscenes, waymo"
    ):
        load_sim_rig("kitti")
