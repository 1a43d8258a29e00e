"""Detection scores in cases worked by hand; seeded ones against the devkit stand in `test_metrics_recorded.py`."""

import math

import numpy as np
import pytest

from panoocc_core.ground_truth import TrueBoxes
from panoocc_core.labels import BOX_CLASSES
from panoocc_core.metrics import Detection
from panoocc_core.types import ScoredBoxes

from .metrics_cases import box_frames

CAR, BARRIER, CONE = (BOX_CLASSES.index(name) for name in ("car", "barrier", "traffic_cone"))


def true_boxes(*places, class_id=CAR, size=(4, 2, 1.5), yaw=0.0, velocity=(0, 0)) -> TrueBoxes:
    n = len(places)
    return TrueBoxes(
        centre_m=np.array([(x, y, 0) for x, y in places], np.float32).reshape(-1, 3),
        size_m=np.tile(np.float32(size), (n, 1)),
        yaw_rad=np.full(n, yaw, np.float32),
        velocity_mps=np.tile(np.float32(velocity), (n, 1)),
        class_id=np.full(n, class_id),
        instance_id=np.arange(n, dtype=np.int32),
    )


def detections(*places, scores=None, attribute=None, **like) -> ScoredBoxes:
    boxes, n = true_boxes(*places, **like), len(places)
    return ScoredBoxes(
        centre_m=boxes.centre_m,
        size_m=boxes.size_m,
        yaw_rad=boxes.yaw_rad,
        velocity_mps=boxes.velocity_mps,
        class_id=boxes.class_id,
        score=np.linspace(0.9, 0.5, n).astype(np.float32) if scores is None else np.float32(scores),
        attribute_id=None if attribute is None else np.full(n, attribute),
    )


def of(found: ScoredBoxes, truth: TrueBoxes, attribute=None):
    return Detection().add(found, truth, attribute).scores()


def test_perfect_detections_of_one_class():
    truth = true_boxes((5, 0), (15, 3), (-20, 1))
    scores = of(detections((5, 0), (15, 3), (-20, 1), attribute=1), truth, np.ones(3, int))
    assert scores.ap[CAR] == pytest.approx(1) and scores.errors[CAR] == pytest.approx(0)
    assert scores.mean_ap == pytest.approx(0.1)
    assert scores.mean_errors[0] == pytest.approx(0.9)  # nine absent classes have an error of 1
    assert scores.true_count.tolist() == [3] + [0] * 9
    present = scores.of_present()
    assert present.mean_ap == pytest.approx(1) and present.nds == pytest.approx(1)


def test_the_matching_distance_is_strict_and_in_the_plane():
    for offset_m, found in ((0.4, [1, 1, 1, 1]), (0.5, [0, 1, 1, 1]), (1.5, [0, 0, 1, 1]), (4.0, [0, 0, 0, 0])):
        assert of(detections((5 + offset_m, 0)), true_boxes((5, 0))).ap[CAR] == pytest.approx(found)
    high = detections((5, 0))
    high.centre_m[:, 2] = 50
    assert of(high, true_boxes((5, 0))).ap[CAR] == pytest.approx(1)


def test_a_true_box_is_taken_once_by_the_best():
    # The better detection is the farther one: it takes the box; the nearer one is false.
    scores = of(detections((5.9, 0), (5.1, 0), scores=(0.9, 0.8)), true_boxes((5, 0)))
    assert scores.errors[CAR, 0] == pytest.approx(0.9, abs=1e-6)
    # Full recall comes before the false one; only at the last of 90 steps of recall does that halve the precision.
    assert scores.ap[CAR, 2] == pytest.approx((89 * 0.9 + 0.4) / 90 / 0.9)
    wrong_first = of(detections((15, 0), (5, 0), scores=(0.9, 0.8)), true_boxes((5, 0)))
    # Precision over recall: 0 at first, rising to 1/2 in a line through (0, 0) and (1, 1/2).
    recall = np.linspace(0, 1, 101)[11:]
    assert wrong_first.ap[CAR, 2] == pytest.approx(np.maximum(recall / 2 - 0.1, 0).mean() / 0.9)


def test_errors_worked_by_hand():
    truth = true_boxes((5, 0), size=(4, 2, 2), yaw=0.2, velocity=(3, 0))
    found = detections((5.3, 0.4), size=(2, 2, 2), yaw=-0.1, velocity=(3, 2), attribute=2)
    assert of(found, truth, np.array([1])).errors[CAR] == pytest.approx([0.5, 0.5, 0.3, 2, 1], abs=1e-6)
    assert of(found, truth, np.array([2])).errors[CAR, 4] == 0


def test_a_heading_that_is_off_by_half_a_turn():
    for class_id, error in ((CAR, math.pi), (BARRIER, 0)):
        scores = of(detections((5, 0), class_id=class_id, yaw=math.pi), true_boxes((5, 0), class_id=class_id))
        assert scores.errors[class_id, 2] == pytest.approx(error, abs=1e-6)


def test_cones_and_barriers_have_no_speed_nor_attribute():
    for class_id, undefined in ((CONE, [0, 0, 1, 1, 1]), (BARRIER, [0, 0, 0, 1, 1])):
        scores = of(detections((5, 0), class_id=class_id), true_boxes((5, 0), class_id=class_id))
        assert np.isnan(scores.errors[class_id]).tolist() == [bool(u) for u in undefined]
        assert scores.of_present().nds == pytest.approx(1)  # of the errors that exist


@pytest.mark.parametrize(("name", "range_m"), [("car", 50), ("trailer", 50), ("bicycle", 40), ("barrier", 30)])
def test_boxes_beyond_the_range_of_their_class_do_not_count(name, range_m):
    c = BOX_CLASSES.index(name)
    near, far = (range_m - 0.1, 0), (0, -range_m - 0.1)
    scores = of(detections(near, far, class_id=c), true_boxes(near, class_id=c))
    assert scores.ap[c] == pytest.approx(1) and scores.true_count[c] == 1
    assert of(detections(near, class_id=c), true_boxes(near, far, class_id=c)).true_count[c] == 1


def test_without_attributes_the_error_is_one_and_another_score_says_so():
    scores = of(detections((5, 0)), true_boxes((5, 0))).of_present()
    assert scores.errors[0].tolist() == pytest.approx([0, 0, 0, 0, 1])
    assert scores.nds == pytest.approx(0.9) and scores.nds_without_attributes == pytest.approx(1)


def test_unknown_velocities_do_not_count():
    truth = true_boxes((5, 0), (15, 0), velocity=(1, 0))
    truth.velocity_mps[0] = np.nan
    found = detections((5, 0), (15, 0), velocity=(1.5, 0))
    # Known is only the second: 0 until it comes, at full recall 0.5; cumulated in a line between.
    errors = of(found, truth).errors[CAR]
    assert 0 < errors[3] < 0.5
    truth.velocity_mps[:] = np.nan
    assert of(found, truth).errors[CAR, 3] == 1


def test_below_ten_percent_recall_errors_are_one():
    truth = true_boxes(*((x, 0) for x in range(-40, 44, 4)))
    scores = of(detections((-40, 0), (-36, 0), attribute=1), truth, np.ones(21, int))
    assert scores.ap[CAR] == pytest.approx(0) and scores.errors[CAR] == pytest.approx(1)


def test_frames_add_up_in_any_parts():
    frames = box_frames(frames=4)
    each = [Detection().add(frame.detections, frame.truth, frame.true_attribute) for frame in frames]
    whole, parts = each[0] + each[1] + each[2] + each[3], (each[0] + each[1]) + (each[2] + each[3])
    assert np.array_equal(whole.scores().ap, parts.scores().ap)
    assert whole.scores().true_count.sum() == sum(one.scores().true_count.sum() for one in each)
    assert not np.array_equal(whole.scores().ap, each[0].scores().ap)


def test_nothing_found_and_nothing_there():
    scores = of(detections(), true_boxes((5, 0)))
    assert scores.mean_ap == 0 and scores.errors[CAR].tolist() == [1] * 5 and scores.nds == 0
    assert Detection().scores().mean_ap == 0
    with pytest.raises(ValueError, match="no true box"):
        of(detections((5, 0)), true_boxes()).of_present()


def test_bad_input_is_refused():
    many = detections(*[(x / 100, 0) for x in range(501)])
    with pytest.raises(ValueError, match="501 detections in one frame, at most 500"):
        Detection().add(many, true_boxes())
    with pytest.raises(ValueError, match="true attributes have the shape"):
        Detection().add(detections((5, 0)), true_boxes((5, 0)), np.ones(2, int))
    with pytest.raises(ValueError, match="truth: class_id"):
        Detection().add(detections(), true_boxes((5, 0), class_id=10))
    with pytest.raises(ValueError, match="velocity_mps has entries that are not finite"):
        detections((5, 0), velocity=(math.nan, 0))
    with pytest.raises(ValueError, match="size_m must be positive"):
        detections((5, 0), size=(0, 1, 1))
