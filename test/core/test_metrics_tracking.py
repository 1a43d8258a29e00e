"""STQ and id switches: cases worked by hand, and a slow count from the definitions; the numbers of the code that STQ
comes from stand in `test_metrics_recorded.py`."""

import math
import time

import numpy as np
import pytest

from panoocc_core.evaluation import DriveScores
from panoocc_core.labels import LIDARSEG, OCC3D, label_set
from panoocc_core.metrics import TrackingQuality
from panoocc_core.metrics.tracking import DriveTubes

from .metrics_cases import tracked_drives

CAR, TRUCK, ROAD, FREE = 0, 1, 2, 3
LABELS = label_set("street", ("car", "truck", "driveable_surface", "free"))


def row(*stretches: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Classes and instances of stretches of (length, class, instance)."""
    lengths = [length for length, _, _ in stretches]
    classes, ids = (np.repeat([stretch[i] for stretch in stretches], lengths) for i in (1, 2))
    return classes.astype(np.uint8), ids.astype(np.int32)


def drive(*frames, labels=LABELS, ignored=()) -> TrackingQuality:
    """Frames of (predicted row, true row)."""
    quality = TrackingQuality.empty(labels, ignored)
    for predicted, true in frames:
        quality = quality.add(*predicted, *true)
    return quality


def car(instance: int, length: int = 10) -> tuple[np.ndarray, np.ndarray]:
    return row((length, CAR, instance))


def test_a_case_worked_by_hand():
    # A car of 10 voxels for three frames, a truck of 4 in the first.  Id 7 has the car twice, of which once by 8 voxels
    # and with 2 of the road; id 9 has it in the third.  The truck is found with its place, but as a car with the id 7.
    true = row((10, CAR, 1), (4, TRUCK, 2), (6, ROAD, 0))
    later = row((10, CAR, 1), (10, ROAD, 0))
    found = drive(
        (row((10, CAR, 7), (4, CAR, 7), (6, ROAD, 0)), true),
        (row((2, ROAD, 0), (8, CAR, 7), (2, CAR, 7), (8, ROAD, 0)), later),
        (row((10, CAR, 9), (10, ROAD, 0)), later),
    )
    # car, 30 voxels: with tube 7 (24 voxels) 18 in common, with tube 9 (10 voxels) 10; truck, 4 voxels: 4 with tube 7.
    of_car = (18 * 18 / (24 + 30 - 18) + 10 * 10 / 30) / 30
    of_truck = 4 * 4 / 24 / 4
    assert found.means().aq == pytest.approx((of_car + of_truck) / 2)
    # IoU of car 28 / (34 + 30 - 28), of truck 0 / 4, of road (6 + 8 + 10) / (26 + 26 - 24).
    assert found.means().sq == pytest.approx((28 / 36 + 0 + 24 / 28) / 3)
    assert found.means().stq == pytest.approx(math.sqrt(found.means().aq * found.means().sq))
    # IoU of the car 10 / 14, 8 / 12 and 1: matched three times, in the third by another id.
    assert (found.means().objects, found.means().followed, found.means().id_switches) == (2, 1, 1)


def test_one_id_all_along_is_perfect_whatever_its_number():
    frames = [row((10, CAR, 1), (5, CAR, 2), (7, ROAD, 0)), row((5, CAR, 2), (7, ROAD, 0)), row((8, CAR, 1))]
    renamed = [(c, np.where(i > 0, 65_536 - i, 0).astype(np.int32)) for c, i in frames]
    found = drive(*zip(renamed, frames))
    assert found.means().stq == found.means().aq == found.means().sq == 1
    assert (found.means().objects, found.means().followed, found.means().id_switches) == (2, 2, 0)


@pytest.mark.parametrize(("ids", "switches", "followed"), [
    ([1, 1, 1, 1], 0, 1),
    ([1, 2, 2, 2], 1, 1),
    ([1, 2, 1, 2], 3, 1),
    ([1, None, None, 1], 0, 1),  # lost and found again under its number
    ([1, None, None, 2], 1, 1),
    ([None, None, 5, None], 0, 0),
    ([65_535, 1, 1, 1], 1, 1),  # numbers begin again: another track
    ([0, 1, 0, 2], 1, 1),  # what no track claims is no match
])  # fmt: skip
def test_switches_are_counted_from_match_to_match(ids, switches, followed):
    nothing = row((10, ROAD, 0))
    found = drive(*[(nothing if i is None else car(i), car(3)) for i in ids])
    assert (found.means().objects, found.means().followed, found.means().id_switches) == (1, followed, switches)


def test_half_is_no_match_and_another_class_is_none_either():
    def frames(length, kind, instance):
        return row((length, kind, instance), (10 - length, ROAD, 0)), car(3)

    assert drive(frames(5, CAR, 1), frames(5, CAR, 2)).means().followed == 0
    assert drive(frames(6, CAR, 1), frames(6, CAR, 2)).means().id_switches == 1
    truck = drive(frames(10, TRUCK, 1), frames(10, TRUCK, 2))
    assert truck.means().followed == 0 and truck.means().aq == pytest.approx(
        2 * 10 * 10 / 20 / 20
    )  # AQ does not ask for classes


def test_halves_of_a_drive_by_two_ids_are_worth_half():
    assert drive((car(1), car(3)), (car(2), car(3))).means().aq == pytest.approx(0.5)
    assert drive((car(1), car(3)), (car(1), car(4))).means().aq == pytest.approx(0.5)  # one id for two cars
    assert drive((car(1), car(3)), (row((10, ROAD, 0)), car(3))).means().aq == pytest.approx(
        0.25
    )  # not seen in one of two


def test_true_things_that_nobody_told_apart_are_cut_out():
    true = row((10, CAR, 3), (10, CAR, 0))
    assert drive((row((20, CAR, 1)), true)).means().aq == 1
    crowd = drive((car(1), car(0)))
    assert (
        crowd.means().objects == 0
        and math.isnan(crowd.means().aq)
        and math.isnan(crowd.means().stq)
        and crowd.means().sq == 1
    )


def test_predicted_things_without_an_id_are_one_tube():
    two = row((10, CAR, 1), (10, CAR, 2))
    assert drive((row((20, CAR, 0)), two)).means().aq == pytest.approx(0.5)


def test_what_is_invented_in_free_space_makes_tubes_larger_and_what_is_ignored_does_not():
    true = row((10, CAR, 3), (10, FREE, 0))
    assert drive((row((20, CAR, 1)), true)).means().aq == pytest.approx(0.5)
    assert drive((row((20, CAR, 1)), true), ignored=(FREE,)).means().aq == 1


def test_a_mask_cuts():
    predicted, true = row((10, CAR, 1), (10, CAR, 2)), row((20, CAR, 3))
    seen = np.arange(20) < 10
    found = TrackingQuality.empty(LABELS).add(*predicted, *true, seen)
    assert found.means().aq == 1 and found.confusion.counts.sum() == 10


def test_equal_ids_of_other_drives_are_other_objects():
    one, other = drive((car(1), car(3)), (car(1), car(3))), drive((car(2), car(3)), (car(2), car(3)))
    both = one + other
    assert both.means().aq == 1 and (both.means().objects, both.means().followed, both.means().id_switches) == (2, 2, 0)
    assert (both + one).means().objects == 3
    mixed = drive((car(1), car(3)), (car(1), car(3)), (car(2), car(3)), (car(2), car(3)))
    assert mixed.means().id_switches == 1 and mixed.means().aq == pytest.approx(0.5)


def test_after_its_end_another_drive_begins():
    first = drive((car(1), car(3))).ended()
    assert not first.drive.common and first.means().objects == 1 and first.means().aq == 1
    second = first.add(*car(2), *car(3))
    assert (second.means().objects, second.means().id_switches, second.means().aq) == (2, 0, 1)
    assert (first + first).add(*car(2), *car(3)).means().objects == 3


def test_parts_of_a_drive_go_on_wherever_it_is_cut():
    frames = tracked_drives(drives=1)[0]

    def part(frames):
        quality = TrackingQuality.empty(LIDARSEG)
        for f in frames:
            quality = quality.add(f.predicted_class, f.predicted_instance, f.true_class, f.true_instance)
        return quality

    whole = part(frames)
    for cut in range(len(frames) + 1):
        joined = part(frames[:cut]).then(part(frames[cut:]))
        assert (
            joined.means().stq == pytest.approx(whole.means().stq) and joined.means().objects == whole.means().objects
        )
        assert (joined.means().followed, joined.means().id_switches) == (
            whole.means().followed,
            whole.means().id_switches,
        )
    three = part(frames[:2]).then(part(frames[2:5]).then(part(frames[5:])))
    assert three.means().id_switches == whole.means().id_switches > 5
    with pytest.raises(ValueError, match="add these with"):
        whole.then(whole.ended())
    with pytest.raises(ValueError, match="other label sets"):
        whole.then(TrackingQuality.empty(LABELS))


def test_drives_meet_where_they_share_a_tube_with_an_id():
    one = drive((car(1), car(3))).drive
    assert one.meets(drive((car(2), car(3))).drive) and one.meets(drive((car(1), car(4))).drive)
    assert not one.meets(drive((car(2), car(4))).drive)
    unclaimed = drive((car(0), car(3))).drive
    assert not unclaimed.meets(drive((car(0), car(4))).drive)


def test_all_numbers_come_from_one_walk_over_the_drive(monkeypatch):
    quality, walks, sums = drive((car(1), car(3)), (car(1), car(3))), [], DriveTubes.sums
    monkeypatch.setattr(DriveTubes, "sums", lambda tubes: walks.append(tubes) or sums(tubes))
    found = quality.means_of_present()
    assert (found.stq, found.aq, found.sq) == (1, 1, 1) and len(walks) == 1
    going_on = DriveScores(1, tracks=quality, point_tracks=quality).then(DriveScores(1, tracks=quality))
    assert len(walks) == 1 and going_on.tracks.means().followed == 1 and going_on.frames == 2


def test_a_value_stays_as_it_was():
    start = drive((car(1), car(3)))
    start.add(*car(2), *car(3))
    assert start.means().objects == 1 and start.means().aq == 1 and start.means().id_switches == 0


def slow_tubes(frames, things, side):
    """Tube -> the set of its (frame, place); those of the prediction are kept whatever the truth."""
    tubes = {}
    for at, frame in enumerate(frames):
        classes, ids = getattr(frame, f"{side}_class"), getattr(frame, f"{side}_instance")
        for place, (kind, number) in enumerate(zip(classes.tolist(), ids.tolist())):
            crowd = things[frame.true_class[place]] and frame.true_instance[place] == 0
            if things[kind] and not crowd:
                tubes.setdefault((kind, number), set()).add((at, place))
    return tubes


def slow_association(frames, things):
    true, predicted = (slow_tubes(frames, things, side) for side in ("true", "predicted"))
    return [sum(len(g & p) * len(g & p) / len(g | p) for p in predicted.values()) / len(g) for g in true.values()]


def slow_switches(frames, things):
    """(followed, switches), object by object and frame by frame."""
    true, predicted = (slow_tubes(frames, things, side) for side in ("true", "predicted"))
    followed = switches = 0
    for (kind, _), g in true.items():
        ids = []
        for at in range(len(frames)):
            mine = {place for place in g if place[0] == at}
            for (guess, number), p in predicted.items():
                theirs = {place for place in p if place[0] == at}
                if mine and guess == kind and number and len(mine & theirs) / len(mine | theirs) > 0.5:
                    ids.append(number)
        followed += len(ids) > 1
        switches += sum(a != b for a, b in zip(ids, ids[1:]))
    return followed, switches


def test_a_slow_count_of_random_drives_says_the_same():
    things = LIDARSEG.is_thing
    total, association, followed, switches = TrackingQuality.empty(LIDARSEG), [], 0, 0
    for frames in tracked_drives(seed=3, drives=2, frames=6, stretches=25):
        quality = TrackingQuality.empty(LIDARSEG)
        for f in frames:
            quality = quality.add(f.predicted_class, f.predicted_instance, f.true_class, f.true_instance)
        total, association = total + quality, association + slow_association(frames, things)
        more = slow_switches(frames, things)
        followed, switches = followed + more[0], switches + more[1]
    assert total.means().aq == pytest.approx(np.mean(association)) and total.means().objects == len(association)
    assert (total.means().followed, total.means().id_switches) == (followed, switches)
    assert 0.2 < total.means().aq < 0.9 and switches > 5


def test_numbers_of_any_width_and_type_do_not_run_over():
    frame = tracked_drives(drives=1, frames=1)[0][0]
    arguments = (frame.predicted_class, frame.predicted_instance, frame.true_class, frame.true_instance)
    wide = TrackingQuality.empty(LIDARSEG).add(*arguments)
    narrow = TrackingQuality.empty(LIDARSEG).add(*(a.astype(t) for a, t in zip(arguments, ("u1", "u2", "u1", "i4"))))
    huge = TrackingQuality.empty(LIDARSEG).add(
        arguments[0], np.where(arguments[1] > 0, 2**32 - 1 - arguments[1], 0), arguments[2], arguments[3]
    )
    assert wide.means().aq == narrow.means().aq == huge.means().aq
    with pytest.raises(ValueError, match="below 2\\^32"):
        TrackingQuality.empty(LABELS).add(*car(1), car(1)[0], np.full(10, 2**32))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="true instances have the shape"):
        TrackingQuality.empty(LABELS).add(*car(1), car(1)[0], car(1)[1][:3])
    with pytest.raises(ValueError, match="predicted instance ids must be whole numbers from 0"):
        TrackingQuality.empty(LABELS).add(car(1)[0], -car(1)[1], *car(1))
    with pytest.raises(ValueError, match="predicted class ids reach from 9 to 9"):
        TrackingQuality.empty(LABELS).add(*row((10, 9, 1)), *car(1))
    with pytest.raises(ValueError, match="not all within 0..3"):
        TrackingQuality.empty(LABELS, (4,))
    with pytest.raises(ValueError, match="other label sets"):
        TrackingQuality.empty(LABELS) + TrackingQuality.empty(LIDARSEG)


def test_memory_grows_with_pairs_not_with_frames_and_a_grid_is_fast():
    draw = np.random.default_rng(0)
    shape = (64, 64, 16)
    true = np.where(draw.random(shape) < 0.05, OCC3D.names.index("car"), OCC3D.free_id).astype(np.uint8)
    ids = draw.integers(1, 40, shape, dtype=np.int32)
    quality, start = TrackingQuality.empty(OCC3D), time.thread_time()
    for _ in range(20):
        quality = quality.add(true, ids, true, ids)
    assert (time.thread_time() - start) / 20 < 0.1  # 2 ms on a free core
    assert len(quality.drive.common) == len(quality.drive.true_size) == 39
    empty = np.zeros(0, np.int32)
    assert TrackingQuality.empty(OCC3D).add(empty, empty, empty, empty).means().objects == 0
