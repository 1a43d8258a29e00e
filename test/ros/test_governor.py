"""What a budget of time leaves out, by simulated times: no more than it must, in its order, and without flapping."""

import pytest

from panoocc_ros.health.recent import HOLD_S as TOLD_S
from panoocc_ros.health.verdicts import OK, WARN, budget_health
from panoocc_ros.load.governor import HOLD_S, STEADY_S, TRIAL_S, WINDOW, Governor
from panoocc_ros.outputs.catalogue import (
    INSTANCES,
    LABELLED_POINTS,
    LEFT_OUT_FIRST,
    OCCUPANCY,
    OUTPUTS,
    STAGES_OF,
    VISIBLE,
)

ORDER = ("picture", "cubes", "cloud", "map", "sight", "things")
NEEDS = {"map": {"sight"}, "cubes": {"things"}, "cloud": {"things"}}
PERIOD_S = 0.1


class Drive:
    """Sets at 10 Hz, what each thing takes of them, and what the governor made of it."""

    def __init__(self, budget_ms, must_ms, **costs_ms):
        self.now_s, self.must_ms, self.costs_ms = 50.0, must_ms, costs_ms
        self.governor = Governor(ORDER, NEEDS, budget_ms, now_s=lambda: self.now_s)
        self.left_out, self.times_ms = [], []
        self.asked = set(costs_ms)

    def go(self, seconds, due=lambda number: None):
        """So many seconds; returns what was left out of each set."""
        first = len(self.left_out)
        for _ in range(round(seconds / PERIOD_S)):
            number = len(self.left_out)
            wanted = due(number) or self.asked
            left_out = self.governor.left_out(self.asked, wanted)
            made = {name: self.costs_ms[name] for name in wanted - left_out}
            self.times_ms.append(self.must_ms + sum(made.values()))
            self.governor.record(self.times_ms[-1], made)
            self.left_out.append(left_out)
            self.now_s += PERIOD_S
        return self.left_out[first:]

    @property
    def health(self):
        return budget_health(self.governor.spending())


def changes(sets):
    """How often what is left out changed."""
    return sum(a != b for a, b in zip(sets, sets[1:]))


def test_without_a_budget_or_within_it_nothing_is_left_out():
    for budget_ms in (0, 100):
        drive = Drive(budget_ms, 60, picture=20, things=15)
        assert set(drive.go(3)) == {frozenset()}
    assert drive.health.level == OK and drive.health.values["set_ms"] == "95.0"


def test_the_least_important_gives_way_and_no_more_than_must():
    drive = Drive(100, 60, picture=20, cubes=10, cloud=10, things=10)
    assert drive.go(3)[-1] == {"picture"}
    drive.must_ms = 75
    assert drive.go(3)[-1] == {"picture", "cubes"}
    assert max(drive.times_ms[-5:]) <= 100


def test_what_is_cheap_is_kept_though_something_more_important_is_too_dear():
    drive = Drive(100, 60, picture=5, cloud=50, things=5)
    assert drive.go(3)[-1] == {"cloud"}


def test_what_cannot_be_made_without_something_goes_with_it():
    drive = Drive(100, 60, cubes=1, cloud=1, map=1, sight=50, things=1)
    assert drive.go(2)[-1] == {"map", "sight"}
    drive.must_ms, drive.costs_ms["things"] = 95, 30
    assert {"things", "cubes", "cloud"} <= drive.go(2)[-1]


def test_one_slow_set_leaves_nothing_out():
    drive = Drive(100, 60, picture=20)
    drive.go(2)
    drive.must_ms = 500
    drive.go(PERIOD_S)
    drive.must_ms = 60
    assert set(drive.go(3)) == {frozenset()}


def test_it_comes_back_when_the_load_ends_and_the_diagnostic_says_both():
    drive = Drive(100, 60, picture=30)
    drive.go(2)
    assert drive.health.level == OK
    drive.must_ms = 90
    drive.go(2)
    health = drive.health
    assert health.level == WARN and health.message == (
        "to hold 100 ms a set, left out: picture (2 s); the network and ~/occupancy alone take 90 ms"
    )
    assert "frame_budget_ms" in health.remedy and int(health.values["left_out.picture"]) >= 10
    drive.must_ms = 50
    back = drive.go(HOLD_S + 1)
    assert back[-1] == frozenset() and changes(back) == 1
    assert drive.health.level == WARN and "were left out" in drive.health.message
    drive.go(TOLD_S)
    assert drive.health.level == OK


def test_a_load_near_the_budget_does_not_make_it_flap():
    drive = Drive(100, 60, picture=30)
    drive.go(2)
    sets = []
    for number in range(600):  # a minute in which the network takes 64 to 72 ms: with the picture 94 to 102
        drive.must_ms = 68 + 4 * (-1) ** (number // 30)
        sets += drive.go(PERIOD_S)
    assert changes(sets) <= 6  # it would be 19 that followed every change of the load


def test_what_returns_too_early_again_and_again_waits_ever_longer():
    drive = Drive(100, 60, picture=30)
    drive.go(2)
    sets = []
    for number in range(1200):  # two minutes of a load that comes and goes
        drive.must_ms = 50 if number // 40 % 2 else 95
        sets += drive.go(PERIOD_S)
    assert changes(sets) <= 14  # it would be 29 that followed every change of the load


def test_what_has_become_cheap_while_it_was_left_out_is_found_out():
    drive = Drive(100, 60, picture=80)
    assert drive.go(2)[-1] == {"picture"}
    drive.costs_ms["picture"] = 10
    assert drive.go(TRIAL_S)[-1] == frozenset()


def test_what_stays_too_dear_is_tried_ever_more_seldom():
    drive = Drive(100, 60, picture=80)
    drive.go(600)
    made = sum("picture" not in left_out for left_out in drive.left_out[20:])
    assert 2 <= made <= 6  # after 10, 20, 40, ... seconds
    assert drive.health.level == WARN and "picture (600 s)" in drive.health.message


def test_a_budget_that_cannot_be_held_is_told_with_what_the_network_alone_takes():
    drive = Drive(100, 130, picture=10, things=10)
    assert drive.go(2)[-1] == {"picture", "things"}
    assert drive.health.level == WARN and drive.health.message.startswith(
        "the budget of 100 ms cannot be held: the network and ~/occupancy alone take 130 ms a set; left out: picture"
    )
    drive = Drive(100, 130)
    drive.go(2)
    assert "nothing optional is left" in drive.health.message and "smaller preset" in drive.health.remedy


def test_what_is_seldom_due_counts_when_it_is_and_what_nobody_wants_is_forgotten():
    drive = Drive(100, 60, picture=80, things=10)
    sets = drive.go(5, due=lambda number: {"things", "picture"} if number % 10 == 0 else {"things"})
    assert [number for number, left_out in enumerate(sets) if left_out] == [10, 20, 30, 40]
    assert drive.governor.spending().counts == {"picture": 4} and list(drive.governor.spending().dropped) == ["picture"]
    drive.asked = {"things"}
    drive.go(1)
    assert not drive.governor.spending().dropped


def test_another_budget_holds_from_the_next_set_on():
    drive = Drive(100, 60, picture=60)
    assert drive.go(2)[-1] == {"picture"}
    drive.governor.take_budget(200)
    assert drive.go(PERIOD_S) == [frozenset()]
    drive.governor.take_budget(0)
    drive.must_ms = 5000
    assert set(drive.go(STEADY_S)) == {frozenset()}


def test_a_new_load_is_met_within_half_a_window_of_sets():
    drive = Drive(100, 60, picture=30)
    drive.go(2)
    drive.must_ms = 90
    assert drive.go(1)[WINDOW // 2 + 1] == {"picture"}


def test_every_output_but_the_grid_has_its_place_in_the_order():
    topics = {one.topic for one in OUTPUTS if one.in_node}
    assert set(LEFT_OUT_FIRST) == (topics - {OCCUPANCY.topic}) | {LABELLED_POINTS, INSTANCES, VISIBLE}
    assert len(set(LEFT_OUT_FIRST)) == len(LEFT_OUT_FIRST)
    for topic, stages in STAGES_OF.items():
        if topic in LEFT_OUT_FIRST:
            assert all(LEFT_OUT_FIRST.index(stage) > LEFT_OUT_FIRST.index(topic) for stage in stages), topic


@pytest.mark.parametrize("name", ["picture", "things"])
def test_a_thing_that_nobody_has_measured_is_made_once(name):
    drive = Drive(100, 60, **{name: 50})
    assert [drive.go(PERIOD_S)[0] for _ in range(2)] == [frozenset(), {name}]
