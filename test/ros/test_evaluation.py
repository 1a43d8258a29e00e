"""Pairing of grids with the truth, and their scores."""

import math
from dataclasses import replace

import numpy as np
import pytest

from panoocc_core.geometry import rigid
from panoocc_core.ground_truth import GroundTruth
from panoocc_core.labels import LIDARSEG_FREE, OCC3D
from panoocc_core.types import GridGeometry
from panoocc_ros.evaluation.evaluator import PREDICTION, TRUTH, Evaluator, StampJoin, evaluation_healths
from panoocc_ros.health.verdicts import ERROR, OK, WARN
from panoocc_ros.messages.truth import TRUE_OCCUPANCY, truth_messages
from panoocc_ros.messages.types import new_message
from panoocc_ros.messages.voxel_grid import fill_label_set

SHAPE = (12, 10, 4)
GRID = GridGeometry(SHAPE, (0.8, 0.8, 0.4), rigid(np.eye(3), np.array([-4.8, -4.0, -1.0])))
CAR, ROAD, FREE = (OCC3D.names.index(name) for name in ("car", "driveable_surface", "free"))
TOPICS = {PREDICTION: "/panoocc/occupancy", TRUTH: "/truth/occupancy"}
LABEL_TOPICS = {PREDICTION: "/panoocc/labels", TRUTH: "/truth/labels"}


def street(shift=0, cars=((2, 2), (7, 6)), stamp_ns=1000, grid=GRID):
    """Two cars on a road, all of it moved by some voxels along x."""
    class_id, instance_id = np.full(grid.shape_xyz, FREE, np.uint8), np.zeros(grid.shape_xyz, np.int32)
    class_id[shift:, :, 0] = ROAD
    for number, (x, y) in enumerate(cars, 1):
        place = slice(x + shift, x + shift + 4), slice(y, y + 2), slice(1, 3)
        class_id[place], instance_id[place] = CAR, number
    mask = np.ones(grid.shape_xyz, bool)
    mask[-1, -1, -1] = False  # so that every score exists
    return GroundTruth(stamp_ns, grid, class_id, instance_id, mask)


def prediction(truth, with_instances=False):
    """A node's grid that says what `truth` says."""
    truth = truth if with_instances else replace(truth, instance_id=None)
    return truth_messages(truth, 0, ("cam_front",))[TRUE_OCCUPANCY]


def true_message(truth):
    return truth_messages(truth, 0, ("cam_front",))[TRUE_OCCUPANCY]


def evaluator(**options):
    made = Evaluator(**options)
    made.set_labels(PREDICTION, OCC3D)
    made.set_labels(TRUTH, OCC3D)
    return made


def healths(made):
    return evaluation_healths(made, TOPICS, LABEL_TOPICS)


def compared(predicted, truth, made=None):
    made = made or evaluator()
    assert made.add(TRUTH, true_message(truth)) is None
    return made.add(PREDICTION, predicted)


@pytest.mark.parametrize("with_instances", [False, True])
def test_a_perfect_prediction_gets_1(with_instances):
    found = compared(prediction(street(), with_instances), street())
    assert (found.frame.iou, found.frame.miou, found.frame.pq) == (1, 1, 1) and found.running == found.frame
    assert found.stamp_ns == 1000


def test_a_shifted_one_gets_less_the_farther_the_less():
    found = [compared(prediction(street(shift)), street()).frame for shift in (0, 1, 2)]
    for name in ("iou", "miou", "pq"):
        values = [getattr(scores, name) for scores in found]
        assert 1 == values[0] > values[1] > values[2] > 0, name


def test_cars_that_touch_are_one_unless_the_prediction_tells_them_apart():
    touching = street(cars=((2, 2), (2, 4)))
    assert compared(prediction(touching, with_instances=True), touching).frame.pq == 1
    together = compared(prediction(touching), touching).frame
    assert together.miou == 1 and together.pq == pytest.approx(0.5)  # of road and cars: no car is found


def test_ids_that_stay_are_tracks_and_without_ids_there_are_none():
    made, without = evaluator(), evaluator()
    for stamp in (1000, 2000, 3000):
        kept = compared(prediction(street(stamp_ns=stamp), with_instances=True), street(stamp_ns=stamp), made).running
        plain = compared(prediction(street(stamp_ns=stamp)), street(stamp_ns=stamp), without).running
    assert (kept.stq, kept.aq, kept.id_switches, kept.followed) == (1, 1, 0, 2)
    assert math.isnan(plain.stq) and math.isnan(plain.id_switches) and plain.pq == 1
    values = healths(made)[1].values
    assert (values["stq"], values["aq"], values["id_switches"], values["followed"]) == ("1.0000", "1.0000", "0", "2")
    assert (healths(without)[1].values["stq"], healths(without)[1].values["id_switches"]) == ("-", "-")


def renumbered(truth, by):
    return replace(truth, instance_id=np.where(truth.instance_id > 0, truth.instance_id + by, 0).astype(np.int32))


def test_ids_that_change_are_counted_until_the_evaluation_begins_anew():
    made = evaluator()
    for stamp, by in ((1000, 0), (2000, 0), (3000, 65_000), (4000, 65_000)):
        truth = street(stamp_ns=stamp)
        found = compared(prediction(renumbered(truth, by), with_instances=True), truth, made).running
    assert (found.id_switches, found.followed, found.aq) == (2, 2, pytest.approx(0.5))
    assert found.stq == pytest.approx(math.sqrt(0.5)) and found.miou == found.pq == 1
    made.reset()
    assert compared(prediction(street(), with_instances=True), street(), made).running.id_switches == 0


@pytest.mark.parametrize("begins", ["the clock goes back", "nothing is known"])
def test_ids_of_another_drive_are_other_objects(begins):
    made, second = evaluator(), 1_000_000_000
    stamps = (3, 4, 1, 2) if begins == "the clock goes back" else (1, 2, 3, 4)
    for number, stamp in enumerate(stamps):
        later, truth = number > 1, street(stamp_ns=stamp * second)
        guess = renumbered(truth, 100 * later)
        truth = renumbered(truth, 50 * later) if begins == "nothing is known" else truth
        found = compared(prediction(guess, with_instances=True), truth, made).running
    assert (found.id_switches, found.followed, found.aq) == (0, 4, 1)
    assert len(made._counted.tracks.drive.common) == 2  # of the first drive only sums are kept


def test_after_the_clock_went_back_another_drive_begins_with_a_grid_without_ids_too():
    made, second = evaluator(), 1_000_000_000
    for stamp, with_ids in ((3, True), (4, True), (1, False), (2, True)):
        truth = street(stamp_ns=stamp * second)
        guess = renumbered(truth, 100 * (stamp == 2))
        found = compared(prediction(guess, with_ids), truth, made).running
    assert (found.id_switches, found.followed, found.aq) == (0, 2, 1)


def test_a_node_that_tells_things_apart_and_finds_none_has_missed_them():
    made, truth = evaluator(), street()
    empty = replace(truth, class_id=np.full(SHAPE, FREE, np.uint8), instance_id=np.zeros(SHAPE, np.int32))
    grid = prediction(empty, with_instances=True)
    assert len(grid.instance_id) == 0 and compared(grid, truth, made).running.aq == 0
    found = compared(prediction(replace(truth, stamp_ns=2000), True), replace(truth, stamp_ns=2000), made).running
    assert found.aq == pytest.approx(0.25)


def test_what_no_camera_sees_counts_for_nothing():
    truth, wrong = street(), street(cars=((2, 2),))
    mask = np.ones(SHAPE, bool)
    mask[7:11, 6:8, 1:3] = False
    assert compared(prediction(wrong), replace(truth, camera_mask=mask)).frame.miou == 1
    assert compared(prediction(wrong), truth).frame.miou < 1
    assert compared(prediction(wrong), replace(truth, camera_mask=None)).frame.miou < 1


def test_running_scores_are_those_of_all_grids_together():
    made = evaluator()
    compared(prediction(street()), street(), made)
    second = compared(prediction(street(2, stamp_ns=2000)), street(stamp_ns=2000), made)
    assert second.frame.iou < second.running.iou < 1
    twice = evaluator()
    for stamp in (1000, 2000):
        last = compared(prediction(street(2, stamp_ns=stamp)), street(stamp_ns=stamp), twice)
    assert last.running.miou == pytest.approx(last.frame.miou)
    made.reset()
    assert math.isnan(made.running.miou) and made.pairs == 0
    assert compared(prediction(street()), street(), made).running.miou == 1


def test_other_grids_are_refused_in_words_and_do_not_end_it():
    made = evaluator()
    shifted = replace(GRID, ego_from_grid=rigid(np.eye(3), np.array([-4.8, -4.0, -0.9])))
    for grid, words in (
        (GridGeometry((12, 10, 5), GRID.voxel_size_m, GRID.ego_from_grid), "voxels"),
        (replace(GRID, voxel_size_m=(0.8, 0.8, 0.5)), "voxel size"),
        (shifted, "pose"),
    ):
        assert compared(prediction(street(grid=grid)), street(), made) is None
        assert words in made.problem and "sim --grid" in made.problem
        pairs = healths(made)[0]
        assert pairs.level == ERROR and pairs.message == made.problem
    assert compared(prediction(street()), street(), made).running.miou == 1
    assert (made.pairs, made.refused, healths(made)[0].level) == (1, 3, OK)


def test_other_labels_are_refused_in_words():
    made = Evaluator()
    made.set_labels(TRUTH, OCC3D)
    made.set_labels(PREDICTION, LIDARSEG_FREE)
    assert compared(prediction(street()), street(), made) is None
    assert "class 0 is 'noise' in nuscenes_lidarseg_free" in made.problem and "'others'" in made.problem
    made.set_labels(PREDICTION, replace(OCC3D, names=OCC3D.names[:-1], is_thing=OCC3D.is_thing[:-1],
                                        colours=OCC3D.colours[:-1], free_id=None))  # fmt: skip
    assert compared(prediction(street()), street(), made) is None and "'(none)'" in made.problem


@pytest.mark.parametrize("first, second", [(PREDICTION, TRUTH), (TRUTH, PREDICTION)])
def test_grids_that_come_before_their_label_sets_wait_and_are_then_scored_as_any(first, second):
    made, usual = Evaluator(), evaluator()
    expected = [
        compared(prediction(street(shift, stamp_ns=stamp)), street(stamp_ns=stamp), usual)
        for shift, stamp in ((0, 1000), (1, 2000))
    ]
    assert compared(prediction(street()), street(), made) is None
    pairs = healths(made)[0]
    assert (
        pairs.level == WARN and pairs.message == "1 grid waits for the label set on /panoocc/labels and /truth/labels"
    )
    assert made.set_labels(first, OCC3D) == []
    assert compared(prediction(street(1, stamp_ns=2000)), street(stamp_ns=2000), made) is None
    pairs = healths(made)[0]
    assert pairs.message == f"2 grids wait for the label set on {LABEL_TOPICS[second]}"
    assert (pairs.values["waiting.label_sets"], pairs.values["refused"], made.problem) == ("2", "0", None)
    assert made.set_labels(second, OCC3D) == expected
    pairs = healths(made)[0]
    assert (pairs.level, pairs.values["pairs"], pairs.values["waiting.label_sets"]) == (OK, "2", "0")
    assert made.set_labels(second, OCC3D) == []  # each grid counts once


def test_of_the_grids_that_wait_for_a_label_set_the_oldest_is_dropped_and_counted():
    made = Evaluator(capacity=2)
    made.set_labels(TRUTH, OCC3D)
    for stamp in (1000, 2000, 3000):
        compared(prediction(street(stamp_ns=stamp)), street(stamp_ns=stamp), made)
    assert healths(made)[0].values["dropped.label_sets"] == "1" and made.held == 2
    assert [scores.stamp_ns for scores in made.set_labels(PREDICTION, OCC3D)] == [2000, 3000]
    made.reset()
    assert healths(made)[0].values["dropped.label_sets"] == "0"


def test_what_waits_is_refused_only_when_the_label_sets_are_known_to_differ():
    made = Evaluator()
    made.set_labels(TRUTH, OCC3D)
    compared(prediction(street()), street(), made)
    assert (made.held, made.refused) == (1, 0)
    assert made.set_labels(PREDICTION, LIDARSEG_FREE) == []
    assert (made.held, made.refused) == (0, 1) and "label sets differ" in healths(made)[0].message


def test_a_label_set_that_cannot_be_used_lets_the_grids_wait_and_a_reset_forgets_them():
    made = Evaluator()
    made.set_labels(TRUTH, OCC3D)
    compared(prediction(street()), street(), made)
    message = fill_label_set(new_message("panoocc/msg/LabelSet"), OCC3D)
    message.names = ["car"]
    assert made.add_labels(PREDICTION, message) == [] and made.held == 1 and healths(made)[0].level == ERROR
    made.reset()
    assert made.held == 0
    assert made.add_labels(PREDICTION, fill_label_set(message, OCC3D)) == [] and healths(made)[0].values["pairs"] == "0"


def test_what_is_called_visible_is_held_against_what_cameras_see():
    made, truth, half = evaluator(), street(), np.zeros(SHAPE, bool)
    half[: SHAPE[0] // 2] = True
    truth.camera_mask[:] = True
    assert math.isnan(compared(prediction(replace(truth, camera_mask=None)), truth, made).running.visible_iou)
    assert healths(made)[1].values["visible_iou"] == "-" and made.visible_by_distance == {}
    empty = replace(truth, class_id=np.full(SHAPE, FREE, np.uint8), camera_mask=half, stamp_ns=2000)
    found = compared(prediction(empty), replace(truth, stamp_ns=2000), made)
    assert found.running.visible_iou == found.frame.visible_iou == 0.5
    assert (found.frame.falsely_visible, found.frame.falsely_hidden) == (0, 0.5)
    is_occupied = truth.class_id != FREE
    assert found.frame.free_but_occupied == pytest.approx(is_occupied[half].mean())
    assert found.frame.free_but_occupied_hidden == pytest.approx(is_occupied[~half].mean())
    assert found.frame.free_but_occupied_truly_visible == pytest.approx(is_occupied.mean())
    assert made.visible_by_distance["0-10 m"]["visible_iou"] == 0.5
    assert healths(made)[1].values["visible_iou"] == "0.5000"
    perfect = compared(prediction(replace(truth, stamp_ns=3000)), replace(truth, stamp_ns=3000), made)
    assert perfect.frame.visible_iou == 1 and perfect.frame.free_but_occupied == 0
    assert 0.5 < perfect.running.visible_iou < 1


def test_missing_truth_is_told():
    made = evaluator()
    for stamp in range(3):
        assert made.add(PREDICTION, prediction(street(stamp_ns=stamp))) is None
    pairs, numbers = healths(made)
    assert pairs.level == WARN and "/truth/occupancy" in pairs.message
    assert pairs.values["waiting.prediction"] == "3" and numbers.values["miou"] == "-"
    made.add(TRUTH, true_message(street(stamp_ns=99)))
    assert "no stamp" in healths(made)[0].message


def test_classes_are_told_by_name():
    made = evaluator()
    compared(prediction(street()), street(), made)
    values = healths(made)[1].values
    assert values["iou.car"] == values["iou.driveable_surface"] == "1.0000" and "iou.bus" not in values


def test_equal_stamps_meet_in_any_order_and_the_rest_expires():
    join = StampJoin("ab", capacity=3)
    assert join.add("a", 1, "a1") is None and join.add("b", 2, "b2") is None
    assert join.add("a", 3, "a3") is None
    assert join.add("b", 3, "b3") == {"a": "a3", "b": "b3"}
    assert join.waiting == {"a": 0, "b": 0} and join.expired == {"a": 1, "b": 1}
    for stamp in range(10, 20):
        join.add("a", stamp, stamp)
    assert join.waiting["a"] == 3 and join.expired["a"] == 8
    assert join.add("b", 17, "late")["a"] == 17


def test_a_stream_that_begins_again_goes_on():
    join = StampJoin("ab", capacity=2)
    for _ in range(3):
        for stamp in (1, 2, 3):
            join.add("a", stamp, stamp)
            assert join.add("b", stamp, stamp)
    assert not any(join.expired.values())


def test_a_clock_that_is_set_back_drops_what_waits():
    second = 1_000_000_000
    join = StampJoin("ab")
    for stamp in (5, 6, 7):
        join.add("a", stamp * second, "old")
    assert join.add("a", 6 * second + 1, "late") is None  # less than a second: messages may change places
    assert join.waiting["a"] == 4 and join.jumps_back == 0
    assert join.add("a", 2 * second, "new") is None
    assert (join.waiting, join.expired["a"], join.jumps_back) == ({"a": 1, "b": 0}, 4, 1)
    assert join.add("b", 2 * second, "new") == {"a": "new", "b": "new"}
    assert join.add("b", 5 * second, "new") is None  # the old round's message does not meet it
    join.clear()
    assert join.jumps_back == 0 and join.add("a", second, "first") is None and join.jumps_back == 0


def test_both_kinds_jump_once():
    second = 1_000_000_000
    join = StampJoin("ab")
    for stamp in (8, 9, 3, 4):
        join.add("a", stamp * second, stamp)
        assert join.add("b", stamp * second, stamp)
    assert join.jumps_back == 1 and not any(join.expired.values())


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_a_round_begins_once_though_predictions_of_the_one_before_are_still_to_come(lag):
    second, join, sets, rounds = 1_000_000_000, StampJoin("ab"), 6, 3
    stamps = [k * second for k in range(sets)] * rounds
    joined = []
    for number in range(len(stamps) + lag):
        if number < len(stamps):
            joined.append(join.add("a", stamps[number], number))
        if number >= lag:
            joined.append(join.add("b", stamps[number - lag], number - lag))
    pairs = [pair for pair in joined if pair]
    assert join.jumps_back == rounds - 1
    assert all(pair["a"] == pair["b"] for pair in pairs)
    assert len(pairs) == len(stamps) - lag * (rounds - 1)  # what was under way when a round began has no partner
    assert set(join.expired.values()) <= {0, lag * (rounds - 1)}


def test_a_jump_is_told():
    made = evaluator()
    for stamp in (5_000_000_000, 1_000_000_000):
        made.add(TRUTH, true_message(street(stamp_ns=stamp)))
    values = healths(made)[0].values
    assert (values["jumps_back"], values["expired.truth"], values["waiting.truth"]) == ("1", "1", "1")
    made.reset()
    values = healths(made)[0].values
    assert (values["jumps_back"], values["expired.truth"], values["waiting.truth"]) == ("0", "0", "0")


@pytest.mark.parametrize("field, value", [("rgb", [1, 2]), ("names", ["car"]), ("is_thing", [True]), ("free_id", 200)])
def test_labels_that_contradict_themselves_are_counted_and_do_not_end_it(field, value):
    made = evaluator()
    compared(prediction(street()), street(), made)
    message = fill_label_set(new_message("panoocc/msg/LabelSet"), OCC3D)
    setattr(message, field, value)
    made.add_labels(TRUTH, message)
    pairs = healths(made)[0]
    assert pairs.level == ERROR and "label set of the truth cannot be used" in pairs.message
    assert pairs.values["refused_labels.truth"] == "1" and pairs.values["refused_labels.prediction"] == "0"
    assert compared(prediction(street()), street(), made).running.miou == 1  # the labels before go on
    made.add_labels(TRUTH, fill_label_set(new_message("panoocc/msg/LabelSet"), OCC3D))
    assert healths(made)[0].level == OK and made.pairs == 2


def test_another_meaning_of_the_classes_begins_the_scores_and_their_number_anew():
    made = evaluator()
    compared(prediction(street()), street(), made)
    made.set_labels(TRUTH, replace(OCC3D, version=OCC3D.version + 1))
    assert made.pairs == 0 and math.isnan(made.running.miou)


def test_a_grid_that_promises_a_giant_is_refused_by_its_kind():
    made, message = evaluator(), prediction(street())
    message.size_x = message.size_y = message.size_z = 2**32 - 1
    assert compared(message, street(), made) is None
    assert made.problem.startswith("prediction: size_x, size_y, size_z") and made.refused == 1
