"""The words of the diagnostics: causes are named, warnings end with their cause, and a lack of output has a reason."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from panoocc_ros.frames.rig import load_rig
from panoocc_ros.frames.sets import AssemblerStatus
from panoocc_ros.health.arrivals import Arrivals
from panoocc_ros.health.health_log import LINE_S, SAME_S, START_S, HealthLog
from panoocc_ros.health.latency import Excess, StageTimes, summarise
from panoocc_ros.health.ledger import Accounts, Ledger
from panoocc_ros.health.recent import HOLD_S, Recent
from panoocc_ros.health.running_time import RunningTime
from panoocc_ros.health.stages import READY_TO_OUTPUT
from panoocc_ros.health.verdicts import (
    ERROR,
    LOOK_AT_TRANSFORMS,
    OK,
    WARN,
    Health,
    Lately,
    StepTime,
    callbacks_health,
    camera_health,
    clock_health,
    geometry_health,
    model_health,
    sets_health,
    summary_from_values,
    timing_health,
    transforms_health,
)
from panoocc_ros.streams.notices import Notice
from test.ros.statuses import output, status

RIG = load_rig("nuscenes")
BACK = RIG.camera("CAM_BACK")
GOOD = Accounts(grids=5, first_set_age_s=9.0, set_period_s=0.5, last_grid_age_s=0.3)


class Clock:
    """Seconds, moved by hand."""

    def __init__(self, now_s=100.0):
        self.now_s = now_s

    def __call__(self):
        return self.now_s

    def ns(self):
        return round(self.now_s * 1e9)


def occupancy(reset=None, ages=(0.5,)):
    return SimpleNamespace(history=SimpleNamespace(reset=reset, ages_s=ages, states_kept=2, ego_motion="poses"))


# --- time ---


def test_a_rise_is_remembered_for_the_hold_and_a_total_is_not():
    clock = Clock()
    recent = Recent(clock)
    assert recent.rises({"late": 2}) == Counter(late=2)
    clock.now_s += 1
    assert recent.rises({"late": 3, "busy": 1}) == Counter(late=3, busy=1)
    clock.now_s += HOLD_S - 0.5
    assert recent.rises({"late": 3, "busy": 1}) == Counter(late=1, busy=1)
    clock.now_s += 1
    assert not recent.rises({"late": 3, "busy": 1})


def test_running_time_stands_with_the_clock_and_jumps_take_no_time():
    ros, wall = Clock(0.0), Clock()
    time = RunningTime(ros.ns, wall)
    assert not time.has_begun and "nothing has come on /clock" in clock_health(time).message
    ros.now_s = 1e9  # the first message on /clock
    assert time() == 0 and time.has_begun
    ros.now_s += 1.5
    assert time() == pytest.approx(1.5)
    ros.now_s -= 100  # a bag that begins again
    assert time() == pytest.approx(1.5)
    ros.now_s += 2
    assert time() == pytest.approx(3.5)
    ros.now_s += 1000  # a seek
    assert time() == pytest.approx(3.5)
    assert clock_health(time).level == OK
    wall.now_s += 8.4
    assert time() == pytest.approx(3.5)
    health = clock_health(time)
    assert health.level == WARN and "has stood for 8 s" in health.message


def test_a_clock_that_is_seldom_looked_at_does_not_stand():
    ros, wall = Clock(), Clock()
    time = RunningTime(ros.ns, wall)
    for _ in range(3):
        ros.now_s += 60.0
        wall.now_s += 60.0
        time()
    assert time() == pytest.approx(180.0)
    wall.now_s += 0.05
    ros.now_s += 60.0  # a seek
    assert time() == pytest.approx(180.0)


# --- cameras ---


def camera(arrivals, lost=(), refused=0, problems=(), waited_s=100.0, **fields):
    lately = Lately(Clock())
    lately.lost_sets, lately.refused_images = Counter(dict(lost)), Counter({"CAM_BACK": refused})
    return camera_health(BACK, arrivals, status(**fields), lately, problems, waited_s, 2.0)


@pytest.fixture
def alive():
    """Arrivals of CAM_BACK at 10 Hz, the last one just now."""
    clock = Clock()
    arrivals = Arrivals(RIG.names, clock)
    for _ in range(5):
        clock.now_s += 0.1
        arrivals.on_image("CAM_BACK", clock.ns())
    return arrivals, clock


def test_a_healthy_camera_has_its_rate_and_totals_are_no_level(alive):
    health = camera(alive[0], set_drops=Counter({("image", "CAM_BACK"): 3, ("image", "CAM_FRONT"): 1}))
    assert (health.level, health.subject, health.message) == (OK, "camera CAM_BACK", "10.0 Hz")
    assert health.values["drops.image"] == "3"


def test_a_dead_camera_is_an_error_with_the_age_of_its_last_image(alive):
    arrivals, clock = alive
    clock.now_s += 7.25
    health = camera(arrivals)
    assert health.level == ERROR and f"{BACK.topic} came 7.2 s ago" in health.message
    assert float(health.values["rate_hz"]) < 0.6
    clock.now_s += 600
    assert float(camera(arrivals).values["rate_hz"]) <= 0.01


def test_a_camera_that_never_came_is_an_error_only_after_the_timeout():
    silent = Arrivals(RIG.names, Clock())
    assert camera(silent, waited_s=1.0).level == WARN
    health = camera(silent, waited_s=3.0)
    assert health.level == ERROR and f"no image yet on {BACK.topic}" in health.message


def test_what_makes_images_useless_is_named(alive):
    arrivals, _ = alive
    health = camera(arrivals, missing_info=("CAM_BACK",))
    assert health.level == ERROR and BACK.info_topic in health.message
    deaf = camera(arrivals, problems=["/cam_back: RELIABILITY"])
    assert deaf.level == WARN and "RELIABILITY" in deaf.message
    silent = camera(Arrivals(RIG.names, Clock()), problems=["/cam_back: RELIABILITY"])
    assert silent.level == ERROR and "RELIABILITY" in silent.message
    lost = camera(arrivals, lost={("image", "CAM_BACK"): 2, ("image", "CAM_FRONT"): 9}.items())
    assert lost.level == WARN and "image (2)" in lost.message


def test_notices_count_while_they_are_fresh(alive):
    notice = Notice("clock", "CAM_BACK", "its stamps stand at 12 s", 9, 20.0, 0.1)
    health = camera(alive[0], notices=(notice,))
    assert health.level == ERROR and "stand at 12 s" in health.message
    assert camera(alive[0], notices=(replace(notice, subject="CAM_FRONT"),)).level == OK
    assert camera(alive[0], notices=(replace(notice, age_s=HOLD_S + 1),)).level == OK


def test_odd_pictures_and_odd_mounts_are_named(alive):
    health = camera(alive[0], pictures={"CAM_BACK": "its pictures are black"})
    assert health.level == WARN and "are black" in health.message
    assert geometry_health(status()).level == OK and geometry_health(status(geometry=())).level == OK
    health = geometry_health(status(geometry=("CAM_BACK looks at the sky",)))
    assert health.level == WARN and "sky" in health.message


def test_a_camera_whose_images_are_refused_is_warned_of_and_an_error_when_none_can_be_used(alive):
    texts = {("refused", "CAM_BACK"): "camera CAM_BACK: the JPEG is corrupt"}
    health = camera(alive[0], refused=2, last_texts=texts)
    assert health.level == WARN and "images refused in the last 5 s: 2, the last one: camera CAM_BACK" in health.message
    lasting = Notice("unusable", "CAM_BACK", "the JPEG is corrupt", 9, 3.0, 0.5)
    health = camera(alive[0], refused=9, last_texts=texts, notices=(lasting,))
    assert health.level == ERROR and "none that can be used for 2.5 s; images refused" in health.message
    for other in (replace(lasting, age_s=1.5), replace(lasting, subject="CAM_FRONT"), replace(lasting, age_s=6.0)):
        assert camera(alive[0], notices=(other,)).level == OK


def test_images_that_are_refused_are_told_for_a_while():
    clock = Clock()
    lately = Lately(clock)
    for age_s, count in ((0.0, 2), (HOLD_S, 2), (1.0, 0)):
        clock.now_s += age_s
        lately.look(status(image_drops=Counter({("refused", "CAM_BACK"): 2, ("late", "CAM_BACK"): 1})), 0)
        assert lately.refused_images["CAM_BACK"] == count


def test_a_rate_is_that_of_the_last_seconds():
    clock = Clock()
    arrivals = Arrivals(RIG.names, clock)

    def rate_hz(period_s, duration_s):
        for _ in range(round(duration_s / period_s)):
            clock.now_s += period_s
            arrivals.on_image("CAM_BACK", clock.ns())
        return arrivals.rate_hz("CAM_BACK")

    assert rate_hz(0.25, 5.0) == pytest.approx(4.0)  # a second publisher
    assert rate_hz(0.5, 2.5) == pytest.approx(2.0)
    clock.now_s += 30.0  # it dies
    assert rate_hz(0.5, 2.5) == pytest.approx(2.0)
    assert rate_hz(5.0, 10.0) == pytest.approx(0.2)
    assert rate_hz(0.01, 1.0) == pytest.approx(100.0)


def gaps(clock, arrivals, periods, period_s=0.1):
    """Images so many periods after one another, by stamp and arrival."""
    for count in periods:
        clock.now_s += count * period_s
        arrivals.on_image("CAM_BACK", clock.ns())


@pytest.mark.parametrize("period_ns", [None, 80_000_000], ids=["spacing", "rig"])
def test_images_that_are_lost_on_the_way_are_told_by_gaps_between_stamps(period_ns):
    clock = Clock()
    arrivals = Arrivals(RIG.names, clock, period_ns)
    gaps(clock, arrivals, [1] * 10)
    assert arrivals.lost_share("CAM_BACK") == 0 and camera(arrivals).level == OK
    gaps(clock, arrivals, [1, 2, 1, 1, 3, 1, 2, 1, 1, 2, 1, 2, 1, 2, 1, 1, 2, 2, 1, 1])
    health = camera(arrivals)
    assert health.level == WARN and "% of its images do not arrive" in health.message and BACK.topic in health.message
    assert 20 <= float(health.values["lost_on_the_way_percent"]) <= 40
    assert float(health.values["expected_rate_hz"]) == pytest.approx(10.0 if period_ns is None else 12.5)
    gaps(clock, arrivals, [1] * 20)
    assert camera(arrivals).level == OK


def test_what_is_no_loss_on_the_way():
    clock = Clock()
    slow = Arrivals(RIG.names, clock, 80_000_000)  # key frames alone are played
    gaps(clock, slow, [5] * 10)
    assert slow.lost_share("CAM_BACK") == 0
    assert slow.rate_hz("CAM_BACK") == pytest.approx(2.0) and slow.expected_hz("CAM_BACK") == pytest.approx(12.5)
    uneven = Arrivals(RIG.names, clock, 80_000_000)  # nuScenes: 50 or 100 ms
    gaps(clock, uneven, [1, 1, 0.5, 1, 1, 0.5] * 3)
    assert uneven.lost_share("CAM_BACK") == 0
    dead = Arrivals(RIG.names, clock)
    gaps(clock, dead, [1] * 9 + [70, 9, 9] + [1] * 3)  # for seven seconds; two pauses; then the bag begins again
    dead.on_image("CAM_BACK", clock.ns() - 10**11)
    assert dead.lost_share("CAM_BACK") == 0


# --- transforms and sets ---


def test_transforms():
    refused = Notice("refused", "cam_back", "rotation is zero", 1, 9.0, 1.0)
    fine = transforms_health(status(), {}, [])
    assert (fine.level, fine.message) == (OK, "history is fused through odom")
    before = transforms_health(status(ready=0, fixed_frame=None), {}, [])
    assert before.level == WARN and "known" not in before.message
    lost = {("tf_timeout", "CAM_BACK"): 1}
    health = transforms_health(status(tf_missing="no cam_back", notices=(refused,)), lost, [])
    assert health.level == ERROR and "no cam_back" in health.message and "rotation is zero" in health.message
    assert transforms_health(status(notices=(refused,)), {}, []).level == WARN
    assert transforms_health(status(notices=(replace(refused, age_s=HOLD_S + 1),)), {}, []).level == OK
    assert "VOLATILE" in transforms_health(status(), {}, ["/tf_static is VOLATILE"]).message


def test_the_spread_of_a_set_and_the_age_of_the_last_pose_are_values():
    known = status(spread_ns=35_000_000, transforms_age_s=0.5)
    assert sets_health(known, {}, {}).values["spread_ms"] == "35.0"
    assert transforms_health(known, {}, []).values["last_transform_age_s"] == "0.50"
    assert transforms_health(status(), {}, []).values["last_transform_age_s"] == "never"


def test_transforms_are_no_error_for_ever_when_the_images_stop():
    clock = Clock()
    lately = Lately(clock)
    after = status(tf_missing="no cam_back", set_drops=Counter({("tf_timeout", "CAM_BACK"): 2}))
    lately.look(status(), 0)
    lately.look(after, 0)
    assert transforms_health(after, lately.lost_sets, []).level == ERROR
    clock.now_s += HOLD_S + 1
    lately.look(after, 0)
    assert transforms_health(after, lately.lost_sets, []).level == OK


def test_after_a_restart_the_fixed_frame_is_not_known_and_that_is_not_ok():
    health = transforms_health(status(fixed_frame=None), {}, [])
    assert health.level == WARN and "since the stamps went back" in health.message


@pytest.mark.parametrize("kind", ["refused", "contradiction", "late_transform"])
def test_a_notice_of_a_frame_that_is_called_like_its_camera_is_one_of_transforms(alive, kind):
    notice = Notice(kind, "CAM_BACK", "odd", 1, 9.0, 1.0)
    health = transforms_health(status(notices=(notice,)), {}, [])
    assert (health.level, health.message) == (WARN, "odd")
    assert camera(alive[0], notices=(notice,)).level == OK


@pytest.mark.parametrize("kind", ["late", "clock", "apart", "calibration"])
def test_a_notice_of_a_camera_is_none_of_transforms(alive, kind):
    notice = Notice(kind, "CAM_BACK", "odd", 1, 9.0, 1.0)
    assert transforms_health(status(notices=(notice,)), {}, []).level == OK
    assert "odd" in camera(alive[0], notices=(notice,)).message


def test_a_set_that_lacked_a_transform_is_blamed_on_no_camera_and_its_remedy_is_one_of_transforms(alive):
    lost = Counter({("tf_timeout", "CAM_BACK"): 1})
    health, after = camera(alive[0], lost=lost, set_drops=lost), status(set_drops=lost, last_drop="odom is late")
    assert health.level == OK and health.values["drops.tf_timeout"] == "1"
    assert sets_health(after, lost, {}).remedy == LOOK_AT_TRANSFORMS
    assert sets_health(after, lost, {"CAM_BACK": 1}).remedy == ""


def test_a_lost_set_warns_for_a_while():
    clock = Clock()
    lately = Lately(clock)
    after = status(
        set_drops=Counter({("missing_camera", "CAM_BACK"): 2, ("tf_timeout", ""): 1}),
        reused=Counter(CAM_FRONT=4),
        last_drop="no transform from cam_back",
    )
    lately.look(status(), 0)
    lately.look(after, 1)
    health = sets_health(after, lately.lost_sets, lately.incomplete_sets)
    assert health.level == WARN and lately.failed_callbacks == 1
    assert all(text in health.message for text in ("CAM_BACK (2)", "CAM_FRONT (4)", "no transform from cam_back"))
    clock.now_s += HOLD_S + 1
    lately.look(after, 1)
    health = sets_health(after, lately.lost_sets, lately.incomplete_sets)
    assert (health.level, health.values["incomplete.CAM_BACK"], lately.failed_callbacks) == (OK, "2", 0)


# --- output ---


DEAD = Health("camera CAM_BACK", ERROR, "dead: the last image came 7.2 s ago")


def test_grids_that_come_are_ok_whatever_else_is_wrong():
    health = output(GOOD, DEAD, Health("sets", WARN, "lost"))
    assert (health.level, health.message) == (OK, "5 grids from 6 sets")
    assert output(replace(GOOD, problem="a corrupt JPEG", problem_age_s=0.1)).level == OK


def test_the_age_of_the_last_grid_decides_and_the_reason_is_named():
    late = replace(GOOD, last_grid_age_s=3.5)
    health = output(late, Health("sets", OK, ""), DEAD, Health("transforms", ERROR, "x"))
    assert health.level == ERROR and "no new grid for 3.5 s: camera CAM_BACK: dead" in health.message
    assert "(and transforms)" in health.message
    waits = output(late, waiting=1, waiting_for="camera CAM_BACK: no transform")
    assert waits.level == WARN and "no transform" in waits.message
    refused = output(replace(late, problem="CAM_BACK: the JPEG is corrupt", problem_age_s=1.0), DEAD)
    assert refused.level == ERROR and "corrupt" in refused.message
    assert output(replace(late, problem="CAM_BACK: the JPEG is corrupt", problem_age_s=1.0)).level == WARN
    assert output(replace(late, problem="out of memory", problem_age_s=1.0, is_failure=True)).level == ERROR
    old = output(replace(late, problem="CAM_BACK: the JPEG is corrupt", problem_age_s=60.0), DEAD)
    assert "dead" in old.message
    assert output(late, Health("sets", WARN, "dropped for want of CAM_BACK")).message.endswith("want of CAM_BACK")
    assert output(late).level == WARN


def test_an_error_of_the_output_lasts_until_a_grid_comes_where_its_input_has_just_recovered():
    clock = Clock()
    lately = Lately(clock)
    assert not lately.has_error([Health("sets", WARN, "lost")])
    assert lately.has_error([DEAD])
    clock.now_s += HOLD_S - 0.5
    late = replace(GOOD, last_grid_age_s=9.3)
    assert output(late, has_error=lately.has_error([])).level == ERROR
    assert output(GOOD, has_error=lately.has_error([])).level == OK
    clock.now_s += 1.0
    assert output(late, has_error=lately.has_error([])).level == WARN


def test_slow_rigs_and_slow_networks_are_not_called_dead():
    assert output(replace(GOOD, last_grid_age_s=10.0, set_period_s=5.0)).level == OK
    at_work = StepTime(10.0, usual_s=8.0)
    assert output(replace(GOOD, last_grid_age_s=10.5, step_age_s=10.0), step=at_work, is_idle=False).level == OK
    failing = replace(GOOD, last_grid_age_s=10.5, step_age_s=0.1)
    assert output(failing, step=StepTime(0.1, usual_s=8.0), is_idle=False).level == WARN


@pytest.mark.parametrize("usual_s, fine_s, late_s", [(0.1, 1.9, 2.1), (1.0, 4.9, 5.1), (30.0, 149.0, 151.0)])
def test_a_step_hangs_when_it_takes_much_longer_than_is_usual(usual_s, fine_s, late_s):
    for busy_s, level in ((fine_s, OK), (late_s, WARN)):
        accounts = replace(GOOD, last_grid_age_s=busy_s + 0.5, step_age_s=busy_s)
        assert output(accounts, step=StepTime(busy_s, usual_s), is_idle=False).level == level
    stands = Health("clock", WARN, "playback is paused, or over")  # the machine's clock goes on
    hung = output(replace(GOOD, step_age_s=0.0), DEAD, step=StepTime(late_s, usual_s), clock=stands, is_idle=False)
    assert hung.level == WARN and f"at one set for {late_s:.0f} s" in hung.message


def test_a_hanging_set_names_its_stage():
    step = StepTime(12.3, usual_s=0.1, stage=("publish ~/occupancy", 11.2))
    health = output(GOOD, step=step, is_idle=False)
    assert "at one set for 12 s, 11 s of it in stage publish ~/occupancy" in health.message
    assert health.values["stage"] == "publish ~/occupancy" and "stage" not in output(GOOD).values


def test_the_first_step_may_take_a_minute():
    for busy_s, level in ((59.0, OK), (61.0, WARN)):
        accounts = Accounts(first_set_age_s=busy_s, step_age_s=busy_s)
        assert output(accounts, step=StepTime(busy_s), is_idle=False).level == level


def test_sets_that_are_lost_do_not_make_old_grids_new_ones():
    """One set in a hundred has its transforms; the images come twice a second all the time."""
    clock = Clock()
    ledger = Ledger(clock)
    for k in range(200):
        ledger.formed(k + 1)
        if k % 100 == 0:
            ledger.complete()
            ledger.grid(occupancy())
        clock.now_s += 0.5
        late = (k % 100 + 1) * 0.5 > 2.0
        health = output(ledger.read(), Health("transforms", ERROR, "no odom"))
        assert health.level == (ERROR if late else OK), (k, health)


def test_images_that_stop_end_the_ok_however_seldom_they_came():
    clock = Clock()
    ledger = Ledger(clock)
    for k in range(5):
        ledger.formed(k + 1)
        ledger.complete()
        ledger.grid(occupancy())
        clock.now_s += 600.0
    health = output(ledger.read())
    assert health.level == WARN and "images have stopped, the last complete set came 600.0 s ago" in health.message


def test_after_it_was_switched_off_a_grid_is_late_only_from_then_on():
    clock = Clock()
    ledger = Ledger(clock)
    ledger.formed(1)
    ledger.complete()
    ledger.grid(occupancy())
    for k in range(20):
        clock.now_s += 0.5
        ledger.formed(k + 2)
        ledger.disable()
    ledger.enable()
    assert output(ledger.read()).level == OK
    for k in range(6):  # the images go on all the time, and are not told to have stopped
        clock.now_s += 0.5
        ledger.formed(k + 22)
    health = output(ledger.read())
    assert health.level == WARN and "sets of images come, the last one 0.0 s ago" in health.message
    clock.now_s += 9.0
    assert "the images have stopped, the last complete set came 9.0 s ago" in output(ledger.read()).message


def test_while_the_clock_stands_no_output_is_ok_and_a_pause_is_no_error():
    stands = Health("clock", WARN, "the time on /clock has stood for 8 s: playback is paused, or over")
    health = output(GOOD, clock=stands)
    assert (health.level, health.message) == (WARN, f"no new grid: {stands.message}")
    never = Health("clock", ERROR, "nothing has come on /clock")
    assert output(Accounts(), clock=never).message == f"no grid yet: {never.message}"


def test_before_the_first_grid_only_work_is_ok():
    none = Accounts()
    assert "no complete set" in output(none).message and output(none).level == WARN
    first = replace(none, first_set_age_s=9.0)
    at_work = replace(first, step_age_s=8.9)
    assert output(at_work, step=StepTime(8.9), is_idle=False).message == "first set in work"
    assert output(replace(first, step_age_s=0.1), step=StepTime(0.1), is_idle=False).level == WARN
    assert output(replace(first, first_set_age_s=0.1)).level == WARN


def test_output_counts_and_state():
    accounts = replace(GOOD, drops=Counter(busy=2))
    drops = Counter({("image", "CAM_BACK"): 1, ("missing_camera", "CAM_BACK"): 5})
    values = output(accounts, waiting=1, set_drops=drops).values
    assert (values["state"], values["sets_dropped"], values["drops.busy"]) == ("waiting", "3", "2")
    assert output(accounts, waiting=1, is_idle=False).values["state"] == "working"
    assert output(GOOD).values["state"] == "idle"
    assert output(GOOD, collecting=1).values["state"] == "waiting"
    assert output(GOOD).values["subscribers"] == "1"


# --- the log ---


class Lines(list):
    """A logger that keeps what is written."""

    def info(self, text):
        self.append(("info", text))

    def warning(self, text):
        self.append(("warning", text))

    def error(self, text):
        self.append(("error", text))


@pytest.fixture
def told():
    """look(level, message, for so long, running_s) -> the lines that are written meanwhile, a look at every second."""
    clock, lines = Clock(), Lines()
    log = HealthLog(lines, clock)

    def look(level, message="", for_s=1, running_s=100.0):
        lines.clear()
        for k in range(for_s):
            log.look(Health("camera CAM_BACK", level, message.format(k)), running_s)
            clock.now_s += 1.0
        return list(lines)

    return look


def test_a_cause_is_logged_once_however_its_numbers_change_and_so_is_its_end(told):
    assert told(OK, "10.0 Hz") == []
    assert told(ERROR, "dead: the last image on /cam_1 came {}.2 s ago", 100) == [
        ("error", "camera CAM_BACK: dead: the last image on /cam_1 came 0.2 s ago")
    ]
    assert told(OK, "10.0 Hz", 2) == [("info", "camera CAM_BACK: well again")]


def test_a_cause_that_is_new_or_worse_is_logged_and_one_that_goes_is_not(told):
    assert len(told(WARN, "2.0 Hz; 2 publishers on /cam_1", 6)) == 1
    assert told(WARN, "2.0 Hz; 2 publishers on /cam_1; its stamps are 0", 6)[0][1].endswith("its stamps are 0")
    assert told(WARN, "2.0 Hz; its stamps are 0", 6) == []
    assert told(ERROR, "2.0 Hz; its stamps are 0", 6) == [("error", "camera CAM_BACK: 2.0 Hz; its stamps are 0")]
    assert told(WARN, "2.0 Hz; its stamps are 0", 6) == []
    assert len(told(WARN, "/cam_2 is not heard", 6)) == len(told(WARN, "/cam_3 is not heard", 6)) == 1


def test_what_changes_all_the_time_is_logged_seldom_and_what_came_too_soon_later(told):
    lines = [line for letter in "abcdefghijklmnopqrst" for line in told(WARN, letter)]
    assert len(lines) == 20 // LINE_S
    assert len(told(ERROR, "dead")) == 1 and told(ERROR, "its stamps are 0") == []
    assert told(ERROR, "its stamps are 0", 5) == [("error", "camera CAM_BACK: its stamps are 0")]


def test_what_comes_and_goes_is_not_logged_each_time_but_is_when_it_stays(told):
    lines = [line for _ in range(3) for line in (*told(WARN, "late"), *told(OK, for_s=6))]
    assert lines == [("warning", "camera CAM_BACK: late"), ("info", "camera CAM_BACK: well again")]
    assert told(WARN, "late", round(SAME_S)) == [("warning", "camera CAM_BACK: late")]


def test_what_is_bad_at_the_start_is_not_logged_unless_it_stays(told):
    assert told(ERROR, "no image yet", running_s=START_S - 1) == told(WARN, "late", running_s=START_S + 1) == []
    assert told(OK) == []
    assert len(told(ERROR, "no image yet", running_s=START_S + 1)) == 1


# --- the rest ---


def test_timing_goes_there_and_back_and_tells_of_limits():
    summary = {"decode": summarise([1.0, 2.0]), READY_TO_OUTPUT: summarise([100.0, 300.0])}
    health = timing_health(summary, {})
    assert health.level == OK and summary_from_values(health.values) == summary
    slow = Excess(limit_ms=50.0, last_ms=120.0, lasting_s=3.2, age_s=0.0)
    health = timing_health(summary, {WARN: slow})
    assert health.level == WARN and "every set for 3.2 s took longer than the limit of 50 ms" in health.message
    assert timing_health(summary, {WARN: slow, ERROR: slow}).level == ERROR
    assert timing_health(summary, {WARN: slow, ERROR: None}).level == WARN
    assert timing_health(summary, {WARN: replace(slow, age_s=HOLD_S + 1)}).level == OK


def test_a_limit_counts_when_set_after_set_exceeds_it_for_a_while_and_until_one_does_not():
    clock = Clock()
    times = StageTimes(now_s=clock)

    def excess(*times_ms, consecutive_s=1.0):
        for time_ms in times_ms:
            clock.now_s += 0.5
            times.add({READY_TO_OUTPUT: time_ms})
        return times.excess(READY_TO_OUTPUT, 200.0, consecutive_s)

    assert excess() is None and excess(100.0, 300.0, 100.0) is None  # a single slow one
    assert excess(300.0, 300.0, 100.0, 300.0) is None  # 0.8 s
    assert excess(consecutive_s=0.0) is not None
    slow = excess(300.0, 310.0)
    assert (slow.limit_ms, slow.last_ms, slow.age_s) == (200.0, 310.0, 0.0)
    assert slow.lasting_s == pytest.approx(1.3)
    clock.now_s += 60.0  # the next one takes its time
    assert excess().age_s == 0.0
    assert excess(100.0).age_s == pytest.approx(60.5)  # since the last slow one
    assert excess(1500.0).lasting_s == pytest.approx(1.5)  # one set that is slow for as long as that


def test_seeded_weights_are_never_ok():
    facts = {"model": "nano", "device": "cpu"}
    assert model_health(facts, True, GOOD, {}).level == WARN
    assert "not trained" in model_health(facts, True, GOOD, {}).message
    failed = replace(GOOD, problem="out of memory", is_failure=True, resets=Counter(gap=2))
    health = model_health(facts, True, failed, {"host": 812_000_000})
    assert health.level == ERROR and health.values["resets.gap"] == "2"
    assert health.values["memory_mb.host"] == "812"
    assert model_health(facts, False, GOOD, {}).level == OK


def test_failed_callbacks_are_counted():
    health = callbacks_health(3, 1, "/cam: KeyError")
    assert health.level == WARN and "KeyError" in health.message and health.values["callback_errors"] == "3"
    assert callbacks_health(3, 0, "/cam: KeyError").level == OK


def test_the_ledger_numbers_grids_and_forgets_a_problem_when_one_comes():
    clock = Clock()
    ledger = Ledger(clock)
    assert ledger.read() == Accounts()
    ledger.formed(1)
    ledger.complete()
    assert ledger.next_sequence() == 0 and ledger.read() == Accounts(
        first_set_age_s=0.0, last_formed_age_s=0.0
    )  # a grid counts when it has been sent
    ledger.grid(occupancy(reset="gap", ages=()))
    ledger.replace()
    ledger.refuse("CAM_BACK: corrupt")
    assert (ledger.read().problem, ledger.read().is_failure) == ("CAM_BACK: corrupt", False)
    ledger.fail("out of memory")
    for k in range(3):
        clock.now_s += 0.5
        ledger.formed(k + 2)
    clock.now_s += 1
    accounts = ledger.read()
    assert accounts.drops == Counter(busy=1, failed=1)
    assert (accounts.problem, accounts.problem_age_s, accounts.is_failure) == ("out of memory", 2.5, True)
    assert (accounts.last_grid_age_s, accounts.first_set_age_s, accounts.set_period_s) == (2.5, 2.5, 0.5)
    assert ledger.next_sequence() == 1
    ledger.grid(occupancy())
    accounts = ledger.read()
    assert (accounts.problem, accounts.is_failure, accounts.failures, accounts.grids) == (None, False, 1, 2)
    assert accounts.resets == Counter(gap=1) and accounts.history_fused == 1


def test_the_status_of_the_tests_is_whole():
    assert isinstance(status(), AssemblerStatus)
