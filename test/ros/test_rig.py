"""Rig files: the shipped ones load, and every mistake is named together with what is allowed."""

import re
from dataclasses import MISSING, fields, replace

import pytest
import yaml

from panoocc_core.base.resources import folder, listing
from panoocc_core.base.rig_files import rig_with
from panoocc_core.base.strict_yaml import ConfigError
from panoocc_core.config import model_config, presets
from panoocc_core.sim.rig import nuscenes_rig
from panoocc_ros.frames.rig import Rig, RigCamera, load_rig
from panoocc_ros.node.choices import chosen_calibration, chosen_rig, rig_for, unused
from panoocc_ros.ros.parameter_fields import SettingsError

GOOD = {
    "reference": "A",
    "cameras": [
        {"name": "A", "topic": "/a/image_raw", "info_topic": "/a/camera_info"},
        {"name": "B", "topic": "/b/image_rect/compressed", "info_topic": "/b/camera_info", "shutter_offset_ms": 2},
    ],
}


def load(tmp_path, content):
    path = tmp_path / "rig.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_rig(str(path))


def test_the_nuscenes_rig_has_the_cameras_of_the_published_networks():
    rig = load_rig("nuscenes").select(model_config("pano_small_occ3d").cameras)
    assert rig.names == model_config("pano_small_occ3d").cameras
    assert rig.camera("CAM_BACK_LEFT").topic == "/cam_back_left/image_raw/compressed"
    assert rig.reference == "CAM_FRONT" and rig.camera("CAM_FRONT").is_compressed


def test_the_waymo_rig_has_five_cameras():
    assert len(load_rig("waymo").cameras) == 5


@pytest.mark.parametrize("name", listing("rigs"))
def test_every_shipped_rig_serves_a_network(name):
    assert any(set(model_config(preset).cameras) <= set(load_rig(name).names) for preset in presets())


def test_auto_takes_the_data_sets_own_rigs_and_no_other_of_these_names():
    assert rig_with("rigs", model_config("pano_small_occ3d").cameras) == "nuscenes"
    assert [name for name in listing("rigs") if load_rig(name).auto] == ["nuscenes", "waymo"]


def test_the_autoware_rig_takes_rectified_images():
    rig = load_rig("autoware")
    assert rig.camera("CAM_BACK_RIGHT").topic == "/sensing/camera/camera1/image_rect_color"
    assert all(camera.is_rectified and not camera.is_compressed for camera in rig.cameras)


def test_the_simulator_s_rig_has_its_topics_and_shutter_times():
    rig, street = load_rig("simulator"), nuscenes_rig()
    assert [camera.topic for camera in rig.cameras] == [camera.topic for camera in load_rig("nuscenes").cameras]
    offsets = {camera.name: camera.shutter_offset_s * 1e3 for camera in street}
    assert {camera.name: camera.shutter_offset_ms for camera in rig.cameras} == pytest.approx(offsets)


def test_the_template_explains_every_key_and_is_no_rig_to_choose():
    template = folder("config") / "rig_template.yaml"
    text = template.read_text()
    assert load_rig(str(template)).reference == "CAM_FRONT"
    with pytest.raises(ConfigError, match="unknown rig 'template'"):
        load_rig("template")
    for kind in (Rig, RigCamera):
        for field in fields(kind):
            (line,) = re.findall(rf"^\s*(?:- |# )?{field.name}: ?.*$", text.replace("  # name: what", "  #"), re.M)[:1]
            assert line
    usual = {field.name: field.default for field in fields(Rig) + fields(RigCamera) if field.default is not MISSING}
    commented = re.findall(r"^\s*# (\w+): (\S+)$", text, re.M)
    assert {key for key, _ in commented} <= set(usual)
    for key, value in commented:  # what is commented out is what holds without it
        if usual[key] is not None:
            assert yaml.safe_load(value) == usual[key], key


def test_properties_follow_the_topics(tmp_path):
    rig = load(tmp_path, GOOD)
    assert (rig.camera("A").is_rectified, rig.camera("B").is_rectified) == (False, True)
    assert (rig.camera("A").is_compressed, rig.camera("B").is_compressed) == (False, True)
    assert rig.camera("B").shutter_offset_ns == 2_000_000 and rig.spread_ns == 50_000_000
    with pytest.raises(KeyError, match="no camera 'C', only A, B"):
        rig.camera("C")


def test_selecting_reorders_and_refuses_what_is_missing(tmp_path):
    rig = load(tmp_path, GOOD)
    chosen = rig.select(("B",))
    assert chosen.names == ("B",) and chosen.reference == "B"
    with pytest.raises(ConfigError, match=r"takes the cameras A, TOP, of which the rig lacks TOP .it has A, B"):
        rig.select(("A", "TOP"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"referense": "A"}, "unknown key 'referense'"),
        ({"reference": "C"}, "reference 'C' is none of the cameras A, B"),
        ({"spread_ms": 0}, "spread_ms must be 0.001 to 10000, not 0"),
        ({"period_ms": -1}, "period_ms must be 0.1 to 60000, not -1"),
        ({"base_frame": "/"}, "base_frame must not be empty"),
        ({"network_frame": "/"}, "network_frame must not be empty"),
        ({"tf_topic": "/tf_static"}, "tf_topic and tf_static_topic are both"),
        ({"cameras": []}, "cameras must have 1 to 100 entries, not 0"),
        ({"cameras": [GOOD["cameras"][0], GOOD["cameras"][0]]}, "name 'A' is used twice"),
        ({"cameras": [{"name": "A", "topic": "/a"}]}, "'info_topic' is missing"),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, GOOD | change)


def test_an_unknown_rig_lists_the_known_ones():
    with pytest.raises(ConfigError, match="'nuscene'.*autoware, nuscenes, simulator, waymo"):
        load_rig("nuscene")


def test_frames_lose_the_leading_slash_of_ros_1(tmp_path):
    cameras = [GOOD["cameras"][0] | {"frame": "/a_optical"}, GOOD["cameras"][1]]
    rig = load(tmp_path, GOOD | {"base_frame": "/base_link", "fixed_frame": "/odom", "cameras": cameras})
    assert (rig.base_frame, rig.fixed_frame, rig.camera("A").frame) == ("base_link", "odom", "a_optical")
    assert replace(rig, base_frame="/base", network_frame="/lidar_top").network_frame == "lidar_top"
    assert rig.network_frame is None


def test_topics_of_transforms_and_the_type_of_images_can_be_given(tmp_path):
    cameras = [GOOD["cameras"][0] | {"compressed": True}, GOOD["cameras"][1]]
    rig = load(tmp_path, GOOD | {"tf_topic": "/robot1/tf", "tf_static_topic": "/robot1/tf_static", "cameras": cameras})
    assert (rig.tf_topic, rig.tf_static_topic) == ("/robot1/tf", "/robot1/tf_static")
    assert [camera.compressed for camera in rig.cameras] == [True, None]
    assert (load_rig("nuscenes").tf_topic, load_rig("nuscenes").tf_static_topic) == ("/tf", "/tf_static")


def test_one_rig_serves_networks_of_the_lidar_s_frame_and_of_the_vehicle_s():
    rig = replace(load_rig("nuscenes"), network_frame="lidar_top")
    panoptic, occupancy = model_config("pano_small_4f"), model_config("pano_small_occ3d")
    assert rig_for(panoptic, rig).network_frame == "lidar_top" and not unused(panoptic, rig)
    assert rig_for(occupancy, rig).network_frame is None
    (sentence,) = unused(occupancy, rig)
    assert "network_frame lidar_top is not used: pano_small_occ3d predicts in the vehicle's own frame" in sentence
    for config in (panoptic, occupancy):  # who asks for a frame gets it
        assert rig_for(config, rig, "/lidar").network_frame == "lidar" and not unused(config, rig, "/lidar")


def test_cameras_that_a_network_does_not_take_are_named():
    rig = load_rig("nuscenes")
    config = replace(model_config("nano"), cameras=("CAM_FRONT", "CAM_BACK"))
    assert rig_for(config, rig).names == ("CAM_FRONT", "CAM_BACK")
    (sentence,) = unused(config, rig)
    assert "CAM_FRONT_LEFT" in sentence and "nano takes CAM_FRONT, CAM_BACK" in sentence


def test_what_becomes_of_lenses_is_the_rigs_to_say_and_the_parameters_to_overrule(tmp_path):
    path = tmp_path / "rig.yaml"
    cameras = yaml.safe_load(listing("rigs")["nuscenes"].read_text())["cameras"]
    cameras[1]["lens"] = "project"
    path.write_text(yaml.safe_dump({"reference": "CAM_FRONT", "cameras": cameras}))
    config = model_config("nano")
    uses = [camera.lens for camera in chosen_rig(str(path), config).cameras]
    assert uses == ["undistort", "project"] + ["undistort"] * 4
    for lens in ("undistort", "project"):
        assert {camera.lens for camera in chosen_rig(str(path), config, lens=lens).cameras} == {lens}
    cameras[1]["lens"] = "flatten"
    path.write_text(yaml.safe_dump({"reference": "CAM_FRONT", "cameras": cameras}))
    with pytest.raises(SettingsError, match="lens"):
        chosen_rig(str(path), config)


def test_a_calibration_file_is_held_against_what_becomes_of_its_lens(tmp_path):
    path, config = tmp_path / "calibration.yaml", model_config("nano")
    k = [800.0, 0, 800, 0, 800, 450, 0, 0, 1]
    intrinsics = {"width": 1600, "height": 900, "K": k, "D": [3.0, 0, 0, 0, 0]}
    path.write_text(yaml.safe_dump({"cameras": [{"name": "CAM_BACK", "intrinsics": intrinsics}]}))
    assert chosen_calibration(path, chosen_rig("nuscenes", config, lens="project")) is not None
    with pytest.raises(SettingsError, match="camera 'CAM_BACK': D leaves .* set lens: project"):
        chosen_calibration(path, chosen_rig("nuscenes", config))
