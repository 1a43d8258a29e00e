"""The lines of ~/status: all that a person asks first, in a dozen lines."""

import pytest

from panoocc_ros.health.latency import summarise
from panoocc_ros.health.stages import READY_TO_OUTPUT, STAGES
from panoocc_ros.health.status_text import ALL_STATUSES, WHAT_NOW, StatusText
from panoocc_ros.health.verdicts import (
    ERROR,
    LOOK_AT_TRANSFORMS,
    OK,
    OUTPUT,
    WARN,
    Health,
    budget_health,
    timing_health,
)
from panoocc_ros.load.governor import Governor

MODEL = {"model": "nano", "device": "cuda:0", "precision": "fp16", "weights": "seeded", "memory_mb.host": "812"}
MODEL |= {"history_fused": "3", "history_s": "6.0", "states_kept": "4", "resets.gap": "2"}
OUT = {"state": "idle", "grids_out": "120", "sets_in": "126", "sets_dropped": "6", "drops.busy": "6", "rate_hz": "5.9"}
DEAD = "dead: the last image on /cam_2 came 3.4 s ago"


def camera(number, level=OK, message="12.0 Hz", age="0.04"):
    values = {"topic": f"/cam_{number}", "rate_hz": "12.01", "last_image_age_s": age, "drops.late": "3"}
    return Health(f"camera CAM_{number}", level, message, values, f"ros2 topic hz /cam_{number}")


def healths(*changed, cameras=6):
    times = {"decode": summarise([12.0]), "backbone": summarise([61.0]), READY_TO_OUTPUT: summarise([103.0, 103.0])}
    fine = [camera(number) for number in range(cameras)] + [
        Health("transforms", OK, "history is fused through odom"),
        Health("model", OK, "nano on cuda:0", MODEL),
        timing_health(times, {}),
        Health(OUTPUT, OK, "120 grids from 126 sets", OUT | {"last_grid_age_s": "0.10"}),
    ]
    instead = {one.subject: one for one in changed}
    return [instead.get(one.subject, one) for one in fine]


@pytest.fixture
def clock():
    return [100.0]


@pytest.fixture
def status(clock):
    return StatusText("robot1/panoocc", lambda: clock[0])


def test_all_that_is_asked_first_is_there(status):
    text = status.text(healths())
    for words in (
        "robot1/panoocc: OK, 5.9 grids a second, the last one 0.10 s ago; 120 grids from 126 sets, 6 dropped (busy 6)",
        "CAM_0: 12.0 Hz, 0.04 s ago, 3 dropped | CAM_1",
        "103 ms (p95 103) from complete set to grid; most of it: backbone 61, decode 12",
        "nano on cuda:0 (fp16), weights seeded; host 812 MB",
        "3 states fused, back to 6.0 s; resets: gap 2",
        "problem  none so far",
    ):
        assert words in text
    assert len(text.splitlines()) <= 12


def test_a_budget_has_its_line_with_what_is_left_out(status):
    governor = Governor(["markers"], {}, budget_ms=100)
    assert "budget" not in status.text(healths())
    text = status.text([*healths(), budget_health(governor.spending())])
    assert "budget   100 ms a set; nothing is left out" in text
    assert not governor.left_out({"markers"}, {"markers"})
    governor.record(130.0, {"markers": 40.0})
    assert governor.left_out({"markers"}, {"markers"}) == {"markers"}
    governor.record(90.0, {})
    text = status.text([*healths(), budget_health(governor.spending())])
    assert "budget   110.0 of 100 ms a set; left out: markers (0 s)" in text
    assert "now, WARN: budget: to hold 100 ms a set" in text and "frame_budget_ms" in text.splitlines()[-1]
    assert len(text.splitlines()) <= 12


def test_the_last_problem_stays_with_what_to_do(status, clock):
    late = Health(OUTPUT, ERROR, f"no new grid for 3 s: camera CAM_2: {DEAD}", OUT | {"last_grid_age_s": "3.00"})
    text = status.text(healths(camera(2, ERROR, DEAD, "3.40"), Health("transforms", WARN, "odd"), late))
    assert text.splitlines()[0].startswith("robot1/panoocc: ERROR")
    assert "CAM_2 ERROR: 12.0 Hz, 3.40 s ago" in text
    assert f"problem  now, ERROR: camera CAM_2: {DEAD}\ndo       ros2 topic hz /cam_2" in text
    clock[0] += 34.0
    assert f"problem  34 s ago, ERROR: camera CAM_2: {DEAD}" in status.text(healths())


def test_a_node_that_is_not_active_says_so(status):
    health = Health(OUTPUT, WARN, "no grid: the node is inactive: activate it", {"state": "inactive"})
    lines = status.text([health, Health("model", OK, "nano", MODEL | {"history_fused": "0"})]).splitlines()
    assert lines[0] == "robot1/panoocc: WARN, inactive" and "activate it" in lines[-2]


@pytest.mark.parametrize("cameras", [1, 6, 12, 40])
def test_it_stays_short_however_many_cameras_there_are_and_however_long_a_message(status, cameras):
    bad = [camera(number, ERROR, "x" * 5000) for number in range(0, cameras, 2)]
    text = status.text(healths(*bad, cameras=cameras))
    assert len(text.splitlines()) <= 12 and max(map(len, text.splitlines())) <= 240


def test_names_with_braces_are_no_fields_and_a_first_look_has_no_times(status):
    assert "ros2 topic hz /a{b}" in status.text([camera_of("/a{b}"), *healths()[1:]])
    text = status.text([timing_health({}, {}), healths()[-1]])
    assert "latency  no grid yet" in text


def camera_of(topic):
    values = {"topic": topic, "rate_hz": "0.00", "last_image_age_s": "never"}
    return Health("camera CAM_0", ERROR, f"no image yet on {topic}", values, f"ros2 topic hz {topic}")


def test_the_remedy_follows_the_reason_and_is_no_path_which_a_vehicle_lacks(status):
    sets = Health("sets", WARN, "in the last 5 s: lost 1, the last one since odom is late", {}, LOOK_AT_TRANSFORMS)
    assert status.text(healths(sets, cameras=1) + [sets]).endswith("do       ros2 run tf2_ros tf2_monitor")
    assert status.text(healths(Health(OUTPUT, WARN, "no new grid", OUT | {"last_grid_age_s": "9"}))).endswith(
        ALL_STATUSES
    )
    assert not any("docs/" in remedy for remedy in (*WHAT_NOW.values(), ALL_STATUSES))


def test_a_node_that_is_not_configured_says_why_in_full_and_by_which_command_it_is(status):
    why = f"no grid: the node is unconfigured, since parameter rig: {'a long path ' * 12}: no such file"
    command = "ros2 lifecycle set /panoocc configure, then activate"
    text = status.text([Health(OUTPUT, ERROR, why, {"state": "unconfigured"}, command)])
    assert text.startswith("robot1/panoocc: ERROR, unconfigured") and "no such file" in text
    assert text.endswith(f"do       {command}")


def test_stages_have_names_that_topics_may_have():
    assert all(stage.replace("_", "").isalpha() and stage.islower() for stage in STAGES)
    assert all(what for what in (*STAGES.values(), *WHAT_NOW.values()))
