"""Messages in, frames out: exact poses, nothing invented, a reason for everything that is lost."""

import itertools
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from panoocc_core.cameras.calibration_file import load_calibration
from panoocc_core.config import model_config
from panoocc_core.geometry import NS_PER_S, rigid, rotation_angle_rad
from panoocc_core.optics import LensModel
from panoocc_core.types import CameraImage
from panoocc_ros.frames.assembler import FrameAssembler
from panoocc_ros.frames.rig import Rig, RigCamera
from panoocc_ros.frames.sets import NO_CAMERA_INFO, Refused
from panoocc_ros.frames.stand_ins import StandIns
from panoocc_ros.frames.waiting import AssemblerOptions
from panoocc_ros.ros.parameter_fields import SettingsError
from test.ros.messages import MS, camera_info, jpeg, picture, tf

T0 = 1_533_151_603_512_404_000
NAMES = ("FRONT", "LEFT", "RIGHT")
RIG = Rig(
    cameras=tuple(RigCamera(n, f"/{n.lower()}/image_raw/compressed", f"/{n.lower()}/camera_info") for n in NAMES),
    reference="FRONT",
    period_ms=100.0,
)
PICTURE = picture()
OFFSETS_NS = {"FRONT": 0, "LEFT": -8 * MS, "RIGHT": 35 * MS}


def turned(angle, x=0.0, y=0.0):
    c, s = np.cos(angle), np.sin(angle)
    return rigid(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array([x, y, 0.0]))


def pose_at(stamp_ns):
    """A steady turn: 10 m/s and 0.4 rad/s."""
    t = (stamp_ns - T0) / NS_PER_S
    return turned(0.4 * t, 25 * np.sin(0.4 * t), 25 * (1 - np.cos(0.4 * t)))


MOUNTS = {name: turned(0.5 * k, 1.0 + k, 0.2 * k) for k, name in enumerate(NAMES)}


def static():
    return tf(*(("base_link", name.lower(), 0, MOUNTS[name]) for name in NAMES))


def ready_assembler(rig=RIG, **options):
    assembler = FrameAssembler(rig, AssemblerOptions(**options))
    assembler.on_transforms(static(), static=True)
    for name in rig.names:
        assembler.on_camera_info(name, camera_info(frame_id=name.lower()))
    return assembler


def send_images(assembler, k, now=None, names=NAMES):
    for name in names:
        stamp = T0 + k * 100 * MS + OFFSETS_NS[name]
        assembler.on_image(name, jpeg(stamp, name.lower(), PICTURE), stamp if now is None else now)


def send_tf(assembler, start_ns, end_ns, step_ns=20 * MS, parent="odom"):
    for stamp in range(start_ns, end_ns + 1, step_ns):
        assembler.on_transforms(tf((parent, "base_link", stamp, pose_at(stamp))), static=False)


def drain(assembler, now):
    return list(iter(lambda: assembler.poll(now), None))


def test_every_camera_has_the_pose_of_its_own_shutter_time():
    assembler = ready_assembler()
    send_tf(assembler, T0 - 60 * MS, T0 + 60 * MS)
    send_images(assembler, 0)
    (ready,) = drain(assembler, T0 + 60 * MS)
    frame = assembler.frame(ready)
    assert frame.stamp_ns == T0 and tuple(camera.name for camera in frame.cameras) == NAMES
    np.testing.assert_allclose(frame.world_from_ego, pose_at(T0), atol=2e-4)
    for camera in frame.cameras:
        assert camera.stamp_ns == T0 + OFFSETS_NS[camera.name]
        np.testing.assert_allclose(camera.world_from_ego, pose_at(camera.stamp_ns), atol=2e-4)
        np.testing.assert_allclose(camera.ego_from_camera, MOUNTS[camera.name], atol=1e-12)
        assert np.abs(camera.image.numpy().astype(int) - PICTURE).mean() < 3
    poses = {camera.name: camera.world_from_ego for camera in frame.cameras}
    assert np.linalg.norm(poses["RIGHT"][:3, 3] - poses["LEFT"][:3, 3]) == pytest.approx(0.43, abs=0.01)
    assert rotation_angle_rad(poses["RIGHT"][:3, :3].T @ poses["LEFT"][:3, :3]) == pytest.approx(0.0172, abs=1e-3)


def test_the_status_knows_the_spread_of_a_set_and_the_age_of_the_last_pose():
    assembler = ready_assembler(deadline_s=0.1, camera_timeout_s=0.5)
    assert assembler.status(T0).transforms_age_s is None and assembler.status(T0).spread_ns is None
    send_tf(assembler, T0 - 60 * MS, T0 + 260 * MS)
    send_images(assembler, 0)
    assert len(drain(assembler, T0 + 100 * MS)) == 1
    assert assembler.status(T0 + 500 * MS).spread_ns == OFFSETS_NS["RIGHT"] - OFFSETS_NS["LEFT"]
    send_tf(assembler, T0 + 280 * MS, T0 + 300 * MS)
    assert assembler.status(T0 + 700 * MS).transforms_age_s == pytest.approx(0.2)
    send_images(assembler, 2, names=("FRONT", "RIGHT"), now=T0 + 700 * MS)
    assert len(drain(assembler, T0 + 900 * MS)) == 1  # with the image of LEFT that was there before
    status = assembler.status(T0 + 900 * MS)
    assert status.reused == {"LEFT": 1} and status.spread_ns == OFFSETS_NS["RIGHT"]


def test_a_pose_that_comes_before_the_clock_is_known_comes_when_it_is():
    assembler = FrameAssembler(RIG)
    send_tf(assembler, T0, T0)
    assert assembler.status(T0 + 5 * NS_PER_S).transforms_age_s == 0.0


def test_a_set_waits_until_a_sample_lies_behind_its_last_image():
    assembler = ready_assembler()
    send_tf(assembler, T0 - 60 * MS, T0 + 20 * MS)
    send_images(assembler, 0)
    assert drain(assembler, T0 + 40 * MS) == []
    status = assembler.status(T0 + 40 * MS)
    assert status.waiting == 1 and "RIGHT" in status.waiting_for and "after the newest sample" in status.waiting_for
    send_tf(assembler, T0 + 40 * MS, T0 + 40 * MS)
    assert len(drain(assembler, T0 + 40 * MS)) == 1


def test_without_transforms_a_set_is_dropped_at_the_timeout_naming_the_frame():
    assembler = ready_assembler(tf_timeout_s=0.5)
    send_images(assembler, 0, now=0)
    assert drain(assembler, 499 * MS) == [] and assembler.status(0).waiting == 1
    assert drain(assembler, 500 * MS) == []
    status = assembler.status(0)
    assert status.waiting == 0 and status.set_drops == {("tf_timeout", ""): 1}
    assert "above 'base_link' there is none of odom, map, world" in status.tf_missing == status.last_drop
    send_tf(assembler, T0 - 60 * MS, T0 + 160 * MS)
    send_images(assembler, 1, now=600 * MS)
    assert len(drain(assembler, 600 * MS)) == 1 and assembler.status(0).tf_missing is None


@pytest.mark.parametrize("inverted", [False, True])
def test_without_a_fixed_frame_the_text_says_what_there_is_and_what_to_do(inverted):
    assembler = ready_assembler()
    for k in range(5):
        ends = ("base_link", "odom") if inverted else ("vehicle", "base_link")
        assembler.on_transforms(tf((*ends, T0 + k * 20 * MS, pose_at(T0))), static=not inverted)
    send_images(assembler, 0, now=0)
    assembler.finish()
    text = assembler.status(0).tf_missing
    assert "above 'base_link' there is none of odom, map, world, " in text and "[" not in text
    if inverted:
        assert "nor any other frame: odom hangs below base_link: is the vehicle's pose sent inverted?" in text
    else:
        assert "only vehicle: send the vehicle's pose on /tf, or set fixed_frame" in text


@pytest.mark.parametrize(("key", "option"), [("base_frame", "--base-frame"), ("fixed_frame", "--fixed-frame")])
def test_a_frame_of_the_rig_that_nobody_sends_can_be_chosen(key, option):
    assembler = ready_assembler(replace(RIG, **{"fixed_frame": "odom", key: "chassis"}))
    send_tf(assembler, T0 - 60 * MS, T0 + 160 * MS)
    send_images(assembler, 0, now=0)
    assembler.finish()
    text = assembler.status(0).tf_missing
    assert "no transform has named the frame 'chassis'; known frames: base_link, " in text
    assert f"with {key} ({option})" in text


@pytest.mark.parametrize("seconds", [1, 8])
def test_a_pose_that_ends_is_told_by_its_distance_and_topic(seconds):
    assembler = ready_assembler()
    send_tf(assembler, T0 - 60 * MS, T0 + 200 * MS)
    send_images(assembler, 0, now=0)
    assert len(drain(assembler, 0)) == 1
    send_images(assembler, 10 * seconds + 2, now=0)
    assembler.finish()
    text = assembler.status(0).tf_missing
    assert re.search(
        rf"odom <- base_link: the time \d+\.\d{{3}} s is {seconds}\.\d{{3}} s after the newest sample", text
    )
    assert ("is its sender on /tf alive?" in text) == (seconds > 3)


SENDERS = {  # frames of the CameraInfos that come with each image of LEFT -> whether that is odd
    "own": (["left"], False),
    "slash": (["/left"], False),
    "none": ([""], False),
    "another camera's": (["right"], True),
    "two senders": (["left", "right"], True),
    "two senders, its own last": (["right", "left"], True),
}


@pytest.mark.parametrize(("frames", "is_odd"), SENDERS.values(), ids=SENDERS)
@pytest.mark.parametrize("is_latched", [False, True])
@pytest.mark.parametrize("is_named", [False, True])
def test_camera_info_of_another_frame_is_named_while_it_comes(frames, is_odd, is_latched, is_named):
    cameras = tuple(replace(camera, frame=camera.name.lower() if is_named else None) for camera in RIG.cameras)
    assembler = FrameAssembler(replace(RIG, cameras=cameras))
    for k in range(20):
        for frame in frames if k == 0 or not is_latched else ():
            assembler.on_camera_info("LEFT", camera_info(frame_id=frame))
        assembler.on_image("LEFT", jpeg(T0 + k * 100 * MS, "left", PICTURE), k * 100 * MS)
        texts = {notice.text for notice in assembler.status(k * 100 * MS).notices if notice.kind == "calibration"}
        is_told = is_odd and not is_named and not (is_latched and frames[-1] == "left")
        assert len(texts) == is_told or k == 0
    for text in texts:
        assert text.startswith(
            "camera LEFT: its images are of the frame 'left', its CameraInfo on /left/camera_info of"
        )
        assert "'right'" in text
    for k in range(20, 60):
        assembler.on_camera_info("LEFT", camera_info(frame_id="left"))
        assembler.on_image("LEFT", jpeg(T0 + k * 100 * MS, "left", PICTURE), k * 100 * MS)
    assert not any(notice.kind == "calibration" for notice in assembler.status(60 * 100 * MS).notices)


def test_a_set_before_the_first_sample_is_hopeless_and_dropped_at_once():
    assembler = ready_assembler()
    send_tf(assembler, T0 + 20 * MS, T0 + 200 * MS)
    send_images(assembler, 0, now=0)
    assert drain(assembler, 0) == []
    assert assembler.status(0).set_drops == {("tf_too_early", ""): 1}


def test_every_reason_keeps_the_text_of_its_last_loss():
    assembler = ready_assembler(missing_camera="drop")
    for k in range(3):
        send_images(assembler, k, now=k * 100 * MS, names=("FRONT", "LEFT") if k == 1 else NAMES)
    assembler.finish()
    status = assembler.status(0)
    assert status.last_texts.keys() == status.set_drops.keys() == {("missing_camera", "RIGHT"), ("tf_timeout", "")}
    assert status.last_texts["missing_camera", "RIGHT"].startswith("no image of RIGHT")
    assert status.last_texts["tf_timeout", ""] == status.tf_missing


def test_missing_mounts_and_missing_calibrations_name_the_camera_and_the_topic():
    assembler = FrameAssembler(RIG)
    send_tf(assembler, T0 - 60 * MS, T0 + 60 * MS)
    send_images(assembler, 0, now=0)
    assert drain(assembler, 0) == []
    assert assembler.status(0).missing_info == NAMES
    assert assembler.status(0).waiting_for == "camera FRONT: no CameraInfo on /front/camera_info yet"
    for name in NAMES:
        assembler.on_camera_info(name, camera_info(frame_id=name.lower()))
    assert drain(assembler, 0) == []
    assert "camera FRONT: no transform has named the frame 'front'" in assembler.status(0).waiting_for
    assert "; nothing has come on /tf_static: mounts can be given" in assembler.status(0).waiting_for
    assert assembler.finish() == []
    assert assembler.status(0).set_drops == {("tf_timeout", "FRONT"): 1}


def with_infos_of(names, **options):
    assembler = FrameAssembler(RIG, AssemblerOptions(**options))
    assembler.on_transforms(static(), static=True)
    send_tf(assembler, T0 - 60 * MS, T0 + 360 * MS)
    for name in names:
        assembler.on_camera_info(name, camera_info(frame_id=name.lower()))
    send_images(assembler, 0, now=0)
    return assembler


def test_a_camera_without_camera_info_is_missing_once_it_has_been_waited_for():
    assembler = with_infos_of(NAMES[1:])
    assert drain(assembler, 0) == [] and "no CameraInfo" in assembler.status(0).waiting_for
    (ready,) = drain(assembler, NS_PER_S)
    assert ready.messages.blank == NAMES[:1] and ready.poses.keys() == set(NAMES[1:])
    assert assembler.frame(ready).cameras[0].is_blank
    status = assembler.status(NS_PER_S)
    assert status.image_drops[NO_CAMERA_INFO, NAMES[0]] == status.blank[NAMES[0]] == 1
    assert status.missing_info == NAMES[:1] and not status.set_drops
    send_images(assembler, 1, now=NS_PER_S)
    assert len(drain(assembler, NS_PER_S)) == 1  # nobody waits for it again
    assembler.on_camera_info(NAMES[0], camera_info(frame_id=NAMES[0].lower()))
    send_images(assembler, 2, now=NS_PER_S)
    (ready,) = drain(assembler, NS_PER_S)
    assert not ready.messages.blank


@pytest.mark.parametrize("names, options", [((), {}), (NAMES[1:], {"missing_camera": "drop"})])
def test_a_set_of_which_no_camera_is_left_or_none_may_be_missing_is_lost(names, options):
    assembler = with_infos_of(names, **options)
    assert drain(assembler, NS_PER_S) == []
    assert assembler.status(NS_PER_S).set_drops == {(NO_CAMERA_INFO, NAMES[0]): 1}


def test_an_empty_frame_id_is_refused_unless_the_rig_names_the_frame():
    def run(rig):
        assembler = ready_assembler(rig)
        send_tf(assembler, T0 - 60 * MS, T0 + 60 * MS)
        for name in NAMES:
            stamp = T0 + OFFSETS_NS[name]
            assembler.on_image(name, jpeg(stamp, "" if name == "LEFT" else name.lower(), PICTURE), stamp)
        return drain(assembler, T0), assembler.status(T0)

    ready, status = run(RIG)
    assert ready == [] and status.set_drops == {("no_frame_id", "LEFT"): 1} and "header.frame_id" in status.last_drop
    ready, _ = run(replace(RIG, cameras=tuple(replace(c, frame=c.name.lower()) for c in RIG.cameras)))
    assert len(ready) == 1


def sets_with_a_broken_image(assembler, count=3, broken=(1,)):
    """Sets in which the images of RIGHT numbered `broken` are cut off."""
    send_tf(assembler, T0 - 60 * MS, T0 + count * 100 * MS + 100 * MS)
    for k in range(count):
        for name in NAMES:
            stamp = T0 + k * 100 * MS + OFFSETS_NS[name]
            message = jpeg(stamp, name.lower(), PICTURE)
            if name == "RIGHT" and k in broken:
                message.data = message.data[:200]
            assembler.on_image(name, message, stamp)
    return drain(assembler, T0 + count * 100 * MS)


def test_where_sets_may_lack_no_image_a_bad_one_costs_its_set_and_the_next_one_is_fine():
    assembler = ready_assembler(missing_camera="drop")
    _, bad, good = sets_with_a_broken_image(assembler)
    with pytest.raises(
        Refused, match="camera RIGHT: the JPEG is cut off.*topic /right/image_raw/compressed"
    ) as refused:
        assembler.frame(bad)
    assert (refused.value.reason, refused.value.camera) == ("image", "RIGHT")
    status, text = assembler.status(0), str(refused.value)
    assert status.set_drops == {("image", "RIGHT"): 1} and status.image_drops["refused", "RIGHT"] == 1
    assert status.last_texts == {("image", "RIGHT"): text, ("refused", "RIGHT"): text}
    assert assembler.frame(good).stamp_ns == T0 + 200 * MS


@pytest.mark.parametrize("policy", ["reuse_last", "blank"])
def test_a_bad_image_is_as_good_as_a_missing_one(policy):
    assembler = ready_assembler(missing_camera=policy, reuse_age_s=0.25)
    frames = [assembler.frame(ready) for ready in sets_with_a_broken_image(assembler, 7, (1, 2, 3, 5))]
    right = [next(camera for camera in frame.cameras if camera.name == "RIGHT") for frame in frames]
    reused = {1: 0, 2: 0, 5: 4} if policy == "reuse_last" else {}
    assert [camera.is_blank for camera in right] == [k in (1, 2, 3, 5) and k not in reused for k in range(7)]
    assert all(right[k] is right[before] for k, before in reused.items())
    status = assembler.status(0)
    assert not status.set_drops and status.image_drops["refused", "RIGHT"] == 4
    assert status.reused["RIGHT"] == len(reused) and status.blank["RIGHT"] == 4 - len(reused)
    assert not status.of_kind("unusable")  # the last one was good


def test_where_no_image_can_be_used_there_is_no_frame_and_it_is_told_for_how_long():
    assembler = ready_assembler()
    for name in NAMES:
        info = camera_info()
        info.k = np.zeros(9)
        assembler.on_camera_info(name, info)
    for ready in sets_with_a_broken_image(assembler, 3, ()):
        with pytest.raises(Refused, match=f"camera {NAMES[0]}: K is all zero.*topic /{NAMES[0].lower()}/camera_info"):
            assembler.frame(ready)
    status = assembler.status(T0 + 300 * MS)
    assert {one.subject for one in status.of_kind("unusable")} == set(NAMES)
    assert not status.blank and status.set_drops == {("camera_info", NAMES[0]): 3}


def test_a_new_calibration_takes_effect():
    assembler = ready_assembler()
    send_tf(assembler, T0 - 60 * MS, T0 + 200 * MS)
    send_images(assembler, 0)
    (first,) = drain(assembler, T0)
    assembler.on_camera_info("LEFT", camera_info(focal=70.0))
    send_images(assembler, 1)
    (second,) = drain(assembler, T0)
    assert assembler.frame(first).cameras[1].intrinsics[0, 0] == 50
    assert assembler.frame(second).cameras[1].intrinsics[0, 0] == 70


def test_the_rig_says_which_camera_keeps_its_lens():
    cameras = tuple(replace(camera, lens="project" if camera.name == "LEFT" else "undistort") for camera in RIG.cameras)
    assembler = ready_assembler(rig=replace(RIG, cameras=cameras))
    for name in RIG.names:
        assembler.on_camera_info(name, camera_info(frame_id=name.lower(), distortion=(-0.2, 0.03, 0.0, 0.0, 0.0)))
    send_tf(assembler, T0 - 60 * MS, T0 + 200 * MS)
    send_images(assembler, 0)
    (ready,) = drain(assembler, T0)
    lenses = {camera.name: camera.lens for camera in assembler.frame(ready).cameras}
    assert lenses.pop("LEFT") == LensModel("perspective", (-0.2, 0.03, 0.0, 0.0))
    assert set(lenses.values()) == {None}


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        (("map", "odom"), "odom"),
        (("odom", "map"), "odom"),
        (("earth", "map", "base_footprint"), "map"),
        (("site", "vehicle"), "vehicle"),
    ],
)
def test_the_fixed_frame_is_the_usual_one_whatever_moves_around_it(edges, expected):
    assembler = ready_assembler()
    chain = (*edges, "base_link")
    for parent, child in itertools.pairwise(chain):
        for stamp in (T0 - 100 * MS, T0 + 100 * MS):
            assembler.on_transforms(tf((parent, child, stamp, np.eye(4))), static=False)
    send_images(assembler, 0, now=0)
    ready = drain(assembler, 0)
    assert bool(ready) == (expected != "vehicle")  # an unusual frame may be one of several: wait for the rest
    ready += drain(assembler, 250 * MS)
    assert [r.fixed_frame for r in ready] == [expected] == [assembler.status(0).fixed_frame]


def test_a_named_fixed_frame_is_used_and_awaited():
    assembler = ready_assembler(replace(RIG, fixed_frame="map"))
    send_tf(assembler, T0 - 60 * MS, T0 + 60 * MS)
    send_images(assembler, 0, now=0)
    assert drain(assembler, 0) == [] and "'map'" in assembler.status(0).waiting_for
    assembler.on_transforms(tf(("map", "odom", 0, turned(1.0, 100.0))), static=True)
    (ready,) = drain(assembler, 0)
    np.testing.assert_allclose(ready.world_from_ego, turned(1.0, 100.0) @ pose_at(T0), atol=1e-3)


def feed(assembler, events):
    """Feed (arrival, kind, ...) events; returns the ready sets."""
    out = []
    for now, send in events:
        out += drain(assembler, now)
        send(assembler, now)
        out += drain(assembler, now)
    return out


def events(count, random, latest_ms, start=0):
    """Images and transforms of `count` instants that arrive late by up to `latest_ms`, each topic in its order."""
    out = []
    topics = {name: [T0 + k * 100 * MS + OFFSETS_NS[name] for k in range(count)] for name in NAMES}
    topics["/tf"] = list(range(T0 - 60 * MS, T0 + count * 100 * MS, 20 * MS))
    for topic, stamps in topics.items():
        last = 0
        for stamp in stamps:
            last = max(last + 1, stamp - T0 + 200 * MS + start + int(random.uniform(0, latest_ms) * MS))
            if topic == "/tf":
                message = tf(("odom", "base_link", stamp, pose_at(stamp)))
                out.append((last, lambda p, now, m=message: p.on_transforms(m, static=False)))
            else:
                message = jpeg(stamp, topic.lower(), PICTURE)
                out.append((last, lambda p, now, m=message, n=topic: p.on_image(n, m, now)))
    return sorted(out, key=lambda event: event[0])


def test_the_order_of_arrival_between_topics_changes_no_bit():
    results = []
    for latest_ms in (0, 30, 150):
        assembler = ready_assembler()
        ready = feed(assembler, events(12, np.random.default_rng(latest_ms), latest_ms)) + assembler.finish()
        results.append(
            [(r.stamp_ns, r.world_from_ego, {n: p.world_from_ego for n, p in r.poses.items()}) for r in ready]
        )
    assert len(results[0]) == 12
    for other in results[1:]:
        assert len(other) == 12
        for (stamp, world, poses), (stamp2, world2, poses2) in zip(results[0], other):
            assert stamp == stamp2
            np.testing.assert_array_equal(world, world2)
            for name in NAMES:
                np.testing.assert_array_equal(poses[name], poses2[name])


@pytest.mark.parametrize("clock_follows_the_bag", [True, False])
def test_a_bag_loop_resets_once_and_goes_on_at_once(clock_follows_the_bag):
    for seed in range(10):
        assembler = ready_assembler()
        random = np.random.default_rng(seed)
        first = feed(assembler, events(12, random, latest_ms=30))
        again = events(12, random, latest_ms=30, start=0 if clock_follows_the_bag else 5 * NS_PER_S)
        second = feed(assembler, again)
        assert len(first) == 12 and [r.reset for r in first] == [None] * 12
        assert len(second) >= 11
        assert [r.reset is not None for r in second] == [True] + [False] * (len(second) - 1)
        status = assembler.status(again[-1][0])
        assert sum(status.resets.values()) == 1 and "went back" in next(iter(status.resets))
        for ready in second:
            np.testing.assert_allclose(ready.world_from_ego, pose_at(ready.stamp_ns), atol=2e-4)


def test_the_reset_waits_for_a_set_that_gets_out():
    assembler = ready_assembler()
    send_tf(assembler, T0 - 60 * MS, T0 + 2060 * MS)
    for k in range(20):
        send_images(assembler, k)
        assert len(drain(assembler, T0 + k * 100 * MS)) == 1
    now = T0 + 3 * NS_PER_S
    send_images(assembler, 0, now=now)
    assert drain(assembler, now + NS_PER_S) == []  # its transforms never come: dropped
    send_tf(assembler, T0 + 40 * MS, T0 + 260 * MS)
    for k in (1, 2):
        send_images(assembler, k, now=now + NS_PER_S)
    ready = drain(assembler, now + NS_PER_S)
    assert [one.reset for one in ready] == ["the stamps of the images went back", None]
    assert assembler.status(now).resets == {"the stamps of the images went back": 1}


def test_a_dead_camera_is_named_and_blank_frames_go_on():
    assembler = ready_assembler(missing_camera="blank", camera_timeout_s=1.0)
    send_tf(assembler, T0 - 60 * MS, T0 + 3 * NS_PER_S)
    ready = []
    for k in range(25):
        send_images(assembler, k, names=("FRONT", "RIGHT"))
        ready += drain(assembler, T0 + k * 100 * MS + 50 * MS)
    assert len(ready) == 25
    assert assembler.status(T0 + 2500 * MS).blank == {"LEFT": 25}
    image = next(camera for camera in assembler.frame(ready[0]).cameras if camera.name == "LEFT")
    assert image.stamp_ns == T0 and image.is_blank and not image.image.any()


def test_waiting_sets_are_bounded():
    assembler = ready_assembler(max_waiting=3, tf_timeout_s=10.0)
    for k in range(10):
        send_images(assembler, k, now=0)
    status = assembler.status(0)
    assert status.waiting == 3 and status.set_drops == {("queue_full", ""): 7}
    assert status.sets == 10 and status.images == dict.fromkeys(NAMES, 10)


def test_a_refused_transform_is_named_until_a_good_one_comes_and_its_absence_says_why():
    assembler = FrameAssembler(RIG, AssemblerOptions(tf_timeout_s=0.5))
    for name in NAMES:
        assembler.on_camera_info(name, camera_info(frame_id=name.lower()))
    send_tf(assembler, T0 - 60 * MS, T0 + 60 * MS)
    message = static()
    turn = message.transforms[0].transform.rotation
    turn.x = turn.y = turn.z = turn.w = 0.0
    assembler.on_transforms(message, static=True)
    send_images(assembler, 0, now=0)
    assert drain(assembler, 500 * MS) == []
    status = assembler.status(500 * MS)
    (notice,) = status.notices
    assert (notice.kind, notice.subject, notice.count) == ("refused", "front", 1)
    assert 0 <= notice.age_s == notice.since_s <= 0.6
    assert notice.text == "the transform base_link <- front was refused: it has a quaternion of length 0"
    assert status.transform_drops == {"refused": 1}
    assert "no transform has named the frame 'front'" in status.last_drop and notice.text in status.last_drop
    assembler.on_transforms(static(), static=True)
    assert assembler.status(0).notices == ()


@pytest.mark.parametrize(("x", "why"), [(np.nan, "not finite"), (np.inf, "not finite"), (1e308, "is no place")])
def test_translations_that_mean_nothing_are_refused(x, why):
    assembler = ready_assembler()
    message = tf(("odom", "base_link", T0, np.eye(4)))
    message.transforms[0].transform.translation.x = x
    assembler.on_transforms(message, static=False)
    assert why in assembler.status(0).of_kind("refused")[0].text


def test_a_message_of_many_transforms_is_cut_and_a_flood_of_names_bounded():
    assembler = ready_assembler()
    message = tf(("world", "thing", T0, np.eye(4)))
    message.transforms *= 100_000
    begin_s = time.perf_counter()
    assembler.on_transforms(message, static=False)
    assert time.perf_counter() - begin_s < 2.0
    assert assembler.status(0).transform_drops["refused"] == 99_000
    for k in range(200):
        assembler.on_transforms(tf(("w" * 10**6, f"{k}" + "x" * 10**6, T0, np.eye(4))), static=False)
    notices = assembler.status(0).notices
    assert len(notices) <= 64 and max(len(notice.text) + len(notice.subject) for notice in notices) < 500


def timeline(count, period_ms=100, tf_ms=20, tf_delay_ms=0, start=0, shift_ns=0):
    """(arrival, topic, stamp) of a faultless stream."""
    images = [
        (start + k * period_ms * MS + OFFSETS_NS[n], n, T0 + k * period_ms * MS + OFFSETS_NS[n] + shift_ns)
        for k in range(count)
        for n in NAMES
    ]
    stamps = range(-60 * MS, (count * period_ms + 60) * MS, tf_ms * MS)
    return sorted(images + [(start + s + tf_delay_ms * MS, "/tf", T0 + s + shift_ns) for s in stamps])


def play(assembler, arrivals, pose_of=pose_at):
    out = []
    for now, topic, stamp in sorted(arrivals):
        out += drain(assembler, now)
        if topic.startswith("/tf"):
            assembler.on_transforms(tf(("odom", "base_link", stamp, pose_of(stamp))), static=False)
        else:
            assembler.on_image(topic, jpeg(stamp, topic.lower(), PICTURE), now)
        out += drain(assembler, now)
    return out


LATE_TRANSFORMS = {
    "a second sender 0.2 s behind": lambda a: a + [(t + 200 * MS, k, s) for t, k, s in a if k == "/tf"],
    "a second sender 3 s behind": lambda a: a + [(t + 3 * NS_PER_S, k, s) for t, k, s in a if k == "/tf"],
    "one in ten again 0.3 s later": lambda a: a + [(t + 300 * MS, k, s) for t, k, s in a if k == "/tf"][::10],
    "exact duplicates": lambda a: a + [event for event in a if event[1] == "/tf"],
    "out of order": lambda a: [(t + (s // MS * 7919 % 90) * MS if k == "/tf" else t, k, s) for t, k, s in a],
}


@pytest.mark.parametrize("fault", LATE_TRANSFORMS)
def test_late_and_repeated_transforms_reset_nothing_and_cost_nothing(fault):
    assembler = ready_assembler(missing_camera="drop")
    ready = play(assembler, LATE_TRANSFORMS[fault](timeline(50)))
    status = assembler.status(50 * NS_PER_S)
    assert len(ready) == 50 and not status.resets and not status.set_drops and not status.notices
    for one in ready:
        np.testing.assert_allclose(one.world_from_ego, pose_at(one.stamp_ns), atol=2e-4)


def test_transforms_once_a_second_serve_when_the_timeout_allows_it():
    assembler = ready_assembler(tf_timeout_s=1.5, max_waiting=16)
    straight = lambda stamp: turned(0.0, 10.0 * (stamp - T0) / NS_PER_S)  # noqa: E731
    ready = play(assembler, timeline(50, tf_ms=1000), straight)
    assert len(ready) >= 49 and not assembler.status(0).resets
    assembler = ready_assembler(tf_timeout_s=0.3)
    play(assembler, timeline(50, tf_ms=1000), straight)
    (late,) = assembler.status(50 * NS_PER_S).of_kind("late_transform")
    assert late.subject == "base_link"
    assert re.match(r"the transform odom <- base_link came 0\.\d\d s after the set was given up", late.text)


@pytest.mark.parametrize("seconds", [0.6, 3.0, 60.0])
@pytest.mark.parametrize("tf_ms", [20, 500])
def test_every_loop_of_a_bag_is_one_reset_and_loses_at_most_a_set(seconds, tf_ms):
    assembler = ready_assembler()
    count = round(seconds * 10)
    step_ns = (count * 100 + 150) * MS
    straight = lambda stamp: turned(0.0, 10.0 * (stamp - T0) / NS_PER_S)  # noqa: E731
    ready = play(
        assembler, [event for k in range(3) for event in timeline(count, tf_ms=tf_ms, start=k * step_ns)], straight
    )
    status = assembler.status(4 * step_ns)
    assert status.resets == {"the stamps of the images went back": 2}
    assert len([one for one in ready if one.reset]) == 2 and len(ready) >= 3 * count - 3 * (1 if tf_ms == 20 else 5)
    for one in ready:
        np.testing.assert_allclose(one.world_from_ego, straight(one.stamp_ns), atol=1e-6)


def test_a_set_that_still_waits_for_a_pose_when_the_bag_begins_again_is_of_the_time_before():
    """Each loop's poses come 0.3 s late: those of its last set are not awaited when the images are of the next loop."""
    assembler = ready_assembler(tf_timeout_s=0.5)
    parts = [timeline(20, tf_delay_ms=300, start=k * 2000 * MS) for k in range(4)]
    ready = play(assembler, [event for part in parts for event in part])
    status = assembler.status(60 * NS_PER_S)
    assert status.resets == {"the stamps of the images went back": 3} and len([one for one in ready if one.reset]) == 3
    assert {reason for reason, _ in status.set_drops} == {"clock_back"}


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, -0.4])
def test_a_clock_that_jumps_and_jumps_back(jump_s):
    assembler = ready_assembler()
    shift = round(jump_s * NS_PER_S)
    parts = [timeline(20, start=k * 2000 * MS, shift_ns=k * 2000 * MS + (shift if k == 1 else 0)) for k in range(3)]
    ready = play(assembler, [event for part in parts for event in part])
    assert len(ready) >= 57 and sum(assembler.status(0).resets.values()) == 1


def test_patient_options_lose_nothing_to_waiting_and_stay_bounded():
    def late(delay_ms, topic):
        return [(t + delay_ms * MS if k == topic else t, k, s) for t, k, s in timeline(30)]

    for delay_ms, topic in ((1000, "/tf"), (3000, "/tf"), (400, "LEFT"), (1500, "FRONT")):
        assembler = FrameAssembler(RIG, AssemblerOptions(missing_camera="drop").patient())
        assembler.on_transforms(static(), static=True)
        for name in RIG.names:
            assembler.on_camera_info(name, camera_info(frame_id=name.lower()))
        ready = play(assembler, late(delay_ms, topic)) + assembler.finish()
        assert len(ready) == 30 and not assembler.status(0).set_drops, (delay_ms, topic)
    patient = FrameAssembler(RIG, AssemblerOptions(max_waiting=4).patient())
    ready = play(patient, [event for event in timeline(100) if event[1] != "/tf"]) + patient.finish()
    status = patient.status(0)
    assert ready == [] and sum(status.set_drops.values()) == 100 and status.set_drops["queue_full", ""] == 36


def test_a_camera_that_is_dead_from_the_start_needs_neither_calibration_nor_mount():
    assembler = FrameAssembler(RIG)
    assembler.on_transforms(tf(*(("base_link", n.lower(), 0, MOUNTS[n]) for n in ("FRONT", "RIGHT"))), static=True)
    for name in ("FRONT", "RIGHT"):
        assembler.on_camera_info(name, camera_info(frame_id=name.lower()))
    ready = play(assembler, [event for event in timeline(40) if event[1] != "LEFT"])
    status = assembler.status(4 * NS_PER_S)
    assert len(ready) >= 36 and status.blank == {"LEFT": len(ready)}
    assert status.missing_info == ("LEFT",)
    image = next(camera for camera in assembler.frame(ready[0]).cameras if camera.name == "LEFT")
    assert image.is_blank and not image.image.any()
    assembler.close()


def test_a_dying_camera_is_reused_and_then_blank():
    assembler = ready_assembler(reuse_age_s=0.5)
    ready = play(assembler, [event for event in timeline(40) if event[1] != "LEFT" or event[2] < T0 + 1000 * MS])
    status = assembler.status(4 * NS_PER_S)
    assert len(ready) == 40 and not status.set_drops
    assert status.reused == {"LEFT": 4} and status.blank == {"LEFT": 25}
    assert ready[12].poses["LEFT"].stamp_ns == T0 + 1000 * MS + OFFSETS_NS["LEFT"]


def test_a_calibration_file_counts_in_place_of_messages(tmp_path):
    path = tmp_path / "calibration.yaml"
    lens = "{width: 64, height: 48, K: [70, 0, 32, 0, 70, 24, 0, 0, 1]}"
    mount = "{translation_m: [1, 2, 3], rotation_xyzw: [0, 0, 0, 1]}"
    path.write_text(f"cameras: [{{name: LEFT, ego_from_camera: {mount}, intrinsics: {lens}}}]")
    assembler = FrameAssembler(RIG, calibration=load_calibration(path, RIG.names))
    assembler.on_transforms(tf(*(("base_link", n.lower(), 0, MOUNTS[n]) for n in ("FRONT", "RIGHT"))), static=True)
    for name in ("FRONT", "RIGHT"):
        assembler.on_camera_info(name, camera_info(frame_id=name.lower()))
    (first, *_) = play(assembler, timeline(3))
    left = next(camera for camera in assembler.frame(first).cameras if camera.name == "LEFT")
    assert left.intrinsics[0, 0] == 70 and left.ego_from_camera[:3, 3].tolist() == [1, 2, 3]
    assert not assembler.status(0).notices
    assembler.on_camera_info("LEFT", camera_info(focal=50.0))
    (notice,) = assembler.status(0).notices
    assert notice.kind == "calibration" and "64, 48, 50, 50, 32, 24, of the calibration file 64, 48, 70" in notice.text


def test_options_out_of_their_limits_are_named():
    for key, value in (("deadline_s", -1.0), ("tf_timeout_s", float("nan")), ("max_waiting", 0), ("reuse_age_s", 1e99)):
        with pytest.raises(SettingsError, match=key):
            AssemblerOptions(**{key: value})
    with pytest.raises(SettingsError, match="missing_camera: 'ignore' is not one of reuse_last, blank, drop"):
        AssemblerOptions(missing_camera="ignore")


def test_waiting_ends_although_the_callers_clock_goes_back():
    assembler = ready_assembler(tf_timeout_s=0.5)
    send_images(assembler, 0, now=100 * NS_PER_S)
    assert drain(assembler, 100 * NS_PER_S) == [] and assembler.status(100 * NS_PER_S).waiting == 1
    assert drain(assembler, NS_PER_S) == []
    assert drain(assembler, NS_PER_S + 500 * MS) == []
    assert assembler.status(NS_PER_S + 500 * MS).set_drops == {("tf_timeout", ""): 1}


def test_a_rectified_image_looks_along_the_axes_that_r_turned():
    cameras = tuple(replace(c, topic=c.topic.replace("image_raw", "image_rect")) for c in RIG.cameras)
    assembler = ready_assembler(replace(RIG, cameras=cameras))
    info = camera_info()
    rectified_from_camera = turned(0.1)[:3, :3]
    info.r = rectified_from_camera.reshape(-1)
    assembler.on_camera_info("LEFT", info)
    send_tf(assembler, T0 - 60 * MS, T0 + 60 * MS)
    send_images(assembler, 0)
    (ready,) = drain(assembler, T0)
    left = next(camera for camera in assembler.frame(ready).cameras if camera.name == "LEFT")
    point = np.array([0.3, -0.2, 5.0])  # in the camera's own axes
    seen = rectified_from_camera @ point
    in_ego = (MOUNTS["LEFT"] @ np.append(point, 1))[:3]
    np.testing.assert_allclose((left.ego_from_camera @ np.append(seen, 1))[:3], in_ego, atol=1e-12)


def test_the_first_image_of_every_camera_after_a_loop_is_enough():
    assembler = ready_assembler()
    for start in (0, 10 * NS_PER_S, 20 * NS_PER_S):
        for k in range(20):
            send_tf(assembler, T0 + (k * 100 - 60) * MS, T0 + (k * 100 + 60) * MS)
            send_images(assembler, k, now=start + k * 100 * MS)
            (ready,) = drain(assembler, start + k * 100 * MS)  # before anything of the next instant
            assert ready.stamp_ns == T0 + k * 100 * MS
            assert (ready.reset is not None) == (start > 0 and k == 0)
    status = assembler.status(30 * NS_PER_S)
    assert sum(status.resets.values()) == 2 and not status.set_drops and not status.image_drops


PAN = model_config("pano_small_4f")
TRAINED = PAN.grid.ego_from_network.matrix


def with_lidar(lidar, name="lidar_top", rig=RIG, config=PAN, **options):
    """An assembler that has heard the mount of a LiDAR, and everything for one set."""
    assembler = FrameAssembler(rig, AssemblerOptions(tf_timeout_s=0.5), config=config, **options)
    assembler.on_transforms(static(), static=True)
    if lidar is not None:
        assembler.on_transforms(tf(("base_link", name, 0, lidar)), static=True)
    for camera in NAMES:
        assembler.on_camera_info(camera, camera_info(frame_id=camera.lower()))
    send_tf(assembler, T0 - 60 * MS, T0 + 160 * MS)
    send_images(assembler, 0, now=0)
    return assembler


def lidar_mount(shift_m=0.0, turn_deg=0.0):
    return TRAINED @ turned(np.radians(turn_deg), shift_m)


def test_the_network_frame_of_the_rig_goes_into_the_frame():
    lidar = lidar_mount(shift_m=0.04, turn_deg=0.5)
    assembler = with_lidar(lidar, rig=replace(RIG, network_frame="lidar_top"))
    (ready,) = drain(assembler, 0)
    np.testing.assert_allclose(assembler.frame(ready).ego_from_network, lidar, atol=1e-12)
    status = assembler.status(0)
    assert status.network_frame == "lidar_top" and not status.notices


@pytest.mark.parametrize("change", [{"shift_m": 0.06}, {"turn_deg": 1.3}])
def test_a_network_frame_that_the_weights_do_not_know_counts_and_is_told(change):
    assembler = with_lidar(lidar_mount(**change), rig=replace(RIG, network_frame="lidar_top"))
    (ready,) = drain(assembler, 0)
    np.testing.assert_allclose(ready.ego_from_network, lidar_mount(**change), atol=1e-12)
    (notice,) = assembler.status(0).of_kind("network_frame")
    apart = f"{change.get('shift_m', 0):.2f} m and {change.get('turn_deg', 0):.1f} degrees"
    assert f"lidar_top, lies {apart} from where pano_small_4f was trained to have it" in notice.text
    assert "is it a lidar_top?" in notice.text


def test_a_network_of_the_vehicle_s_frame_needs_none():
    config, rig = model_config("pano_small_occ3d"), replace(RIG, network_frame="lidar_top")
    assembler = with_lidar(TRAINED, rig=rig, config=config)
    assert len(drain(assembler, 0)) == 1
    (notice,) = assembler.status(0).of_kind("network_frame")
    assert "these weights know the vehicle's frame: name none" in notice.text


def test_a_network_frame_that_moves_is_waited_for():
    assembler = with_lidar(None, rig=replace(RIG, network_frame="lidar_top"))
    for stamp in (T0 - 100 * MS, T0 - 20 * MS):
        assembler.on_transforms(tf(("base_link", "lidar_top", stamp, lidar_mount())), static=False)
    assert drain(assembler, 100 * MS) == []
    assert "network_frame lidar_top: transform base_link <- lidar_top" in assembler.status(0).waiting_for
    assembler.on_transforms(tf(("base_link", "lidar_top", T0 + 20 * MS, lidar_mount(shift_m=0.04))), static=False)
    (ready,) = drain(assembler, 100 * MS)
    np.testing.assert_allclose(ready.ego_from_network, lidar_mount(shift_m=0.02), atol=1e-9)


@pytest.mark.parametrize("name", ["lidar_top", "LIDAR_TOP"])
def test_a_frame_that_could_be_the_networks_is_told_and_the_preset_counts(name):
    assembler = with_lidar(lidar_mount(turn_deg=1.3), name)
    (ready,) = drain(assembler, 0)
    assert ready.ego_from_network is None and assembler.frame(ready).ego_from_network is None
    status = assembler.status(0)
    (notice,) = status.of_kind("network_frame")
    assert f"the frame {name} lies 0.00 m and 1.3 degrees from where pano_small_4f takes it to be" in notice.text
    assert f"set network_frame to {name} in the rig file" in notice.text
    assert status.network_frame == "that of the model preset"
    assembler.on_transforms(tf(("base_link", name, 0, TRAINED)), static=True)
    send_images(assembler, 1, now=0)
    assert len(drain(assembler, 0)) == 1 and not assembler.status(0).notices


@pytest.mark.parametrize(
    ("lidar", "config"),
    [(lidar_mount(0.04, 0.9), PAN), (None, PAN), (lidar_mount(turn_deg=90), model_config("pano_small_occ3d"))],
    ids=["where it was trained", "no such frame", "a network of the vehicle's frame"],
)
def test_nothing_is_told_where_the_preset_fits(lidar, config):
    assembler = with_lidar(lidar, config=config)
    assert len(drain(assembler, 0)) == 1 and not assembler.status(0).notices


def test_a_network_frame_that_nobody_sends_costs_the_set_and_says_which_there_are():
    assembler = with_lidar(TRAINED, "lidar", rig=replace(RIG, network_frame="lidar_top"))
    assert drain(assembler, 499 * MS) == []
    assert "network_frame lidar_top: no transform" in assembler.status(0).waiting_for
    assert drain(assembler, 500 * MS) == []
    status = assembler.status(0)
    assert status.set_drops == {("tf_timeout", ""): 1} and status.tf_missing == status.last_drop
    assert "no transform has named the frame 'lidar_top'; known frames: base_link, front, left, lidar, " in (
        status.last_drop
    )
    assert "name one that there is as network_frame (--network-frame), or none" in status.last_drop
    assembler.on_transforms(tf(("base_link", "lidar_top", 0, TRAINED)), static=True)
    send_images(assembler, 1, now=600 * MS)
    assert len(drain(assembler, 600 * MS)) == 1 and assembler.status(0).tf_missing is None


def test_a_network_frame_that_hangs_elsewhere_is_named():
    assembler = with_lidar(None, rig=replace(RIG, network_frame="lidar_top"))
    assembler.on_transforms(tf(("trailer", "lidar_top", 0, TRAINED)), static=True)
    assembler.finish()
    text = assembler.status(0).last_drop
    assert "no transform joins 'base_link' and 'lidar_top'" in text and "or none, to take the preset's pose" in text


def test_the_network_frame_of_a_calibration_file_counts_before_the_rigs(tmp_path):
    path = tmp_path / "calibration.yaml"
    path.write_text("ego_from_network: {translation_m: [0.9, 0, 1.9], rotation_xyzw: [0, 0, 0, 1]}")
    assembler = with_lidar(None, rig=replace(RIG, network_frame="lidar_top"), calibration=load_calibration(path))
    (ready,) = drain(assembler, 0)
    np.testing.assert_allclose(ready.ego_from_network, rigid(np.eye(3), np.array([0.9, 0, 1.9])))
    (notice,) = assembler.status(0).of_kind("network_frame")
    assert assembler.status(0).network_frame == "that of the calibration file" and "that of the cal" in notice.text


def map_from_odom():
    return turned(0.3, 500.0, -20.0)


def of_map(assembler, *stamps):
    for stamp in stamps:
        assembler.on_transforms(tf(("map", "odom", stamp, map_from_odom())), static=False)


def with_map_frame(frame="map", **options):
    assembler = FrameAssembler(RIG, AssemblerOptions(**options), map_frame=frame)
    assembler.on_transforms(static(), static=True)
    for name in NAMES:
        assembler.on_camera_info(name, camera_info(frame_id=name.lower()))
    send_tf(assembler, T0 - 60 * MS, T0 + 500 * MS)
    return assembler


def test_a_set_brings_the_vehicles_pose_in_the_frame_of_maps():
    assembler = with_map_frame()
    of_map(assembler, T0 - 200 * MS, T0 + 200 * MS)  # dated ahead, as localisers do
    send_images(assembler, 0)
    (ready,) = drain(assembler, T0 + 60 * MS)
    np.testing.assert_allclose(ready.map_from_ego, map_from_odom() @ pose_at(T0), atol=2e-4)
    assert ready.map_problem is None and assembler.status(T0).of_kind("grid_frame") == ()
    assert drain_of(with_map_frame(""))[0].map_from_ego is None


def drain_of(assembler, now=T0 + 60 * MS):
    send_images(assembler, 0)
    return drain(assembler, now)


def test_a_set_waits_a_little_for_a_map_frame_that_is_late_and_then_goes_without():
    assembler = with_map_frame()
    of_map(assembler, T0 - 200 * MS, T0 - 100 * MS)
    send_images(assembler, 0, now=0)
    assert drain(assembler, 240 * MS) == [] and "grid_frame map: transform" in assembler.status(0).waiting_for
    (ready,) = drain(assembler, 250 * MS)
    assert ready.map_from_ego is None and "0.100 s after the newest sample" in ready.map_problem
    status = assembler.status(250 * MS)
    (notice,) = status.of_kind("grid_frame")
    assert notice.count == 1 and notice.text.startswith("~/grid_2d is not sent, grid_frame map: transform map <- odom")
    assert not status.set_drops and "--grid-frame" in notice.text
    of_map(assembler, T0 + 300 * MS)
    send_images(assembler, 1, now=300 * MS)
    (ready,) = drain(assembler, 300 * MS)
    assert ready.map_from_ego is not None and assembler.status(0).of_kind("grid_frame") == ()


def test_while_nobody_wants_the_map_no_set_waits_for_its_frame_and_nothing_is_said():
    assembler = with_map_frame()
    of_map(assembler, T0 - 200 * MS, T0 - 100 * MS)
    send_images(assembler, 0, now=0)
    ready = assembler.poll(0, wants_map=False)
    assert ready is not None and ready.map_from_ego is None and ready.map_problem is None
    assert assembler.status(0).of_kind("grid_frame") == ()


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        ("mapp", "no transform has named the frame 'mapp'; known frames: base_link, front, left, odom, right"),
        ("wall", "its z axis does not point up"),
    ],
)
def test_no_set_waits_for_a_map_frame_that_is_not_there_or_lies_on_its_side(frame, text):
    assembler = with_map_frame(frame)
    on_its_side = rigid(np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.zeros(3))
    assembler.on_transforms(tf(("odom", "wall", 0, on_its_side)), static=True)
    (ready,) = drain_of(assembler)
    assert ready.map_from_ego is None
    (notice,) = assembler.status(T0).of_kind("grid_frame")
    assert text in notice.text.replace("'wall', ", "").replace(", wall", "")


def test_a_camera_that_dies_keeps_its_lens():
    """So that the network's step keeps its form; a reset of the memory takes nothing from that."""
    stand_ins = StandIns("blank", 0)
    lens = LensModel("equidistant", (0.1, 0.0, 0.0, 0.0))
    image = torch.zeros(4, 6, 3, dtype=torch.uint8)
    good = CameraImage("LENSED", 0, image, np.eye(3), np.eye(4), np.eye(4), lens=lens)
    other = replace(good, name="OTHER", lens=None)

    def filled(decoded, reset=None):
        messages = SimpleNamespace(reused=())
        ready = SimpleNamespace(stamp_ns=0, reset=reset, messages=messages, world_from_ego=np.eye(4))
        cameras = stand_ins.fill(ready, ("LENSED", "OTHER"), {one.name: one for one in decoded})
        return [(camera.is_blank, camera.lens) for camera in cameras]

    assert filled([other]) == [(True, None), (False, None)]  # nobody knows it yet
    assert filled([good]) == [(False, lens), (True, None)]
    assert filled([other], reset="clock_jump") == [(True, lens), (False, None)]
