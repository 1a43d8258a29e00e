"""Confusion and IoU against hand-worked cases and plain loops."""

import math
import time

import numpy as np
import pytest

from panoocc_core.geometry import rigid
from panoocc_core.labels import LIDARSEG, OCC3D, label_set
from panoocc_core.metrics import Confusion, DistanceConfusion, distance_bins
from panoocc_core.types import GridGeometry

from .conftest import heading

THREE = label_set("three", ("car", "terrain", "free"))


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)


def random_case(seed: int, class_count: int, shape=(9, 7, 5)):
    draw = np.random.Generator(np.random.PCG64(seed))
    predicted, true = draw.integers(0, class_count, (2, *shape), dtype=np.uint8)
    return predicted, true, draw.random(shape) < 0.6, draw.integers(0, 3, shape, dtype=np.uint8)


def test_a_case_worked_by_hand():
    #            car TP, car FN, car FP, terrain TP twice, free TP, masked
    true = ids(0, 0, 2, 1, 1, 2, 1)
    predicted = ids(0, 2, 0, 1, 1, 2, 0)
    mask = np.array([1, 1, 1, 1, 1, 1, 0], bool)
    confusion = Confusion.empty(3).add(predicted, true, mask)
    assert confusion.counts.tolist() == [[1, 0, 1], [0, 2, 0], [1, 0, 1]]
    assert confusion.iou() == pytest.approx([1 / 3, 1, 1 / 3])
    assert confusion.miou(THREE) == pytest.approx(2 / 3)
    assert confusion.geometric_iou(THREE) == pytest.approx(3 / 5)


@pytest.mark.parametrize("class_count", [2, 18])
def test_counts_are_those_of_a_loop(class_count):
    predicted, true, mask, bins = random_case(3, class_count)
    counts = np.zeros((3, class_count, class_count), int)
    for place in np.ndindex(true.shape):
        if mask[place]:
            counts[bins[place], true[place], predicted[place]] += 1
    found = DistanceConfusion.empty(class_count, (1, 2)).add(predicted, true, bins, mask)
    assert np.array_equal(found.counts, counts)
    assert np.array_equal(Confusion.empty(class_count).add(predicted, true, mask).counts, counts.sum(axis=0))
    for c in range(class_count):
        hits, either = ((predicted == c) & (true == c) & mask).sum(), (((predicted == c) | (true == c)) & mask).sum()
        assert found.total.iou()[c] == pytest.approx(hits / either)


def test_parts_add_up_and_adding_changes_nothing_in_place():
    predicted, true, mask, bins = random_case(4, 5)
    start = Confusion.empty(5)
    whole = start.add(predicted, true, mask)
    parts = start.add(predicted[:4], true[:4], mask[:4]) + start.add(predicted[4:], true[4:], mask[4:])
    assert np.array_equal(whole.counts, parts.counts) and whole.counts.sum() == mask.sum()
    assert start.counts.sum() == 0
    by_distance = DistanceConfusion.empty(5, (1, 2)).add(predicted, true, bins, mask)
    assert np.array_equal((by_distance + by_distance).total.counts, 2 * whole.counts)
    assert np.array_equal(sum(by_distance.bins, start).counts, whole.counts)


def test_absent_classes_are_nan_and_invented_ones_cost():
    confusion = Confusion.empty(3).add(ids(0, 0, 2), ids(0, 2, 2))
    assert math.isnan(confusion.iou()[1])
    assert confusion.miou(THREE) == pytest.approx(0.5)
    only_predicted = Confusion.empty(3).add(ids(0, 1), ids(0, 2))
    assert only_predicted.miou(THREE) == pytest.approx(0.5)  # terrain occurs only in the prediction: 0
    assert only_predicted.miou_of_present(THREE) == pytest.approx(1)
    nothing = Confusion.empty(3).add(ids(2), ids(2))
    assert math.isnan(nothing.miou(THREE)) and math.isnan(nothing.geometric_iou(THREE))


def test_ignored_truth_counts_for_nobody_but_an_ignored_prediction_misses():
    confusion = Confusion.empty(17).add(ids(4, 4, 0, 4), ids(0, 4, 4, 4))
    iou = confusion.iou(ignored=(0,))
    assert iou[4] == pytest.approx(2 / 3) and math.isnan(iou[0])
    assert confusion.miou(LIDARSEG, ignored=(0,)) == pytest.approx(2 / 3)
    assert confusion.miou(LIDARSEG) == pytest.approx((2 / 4 + 0) / 2)


def test_wrong_labels_shapes_and_ids_are_refused():
    confusion = Confusion.empty(3)
    with pytest.raises(ValueError, match="predicted has the shape"):
        confusion.add(ids(0, 1), ids(0))
    with pytest.raises(ValueError, match=r"true class ids reach from 0 to 255, outside 0\.\.2; mask them"):
        confusion.add(ids(0, 0), ids(255, 0))
    assert confusion.add(ids(0, 0), ids(255, 0), np.array([False, True])).counts.sum() == 1
    with pytest.raises(ValueError, match="mask is bool"):
        confusion.add(ids(0), ids(0), ids(1))
    with pytest.raises(ValueError, match="whole numbers"):
        confusion.add(np.array([0.0]), ids(0))
    with pytest.raises(ValueError, match="occ3d_nuscenes has 18 classes, not 3"):
        confusion.miou(OCC3D)
    with pytest.raises(ValueError, match="no class for free space"):
        Confusion.empty(17).geometric_iou(LIDARSEG)
    with pytest.raises(ValueError, match="3 and 4 classes"):
        confusion + Confusion.empty(4)
    with pytest.raises(ValueError, match="other distance edges"):
        DistanceConfusion.empty(3, (1,)) + DistanceConfusion.empty(3, (2,))


@pytest.mark.parametrize("edges", [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (1.0, math.inf)])
def test_edges_must_increase(edges):
    with pytest.raises(ValueError, match="increase"):
        DistanceConfusion.empty(3, edges)


@pytest.mark.parametrize("yaw_deg", [0, 40])
def test_distance_is_that_of_the_centre_from_the_vehicle(yaw_deg):
    geometry = GridGeometry((30, 20, 4), (0.8, 1.1, 0.5), rigid(heading(yaw_deg), np.array([-7.0, -16.0, -1.0])))
    bins = distance_bins(geometry, (5, 9))
    for index in np.ndindex(geometry.shape_xyz):
        x, y, _ = geometry.centres_m(np.array([index]))[0]
        distance = math.hypot(x, y)
        assert bins[index] == (0 if distance < 5 else 1 if distance < 9 else 2), index
    assert set(np.unique(bins)) == {0, 1, 2}


def test_bins_are_named_and_hold_the_corners_too():
    geometry = GridGeometry((200, 200, 16), (0.4, 0.4, 0.4), rigid(np.eye(3), np.array([-40.0, -40.0, -1.0])))
    bins = distance_bins(geometry)
    assert bins[100, 100, 3] == 0 and bins[199, 100, 0] == 3 and bins[0, 0, 0] == 4
    assert DistanceConfusion.empty(18).names == ("0-10 m", "10-20 m", "20-30 m", "30-40 m", "> 40 m")


def test_a_whole_grid_takes_milliseconds():
    predicted, true, mask, _ = random_case(5, 18, (200, 200, 16))
    took = []
    for _ in range(5):
        start = time.perf_counter()
        Confusion.empty(18).add(predicted, true, mask)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.1  # 5 ms on a free core
