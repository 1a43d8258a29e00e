"""Right rigs pass; every wrong one is told of, with its cameras and the likely cause."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from panoocc_core import model_config
from panoocc_core.cameras.upright import quarter_turns, turned, turned_camera
from panoocc_core.geometry import invert, rigid
from panoocc_core.optics import LensModel
from panoocc_core.sim.rig import nuscenes_rig, waymo_rig
from panoocc_core.types import CameraImage, Frame
from panoocc_ros.frames.assembler import FrameAssembler
from panoocc_ros.frames.plausibility import GeometryWatch, geometry_warnings
from panoocc_ros.frames.waiting import AssemblerOptions
from panoocc_ros.messages.types import typestore
from test.core.conftest import heading
from test.ros.drive import Drive

NANO = model_config("nano")
BODY_FROM_OPTICAL = rigid(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.zeros(3))
SIX = "CAM_FRONT, CAM_FRONT_RIGHT, CAM_FRONT_LEFT, CAM_BACK, CAM_BACK_LEFT, CAM_BACK_RIGHT"


def frame(rig=None, change=lambda camera: camera):
    cameras = (
        CameraImage(one.name, 0, blank(one.height, one.width), one.intrinsics, one.ego_from_camera, np.eye(4))
        for one in rig or nuscenes_rig()
    )
    return Frame(0, np.eye(4), tuple(change(camera) for camera in cameras))


def blank(height, width):
    return torch.zeros(height, width, 3, dtype=torch.uint8)


def mounted(change):
    return lambda camera: replace(camera, ego_from_camera=change(camera.ego_from_camera))


def only(name, change):
    return lambda camera: change(camera) if camera.name == name else camera


def lens(scale_xy=(1.0, 1.0), shift_xy=(0.0, 0.0)):
    change = np.array([[scale_xy[0], 0, shift_xy[0]], [0, scale_xy[1], shift_xy[1]], [0, 0, 1.0]])
    return lambda camera: replace(camera, intrinsics=change @ camera.intrinsics)


def portrait(camera):
    height, width = camera.size_hw[::-1]
    focal = camera.intrinsics[0, 0]
    k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return replace(camera, image=blank(height, width), intrinsics=k)


def pitched(down_deg):
    c, s = np.cos(np.radians(down_deg)), np.sin(np.radians(down_deg))
    return rigid(np.array([[1.0, 0, 0], [0, c, s], [0, -s, c]]), np.zeros(3))


def rolled_by(degrees):
    return rigid(heading(degrees), np.zeros(3))


SWAPPED = {"CAM_FRONT": "CAM_BACK", "CAM_BACK": "CAM_FRONT"}
FRONT_MOUNT = frame().cameras[0].ego_from_camera


@pytest.mark.parametrize("model", ["nano", "pano_small_occ3d", "pano_base_4f"])
@pytest.mark.parametrize("rig", [nuscenes_rig(), nuscenes_rig(1.0), waymo_rig()], ids=["nuscenes", "large", "waymo"])
def test_right_rigs_are_plausible(model, rig):
    assert geometry_warnings(frame(rig), model_config(model), {}) == ()


def test_mounts_that_a_vehicle_may_have_are_plausible():
    for change in (
        mounted(lambda pose: pose @ pitched(8)),
        mounted(lambda pose: pose @ pitched(-10)),
        mounted(lambda pose: rigid(np.eye(3), np.array([0, 0, 2.5])) @ pose),  # a lorry
        lens((1.3, 1.3), (-43.0, -24.0)),
        lens(shift_xy=(0.0, -30.0)),  # a window of the sensor without its sky
    ):
        assert geometry_warnings(frame(change=change), NANO, {}) == ()


WRONG = {
    "body frame": (mounted(lambda pose: pose @ invert(BODY_FROM_OPTICAL)), SIX, "90 degrees above.*sky.*body.*REP"),
    "body of one": (only("CAM_BACK", mounted(lambda pose: pose @ invert(BODY_FROM_OPTICAL))), "CAM_BACK", "sky"),
    "body, z down": (mounted(lambda pose: pose @ pitched(90)), SIX, "90 degrees below.*ground.*x ahead, z down"),
    "one frame for all": (mounted(lambda _: FRONT_MOUNT), SIX, "same mount.*frame_id"),
    "one frame for two": (only("CAM_BACK", mounted(lambda _: FRONT_MOUNT)), "CAM_FRONT, CAM_BACK", "same mount"),
    "rolled": (only("CAM_BACK", mounted(lambda pose: pose @ rolled_by(45))), "CAM_BACK", "by 45 degrees.*rolled"),
    "portrait": (portrait, SIX, "horizon at row 144, rows 217 to 287 are used.*crop.*landscape"),
    "millimetres": (mounted(lambda pose: rigid(pose[:3, :3], 1e3 * pose[:3, 3])), SIX, "2276 m away.*metres"),
    "half the size": (lens((0.5, 0.5)), SIX, "principal point .*at 72, 40 in 288x162|at 72, 40.*principal point"),
    "twice the size": (lens((2.0, 2.0)), SIX, "at 287, 161 in 288x162.*principal point.*CameraInfo"),
    "corner": (only("CAM_FRONT_LEFT", lens(shift_xy=(-143.0, 0))), "CAM_FRONT_LEFT", "principal point"),
    "inverted": (mounted(invert), "CAM_FRONT", "inverted|elsewhere"),
    "optical twice": (mounted(lambda pose: pose @ BODY_FROM_OPTICAL), "CAM_FRONT", "elsewhere than the name says"),
    "mixed up": (
        lambda camera: replace(camera, name=SWAPPED.get(camera.name, camera.name)),
        "CAM_BACK, CAM_FRONT",
        "elsewhere than the name says.*mixed up",
    ),
    "tilted up": (only("CAM_FRONT", mounted(lambda pose: pose @ pitched(-40))), "CAM_FRONT", "horizon below"),
    "far below": (
        only("CAM_FRONT", mounted(lambda pose: rigid(np.eye(3), np.array([0, 0, -15.0])) @ pose)),
        "CAM_FRONT",
        "0.. % of the grid.*no voxels",
    ),
    "two that see the same": (
        only("CAM_FRONT_LEFT", mounted(lambda _: FRONT_MOUNT @ rigid(np.eye(3), np.array([0.1, 0, 0])))),
        "CAM_FRONT, CAM_FRONT_LEFT",
        "same part",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change, names, words", WRONG.values(), ids=WRONG)
def test_what_cannot_be_true_is_told_with_the_cameras_and_the_cause(change, names, words):
    warnings = geometry_warnings(frame(change=change), NANO, {})
    assert warnings
    assert warnings[0].startswith(names), warnings
    assert any(re.search(words, text) for text in warnings), warnings


def test_what_is_so_of_all_cameras_is_a_fault_of_the_vehicles_frame():
    names, turns = SIX.split(", "), {0: (), 1: "sideways", 2: "upside down", 3: "sideways"}
    for count, words in turns.items():
        found = geometry_warnings(frame(), NANO, dict.fromkeys(names, count))
        assert len(found) == (count > 0) and all(f"{SIX}: all mounted {words}" in text for text in found)
    assert geometry_warnings(frame(), NANO, {name: k % 2 for k, name in enumerate(names)}) == ()
    for change, words in (
        (lambda pose: rigid(np.eye(3), np.array([0, 0, -1.84])) @ pose, "all below the origin"),
        (lambda pose: rigid(pose[:3, :3], np.array([0, 0, 1.5])), "all at one place"),
    ):
        assert any(
            text.startswith(f"{SIX}: {words}") for text in geometry_warnings(frame(change=mounted(change)), NANO, {})
        )


def test_the_geometry_is_judged_once_and_again_when_it_has_become_another_one():
    watch, wrong = GeometryWatch(), frame(change=mounted(lambda _: FRONT_MOUNT))
    assert watch.warnings is None
    assert watch.look(frame(), NANO, {}) and watch.warnings == ()
    trembling = mounted(lambda pose: rigid(np.eye(3), np.array([0, 0, 0.03])) @ pose)
    assert not watch.look(frame(change=trembling), NANO, {})
    assert watch.look(wrong, NANO, {}) and len(watch.warnings) >= 1
    assert not watch.look(wrong, NANO, {}) and watch.warnings
    assert watch.look(frame(change=lens((1.1, 1.1))), NANO, {}) and watch.warnings == ()


def test_sideways_cameras_are_plausible_once_they_are_turned():
    def rolled(camera, turns):
        roll = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        for _ in range(turns):
            width = camera.size_hw[1]
            pixels = np.array([[0.0, 1, 0], [-1, 0, width - 1], [0, 0, 1]])
            camera = replace(
                camera,
                image=blank(*camera.size_hw[::-1]),
                intrinsics=pixels @ camera.intrinsics @ roll,
                ego_from_camera=camera.ego_from_camera @ rigid(roll, np.zeros(3)),
            )
        return camera

    def through(camera):
        turns = quarter_turns(camera.ego_from_camera)
        image = turned(camera.image.numpy(), turns)
        k, pose = turned_camera(camera.size_hw, camera.intrinsics, camera.ego_from_camera, turns)
        return replace(camera, image=torch.from_numpy(image), intrinsics=k, ego_from_camera=pose)

    for turns in range(4):
        assert geometry_warnings(frame(change=lambda camera: through(rolled(camera, turns))), NANO, {}) == ()  # noqa: B023


def test_a_stream_knows_its_geometry_and_its_frozen_pictures():
    """From messages through the assembler to its status."""
    drive = Drive()
    assembler = FrameAssembler(drive.rig, AssemblerOptions(missing_camera="drop"))
    topics = {camera.topic: camera.name for camera in drive.rig.cameras}
    infos = {camera.info_topic: camera.name for camera in drive.rig.cameras}
    judged = []
    assert assembler.status(0).geometry is None
    for raw in [drive.static(), *drive.infos(), *(raw for k in range(12) for raw in repeated(drive, k))]:
        message = typestore().deserialize_cdr(raw.data, raw.type)
        if raw.topic in topics:
            assembler.on_image(topics[raw.topic], message, raw.stamp_ns)
        elif raw.topic in infos:
            assembler.on_camera_info(infos[raw.topic], message)
        else:
            assembler.on_transforms(message, static=raw.topic == "/tf_static")
        while (ready := assembler.poll(raw.stamp_ns)) is not None:
            judged.append(assembler.judge_geometry(assembler.frame(ready), NANO))
    assert len(judged) == 12 and isinstance(judged[0], tuple) and set(judged[1:]) == {None}
    status = assembler.status(0)
    assert status.geometry == judged[0]
    assert status.pictures == {
        "CAM_BACK": "the same picture for 12 sets, though the vehicle moves: is its driver frozen?"
    }
    assert status.odd_pictures == {("frozen", "CAM_BACK"): 3}


def repeated(drive, k):
    """Set k of a drive whose CAM_BACK sends its first picture with new stamps."""
    drive.pictures["CAM_BACK"][1] = drive.pictures["CAM_BACK"][0]
    return drive.whole_set(k)


def test_what_was_judged_keeps_no_pictures():
    watch = GeometryWatch()
    judged = frame()
    assert watch.look(judged, NANO, {})
    kept = watch._judged.values()
    assert [one.size_hw for one in kept] == [one.size_hw for one in judged.cameras]
    assert sum(one.image.untyped_storage().nbytes() for one in kept) == len(judged.cameras)
    assert not watch.look(judged, NANO, {})


def test_a_judgement_that_fails_is_a_warning_and_no_exception(monkeypatch):
    def fail(*_):
        raise FloatingPointError("a bug on the test bench")

    monkeypatch.setattr("panoocc_ros.frames.plausibility.geometry_warnings", fail)
    watch = GeometryWatch()
    assert watch.look(frame(), NANO, {}) and not watch.look(frame(), NANO, {})
    (text,) = watch.warnings
    assert "could not be judged: FloatingPointError: a bug" in text and text.startswith(SIX)


FISHEYE = LensModel("equidistant", (-0.02, 0.004, -0.001, 0.0))


def fisheye(camera):
    height, width = camera.size_hw
    focal = width / np.radians(190)
    k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return replace(camera, intrinsics=k, lens=FISHEYE)


def test_fisheyes_are_judged_through_their_lenses():
    assert geometry_warnings(frame(change=fisheye), NANO, {}) == ()
    tilted = mounted(lambda pose: pose @ pitched(-45))
    assert geometry_warnings(frame(change=lambda camera: tilted(fisheye(camera))), NANO, {}) == ()  # still the horizon
    (sky,) = geometry_warnings(frame(change=only("CAM_FRONT", mounted(lambda m: m @ pitched(-70)))), NANO, {})
    assert "looking at the sky" in sky
    (text,) = geometry_warnings(frame(change=only("CAM_BACK", lambda c: replace(c, cut_off=0.48))), NANO, {})
    assert text.startswith("CAM_BACK (48 % of the picture): cut off") and "lens: project" in text


def test_another_lens_is_judged_anew():
    watch = GeometryWatch()
    assert watch.look(frame(change=fisheye), NANO, {}) and not watch.look(frame(change=fisheye), NANO, {})
    assert watch.look(frame(change=lambda camera: replace(fisheye(camera), lens=None)), NANO, {})
