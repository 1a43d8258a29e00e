"""Which grid labels which cloud: stamps decide, clocks only end the waiting."""

import numpy as np
import pytest
import torch

from panoocc_core.geometry import rigid
from panoocc_core.labels import OCC3D
from panoocc_core.panoptic.labelling import PointRules
from panoocc_core.types import GridGeometry, HistoryReport, Occupancy
from panoocc_ros.messages.types import new_message
from panoocc_ros.streams.cloud_queue import CloudQueue
from panoocc_ros.streams.transforms import TransformBuffer
from test.ros.clouds import cloud, points
from test.ros.messages import MS

S = 1000 * MS
ROAD = OCC3D.names.index("driveable_surface")


def grid(stamp_ns, class_id=ROAD):
    shape = (4, 4, 4)
    return Occupancy(
        stamp_ns=stamp_ns,
        oldest_image_stamp_ns=stamp_ns,
        newest_image_stamp_ns=stamp_ns,
        class_id=torch.full(shape, class_id, dtype=torch.uint8),
        confidence=None,
        instance_id=None,
        geometry=GridGeometry(shape, (1.0, 1.0, 1.0), rigid(np.eye(3), np.array([-2.0, -2.0, -2.0]))),
        labels=OCC3D,
        cameras=(),
        history=HistoryReport(),
    )


def at(stamp_ns, frame_id="lidar", **fields):
    return cloud({axis: np.zeros(1) for axis in "xyz"}, stamp_ns=stamp_ns, frame_id=frame_id, **fields)


def buffer(until_ns=100 * S):
    """The vehicle goes 2 m/s ahead; a LiDAR is 1 m ahead of its middle."""
    transforms = TransformBuffer(keep_ns=1000 * S)
    transforms.set("base_link", "lidar", 0, rigid(np.eye(3), np.array([1.0, 0, 0])), static=True)
    for stamp in range(0, until_ns + 1, S // 2):
        transforms.set("odom", "base_link", stamp, rigid(np.eye(3), np.array([stamp / S * 2.0, 0, 0])))
    return transforms


def queue(transforms=None, max_age_s=0.5, wait_s=1.0, tf_wait_s=0.5, max_waiting=4):
    transforms = transforms or buffer()
    return CloudQueue(
        lambda frame, stamp: transforms.lookup("odom", frame, stamp),
        "base_link",
        max_age_s,
        wait_s,
        tf_wait_s,
        max_waiting,
    )


def chosen(pairs):
    return [pair.occupancy.stamp_ns for pair in pairs]


@pytest.mark.parametrize(("cloud_ns", "wanted_ns"), [(10.1 * S, 10 * S), (10.3 * S, 10.5 * S), (10.5 * S, 10.5 * S)])
@pytest.mark.parametrize("grid_first", [False, True])
def test_the_nearest_grid_labels_a_cloud_whichever_comes_first(cloud_ns, wanted_ns, grid_first):
    one = queue()
    one.add_grid(grid(10 * S))
    if grid_first:
        one.add_grid(grid(round(10.5 * S)))
    one.add_cloud(at(round(cloud_ns)), 0)
    if not grid_first:
        assert one.poll(999 * MS) == []
        one.add_grid(grid(round(10.5 * S)))
    assert chosen(one.poll(999 * MS)) == [wanted_ns]
    assert one.poll(2 * S) == [] and not one.counts.lost


def test_after_its_wait_a_cloud_takes_the_newest_grid_that_is_there():
    one = queue()
    one.add_grid(grid(10 * S))
    one.add_cloud(at(round(10.4 * S)), 50 * S)
    assert one.poll(round(50.99 * S)) == []
    assert chosen(one.poll(51 * S)) == [10 * S]


def test_without_a_wait_the_newest_grid_labels_at_once():
    one = queue(wait_s=0.0)
    one.add_grid(grid(10 * S))
    one.add_cloud(at(round(10.4 * S)), 50 * S)
    assert chosen(one.poll(50 * S)) == [10 * S]


def test_a_cloud_without_a_grid_in_time_is_lost_and_told_of():
    one = queue()
    one.add_cloud(at(5 * S), 0)
    assert one.poll(1 * S) == [] and one.counts.texts["no_grid"].endswith("none came yet")
    one.add_grid(grid(10 * S))
    for stamp in (round(9.4 * S), round(10.6 * S)):
        one.add_cloud(at(stamp), 2 * S)
    assert one.poll(4 * S) == [] and one.counts.lost == {"no_grid": 3}
    assert (
        one.counts.texts["no_grid"]
        == "the cloud at 10.600 s has no grid within 0.5 s: the nearest one is 0.600 s earlier"
    )


def test_a_cloud_of_another_clock_is_asked_for_it():
    one = queue()
    one.add_grid(grid(10_000 * S))
    one.add_cloud(at(5 * S), 0)
    assert one.poll(0) == [] and one.counts.texts["no_grid"].endswith(
        "later: are cloud and images stamped by one clock?"
    )


def test_the_motion_of_the_vehicle_between_cloud_and_grid_counts():
    one = queue()
    one.add_cloud(at(round(10.75 * S)), 0)
    one.add_grid(grid(11 * S))
    (pair,) = one.poll(0)
    np.testing.assert_allclose(pair.ego_from_cloud, rigid(np.eye(3), np.array([0.5, 0, 0])), atol=1e-9)  # 1 - 0.25 * 2


def test_a_cloud_waits_for_its_transforms_and_no_longer():
    transforms = buffer(until_ns=10 * S)
    one = queue(transforms)
    one.add_cloud(at(round(10.2 * S)), 0)
    one.add_cloud(at(round(10.2 * S), "elsewhere"), 0)
    one.add_grid(grid(round(10.3 * S)))
    assert one.poll(400 * MS) == [] and not one.counts.lost
    for stamp in (round(10.5 * S), 11 * S):
        transforms.set("odom", "base_link", stamp, np.eye(4))
    assert len(one.poll(499 * MS)) == 1
    assert one.poll(500 * MS) == [] and one.counts.lost == {"no_transform": 1}
    assert "no transform has named the frame 'elsewhere'; known frames: base_link" in one.counts.texts["no_transform"]


def test_a_time_before_all_transforms_is_not_waited_for():
    transforms = TransformBuffer()
    transforms.set("odom", "lidar", 20 * S, np.eye(4))
    transforms.set("odom", "lidar", 21 * S, np.eye(4))
    one = queue(transforms)
    one.add_cloud(at(10 * S), 0)
    one.add_grid(grid(10 * S))
    assert one.poll(0) == [] and one.counts.lost == {"no_transform": 1}


def test_what_waits_is_bounded_and_a_cloud_without_a_frame_is_refused():
    one = queue(max_waiting=2)
    for number in range(3):
        one.add_cloud(at(number * S), 0)
    one.add_cloud(at(0, frame_id=""), 0)
    assert one.counts.lost == {"queue_full": 1, "refused": 1} and one.counts.clouds == 4
    assert "frame_id is empty" in one.counts.texts["refused"]


def test_where_the_grids_begin_again_clouds_do_not_take_those_of_before():
    one = queue()
    one.add_grid(grid(10 * S))
    one.add_cloud(at(round(10.1 * S)), 0)
    assert chosen(one.add_grid(grid(1 * S))) == [10 * S]
    one.add_cloud(at(10 * S), 0)
    assert one.poll(S) == [] and "9.000 s earlier" in one.counts.texts["no_grid"]


def test_where_the_callers_clock_goes_back_nothing_waits_for_ever():
    one = queue()
    one.add_grid(grid(10 * S))
    one.add_cloud(at(round(10.1 * S)), 100 * S)
    assert chosen(one.poll(3 * S)) == [10 * S]


def test_labels_and_losses_are_counted():
    one = queue()
    fine = cloud({"x": [0, np.nan, 9], "y": [0, 0, 9], "z": [0, 0, 9]}, stamp_ns=10 * S)
    broken = at(10 * S)
    broken.width = 7
    for message in (fine, broken):
        one.add_cloud(message, 0)
    one.add_grid(grid(10 * S))
    out = [one.labelled(pair, PointRules(), new_message) for pair in one.poll(0)]
    assert points(out[0])["label"].tolist() == [[ROAD, 255, 255]] and out[1] is None
    counts = one.counts
    assert (counts.clouds, counts.labelled, counts.points, counts.unknown, counts.not_finite) == (2, 1, 3, 2, 1)
    assert counts.lost == {"refused": 1} and "data has 12 bytes" in counts.texts["refused"]
