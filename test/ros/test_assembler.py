"""Messages in, frames out: exact poses, nothing invented, a reason for everything that is lost."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from panoocc_core.geometry import NS_PER_S, rigid, rotation_angle_rad
from panoocc_ros.frames.assembler import AssemblerOptions, FrameAssembler, Refused
from panoocc_ros.frames.rig import Rig, RigCamera
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


def test_a_set_before_the_first_sample_is_hopeless_and_dropped_at_once():
    assembler = ready_assembler()
    send_tf(assembler, T0 + 20 * MS, T0 + 200 * MS)
    send_images(assembler, 0, now=0)
    assert drain(assembler, 0) == []
    assert assembler.status(0).set_drops == {("tf_too_early", ""): 1}


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
    assert assembler.finish() == []
    assert assembler.status(0).set_drops == {("tf_timeout", "FRONT"): 1}


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


def test_one_bad_image_is_refused_with_camera_and_topic_and_the_next_set_is_fine():
    assembler = ready_assembler()
    send_tf(assembler, T0 - 60 * MS, T0 + 200 * MS)
    for name in NAMES:
        stamp = T0 + OFFSETS_NS[name]
        message = jpeg(stamp, name.lower(), PICTURE)
        if name == "RIGHT":
            message.data = message.data[:200]
        assembler.on_image(name, message, stamp)
    send_images(assembler, 1)
    first, second = drain(assembler, T0 + 200 * MS)
    with pytest.raises(
        Refused, match="camera RIGHT: the JPEG is cut off.*topic /right/image_raw/compressed"
    ) as refused:
        assembler.frame(first)
    assert (refused.value.reason, refused.value.camera) == ("image", "RIGHT")
    assert assembler.status(0).set_drops == {("image", "RIGHT"): 1}
    assert assembler.frame(second).stamp_ns == T0 + 100 * MS


def test_an_uncalibrated_camera_is_refused_with_its_info_topic():
    assembler = ready_assembler()
    info = camera_info()
    info.k = np.zeros(9)
    assembler.on_camera_info("LEFT", info)
    send_tf(assembler, T0 - 60 * MS, T0 + 60 * MS)
    send_images(assembler, 0)
    (ready,) = drain(assembler, T0)
    with pytest.raises(Refused, match="camera LEFT: K is all zero.*topic /left/camera_info"):
        assembler.frame(ready)


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
    send_tf(assembler, T0 - 60 * MS, T0 + 60 * MS)
    assembler.clear("the operator said so")
    send_images(assembler, 0, now=0)
    assert drain(assembler, NS_PER_S) == []  # its transforms were cleared, too: dropped
    send_tf(assembler, T0 + 40 * MS, T0 + 260 * MS)
    send_images(assembler, 1, now=NS_PER_S)
    send_images(assembler, 2, now=NS_PER_S)
    assert [ready.reset for ready in drain(assembler, NS_PER_S)] == ["the operator said so", None]
    with pytest.raises(LookupError):
        FrameAssembler(RIG)._buffer.lookup("odom", "base_link", T0)


def test_a_dead_camera_is_named_and_blank_frames_go_on():
    assembler = ready_assembler(missing_camera="blank", camera_timeout_s=1.0)
    send_tf(assembler, T0 - 60 * MS, T0 + 3 * NS_PER_S)
    ready = []
    for k in range(25):
        send_images(assembler, k, names=("FRONT", "RIGHT"))
        ready += drain(assembler, T0 + k * 100 * MS + 50 * MS)
    assert len(ready) == 25
    assert assembler.status(T0 + 2500 * MS).silent == {"LEFT": None}
    assert list(assembler.status(T0 + 4 * NS_PER_S).silent) == list(NAMES)
    image = next(camera for camera in assembler.frame(ready[0]).cameras if camera.name == "LEFT")
    assert image.stamp_ns == T0 and not image.image.any() and tuple(image.image.shape) == (48, 64, 3)


def test_waiting_sets_are_bounded():
    assembler = ready_assembler(max_waiting=3, tf_timeout_s=10.0)
    for k in range(10):
        send_images(assembler, k, now=0)
    status = assembler.status(0)
    assert status.waiting == 3 and status.set_drops == {("queue_full", ""): 7}
    assert status.sets == 10 and status.images == dict.fromkeys(NAMES, 10)


def test_conflicting_transforms_are_reported():
    assembler = ready_assembler()
    assembler.on_transforms(tf(("odom", "base_link", T0, np.eye(4))), static=False)
    assembler.on_transforms(tf(("map", "base_link", T0, np.eye(4))), static=False)
    assert "two parents" in assembler.status(0).of_kind("refused")[0].text


def test_a_transform_of_the_old_time_that_straggles_in_is_no_second_jump():
    assembler = ready_assembler()
    send_tf(assembler, T0 - 60 * MS, T0 + 5 * NS_PER_S)
    for k in (40, 0):  # the second set is the jump
        send_images(assembler, k)
        drain(assembler, T0)
    send_tf(assembler, T0 + 5 * NS_PER_S, T0 + 5 * NS_PER_S)  # late, from before the jump
    send_tf(assembler, T0 - 60 * MS, T0 + 60 * MS)
    (ready,) = drain(assembler, T0)
    assert assembler.status(T0).resets == {"the stamps of the images went back": 1}
    np.testing.assert_allclose(ready.world_from_ego, pose_at(T0), atol=2e-4)


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
