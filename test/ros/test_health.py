"""The words of the diagnostics: what is wrong is named, and a lack of output always has a reason."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

from panoocc_ros.health.latency import summarise
from panoocc_ros.health.ledger import Ledger
from panoocc_ros.health.verdicts import (
    ERROR,
    OK,
    READY_TO_OUTPUT,
    WARN,
    CameraReport,
    Health,
    ModelReport,
    OutputReport,
    camera_health,
    model_health,
    output_health,
    summary_from_values,
    timing_health,
)

CAMERA = CameraReport("CAM_BACK", "/cam_back/image_raw", 30, 0.1, 12.0, True, "/cam_back/camera_info", {})
OUTPUT = OutputReport(5, 5, {}, 0, 0, False, 1, 0.3, None)


def occupancy(reset=None, ages=(0.5,)):
    return SimpleNamespace(history=SimpleNamespace(reset=reset, ages_s=ages, states_kept=2))


def test_a_healthy_camera_has_its_rate():
    health = camera_health(CAMERA, node_age_s=100, timeout_s=2)
    assert (health.level, health.subject) == (OK, "camera CAM_BACK") and "12.0 Hz" in health.message


def test_a_dead_camera_is_an_error_with_the_age_of_its_last_image():
    health = camera_health(replace(CAMERA, image_age_s=7.25), node_age_s=100, timeout_s=2)
    assert health.level == ERROR and "/cam_back/image_raw came 7.2 s ago" in health.message


def test_a_camera_that_never_came_is_an_error_only_after_the_timeout():
    silent = replace(CAMERA, image_age_s=None)
    assert camera_health(silent, node_age_s=1, timeout_s=2).level == WARN
    health = camera_health(silent, node_age_s=3, timeout_s=2)
    assert health.level == ERROR and "no image yet on /cam_back/image_raw" in health.message


def test_missing_calibration_and_wrong_qos_are_named():
    health = camera_health(replace(CAMERA, has_calibration=False), 100, 2)
    assert health.level == ERROR and "/cam_back/camera_info" in health.message
    deaf = replace(CAMERA, mismatch="/cam_back/image_raw: RELIABILITY")
    assert camera_health(deaf, 100, 2).level == WARN
    health = camera_health(replace(deaf, image_age_s=None), 100, 2)
    assert health.level == ERROR and "RELIABILITY" in health.message


def test_output_says_why_there_is_none():
    dead = Health("camera CAM_BACK", ERROR, "dead: the last image came 7.2 s ago")
    health = output_health(OUTPUT, [Health("x", OK, ""), dead])
    assert health.level == ERROR and "camera CAM_BACK: dead" in health.message
    refused = replace(OUTPUT, last_problem="CAM_BACK: the JPEG is corrupt")
    health = output_health(refused, [])
    assert health.level == WARN and "corrupt" in health.message
    assert "no complete set" in output_health(replace(OUTPUT, grids_out=0, sets_in=0), []).message


def test_output_counts_and_state():
    report = replace(OUTPUT, drops={"busy": 2, "image": 1}, waiting=1)
    values = output_health(report, []).values
    assert (values["state"], values["sets_dropped"], values["drops.busy"]) == ("waiting", "3", "2")
    assert output_health(replace(report, working=True), []).values["state"] == "working"
    assert output_health(OUTPUT, []).values["state"] == "idle"
    half = output_health(replace(OUTPUT, collecting=1), [])
    assert (half.values["state"], half.message) == ("waiting", output_health(OUTPUT, []).message)
    assert output_health(OUTPUT, []).values["subscribers"] == "1"


def test_timing_goes_there_and_back_and_knows_limits():
    summary = {"decode": summarise([1.0, 2.0]), READY_TO_OUTPUT: summarise([100.0, 300.0])}
    health = timing_health(summary, warn_ms=0, error_ms=0)
    assert health.level == OK and summary_from_values(health.values) == summary
    assert timing_health(summary, warn_ms=50, error_ms=0).level == WARN
    assert timing_health(summary, warn_ms=50, error_ms=60).level == ERROR


def test_seeded_weights_are_never_ok():
    report = ModelReport("nano", "seeded", True, "cpu", "fp32", 0, 0, {}, 0, None, 0.1)
    assert model_health(report).level == WARN and "not trained" in model_health(report).message
    failed = replace(report, last_failure="RuntimeError: out of memory", resets={"clock_jump": 2})
    assert model_health(failed).level == ERROR and model_health(failed).values["resets.clock_jump"] == "2"
    assert model_health(replace(report, seeded=False)).level == OK


def test_the_ledger_numbers_grids_and_forgets_a_problem_when_one_comes():
    now = [10.0]
    ledger = Ledger(now_s=lambda: now[0])
    assert ledger.grid(occupancy(reset="clock_jump", ages=())) == 0
    ledger.drop("busy", "a newer set came first")
    ledger.refuse("CAM_BACK: corrupt")
    assert ledger.read().problem == "CAM_BACK: corrupt"
    ledger.fail("RuntimeError: out of memory")
    now[0] = 12.5
    accounts = ledger.read()
    assert accounts.drops == Counter(busy=1, failed=1)
    assert (accounts.problem, accounts.last_grid_age_s) == ("RuntimeError: out of memory", 2.5)
    assert ledger.grid(occupancy()) == 1
    accounts = ledger.read()
    assert (accounts.problem, accounts.failure, accounts.failures, accounts.grids) == (None, None, 1, 2)
    assert accounts.resets == Counter(clock_jump=1) and accounts.history_fused == 1
