"""The frame tree: interpolation agrees with the exponential map, and what is not known is never invented."""

import cv2
import numpy as np
import pytest

from panoocc_core.geometry import NS_PER_S, invert, rigid
from panoocc_ros.frames.transforms import (
    ConflictingTransform,
    NotConnected,
    TooEarly,
    TooLate,
    TransformBuffer,
    UnknownFrame,
)

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


def test_a_loop_of_frames_is_refused_instead_of_followed_for_ever():
    buffer = TransformBuffer()
    buffer.set("a", "b", 0, pose(), static=True)
    buffer.set("b", "a", 0, pose(), static=True)
    with pytest.raises(NotConnected, match="loop"):
        buffer.lookup("a", "b", 0)


def test_memory_is_bounded_by_time_and_by_number():
    buffer = TransformBuffer(keep_ns=NS_PER_S, max_samples=50)
    for k in range(1000):
        buffer.set("odom", "base_link", T0 + k * 10_000_000, pose(k))
    assert len(buffer._edges["base_link"].stamps_ns) == 50
    with pytest.raises(TooEarly):
        buffer.lookup("odom", "base_link", T0 + 949 * 10_000_000)
    assert buffer.lookup("odom", "base_link", T0 + 950 * 10_000_000)[0, 3] == 950
    with pytest.raises(ValueError, match="more than 2 frames"):
        small = TransformBuffer(max_frames=2)
        for k in range(3):
            small.set("world", f"thing_{k}", T0, pose())


def test_order_of_arrival_within_a_tenth_of_a_second_does_not_matter():
    stamps = [T0 + k * 20_000_000 for k in range(5)]
    ordered, shuffled = TransformBuffer(), TransformBuffer()
    for k in range(5):
        ordered.set("odom", "base_link", stamps[k], pose(k * k, turn=(0, 0, 0.1 * k)))
    for k in (0, 2, 1, 4, 3):
        assert not shuffled.set("odom", "base_link", stamps[k], pose(k * k, turn=(0, 0, 0.1 * k)))
    for t in range(T0, stamps[-1], 7_000_001):
        np.testing.assert_array_equal(ordered.lookup("odom", "base_link", t), shuffled.lookup("odom", "base_link", t))


def test_a_clock_that_goes_back_restarts_the_edge_and_says_so():
    buffer = TransformBuffer()
    buffer.set("odom", "base_link", T0 + NS_PER_S, pose(9))
    assert buffer.set("odom", "base_link", T0, pose(1))
    with pytest.raises(TooLate):  # the old sample must not serve as the end of a new interval
        buffer.lookup("odom", "base_link", T0 + NS_PER_S // 2)


def test_a_repeated_stamp_keeps_the_first_sample():
    buffer = TransformBuffer()
    buffer.set("odom", "base_link", T0, pose(1))
    assert not buffer.set("odom", "base_link", T0, pose(2))
    assert buffer.lookup("odom", "base_link", T0)[0, 3] == 1


def test_two_senders_with_different_parents_are_refused_until_the_old_one_is_stale():
    buffer = TransformBuffer(keep_ns=NS_PER_S)
    buffer.set("odom", "base_link", T0, pose())
    with pytest.raises(ConflictingTransform, match="'base_link' has two parents, 'odom' and 'map'"):
        buffer.set("map", "base_link", T0 + NS_PER_S, pose())
    buffer.set("map", "base_link", T0 + NS_PER_S + 1, pose())
    assert buffer.ancestors("base_link") == ["base_link", "map"]
    buffer.set("base_link", "camera", 0, pose(), static=True)
    with pytest.raises(ConflictingTransform, match="fixed .* and moving"):
        buffer.set("base_link", "camera", T0, pose())


def test_clear_keeps_what_is_fixed_only():
    buffer = TransformBuffer()
    buffer.set("odom", "base_link", T0, pose())
    buffer.set("base_link", "camera", 0, pose(2), static=True)
    buffer.clear()
    assert buffer.lookup("base_link", "camera", T0)[0, 3] == 2
    assert buffer.newest_ns("base_link") is None
    with pytest.raises(UnknownFrame):
        buffer.lookup("odom", "base_link", T0)


def test_matrices_that_are_not_rigid_and_odd_names_are_refused():
    buffer = TransformBuffer()
    with pytest.raises(ValueError, match="odom <- base_link is not a rigid"):
        buffer.set("odom", "base_link", T0, np.diag([2.0, 1, 1, 1]))
    with pytest.raises(ValueError, match="not finite"):
        buffer.set("odom", "base_link", T0, pose(np.nan))
    for parent, child in (("", "b"), ("a", ""), ("a", "/a")):
        with pytest.raises(ValueError, match="two different names"):
            buffer.set(parent, child, T0, pose())
