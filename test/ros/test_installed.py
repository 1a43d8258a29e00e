"""Packages of an installed ROS in place of our own code: they agree where both can run, and their absence is told."""

import sys

import numpy as np
import pytest

from panoocc_core.cameras.image_bytes import ImageError
from panoocc_core.geometry import NS_PER_S
from panoocc_ros.frames.assembler import FrameAssembler
from panoocc_ros.frames.images import ENCODINGS, decode
from panoocc_ros.frames.waiting import AssemblerOptions
from panoocc_ros.installed.approximate import ApproximateSynchroniser
from panoocc_ros.installed.tf2_transforms import MAX_SURPLUS, Tf2Transforms
from panoocc_ros.messages.fields import fill_header
from panoocc_ros.ros.parameter_fields import SettingsError
from panoocc_ros.streams.edge import TooEarly, TooLate
from panoocc_ros.streams.synchroniser import Synchroniser
from panoocc_ros.streams.transforms import NotConnected, TransformBuffer, UnknownFrame
from test.ros.messages import MS, SIZE_HW, picture, raw_image
from test.ros.test_assembler import (
    NAMES,
    OFFSETS_NS,
    RIG,
    T0,
    play,
    pose_at,
    ready_assembler,
    send_images,
    send_tf,
    timeline,
    turned,
)

CAMERAS = ("front", "left", "right", "back")
SPREAD_NS, PERIOD_NS = 40 * MS, 100 * MS
LIMITS = {"silent_ns": 2 * NS_PER_S, "depth": 16}


@pytest.fixture
def message_filters():
    """ROS 2's package; its wheels lack it."""
    return pytest.importorskip("message_filters", reason="message_filters is not installed (its wheels lack it)")


@pytest.fixture
def tf2_ros():
    """ROS 2's package; its wheels lack it."""
    return pytest.importorskip("tf2_ros", reason="tf2_ros is not installed (its wheels lack it)")


def stamps(random, count, jitter_ms):
    """(camera, stamp) in the order of arrival; every camera with an offset of its own."""
    offsets = dict(zip(CAMERAS, (0, 8 * MS, -12 * MS, 15 * MS)))
    taken = [
        (camera, T0 + k * PERIOD_NS + offsets[camera] + int(random.uniform(-jitter_ms, jitter_ms) * MS))
        for k in range(count)
        for camera in CAMERAS
    ]
    return sorted(taken, key=lambda item: item[1] + random.uniform(0, 30 * MS))


def sets_of(synchroniser, arrivals):
    found = [one for camera, stamp in arrivals for one in synchroniser.add(camera, stamp, (camera, stamp), stamp)]
    return [*found, *synchroniser.flush()]


@pytest.mark.parametrize("jitter_ms", [0, 3])
def test_message_filters_makes_the_sets_that_our_synchroniser_makes(message_filters, jitter_ms):
    arrivals = stamps(np.random.default_rng(1), 60, jitter_ms)
    ours = sets_of(Synchroniser(CAMERAS, "front", SPREAD_NS, **LIMITS), arrivals)
    theirs = sets_of(ApproximateSynchroniser(CAMERAS, "front", SPREAD_NS, **LIMITS), arrivals)
    assert len(theirs) == 60 and [one.stamps_ns for one in theirs] == [one.stamps_ns for one in ours]
    assert all(one.messages[camera] == (camera, one.stamps_ns[camera]) for one in theirs for camera in CAMERAS)
    assert [one.stamp_ns for one in theirs] == [one.stamps_ns["front"] for one in theirs]


def test_with_a_camera_missing_message_filters_makes_no_set_and_the_images_are_counted(message_filters):
    synchroniser = ApproximateSynchroniser(CAMERAS, "front", SPREAD_NS, **LIMITS)
    arrivals = [item for item in stamps(np.random.default_rng(2), 40, 0) if item[0] != "back"]
    found = [one for camera, stamp in arrivals for one in synchroniser.add(camera, stamp, None, stamp)]
    assert found == [] and synchroniser.awaited == ["back"] and synchroniser.undecided == 16
    assert synchroniser.flush() == []
    dropped = synchroniser.images_dropped
    assert dropped["queue_full", "front"] == 24 and dropped["unmatched", "front"] == 16
    newest_ns = max(stamp for camera, stamp in arrivals if camera == "front")
    synchroniser.add("front", newest_ns, None, 0)
    assert dropped["duplicate", "front"] == 1 and synchroniser.undecided == 0


def test_a_clock_that_goes_back_is_one_restart_of_message_filters(message_filters):
    synchroniser = ApproximateSynchroniser(CAMERAS, "front", SPREAD_NS, **LIMITS)
    arrivals = stamps(np.random.default_rng(3), 50, 0)
    found = [one for pair in (*arrivals, *arrivals) for one in synchroniser.add(*pair, None, 0)]
    assert synchroniser.restarts == 1 and len(found) == 100


@pytest.mark.parametrize("wrong_ns", [0, T0 - 3 * NS_PER_S])
def test_one_wrong_stamp_costs_message_filters_one_set(message_filters, wrong_ns):
    """As with our own synchroniser the clock goes back only where it does for most cameras."""
    arrivals = stamps(np.random.default_rng(5), 40, 0)
    at = next(k for k, (camera, _) in enumerate(arrivals) if k > 80 and camera == "left")
    arrivals[at] = ("left", wrong_ns)
    for kind in (Synchroniser, ApproximateSynchroniser):
        synchroniser = kind(CAMERAS, "front", SPREAD_NS, **LIMITS)
        assert len(sets_of(synchroniser, arrivals)) == 39 and synchroniser.restarts == 0


def test_one_camera_whose_clock_goes_back_by_itself_takes_no_sets_from_the_others(message_filters):
    arrivals = stamps(np.random.default_rng(6), 60, 0)
    synchroniser = ApproximateSynchroniser(CAMERAS, "front", SPREAD_NS, **LIMITS)
    first, last = arrivals[:120], [(camera, ns - (camera == "left") * NS_PER_S) for camera, ns in arrivals[120:]]
    assert len(sets_of(synchroniser, [*first, *last])) < 60 and synchroniser.restarts == 0
    again = [(camera, ns + 6 * NS_PER_S) for camera, ns in arrivals]
    assert len(sets_of(synchroniser, again)) == 60


def test_the_assembler_goes_by_message_filters_and_begins_anew_with_the_clock(message_filters):
    """The poses are those of every shutter, whoever made the set; a loop of the bag is one reset."""
    assembler = ready_assembler(sync_policy="approximate")
    ready = play(assembler, [*timeline(30), *timeline(30, start=3150 * MS)])
    status = assembler.status(7 * NS_PER_S)
    assert (
        status.resets.total() == 1 and len(ready) >= 56 and [one.reset for one in ready].count(None) == len(ready) - 1
    )
    for one in ready:
        np.testing.assert_allclose(one.world_from_ego, pose_at(one.stamp_ns), atol=2e-4)


def test_an_absent_package_is_refused_with_what_to_do(monkeypatch):
    for module in ("message_filters", "tf2_ros", "cv_bridge"):
        monkeypatch.setitem(sys.modules, module, None)
    for options, text in (
        ({"sync_policy": "approximate"}, "sync_policy: message_filters cannot be imported .*: install ros-.*, or set"),
        ({"transform_source": "tf2"}, "transform_source: tf2_ros cannot be imported .*: install ros-.*, or set"),
    ):
        with pytest.raises(SettingsError, match=text):
            FrameAssembler(RIG, AssemblerOptions(**options))
    with pytest.raises(ImageError, match=r"encoding 'rgb48' is not known; known are .* \(cv_bridge knows more"):
        decode(raw_image("rgb48", np.zeros((2, 2, 6), np.uint8), 2, 2, 12))


def test_an_encoding_that_our_table_lacks_is_decoded_by_cv_bridge_and_told_with_its_camera(monkeypatch):
    pytest.importorskip("cv_bridge", reason="cv_bridge is not installed (wheels lack it)")
    monkeypatch.delitem(ENCODINGS, "rgb8")
    assembler = ready_assembler()
    send_tf(assembler, T0 - 200 * MS, T0 + 200 * MS)
    for name in NAMES:
        image = raw_image("rgb8", picture(), *SIZE_HW, step=3 * SIZE_HW[1])
        fill_header(image.header, T0 + OFFSETS_NS[name], name.lower())
        assembler.on_image(name, image, T0)
    frame = assembler.frame(assembler.poll(T0 + 200 * MS))
    assert np.array_equal(frame.cameras[0].image.numpy(), picture())
    assert assembler.status(T0).converted == dict.fromkeys(NAMES, "rgb8")


def both(tf2_ros):
    return TransformBuffer(), Tf2Transforms()


def fill(buffers, count=50, step_ns=20 * MS):
    for buffer in buffers:
        for k in range(count):
            buffer.set("odom", "base_link", T0 + k * step_ns, pose_at(T0 + k * step_ns))
        buffer.set("base_link", "camera", 0, turned(0.7, 1.0, 0.2), static=True)
        buffer.set("map", "odom", T0, turned(0.1, 5.0, 1.0))


def test_tf2_answers_as_our_own_tree_does(tf2_ros):
    ours, theirs = both(tf2_ros)
    fill((ours, theirs))
    random = np.random.default_rng(4)
    for stamp_ns in random.integers(T0, T0 + 49 * 20 * MS, 300).tolist():
        for target, source in (("odom", "camera"), ("camera", "odom"), ("odom", "base_link")):
            one, other = (buffer.lookup(target, source, stamp_ns) for buffer in (ours, theirs))
            np.testing.assert_allclose(other, one, atol=1e-9)


@pytest.mark.parametrize(
    ("target", "source", "stamp_ns", "error"),
    [
        ("odom", "camera", T0 - 1, TooEarly),
        ("odom", "camera", T0 + 50 * 20 * MS, TooLate),
        ("odom", "nowhere", T0, UnknownFrame),
        ("odom", "island", T0, NotConnected),
    ],
)
def test_tf2_fails_where_our_own_tree_fails_and_with_its_words(tf2_ros, target, source, stamp_ns, error):
    ours, theirs = both(tf2_ros)
    fill((ours, theirs))
    for buffer in (ours, theirs):
        buffer.set("sea", "island", T0, np.eye(4), static=True)
        with pytest.raises(error):
            buffer.lookup(target, source, stamp_ns)


def test_after_a_restart_tf2_knows_what_came_since_and_what_is_fixed(tf2_ros):
    ours, theirs = both(tf2_ros)
    fill((ours, theirs))
    for buffer in (ours, theirs):
        for k in range(5):
            buffer.set("odom", "base_link", T0 - 5 * NS_PER_S + k * 20 * MS, pose_at(T0))
        buffer.restart()
        with pytest.raises(TooLate):
            buffer.lookup("odom", "camera", T0)
    stamp_ns = T0 - 5 * NS_PER_S + 30 * MS
    np.testing.assert_allclose(theirs.lookup("odom", "camera", stamp_ns), ours.lookup("odom", "camera", stamp_ns))


def test_what_our_own_tree_refuses_never_reaches_tf2(tf2_ros):
    ours, theirs = both(tf2_ros)
    fill((ours, theirs))
    for buffer in (ours, theirs):
        buffer.set("odom", "base_link", T0 + NS_PER_S + 60 * NS_PER_S, turned(1.0, 99.0, 99.0))  # one wrong stamp
        assert buffer.counts["too_far_ahead"] == 1
    stamp_ns = T0 + 500 * MS  # tf2 alone would have forgotten it for the newer one
    np.testing.assert_allclose(theirs.lookup("odom", "camera", stamp_ns), ours.lookup("odom", "camera", stamp_ns))
    for k in range(61, 66):  # it was not wrong: another time begins, the samples before the third among it
        for buffer in (ours, theirs):
            buffer.set("odom", "base_link", T0 + k * NS_PER_S, pose_at(T0 + k * NS_PER_S))
    stamp_ns = T0 + 61_500 * MS
    np.testing.assert_allclose(theirs.lookup("odom", "base_link", stamp_ns), ours.lookup("odom", "base_link", stamp_ns))


def test_with_tf2_contradicting_senders_are_told(tf2_ros):
    ours, theirs = both(tf2_ros)
    texts = []
    for buffer in (ours, theirs):
        fill((buffer,))
        buffer.lookup("odom", "camera", T0 + 100 * MS)  # who uses the frame is told of its senders
        poses = [(T0 + k * 20 * MS, turned(0.0, 50.0 * (k % 2), 0.0)) for k in range(50, 90)]
        texts.append([buffer.set("odom", "base_link", *pose) for pose in poses][-1])
    assert "jumps to and fro: two senders contradict each other" in texts[0] and texts[1] == texts[0]


def test_tf2_holds_little_more_than_our_own_tree(tf2_ros):
    _, buffer = both(tf2_ros)
    fill((buffer,))
    buffer.max_frames, buffer.max_samples = 100, 60  # of the tree that there is
    expected = buffer.lookup("odom", "camera", T0 + 100 * MS)
    for k in range(4000):
        buffer.set("sea", f"drop_{k}", T0, np.eye(4))
    assert buffer.counts["forgotten"] > 3800
    assert buffer._tf2.all_frames_as_yaml().count("parent") <= 100 + MAX_SURPLUS
    np.testing.assert_allclose(buffer.lookup("odom", "camera", T0 + 100 * MS), expected)


def test_sets_by_tf2_have_the_poses_that_our_own_tree_gives(tf2_ros):
    ready = []
    for source in ("own", "tf2"):
        assembler = ready_assembler(transform_source=source)
        send_tf(assembler, T0 - 200 * MS, T0 + 200 * MS)
        send_images(assembler, 0, T0)
        ready.append(assembler.poll(T0 + 200 * MS))
    for name, pose in ready[0].poses.items():
        np.testing.assert_allclose(ready[1].poses[name].world_from_ego, pose.world_from_ego, atol=1e-9)
        np.testing.assert_allclose(ready[1].poses[name].ego_from_camera, pose.ego_from_camera, atol=1e-9)
