"""`panoocc rig check`: a right rig passes; every fault is named with camera, topic or frame, and what to do."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from panoocc_core.config import model_config
from panoocc_core.geometry import invert
from panoocc_core.pictures.figures import is_marked
from panoocc_core.sim.example_set import write_example_set
from panoocc_core.sim.rig import nuscenes_rig
from panoocc_ros.bags.bag import RawMessage
from panoocc_ros.commands.cli import main
from panoocc_ros.messages.fields import fill_header
from panoocc_ros.messages.types import TRANSFORMS, new_message, typestore
from panoocc_ros.motion.motion_options import MotionOptions
from panoocc_ros.ros.exit_codes import BAD_INPUT, NOT_WRITTEN, OK, RIG_AT_FAULT
from panoocc_ros.survey.checked import checked
from panoocc_ros.survey.intake import Intake, read
from test.ros.drive import YAWS_DEG
from test.ros.messages import MS, camera_info, raw_image, tf
from test.ros.survey_drive import RIG, SIZE_HW, T0, SurveyDrive, info, mount

NANO = model_config("nano")
HALF_TURN = np.diag([-1.0, -1.0, 1.0, 1.0])  # about the optical axis


def report(rig=RIG, **changes):
    return checked(SurveyDrive(**changes).intake(), rig, NANO)


def only_fault(found, *words):
    (fault,) = found.faults
    assert all(word in fault for word in words), fault


def mounts(**changes):
    return {name: mount(name) for name in YAWS_DEG} | changes


def infos(**changes):
    return {name: info(name) for name in YAWS_DEG} | changes


def test_a_right_rig_has_no_faults_and_its_numbers_are_those_of_the_drive():
    found = report(late_ns={"CAM_BACK": 25 * MS})
    assert found.faults == []
    assert found.sets == (12, 12)
    back = next(camera for camera in found.cameras if camera.name == "CAM_BACK")
    assert back.timing.rate_hz == pytest.approx(10) and back.timing.jitter_ms == 0 and back.timing.count == 12
    assert back.offset.usual_ms == pytest.approx(25) and back.offset.residual_ms == 0
    assert back.chain == ("odom", "base_link", "cam_back") and back.image.size_hw == SIZE_HW
    assert 0.05 < back.seen < 0.5 and back.seen < found.seen <= 1
    # Each camera looks a sixth of the way round; a pair beside each other shares some of the grid, opposite ones none.
    assert ("CAM_FRONT", "CAM_FRONT_LEFT") in found.overlaps and ("CAM_FRONT", "CAM_BACK") not in found.overlaps
    assert "CAM_BACK" in found.table() and found.table().endswith("no faults")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"infos": infos(CAM_BACK=None)},
            ("CAM_BACK: no CameraInfo came on /cam_back/camera_info", "--calibration"),
        ),
        ({"mounts": mounts(CAM_BACK=None)}, ("CAM_BACK: no mount", "'cam_back'", "/tf_static", "--calibration")),
        ({"every": {"CAM_FRONT_LEFT": 2}}, ("CAM_FRONT_LEFT: 5.00 images a second", "the others have 10.00")),
        (
            {"late_ns": {"CAM_BACK_LEFT": 49 * MS}},
            ("CAM_BACK_LEFT: its stamps lie +49.0 ms from those of CAM_FRONT", "shutter_offset_ms: 49.0"),
        ),
        (
            {"wrong_ns": {"CAM_BACK_LEFT": -200 * MS}},
            ("CAM_BACK_LEFT", "stamps lie 200 ms further back", "another clock"),
        ),
        (
            {"mounts": mounts(CAM_FRONT=mount("CAM_FRONT_LEFT"), CAM_FRONT_LEFT=mount("CAM_FRONT"))},
            ("CAM_FRONT, CAM_FRONT_LEFT: mixed up?", "CAM_FRONT looks 55 degrees to the left", "Exchange"),
        ),
        (
            {"mounts": mounts(CAM_FRONT_RIGHT=mount("CAM_FRONT_LEFT"), CAM_FRONT_LEFT=mount("CAM_FRONT_RIGHT"))},
            ("CAM_FRONT_RIGHT, CAM_FRONT_LEFT", "looking elsewhere than the name says"),
        ),
        ({"moves": False}, ("no pose of the vehicle from transforms (/tf)", "odom", "fixed_frame")),
        ({"frames": {"CAM_BACK": ""}}, ("CAM_BACK: header.frame_id of /cam_back", "`frame` in the rig file")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_fault_is_named_once_and_says_what_to_do(changes, words):
    found = report(**changes)
    faults = [text for text in found.faults if not text.startswith("no set of images")]
    assert len(faults) == 1, faults
    assert all(word in faults[0] for word in words), faults[0]


def test_a_calibration_that_is_all_zero():
    zero = info("CAM_BACK")
    zero.k = np.zeros(9)
    only_fault(report(infos=infos(CAM_BACK=zero)), "CAM_BACK", "/cam_back/camera_info", "K is all zero")


def test_a_calibration_for_another_size():
    other = info("CAM_BACK")
    other.height, other.width = 45, 80
    only_fault(report(infos=infos(CAM_BACK=other)), "CAM_BACK: /cam_back/image_raw/compressed", "160x90", "80x45")


def depth(stamp_ns, frame):
    message = raw_image("16UC1", np.zeros((*SIZE_HW, 2), np.uint8), *SIZE_HW, step=2 * SIZE_HW[1])
    fill_header(message.header, stamp_ns, frame)
    return message


def test_an_encoding_that_is_no_colour():
    found = report(images={"CAM_BACK": ("sensor_msgs/msg/Image", depth)})
    only_fault(found, "CAM_BACK: /cam_back/image_raw/compressed", "16UC1 is depth")


def test_an_image_topic_that_holds_something_else():
    front = replace(RIG.cameras[0], topic="/cam_front/camera_info", info_topic="/x")
    found = report(replace(RIG, cameras=(front, *RIG.cameras[1:])))
    assert any("/cam_front/camera_info holds sensor_msgs/msg/CameraInfo" in text for text in found.faults)
    assert any("no CameraInfo came on /x, nobody sends it" in text for text in found.faults)


def test_a_topic_that_is_nearly_right_is_guessed():
    cameras = (replace(RIG.cameras[0], topic="/cam_front/image_raw"), *RIG.cameras[1:])
    found = report(replace(RIG, cameras=cameras))
    assert any("is /cam_front/image_raw/compressed meant?" in text for text in found.faults)


def test_a_rig_of_other_topics_is_told_in_one_sentence():
    cameras = tuple(replace(camera, topic=f"/x{camera.topic}") for camera in RIG.cameras)
    only_fault(report(replace(RIG, cameras=cameras)), "no image came on any topic of the rig (/x/cam_back", "rig make")


def test_mounts_that_are_inverted_look_the_wrong_way():
    inverted = {name: invert(mount(name)) for name in YAWS_DEG}
    found = report(mounts=inverted)
    assert any("inverted" in text or "z axis of the vehicle's frame does not point up" in text for text in found.faults)


def test_one_camera_upside_down_is_turned_and_told_all_of_them_are_a_fault():
    upside_down = {name: mount(name) @ HALF_TURN for name in YAWS_DEG}
    one = report(mounts=mounts(CAM_BACK=upside_down["CAM_BACK"]))
    assert one.faults == [] and one.cameras[3].turns == 2
    (note,) = [finding.text for finding in one.findings]
    assert "CAM_BACK upside down" in note and "rotation in TF is wrong" in note
    only_fault(report(mounts=upside_down), "all mounted upside down", "vehicle's frame does not point up")


def test_two_frames_on_one_topic_are_two_publishers():
    drive = SurveyDrive()
    other = SurveyDrive(frames={"CAM_BACK": "cam_rear"}, mounts=mounts())
    mixed = drive.messages() + [one for one in other.messages() if one.topic == RIG.camera("CAM_BACK").topic]
    intake = SurveyDrive(sets=1).intake()
    for message in mixed:
        intake.take(message)
    found = checked(intake, RIG, NANO)
    assert any("CAM_BACK" in text and "several frames (cam_back, cam_rear)" in text for text in found.faults)


def test_the_vehicle_s_pose_may_come_from_odometry():
    intake = SurveyDrive(has_odometry=True).intake()
    only = [text for text in checked(intake, RIG, NANO).faults if not text.startswith("no set of images")]
    assert len(only) == 1 and "there is odometry on /odometry: --pose-source odometry" in only[0]
    found = checked(intake, RIG, NANO, sources=MotionOptions("odometry", "/odometry"))
    assert found.faults == [] and found.sets == (12, 12)
    assert found.cameras[0].chain == ("odom", "base_link", "cam_front")


def test_a_fisheye_shows_more_of_the_grid_where_voxels_are_projected_through_it():
    fisheyes = {name: camera_info(SIZE_HW, 70.0, "equidistant", (0.01, 0, 0, 0), name.lower()) for name in YAWS_DEG}
    flat, bent = (
        report(replace(RIG, cameras=tuple(replace(camera, lens=lens) for camera in RIG.cameras)), infos=fisheyes)
        for lens in ("undistort", "project")
    )
    only_fault(flat, "CAM_FRONT, CAM_FRONT_RIGHT", "cut off when it is undistorted", "set lens: project")
    assert bent.faults == [] and flat.faulty == set(YAWS_DEG)
    assert all(wide.seen > 1.1 * narrow.seen for wide, narrow in zip(bent.cameras, flat.cameras))


def test_two_publishers_are_named():
    intake = SurveyDrive().intake()
    intake.senders["/cam_back/camera_info"] = ("/driver", "/replay")
    only_fault(checked(intake, RIG, NANO), "CAM_BACK: /cam_back/camera_info has 2 publishers (/driver, /replay)")


@pytest.mark.parametrize(
    ("stamp_ns", "words"), [(0, "stamps of CAM_BACK are zero"), (3 * 10**9, "stamps of CAM_BACK stand still")]
)
def test_a_driver_that_does_not_stamp(stamp_ns, words):
    still = ("sensor_msgs/msg/CompressedImage", lambda _, frame: SurveyDrive.small(stamp_ns, frame))
    assert any(words in text for text in report(images={"CAM_BACK": still}).faults)


def test_cameras_that_the_rig_lacks_are_named_and_the_others_checked():
    found = report(replace(RIG, cameras=RIG.cameras[:5]))
    only_fault(found, "nano takes CAM_BACK_RIGHT, which the rig lacks")
    assert [camera.name for camera in found.cameras] == list(RIG.names[:5])


def test_the_command_writes_pictures_and_numbers_and_ends_by_what_it_found(tmp_path, capsys):
    bag = SurveyDrive().write(tmp_path / "drive.mcap")
    words = [
        "rig",
        "check",
        "--bag",
        str(bag),
        "--pictures",
        str(tmp_path / "look"),
        "--json",
        str(tmp_path / "n.json"),
    ]
    assert main(words) == OK
    assert "no faults" in capsys.readouterr().out
    pictures = sorted(path.name for path in (tmp_path / "look").iterdir())
    assert pictures == sorted(["rig.png", *(f"{name}.png" for name in RIG.names)])
    assert all(is_marked(path) for path in (tmp_path / "look").iterdir())
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert numbers["faults"] == [] and numbers["sets"] == {"complete": 12, "all": 12}
    assert numbers["cameras"]["CAM_FRONT"]["rate_hz"] == pytest.approx(10)
    assert main(words) == NOT_WRITTEN and "--overwrite" in capsys.readouterr().err
    (tmp_path / "look" / "rig.png").write_bytes(b"mine")
    assert main([*words, "--overwrite"]) == NOT_WRITTEN and "panoocc did not write it" in capsys.readouterr().err


def test_the_command_ends_with_a_status_of_its_own_where_something_is_wrong(tmp_path, capsys):
    bag = SurveyDrive(mounts=mounts(CAM_BACK=None)).write(tmp_path / "drive.mcap")
    assert main(["rig", "check", "--bag", str(bag), "--pictures", str(tmp_path / "look")]) == RIG_AT_FAULT
    out = capsys.readouterr().out
    assert "FAULT: CAM_BACK: no mount" in out
    assert (tmp_path / "look" / "rig.png").is_file() and not (tmp_path / "look" / "CAM_BACK.png").exists()


def test_a_calibration_file_counts_in_place_of_messages(tmp_path):
    bag = SurveyDrive(mounts=mounts(CAM_BACK=None), infos=infos(CAM_BACK=None)).write(tmp_path / "drive.mcap")
    camera = {
        "name": "CAM_BACK",
        "ego_from_camera": {"translation_m": [-1.0, 0.0, 1.5], "rotation_xyzw": [0.5, 0.5, -0.5, -0.5]},
        "intrinsics": {"width": 160, "height": 90, "K": [110, 0, 80, 0, 110, 45, 0, 0, 1]},
    }
    (tmp_path / "calibration.yaml").write_text(yaml.safe_dump({"cameras": [camera]}))
    words = ["rig", "check", "--bag", str(bag)]
    assert main(words) == RIG_AT_FAULT
    assert main([*words, "--calibration", str(tmp_path / "calibration.yaml")]) == OK


def test_one_set_of_images_in_files_is_checked_without_times(tmp_path, capsys):
    write_example_set(tmp_path / "street", nuscenes_rig(0.05), seed=3)
    assert main(["rig", "check", "--images", str(tmp_path / "street"), "--pictures", str(tmp_path / "look")]) == OK
    out = capsys.readouterr().out
    assert "together they see" in out and "sets had" not in out
    assert (tmp_path / "look" / "CAM_BACK.png").is_file()
    assert main(["rig", "check", "--images", str(tmp_path / "street"), "--bag", "x"]) == BAD_INPUT


def test_messages_beyond_those_that_count_are_told_empty_ones_among_them(monkeypatch):
    monkeypatch.setattr("panoocc_ros.survey.intake.MAX_MESSAGES", 5)
    drive = SurveyDrive()
    intake = drive.intake()
    empty = RawMessage("/tf", TRANSFORMS, T0, bytes(typestore().serialize_cdr(new_message(TRANSFORMS), TRANSFORMS)))
    for _ in range(7):
        intake.take(empty)
    assert len(intake.heard["/tf"].arrivals_ns) == 5 and len(intake.transforms) <= 10
    fresh = Intake(read, {})
    for _ in range(7):
        fresh.take(empty)
    assert len(fresh.transforms) == 5 and fresh.heard["/tf"].left_out == 2
    (text,) = fresh.cuts
    assert text.startswith("/tf: 2 messages were left out after the first 5")
    sent = sum(message.topic == "/tf" for message in drive.messages())
    assert f"note: /tf: {sent + 7 - 5} messages were left out" in checked(intake, RIG, NANO).table()


def test_a_fault_carries_its_cameras_whatever_its_sentence_looks_like():
    """Details in brackets stand behind the last name; a note marks no picture."""
    up = mount("CAM_BACK").copy()
    up[:3, :3] = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    found = report(mounts=mounts(CAM_BACK=up))
    assert any("CAM_BACK (optical axis" in text and "looking at the sky" in text for text in found.faults)
    assert found.faulty == {"CAM_BACK"}
    assert report(infos=infos(CAM_FRONT=None)).faulty == {"CAM_FRONT"} and report().faulty == set()


BACK = RIG.camera("CAM_BACK").topic


@pytest.mark.parametrize(
    ("gap_s", "words"),
    [
        ((1.0, 9.0), "CAM_BACK: nothing since 0.90 on /cam_back/"),
        ((-1.0, 1.45), "CAM_BACK: nothing until 1.50 on"),
        ((0.55, 1.45), "CAM_BACK: nothing from 0.50 to 1.50 on"),
    ],
)
def test_a_camera_that_falls_silent_is_a_fault_that_says_when(gap_s, words):
    found = report(sets=25, gaps_s={BACK: gap_s})
    only_fault(found, words, "driver")
    assert found.faulty == {"CAM_BACK"}
    assert report(sets=25, gaps_s={BACK: (0.55, 0.85)}).faults == []  # three images are lost


def test_transforms_that_fall_silent_are_a_fault_even_if_others_of_the_topic_go_on():
    silent = SurveyDrive(sets=25, gaps_s={"/tf": (1.9, 9.0)})
    wheels = [
        RawMessage("/tf", TRANSFORMS, at, bytes(typestore().serialize_cdr(wheel(at), TRANSFORMS)))
        for at in range(T0, T0 + 2500 * MS, 50 * MS)
    ]
    intake = Intake(read, {message.topic: message.type for message in silent.messages()})
    for message in sorted([*silent.messages(), *wheels], key=lambda message: message.stamp_ns):
        intake.take(message)
    only_fault(checked(intake, RIG, NANO), "/tf silent since 1.88 about base_link, while images came")
    middle = report(sets=25, gaps_s={"/tf": (0.3, 0.9)})
    only_fault(middle, "/tf silent from 0.28 to 0.90 about base_link")


def wheel(at_ns):
    return tf(("base_link", "wheel", at_ns, np.eye(4)))


def test_names_that_are_exchanged_come_first_and_explain_the_offsets():
    """Whole entries with each other's names, and so with each other's shutter offsets: sets stay complete."""
    late = {"CAM_BACK": 25 * MS}
    cameras = tuple(
        replace(camera, shutter_offset_ms=25.0 if camera.name == "CAM_BACK" else 0.0) for camera in RIG.cameras
    )
    names = {"CAM_FRONT": "CAM_BACK", "CAM_BACK": "CAM_FRONT"}
    rig = replace(RIG, spread_ms=10.0, cameras=cameras)
    assert report(rig, late_ns=late).faults == []
    swapped = tuple(replace(camera, name=names.get(camera.name, camera.name)) for camera in cameras)
    found = report(replace(rig, cameras=swapped), late_ns=late)
    assert found.sets == (12, 12)
    only_fault(found, "CAM_FRONT, CAM_BACK", "looking elsewhere than the name says", "mixed up")
    # Topics alone: the offsets are told of nobody, the mounts say why.
    topics = {camera.name: (camera.topic, camera.info_topic) for camera in cameras}
    exchanged = tuple(
        replace(camera, topic=topics[names.get(camera.name, camera.name)][0],
                info_topic=topics[names.get(camera.name, camera.name)][1])
        for camera in cameras
    )  # fmt: skip
    found = report(replace(rig, cameras=exchanged), late_ns=late)
    assert "mixed up" in found.faults[0] and not any("its stamps lie" in text for text in found.faults)


def test_a_reference_with_an_offset_of_its_own_is_compared_as_sets_are():
    cameras = tuple(replace(camera, shutter_offset_ms=40.0) for camera in RIG.cameras)
    assert report(replace(RIG, cameras=cameras, spread_ms=10.0)).findings == []


def test_a_base_frame_that_is_misspelt_is_told_once_and_all_else_is_checked():
    found = report(replace(RIG, base_frame="base_lnk"))
    only_fault(found, "base_frame: no transform names base_lnk, is base_link meant?")
    assert found.sets == (12, 12) and found.cameras[0].chain == ("odom", "base_link", "cam_front")
    only_fault(report(replace(RIG, base_frame="vehicle")), "names vehicle, is base_link meant?")
