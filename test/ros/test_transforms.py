"""The frame tree: interpolation agrees with the exponential map, and what is not known is never invented."""

import time
from contextlib import nullcontext

import cv2
import numpy as np
import pytest

from panoocc_core.geometry import NS_PER_S, invert, rigid
from panoocc_ros.streams.edge import TooEarly, TooLate, TransformError
from panoocc_ros.streams.transforms import ConflictingTransform, NotConnected, TransformBuffer, UnknownFrame

MS = 1_000_000
T0 = 1_533_151_603_512_404_000  # a real epoch stamp: float seconds cannot hold its nanoseconds


def pose(x=0.0, y=0.0, z=0.0, turn=(0.0, 0.0, 0.0)):
    return rigid(cv2.Rodrigues(np.array(turn))[0], np.array([x, y, z]))


def test_rotation_between_samples_is_the_exponential_map_of_the_ratio():
    random = np.random.default_rng(3)
    for _ in range(200):
        start, step = random.normal(size=3), random.normal(size=3)
        step *= random.uniform(0.01, 3.0) / np.linalg.norm(step)  # up to nearly half a turn
        first, turn = cv2.Rodrigues(start)[0], cv2.Rodrigues(step)[0]
        buffer = TransformBuffer()
        buffer.set("odom", "base_link", T0, rigid(first, np.zeros(3)))
        buffer.set("odom", "base_link", T0 + 100_000_000, rigid(first @ turn, np.array([10.0, 0, 0])))
        for part in (1, 37, 50, 99):
            found = buffer.lookup("odom", "base_link", T0 + part * 1_000_000)
            expected = first @ cv2.Rodrigues(step * part / 100)[0]
            np.testing.assert_allclose(found[:3, :3], expected, atol=1e-9)
            np.testing.assert_allclose(found[:3, 3], [part / 10, 0, 0], atol=1e-9)


def test_a_sample_is_returned_at_its_own_stamp_even_when_it_is_the_only_one():
    buffer = TransformBuffer()
    buffer.set("map", "base_link", T0, pose(1, 2, 3))
    np.testing.assert_array_equal(buffer.lookup("map", "base_link", T0), pose(1, 2, 3))


@pytest.mark.parametrize(("offset_ns", "error"), [(-1, TooEarly), (NS_PER_S + 1, TooLate)])
def test_nothing_is_extrapolated_by_even_one_nanosecond(offset_ns, error):
    buffer = TransformBuffer()
    buffer.set("map", "base_link", T0, pose())
    buffer.set("map", "base_link", T0 + NS_PER_S, pose(5))
    with pytest.raises(error, match=r"map <- base_link: \d+ ns is 0.000 s"):
        buffer.lookup("map", "base_link", T0 + offset_ns)


def test_chains_go_up_and_down_the_tree():
    buffer = TransformBuffer()
    map_from_odom, odom_from_base = pose(100, turn=(0, 0, 1.0)), pose(3, 4, turn=(0, 0, -0.4))
    base_from_camera, base_from_lidar = pose(1.7, 0, 1.5, (-1.5, 0.2, 0)), pose(0.9, 0, 1.8)
    buffer.set("map", "odom", T0, map_from_odom)
    buffer.set("odom", "base_link", T0, odom_from_base)
    buffer.set("base_link", "camera", 0, base_from_camera, static=True)
    buffer.set("/base_link", "/lidar", 0, base_from_lidar, static=True)  # ROS 1 spelling of the same frames
    np.testing.assert_allclose(
        buffer.lookup("map", "camera", T0), map_from_odom @ odom_from_base @ base_from_camera, atol=1e-12
    )
    np.testing.assert_allclose(
        buffer.lookup("camera", "lidar", T0 + 5), invert(base_from_camera) @ base_from_lidar, atol=1e-12
    )
    np.testing.assert_allclose(
        buffer.lookup("camera", "odom", T0), invert(odom_from_base @ base_from_camera), atol=1e-12
    )
    np.testing.assert_array_equal(buffer.lookup("lidar", "lidar", 7), np.eye(4))
    assert buffer.ancestors("camera") == ["camera", "base_link", "odom", "map"]
    assert buffer.is_moving("base_link") and not buffer.is_moving("camera") and not buffer.is_moving("map")


def test_unknown_and_unconnected_frames_are_told_apart_and_named():
    buffer = TransformBuffer()
    buffer.set("base_link", "camera", 0, pose(), static=True)
    buffer.set("world", "drone", 0, pose(), static=True)
    with pytest.raises(UnknownFrame, match="'camera_front'.*known frames: base_link, camera, drone, world"):
        buffer.lookup("base_link", "camera_front", T0)
    with pytest.raises(NotConnected, match="'world' and 'camera'.*'world' and 'base_link'"):
        buffer.lookup("world", "camera", T0)


def test_memory_is_bounded_by_time_and_by_number():
    buffer = TransformBuffer(keep_ns=NS_PER_S, max_samples=50)
    for k in range(1000):
        buffer.set("odom", "base_link", T0 + k * 10_000_000, pose(k))
    with pytest.raises(TooEarly):
        buffer.lookup("odom", "base_link", T0 + 949 * 10_000_000)
    assert buffer.lookup("odom", "base_link", T0 + 950 * 10_000_000)[0, 3] == 950
    with pytest.raises(ValueError, match="more than 2 frames"):
        small = TransformBuffer(max_frames=2)
        for k in range(3):
            small.set("world", f"thing_{k}", T0, pose())


def test_late_samples_are_filed_where_they_belong():
    stamps = [T0 + k * 20_000_000 for k in range(50)]
    ordered, shuffled = TransformBuffer(), TransformBuffer()
    for k in range(50):
        ordered.set("odom", "base_link", stamps[k], pose(0.1 * k, turn=(0, 0, 0.1 * k)))
    for k in np.random.default_rng(0).permutation(50):
        shuffled.set("odom", "base_link", stamps[k], pose(0.1 * k, turn=(0, 0, 0.1 * k)))
    for t in range(T0, stamps[-1], 7_000_001):
        np.testing.assert_array_equal(ordered.lookup("odom", "base_link", t), shuffled.lookup("odom", "base_link", t))
    assert shuffled.counts["late"] > 20 and not ordered.counts


def test_what_is_older_than_the_time_that_is_kept_is_ignored_and_counted():
    buffer = TransformBuffer(keep_ns=NS_PER_S)
    buffer.set("odom", "base_link", T0, pose(9))
    buffer.set("odom", "base_link", T0 - NS_PER_S - 1, pose(1))
    assert buffer.counts == {"too_old": 1}
    with pytest.raises(TooEarly):
        buffer.lookup("odom", "base_link", T0 - NS_PER_S // 2)


def test_after_a_restart_only_what_came_since_counts():
    buffer = TransformBuffer()
    for k in range(100):
        buffer.set("odom", "base_link", T0 + k * 20 * MS, pose(k))
        buffer.set("base_link", "arm", T0 + k * 20 * MS, pose(k))
    for k in range(3):
        buffer.set("odom", "base_link", T0 - 1000 * MS + k * 20 * MS, pose(-k))
    buffer.restart()
    assert buffer.lookup("odom", "base_link", T0 - 970 * MS)[0, 3] == -1.5
    with pytest.raises(TooLate):  # the old sample must not serve as the end of a new interval
        buffer.lookup("odom", "base_link", T0)
    with pytest.raises(TransformError):
        buffer.lookup("base_link", "arm", T0)
    buffer.set("odom", "base_link", T0 + 2000 * MS, pose(100))  # straggles in from the time before
    buffer.set("base_link", "arm", T0 + 2000 * MS, pose(100))
    assert buffer.counts["clock_back"] == 2 and buffer.newest_ns("base_link") == T0 - 960 * MS
    buffer.set("base_link", "arm", T0 - 970 * MS, pose(7))
    assert buffer.lookup("base_link", "arm", T0 - 970 * MS)[0, 3] == 7


def test_a_repeated_stamp_keeps_the_first_sample():
    buffer = TransformBuffer()
    buffer.set("odom", "base_link", T0, pose(1))
    buffer.set("odom", "base_link", T0, pose(2))
    assert buffer.counts == {"repeated": 1}
    assert buffer.lookup("odom", "base_link", T0)[0, 3] == 1


def test_the_last_sender_gives_a_frame_its_parent_and_two_in_turn_are_named():
    buffer = TransformBuffer()
    assert buffer.set("odom", "base_link", T0, pose()) is None
    assert buffer.set("map", "base_link", T0, pose()) is None  # as in tf2
    assert buffer.ancestors("base_link") == ["base_link", "map"]
    texts = [buffer.set(p, "base_link", T0 + k * MS, pose()) for k in range(1, 20) for p in ("odom", "map")]
    assert texts[0] is None and "'base_link' has several parents in turn: odom <- base_link (moving), map" in texts[-1]
    assert buffer.lookup("map", "base_link", T0 + 10 * MS)[0, 3] == 0  # neither lost its samples
    texts = [buffer.set("odom", "base_link", T0 + k * MS, pose()) for k in range(20, 120)]
    assert texts[-1] is None  # the other one has stopped
    assert buffer.ancestors("base_link") == ["base_link", "odom"]


def test_two_senders_whose_poses_differ_are_named_and_one_jump_or_outlier_is_not():
    def texts(xs):
        buffer = TransformBuffer()
        return [buffer.set("odom", "base_link", T0 + k * 20 * MS, pose(x)) for k, x in enumerate(xs)]

    both = texts([0.2 * k + (50 if k % 2 else 0) for k in range(60)])
    assert "odom <- base_link jumps to and fro" in both[-1]
    assert "jumps to and fro" in texts([0.2 * k + (0 if k % 10 else 50) for k in range(60)])[-1]
    assert not any(texts([0.2 * k + (50 if k > 30 else 0) for k in range(60)]))
    assert not any(texts([0.2 * k + (50 if k == 30 else 0) for k in range(60)]))
    assert not any(texts([0.6 * k + 0.001 * k * k for k in range(300)]))  # 30 m/s and 5 m/s2


def test_one_inverse_message_does_not_close_a_loop():
    for mistake_first in (True, False):
        buffer = TransformBuffer()
        buffer.set("base_link", "camera", 0, pose(2), static=True)
        if mistake_first:
            buffer.set("base_link", "odom", T0, pose())
        refused = 0
        for k in range(100):
            try:
                buffer.set("odom", "base_link", T0 + k * 20 * MS, pose(k))
                if k == 50 and not mistake_first:
                    buffer.set("base_link", "odom", T0 + k * 20 * MS, pose())
            except ConflictingTransform as error:
                assert "closes a loop" in str(error)
                refused += 1
        assert refused <= 2
        assert buffer.lookup("odom", "camera", T0 + 1970 * MS)[0, 3] == 98.5 + 2
        assert buffer.ancestors("camera") == ["camera", "base_link", "odom"]


def test_a_fixed_inverse_edge_gives_way_to_a_live_one_and_comes_back_in_no_loop():
    buffer = TransformBuffer()
    buffer.set("base_link", "odom", 0, pose(), static=True)
    for k in range(5):
        try:
            buffer.set("odom", "base_link", T0 + k * 20 * MS, pose(k))
        except ConflictingTransform:
            assert k < 2
    assert buffer.lookup("odom", "base_link", T0 + 70 * MS)[0, 3] == 3.5
    with pytest.raises(ConflictingTransform, match="closes a loop"):
        buffer.set("base_link", "odom", 0, pose(), static=True)
    assert buffer.ancestors("base_link") == ["base_link", "odom"]


def test_two_live_senders_that_close_a_loop_leave_the_first_one():
    buffer = TransformBuffer()
    for k in range(100):
        buffer.set("odom", "base_link", T0 + k * 20 * MS, pose(k))
        with pytest.raises(ConflictingTransform, match="base_link <- odom closes a loop: odom <- base_link"):
            buffer.set("base_link", "odom", T0 + k * 20 * MS, pose())
    assert buffer.lookup("odom", "base_link", T0 + 1980 * MS)[0, 3] == 99


def test_a_stray_moving_message_does_not_take_a_mount_away_for_ever():
    buffer = TransformBuffer()
    buffer.set("odom", "base_link", T0, pose())
    buffer.set("base_link", "camera", 0, pose(2), static=True)
    for parent in ("base_link", "odom"):
        with pytest.raises(ConflictingTransform, match="'camera' is fixed .base_link <- camera., now sent as moving"):
            buffer.set(parent, "camera", T0, pose(3))
    assert buffer.lookup("base_link", "camera", T0)[0, 3] == 2
    for k in range(1, 5):  # no stray message any more, as in tf2
        with pytest.raises(ConflictingTransform) if k < 2 else nullcontext():
            buffer.set("base_link", "camera", T0 + k * MS, pose(3))
    assert buffer.lookup("base_link", "camera", T0 + 3 * MS)[0, 3] == 3
    assert buffer.lookup("base_link", "camera", T0 + 4 * NS_PER_S)[0, 3] == 2  # it has fallen silent


def test_texts_say_why_a_frame_is_unknown():
    buffer = TransformBuffer()
    buffer.set("odom", "base_link", T0, pose())
    buffer.refuse("/camera", "the transform base_link <- camera was refused: it has a quaternion of length 0")
    with pytest.raises(UnknownFrame, match="'camera'; the transform base_link <- camera was refused.*length 0; known"):
        buffer.lookup("base_link", "camera", T0)
    buffer.set("base_link", "camera", 0, pose(), static=True)
    with pytest.raises(TransformError) as error:
        buffer.lookup("odom", "camera", T0 + MS)
    assert "refused" not in str(error.value)


def test_endless_names_and_many_frames_cost_little():
    buffer = TransformBuffer(max_frames=3000)
    with pytest.raises(ValueError, match="'xxx.*has 1000000 characters, more than 256") as error:
        buffer.set("odom", "x" * 10**6, T0, pose())
    assert len(str(error.value)) < 200
    for k in range(3000):
        buffer.set("world", f"thing_{k}_{'y' * 200}", T0, pose())
    with pytest.raises(UnknownFrame) as unknown:
        buffer.lookup("odom", "z" * 10**6, T0)
    assert len(str(unknown.value)) < 1500 and str(unknown.value).endswith("...")
    begin_s = time.perf_counter()
    for _ in range(200):
        with pytest.raises(UnknownFrame):
            buffer.lookup("odom", "camera", T0)
    assert time.perf_counter() - begin_s < 1.0  # 3000 names sorted each time take longer


def test_matrices_that_are_not_rigid_and_odd_names_are_refused():
    buffer = TransformBuffer()
    with pytest.raises(ValueError, match="odom <- base_link is not a rigid"):
        buffer.set("odom", "base_link", T0, np.diag([2.0, 1, 1, 1]))
    with pytest.raises(ValueError, match="not finite"):
        buffer.set("odom", "base_link", T0, pose(np.nan))
    with pytest.raises(ValueError, match="is no place"):
        buffer.set("odom", "base_link", T0, pose(1e308))
    for parent, child in (("", "b"), ("a", ""), ("a", "/a")):
        with pytest.raises(ValueError, match="two different names"):
            buffer.set(parent, child, T0, pose())
