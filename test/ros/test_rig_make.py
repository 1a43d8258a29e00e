"""`panoocc rig make`: topics that belong together, names by where cameras look, frames and times, with reasons."""

import numpy as np
import pytest

from panoocc_core.config import model_config
from panoocc_core.geometry import rigid
from panoocc_ros.bags.bag import BagReader
from panoocc_ros.commands.cli import main
from panoocc_ros.frames.directions import fitting_names
from panoocc_ros.frames.rig import Rig, RigCamera, load_rig
from panoocc_ros.ros.exit_codes import BAD_INPUT, NOT_WRITTEN, OK, RIG_AT_FAULT
from panoocc_ros.survey.draft import NoCameras, drafted
from panoocc_ros.survey.rig_text import rig_text
from panoocc_ros.survey.stamps import offset, timing
from test.ros.drive import EGO_FROM_OPTICAL, YAWS_DEG
from test.ros.messages import MS, camera_info
from test.ros.survey_drive import RIG, SIZE_HW, SurveyDrive, info, mount

NANO = model_config("nano")


def made(tmp_path, **changes):
    draft = drafted(SurveyDrive(**changes).intake(), NANO)
    path = tmp_path / "rig.yaml"
    path.write_text(rig_text(draft, "a drive", "nano"))
    return draft, load_rig(str(path))


def renamed(pattern, order):
    """The rig with other topics: camera number k of `order` sends on the topics of `pattern`."""
    cameras = []
    for k, name in enumerate(order):
        topic, info_topic = (text.format(k) for text in pattern)
        cameras.append(RigCamera(name, topic, info_topic))
    return Rig(tuple(cameras), reference=RIG.reference)


def test_a_bag_of_the_usual_topics_gives_the_shipped_rig(tmp_path):
    offsets = {"CAM_BACK": 25 * MS, "CAM_FRONT_LEFT": -8 * MS}
    draft, rig = made(tmp_path, late_ns=offsets)
    assert rig == draft.rig
    assert [(c.name, c.topic, c.info_topic) for c in rig.cameras] == [
        (c.name, c.topic, c.info_topic) for c in RIG.select(NANO.cameras).cameras
    ]
    assert (rig.reference, rig.base_frame, rig.fixed_frame, draft.fixed_frame) == (
        "CAM_FRONT",
        "base_link",
        "auto",
        "odom",
    )
    assert rig.period_ms == 100 and rig.spread_ms == 10
    assert {c.name: c.shutter_offset_ms for c in rig.cameras if c.shutter_offset_ms} == {
        name: late / MS for name, late in offsets.items()
    }
    assert "CHECK" not in (tmp_path / "rig.yaml").read_text()


@pytest.mark.parametrize(
    "pattern",
    [
        ("/sensing/camera/camera{}/image_rect_color", "/sensing/camera/camera{}/camera_info"),
        ("/image_{}/compressed", "/info_{}"),  # all in one namespace: the frames tell
        ("/c{}/usb/image_raw", "/calibrations/c{}"),
    ],
)
def test_names_follow_from_mounts_whatever_topics_are_called(tmp_path, pattern):
    order = [*YAWS_DEG][::-1]
    _, rig = made(tmp_path, rig=renamed(pattern, order))
    assert {c.name: c.topic for c in rig.cameras} == {name: pattern[0].format(k) for k, name in enumerate(order)}
    assert {c.name: c.info_topic for c in rig.cameras} == {name: pattern[1].format(k) for k, name in enumerate(order)}


def test_names_go_to_the_cameras_that_together_look_where_they_say():
    autoware = {"0": 59.3, "1": -121.5, "2": -59.6, "3": 120.0, "4": -0.3, "5": 179.0}
    assert fitting_names(autoware, NANO.cameras) == {
        "CAM_FRONT": "4",
        "CAM_FRONT_LEFT": "0",
        "CAM_FRONT_RIGHT": "2",
        "CAM_BACK": "5",
        "CAM_BACK_LEFT": "3",
        "CAM_BACK_RIGHT": "1",
    }
    assert fitting_names({"a": None, "b": 5.0}, ("FRONT",)) == {"FRONT": "b"}
    assert fitting_names({}, ("FRONT",)) == {}


def test_without_mounts_topics_names_tell_and_that_is_said(tmp_path):
    draft, rig = made(tmp_path, mounts={})
    assert {c.name: c.topic for c in rig.cameras} == {c.name: c.topic for c in RIG.cameras}
    text = (tmp_path / "rig.yaml").read_text()
    assert "CHECK: base_frame: no transform names a frame of the images" in text
    assert "CHECK: no transform leads to its frame (cam_back)" in text


def test_a_camera_without_calibration_is_kept_and_told(tmp_path):
    infos = {name: info(name) for name in YAWS_DEG} | {"CAM_BACK": None}
    _, rig = made(tmp_path, infos=infos)
    assert rig.camera("CAM_BACK").info_topic == "/cam_back/camera_info"
    assert "CHECK: no CameraInfo came, /cam_back/camera_info is a guess" in (tmp_path / "rig.yaml").read_text()


def test_of_several_cameras_that_look_one_way_the_wide_one_serves(tmp_path):
    drive = SurveyDrive()
    tele = info("CAM_FRONT")
    tele.k = tele.k * np.array([5, 1, 1, 1, 5, 1, 1, 1, 1])
    tele.header.frame_id = "tele"
    cameras = (*RIG.cameras, RigCamera("TELE", "/tele/image_raw/compressed", "/tele/camera_info"))
    drive.rig = Rig(cameras, reference=RIG.reference)
    drive.mounts["TELE"] = drive.mounts["CAM_FRONT"]
    drive.infos["TELE"] = tele
    draft = drafted(drive.intake(), NANO)
    assert draft.rig.camera("CAM_FRONT").topic == "/cam_front/image_raw/compressed"
    assert [camera.topic for camera in draft.unused] == ["/tele/image_raw/compressed"]
    assert "# not used, as no name of nano is left: /tele/image_raw/compressed" in rig_text(draft, "x", "nano")


def test_voxels_are_projected_through_lenses_that_see_too_much_for_a_flat_picture(tmp_path):
    infos = {name: info(name) for name in YAWS_DEG}
    infos["CAM_BACK"] = camera_info(SIZE_HW, 50.0, "equidistant", (0.01, 0, 0, 0), "cam_back")
    draft, rig = made(tmp_path, infos=infos)
    assert {camera.name for camera in rig.cameras if camera.lens == "project"} == {"CAM_BACK"}
    assert "CHECK: it sees too much for a flat picture" in (tmp_path / "rig.yaml").read_text()
    assert next(c for c in draft.cameras if c.entry.name == "CAM_BACK").found.width_deg == pytest.approx(183, abs=1)


def test_the_optical_frame_is_named_where_images_name_the_body_s(tmp_path):
    body = {name: mount(name) @ np.linalg.inv(rigid(EGO_FROM_OPTICAL, np.zeros(3))) for name in YAWS_DEG}
    drive = SurveyDrive(mounts=body)
    intake = drive.intake()
    optical = SurveyDrive(
        base="cam_back", moves=False, mounts={"CAM_BACK_OPTICAL": rigid(EGO_FROM_OPTICAL, np.zeros(3))}
    )
    intake.take(optical.messages()[0])
    draft = drafted(intake, NANO)
    back = next(camera for camera in draft.cameras if camera.found.topic == RIG.camera("CAM_BACK").topic)
    assert back.entry.frame == "cam_back_optical" and back.entry.name == "CAM_BACK"
    assert any("cam_back_optical looks along its z axis" in text for text in back.checks)


def test_other_frames_and_a_vehicle_that_does_not_move_are_told(tmp_path):
    draft, rig = made(tmp_path, base="ego_vehicle", moves=False)
    assert rig.base_frame == "ego_vehicle" and draft.fixed_frame is None
    text = (tmp_path / "rig.yaml").read_text()
    assert "CHECK: base_frame: there is no base_link; is ego_vehicle" in text
    assert "CHECK: fixed_frame: nothing above ego_vehicle moves" in text


def test_depth_and_other_peoples_pictures_are_no_cameras():
    drive = SurveyDrive()
    intake = drive.intake()
    marked = SurveyDrive(
        rig=renamed(("/detector/{}/image", "/unused/{}"), [*YAWS_DEG]), infos={}, moves=False, mounts={}
    )
    for message in marked.messages()[1:]:
        intake.take(message)
    draft = drafted(intake, NANO)
    assert {camera.entry.topic for camera in draft.cameras} == {camera.topic for camera in RIG.cameras}
    assert not draft.unused


def test_strange_names_cannot_break_the_file(tmp_path):
    frames = {name: f"{name.lower()}: [x]\n# 'y\" é" for name in YAWS_DEG}
    made(tmp_path, frames=frames, mounts={})  # rig_text holds the text against the draft


def test_nothing_to_make_a_rig_of_is_said():
    with pytest.raises(NoCameras, match="no images came.*there are the topics /tf"):
        drafted(SurveyDrive(rig=RIG, every=dict.fromkeys(RIG.names, 10**6), sets=0).intake(), NANO)


def test_the_command_makes_a_file_that_run_takes_at_once_with_the_same_grids(tmp_path, capsys):
    bag = SurveyDrive(late_ns={"CAM_BACK": 25 * MS}).write(tmp_path / "drive.mcap")
    out = tmp_path / "mine.yaml"
    assert main(["rig", "make", "--bag", str(bag), "--out", str(out)]) == OK
    assert load_rig(str(out)).camera("CAM_BACK").shutter_offset_ms == 25
    assert f"next: panoocc rig check --bag {bag} --rig {out}" in capsys.readouterr().out
    grids = {}
    for rig in ("nuscenes", str(out)):
        path = tmp_path / f"{len(grids)}.mcap"
        words = ["--model", "nano", "--rig", rig, "--out", str(path), "--outputs", "occupancy", "--limit", "2"]
        assert main(["run", str(bag), *words]) == OK
        with BagReader(path) as written:
            grids[rig] = [(one.stamp_ns, one.data) for one in written.messages(["/panoocc/occupancy"])]
    first, second = grids.values()
    assert len(first) == 2 and first == second


def test_the_command_replaces_its_own_files_alone(tmp_path, capsys):
    bag = SurveyDrive(sets=4).write(tmp_path / "drive.mcap")
    out = tmp_path / "rig.yaml"
    words = ["rig", "make", "--bag", str(bag), "--out", str(out)]
    assert main(words) == OK and main(words) == NOT_WRITTEN and main([*words, "--overwrite"]) == OK
    out.write_text("cameras: []\n")
    capsys.readouterr()
    assert main([*words, "--overwrite"]) == NOT_WRITTEN
    assert "panoocc rig make did not write it" in capsys.readouterr().err and out.read_text() == "cameras: []\n"
    assert main(["rig", "make", "--bag", str(tmp_path / "none"), "--out", str(tmp_path / "b.yaml")]) == BAD_INPUT
    assert main(["rig", "make", "--bag", str(bag), "--out", str(tmp_path / "b.txt")]) == BAD_INPUT


def test_a_rig_that_lacks_cameras_is_written_and_told(tmp_path, capsys):
    rig = Rig(RIG.cameras[:4], reference=RIG.reference)
    bag = SurveyDrive(sets=4, rig=rig).write(tmp_path / "drive.mcap")
    out = tmp_path / "rig.yaml"
    assert main(["rig", "make", "--bag", str(bag), "--out", str(out)]) == RIG_AT_FAULT
    assert "there is no camera for CAM_BACK_LEFT, CAM_BACK_RIGHT, which nano needs" in capsys.readouterr().err
    assert load_rig(str(out)).names == RIG.names[:4]


def test_rates_and_offsets_by_stamps():
    stamps = [k * 100 * MS for k in range(20)]
    even = timing(stamps, [stamp + 30 * MS for stamp in stamps])
    assert (even.rate_hz, even.period_ms, even.jitter_ms, even.delay_ms) == pytest.approx((10, 100, 0, 30))
    assert timing([], []).rate_hz is None and timing(stamps[:2], stamps[:2]).rate_hz is None
    later = offset([stamp + 12 * MS for stamp in stamps], stamps)
    assert (later.usual_ms, later.residual_ms) == pytest.approx((12, 0))
    wrapped = offset([stamp + (50 + k % 3 - 1) * MS for k, stamp in enumerate(stamps)], stamps)
    assert abs(wrapped.usual_ms) == pytest.approx(50) and wrapped.residual_ms == pytest.approx(1)
    for sparse, dense in ((stamps[::2], stamps), (stamps, stamps[::2])):
        assert abs(offset([stamp + 12 * MS for stamp in sparse], dense).usual_ms - 12) < 1e-6
    assert offset(stamps, []) is None


def test_of_two_topics_of_one_camera_the_rectified_compressed_one_is_taken():
    intake = SurveyDrive().intake()
    for kind in ("image_rect", "image_rect/compressed", "image_mono"):
        back = RigCamera("CAM_BACK", f"/cam_back/{kind}", "/unused")
        more = SurveyDrive(rig=Rig((back,), reference="CAM_BACK"), infos={}, moves=False, mounts={})
        for message in more.messages()[1:]:
            intake.take(message)
    draft = drafted(intake, NANO)
    assert draft.rig.camera("CAM_BACK").topic == "/cam_back/image_rect/compressed"
    (text,) = [text for c in draft.cameras for text in c.checks if c.entry.name == "CAM_BACK"]
    assert "/cam_back/image_raw/compressed" in text and "/cam_back/image_mono" in text
