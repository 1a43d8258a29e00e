"""A picture is turned with its camera: points of the world stay on what shows them."""

from dataclasses import replace
from functools import cached_property

import numpy as np
import pytest

from panoocc_core.cameras.upright import quarter_turns, turned, turned_camera
from panoocc_core.geometry import invert, rigid
from panoocc_ros.frames.assembler import FrameAssembler
from panoocc_ros.frames.waiting import AssemblerOptions
from panoocc_ros.messages.fields import transforms
from panoocc_ros.messages.types import typestore
from test.ros.drive import EGO_FROM_OPTICAL, Drive, turn
from test.ros.messages import jpeg, tf

K = np.array([[300.0, 1.5, 100.0], [0.0, 280.0, 70.0], [0.0, 0.0, 1.0]])
SIZE_HW = (160, 220)


def mount(roll_deg, yaw=0.7, pitch_deg=10.0):
    c, s = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    roll = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    c, s = np.cos(np.radians(pitch_deg)), np.sin(np.radians(pitch_deg))
    down = np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
    return rigid(turn(yaw) @ EGO_FROM_OPTICAL @ down @ roll, np.array([1.0, 0.3, 1.5]))


def pixel(k, ego_from_camera, point):
    x, y, depth = k @ (invert(ego_from_camera) @ [*point, 1.0])[:3]
    assert depth > 0
    return x / depth, y / depth


@pytest.mark.parametrize("roll_deg", [0, 20, -25, 75, 90, 110, -90, -70, 180, 165, -155])
def test_points_lie_on_the_same_detail_and_up_is_up(roll_deg):
    pose = mount(roll_deg)
    right, down, ahead = (pose[:3, k] for k in range(3))
    random = np.random.default_rng(0)
    points = [pose[:3, 3] + 10 * ahead + x * right + y * down for x, y in random.uniform(-1.5, 1.5, (12, 2))]
    image = np.zeros((*SIZE_HW, 3), np.uint8)
    for number, point in enumerate(points, 1):
        x, y = np.round(pixel(K, pose, point)).astype(int)
        image[y, x] = number
    turns = quarter_turns(pose)
    picture, (k, turned_pose) = turned(image, turns), turned_camera(SIZE_HW, K, pose, turns)
    for number, point in enumerate(points, 1):
        x, y = pixel(k, turned_pose, point)
        places = np.argwhere(picture[:, :, 0] == number)
        assert len(places) == 0 or np.abs(places[0][::-1] - (x, y)).max() <= 0.51  # another point may lie on it
    np.testing.assert_allclose(turned_pose[:3, 2], ahead, atol=1e-12)
    assert turned_pose[2, 1] < -0.8 and k[0, 0] > 0 and k[1, 1] > 0  # the picture's down is the vehicle's
    assert picture.shape[:2] == (SIZE_HW if abs(roll_deg) < 45 or abs(roll_deg) > 135 else SIZE_HW[::-1])
    assert picture.flags.c_contiguous


def test_only_cameras_near_a_quarter_turn_are_turned():
    left, right = quarter_turns(mount(90)), quarter_turns(mount(-90))
    turns = {0: 0, 29: 0, 45: 0, 62: left, 90: left, 135: 0, 180: 2, 225: 0, 270: right, -90: right}
    assert {roll: quarter_turns(mount(roll)) for roll in turns} == turns and {left, right} == {1, 3}


def test_a_camera_that_looks_up_or_down_has_no_upper_side():
    for roll in (0, 90, 180):
        for pitch in (85, -85):
            assert quarter_turns(mount(roll, pitch_deg=pitch)) == 0


def test_a_camera_that_stands_upright_costs_nothing():
    image = np.zeros((*SIZE_HW, 3), np.uint8)
    assert turned(image, 0) is image and turned_camera(SIZE_HW, K, mount(5), 0)[0] is K


def frames(drive):
    """What the assembler makes of the first set of a drive."""
    assembler = FrameAssembler(drive.rig, AssemblerOptions(missing_camera="drop"))
    cameras = {topic: camera.name for camera in drive.rig.cameras for topic in (camera.topic, camera.info_topic)}
    for raw in drive.messages(1):
        message = typestore().deserialize_cdr(raw.data, raw.type)
        if "camera_info" in raw.topic:
            assembler.on_camera_info(cameras[raw.topic], message)
        elif raw.topic in cameras:
            assembler.on_image(cameras[raw.topic], message, raw.stamp_ns)
        else:
            assembler.on_transforms(message, static=raw.topic == "/tf_static")
    return [assembler.frame(ready) for ready in assembler.finish()]


class Lossless(Drive):
    """The drive with PNGs, so that pixels can be compared."""

    def images(self, k, **options):
        messages = super().images(k, **options)
        names = {camera.topic: camera.name for camera in self.rig.cameras}
        for number, raw in enumerate(messages):
            message = typestore().deserialize_cdr(raw.data, raw.type)
            message.data = jpeg(0, "", self.pictures[names[raw.topic]][k % 2], ".png").data
            messages[number] = replace(raw, data=bytes(typestore().serialize_cdr(message, raw.type)))
        return messages


class Sideways(Lossless):
    """The same drive, seen by cameras that are mounted with 0, 1, 2 and 3 quarter turns."""

    @cached_property
    def pictures(self):
        upright_ones = Drive.pictures.func(self)
        return {name: [np.rot90(one, i % 4) for one in upright_ones[name]] for i, name in enumerate(self.rig.names)}

    def static(self):
        raw = super().static()
        message = typestore().deserialize_cdr(raw.data, raw.type)
        mounts = []
        for i, (parent, child, stamp, pose, *_) in enumerate(transforms(message)):
            mounts.append((parent, child, stamp, pose @ rigid(np.linalg.matrix_power(QUARTER, i % 4), np.zeros(3))))
        return replace(raw, data=bytes(typestore().serialize_cdr(tf(*mounts), raw.type)))

    def infos(self):
        messages = super().infos()
        for i, raw in enumerate(messages):
            message = typestore().deserialize_cdr(raw.data, raw.type)
            for _ in range(i % 4):
                k, width = message.k.reshape(3, 3), message.width
                turned = np.array([[0.0, 1, 0], [-1, 0, width - 1], [0, 0, 1]])
                message.k = (turned @ k @ QUARTER).reshape(-1)
                message.height, message.width = message.width, message.height
            messages[i] = replace(raw, data=bytes(typestore().serialize_cdr(message, raw.type)))
        return messages


QUARTER = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def test_a_drive_with_sideways_cameras_gives_the_frame_of_upright_ones():
    (one,), (other,) = frames(Lossless()), frames(Sideways())
    for a, b in zip(one.cameras, other.cameras, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_allclose(a.intrinsics, b.intrinsics, atol=1e-9)
        np.testing.assert_allclose(a.ego_from_camera, b.ego_from_camera, atol=1e-9)
