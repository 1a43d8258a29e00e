"""Panoptic quality in cases worked by hand; seeded ones against the devkit stand in `test_metrics_recorded.py`."""

import math
import time

import numpy as np
import pytest

from panoocc_core.labels import LIDARSEG, OCC3D, label_set
from panoocc_core.metrics import PanopticQuality, panoptic_labels

from .metrics_cases import CLASS_COUNT, panoptic_frames

VOID, CAR, ROAD, FREE = 0, 1, 2, 3
LABELS = label_set("street", ("noise", "car", "driveable_surface", "free"))


def row(*stretches: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Classes and instances of stretches of (length, class, instance)."""
    lengths = [length for length, _, _ in stretches]
    return tuple(np.repeat([stretch[i] for stretch in stretches], lengths) for i in (1, 2))


def quality(predicted, true, min_size=1, mask=None, ignored=(VOID,)) -> PanopticQuality:
    return PanopticQuality.empty(4, ignored, min_size).add(*predicted, *true, mask)


def counts(value: PanopticQuality, class_id: int = CAR) -> list[int]:
    return [int(n[class_id]) for n in (value.matches, value.false_positives, value.false_negatives)]


def test_a_case_worked_by_hand():
    # Cars of 10, 10 and 4 points; the first is found with IoU 8 / 10, the second by halves, the third not; the road, of
    # 20 points, loses 4 to a car that is none and wins 4 + 2.
    true = row((10, CAR, 1), (10, CAR, 2), (4, CAR, 3), (20, ROAD, 0))
    predicted = row((8, CAR, 7), (2, ROAD, 0), (5, CAR, 8), (5, CAR, 9), (4, ROAD, 0), (4, CAR, 5), (16, ROAD, 0))
    found = quality(predicted, true)
    assert counts(found) == [1, 3, 2] and counts(found, ROAD) == [1, 0, 0]
    assert found.sq()[CAR] == pytest.approx(0.8)
    assert found.rq()[CAR] == pytest.approx(1 / (1 + 0.5 * 3 + 0.5 * 2))
    assert found.pq()[[CAR, ROAD]] == pytest.approx([0.8 / 3.5, 16 / 26])
    assert math.isnan(found.pq()[FREE])
    means = found.means(LABELS)
    assert means.pq == pytest.approx((0.8 / 3.5 + 16 / 26) / 2)
    assert means.miou == pytest.approx((18 / 28 + 16 / 26) / 2)
    assert means.pq_dagger == pytest.approx((0.8 / 3.5 + 16 / 26) / 2)


def test_half_is_no_match_and_more_is():
    true = row((10, CAR, 1), (10, ROAD, 0))
    assert counts(quality(row((5, CAR, 1), (15, ROAD, 0)), true)) == [0, 1, 1]
    assert counts(quality(row((6, CAR, 1), (14, ROAD, 0)), true)) == [1, 0, 0]


def test_small_segments_match_but_are_neither_missed_nor_invented():
    true = row((3, CAR, 1), (4, CAR, 2), (5, CAR, 3), (20, ROAD, 0))
    nothing = row((32, ROAD, 0))
    assert counts(quality(nothing, true, min_size=5)) == [0, 0, 1]
    assert counts(quality(true, nothing, min_size=5)) == [0, 1, 0]
    assert counts(quality(true, true, min_size=5)) == [3, 0, 0]


def test_void_truth_is_cut_out_of_predictions_and_sizes():
    true = row((10, CAR, 1), (30, VOID, 0))
    assert counts(quality(row((40, CAR, 1)), true)) == [1, 0, 0]  # IoU 1 of what is left
    assert counts(quality(row((10, CAR, 1), (30, CAR, 2)), true)) == [1, 0, 0]
    few = row((12, VOID, 0), (28, CAR, 2))  # of the prediction nothing, of the truth all is left
    assert counts(quality(few, true)) == [0, 0, 1]


def test_free_space_is_not_void():
    true = row((10, CAR, 1), (30, FREE, 0))
    generous = row((40, CAR, 1))
    assert counts(quality(generous, true)) == [0, 1, 1]
    assert counts(quality(generous, true, ignored=(VOID, FREE))) == [1, 0, 0]
    perfect = quality(true, true).means_of_present(LABELS)
    assert perfect.pq == perfect.pq_dagger == perfect.miou == 1  # free space has no score of its own
    assert quality(true, true).means(LABELS).pq == pytest.approx(0.5)  # no road: counts as 0, as in the devkit


def test_equal_ids_of_other_classes_are_other_segments():
    true = row((10, CAR, 1), (10, ROAD, 1))
    assert counts(quality(true, true)) == [1, 0, 0] and counts(quality(true, true), ROAD) == [1, 0, 0]


def test_numbers_of_instances_do_not_matter_nor_whether_they_are_large():
    frame = panoptic_frames(frames=1)[0]
    start = PanopticQuality.empty(CLASS_COUNT, (0,))
    plain = start.add(frame.predicted_class, frame.predicted_instance, frame.true_class, frame.true_instance)
    large = start.add(
        frame.predicted_class,
        frame.predicted_instance * 7_000_001,
        frame.true_class,
        2_000_000_000 - frame.true_instance,
    )
    for name in ("matches", "false_positives", "false_negatives"):
        assert np.array_equal(getattr(plain, name), getattr(large, name)), name
    assert plain.pq() == pytest.approx(large.pq(), nan_ok=True)


def test_frames_add_up_and_a_mask_cuts():
    frames = panoptic_frames()
    start = PanopticQuality.empty(CLASS_COUNT, (0,))
    each = [start.add(f.predicted_class, f.predicted_instance, f.true_class, f.true_instance) for f in frames]
    merged = (each[0] + each[1]) + (each[2] + each[3])
    one_by_one = start
    for f in frames:
        one_by_one = one_by_one.add(f.predicted_class, f.predicted_instance, f.true_class, f.true_instance)
    assert np.array_equal(merged.false_negatives, one_by_one.false_negatives)
    assert merged.pq() == pytest.approx(one_by_one.pq(), nan_ok=True)
    f = frames[0]
    half = np.arange(len(f.true_class)) % 2 == 0
    masked = start.add(f.predicted_class, f.predicted_instance, f.true_class, f.true_instance, half)
    cut = start.add(*(a[half] for a in (f.predicted_class, f.predicted_instance, f.true_class, f.true_instance)))
    assert masked.pq() == pytest.approx(cut.pq(), nan_ok=True)
    assert np.array_equal(masked.confusion.counts, cut.confusion.counts)


def test_no_points_no_segments():
    empty = np.zeros(0, np.int32)
    nothing = PanopticQuality.empty(4, (VOID,)).add(empty, empty, empty, empty)
    assert np.isnan(nothing.pq()).all() and math.isnan(nothing.means_of_present(LABELS).pq)
    only_void = quality(row((3, CAR, 1)), row((3, VOID, 0)))
    assert counts(only_void) == [0, 0, 0]


def test_bad_input_is_refused():
    true = row((3, CAR, 1))
    with pytest.raises(ValueError, match="predicted instances have the shape"):
        quality((true[0], true[1][:2]), true)
    with pytest.raises(ValueError, match="true instance ids must be whole numbers from 0"):
        quality(true, (true[0], -true[1]))
    with pytest.raises(ValueError, match="not all within"):
        PanopticQuality.empty(4, (4,))
    with pytest.raises(ValueError, match="smallest segments"):
        PanopticQuality.empty(4, (0,), 15) + PanopticQuality.empty(4, (0,), 30)
    with pytest.raises(ValueError, match="nuscenes_lidarseg has 17 classes, not 4"):
        quality(true, true).means(LIDARSEG)


def test_panoptic_labels_are_those_of_nuscenes():
    labels = panoptic_labels(np.array([1, 4, 16]), np.array([0, 12, 999]))
    assert labels.dtype == np.uint16 and labels.tolist() == [1000, 4012, 16999]
    with pytest.raises(ValueError, match="number those of a frame anew"):
        panoptic_labels(np.array([1]), np.array([1000]))


def test_a_whole_grid_takes_a_fraction_of_a_second():
    draw = np.random.default_rng(0)
    shape = (200, 200, 16)
    true = draw.integers(0, 18, shape, dtype=np.uint8)
    instance = draw.integers(0, 300, shape, dtype=np.int32)
    start = time.perf_counter()
    PanopticQuality.empty(len(OCC3D.names), ()).add(true, instance, true, instance)
    assert time.perf_counter() - start < 1  # 60 ms on a free core
