"""The simulator in real time, against a clock and a renderer of the test's own: order, rate, honesty, new streets."""

import dataclasses
from concurrent.futures import Future

import numpy as np
import pytest

from panoocc_core.ground_truth import GroundTruth
from panoocc_core.labels import OCC3D
from panoocc_core.sim import nuscenes_rig
from panoocc_core.sim.drive_renderer import Drive, RenderedSet, RenderSetup
from panoocc_core.types import GridGeometry
from panoocc_ros.health.verdicts import OK, WARN
from panoocc_ros.messages.fields import stamp_ns, transforms
from panoocc_ros.messages.voxel_grid import instances_from_message
from panoocc_ros.ros.parameter_fields import SettingsError
from panoocc_ros.sim.faults import Faults, parse_faults
from panoocc_ros.sim.live import AHEAD_S, START_SETS, LiveDrive, RenderError, live_healths
from panoocc_ros.sim.settings import SimSettings
from panoocc_ros.sim.setup import STREET_S, drive_of, faults_of, setup_of

SETUP = RenderSetup(nuscenes_rig(0.05))
DRIVE = Drive(seed=3, seconds=5.0, rate_hz=4.0)
ZERO_NS = 1_800_000_000_000_000_000
FRONT = "/cam_front/image_raw/compressed"
TICK_S = 0.004


class RenderPool:
    """Renders nothing, but takes its time, one job after the other per worker; poses tell street and time."""

    def __init__(self, work_s=0.0, workers=1, poses_s=0.0):
        self.work_s, self.workers, self.poses_s = work_s, workers, poses_s
        self.now_s, self.free_s, self.open, self.most = 0.0, [0.0] * workers, [], 0

    def rendered(self, drive, number):
        jpeg = f"{drive.seed}/{number}".encode()
        return self._job(self.work_s, RenderedSet((jpeg,) * len(SETUP.rig), None, self.work_s))

    def poses(self, drive):
        times_s = SETUP.pose_times_s(drive)
        poses = np.tile(np.eye(4), (len(times_s), 1, 1))
        poses[:, 0, 3], poses[:, 1, 3] = times_s, 100.0 * drive.seed
        return self._job(self.poses_s, poses)

    def _job(self, cost_s, result):
        worker = int(np.argmin(self.free_s))
        self.free_s[worker] = max(self.free_s[worker], self.now_s) + cost_s
        future = Future()
        self.open.append((self.free_s[worker], future, result))
        self.at(self.now_s)
        return future

    def at(self, now_s):
        self.now_s = now_s
        for done_s, future, result in self.open:
            if done_s <= now_s and not future.done():
                future.set_result(result)
        self.open = [job for job in self.open if not job[1].done()]
        self.most = max(self.most, len(self.open))


class Run:
    """A drive, stepped through wall time; remembers every event with the drive's clock and the wall's."""

    def __init__(self, pool, drives=(DRIVE,), faults="", waits=False):
        self.pool, self.events, self.wall_s = pool, [], 0.0
        self.faults = Faults(parse_faults(faults), SETUP.names)
        drives = list(drives)
        self.live = LiveDrive(
            SETUP,
            pool,
            self.faults,
            lambda number: drives[number] if number < len(drives) else None,
            zero_ns=ZERO_NS if waits else None,
            waits=waits,
        )

    def to(self, wall_s):
        while self.wall_s < wall_s and not self.live.is_over:
            self.wall_s += TICK_S
            self.pool.at(self.wall_s)
            for event in self.live.step(self.wall_s, self.system_ns):
                self.events.append((event, self.system_ns))
        return self

    @property
    def system_ns(self):
        return ZERO_NS + round(self.wall_s * 1e9)

    def of(self, topic):
        return [event for event, _ in self.events if event.topic == topic]

    def stamps(self, topic):
        return [stamp_ns(event.message.header.stamp) for event in self.of(topic)]

    def health(self, rate_hz=DRIVE.rate_hz):
        healths = live_healths(self.live, self.faults, rate_hz, self.pool.workers, self.wall_s)
        return {health.subject: health for health in healths}


def test_a_fast_renderer_gives_every_set_at_its_time_on_the_system_s_clock():
    run = Run(RenderPool(work_s=0.1)).to(20)
    assert run.live.is_over and run.live.counts.left_out == run.live.counts.late == 0
    for event, system_ns in run.events:
        if not event.latched:
            assert 0 <= system_ns - event.stamp_ns <= 2 * TICK_S * 1e9, event.topic
    stamps = run.stamps(FRONT)
    assert len(stamps) == DRIVE.sets
    np.testing.assert_allclose(np.diff(stamps) * 1e-9, 1 / DRIVE.rate_hz, atol=1e-6)
    assert [event.stamp_ns for event, _ in run.events] == sorted(event.stamp_ns for event, _ in run.events)
    health = run.health()["renderer"]
    assert health.level == OK and health.values["left_out"] == "0"


def test_mounts_come_first_and_poses_surround_every_image():
    run = Run(RenderPool(work_s=0.1)).to(20)
    assert run.events[0][0].topic == "/tf_static" and run.events[0][0].latched
    poses = np.array([event.stamp_ns for event in run.of("/tf")])
    images = [event.stamp_ns for event, _ in run.events if event.topic.endswith("compressed")]
    assert poses[0] < min(images) and max(images) < poses[-1]
    assert np.abs(np.diff(poses) - 10_000_000).max() <= 1


def test_it_renders_ahead_but_not_without_end():
    pool = RenderPool(work_s=0.01, workers=2)
    run = Run(pool, [Drive(seed=1, seconds=60, rate_hz=10)]).to(5)
    jobs, ready = run.live.queued
    assert 0.7 * AHEAD_S * 10 <= jobs + ready <= AHEAD_S * 10 + 1
    assert pool.most <= 2 * pool.workers + 1


def test_nothing_is_sent_before_the_first_sets_are_ready():
    run = Run(RenderPool(work_s=1.0, poses_s=0.5)).to(1.4)
    assert not run.events and not run.live.has_begun
    assert run.health()["drive"].level == WARN and "first images" in run.health()["drive"].message
    run.to(2.6)
    assert run.live.has_begun and run.events


@pytest.mark.parametrize("workers", [1, 3])
def test_a_slow_renderer_leaves_sets_out_so_that_stamps_stay_true(workers):
    run = Run(RenderPool(work_s=0.6 * workers, workers=workers), [Drive(seed=1, seconds=60, rate_hz=4)]).to(40)
    counts = run.live.counts
    assert counts.left_out > 50 and counts.late <= START_SETS + 2 * workers
    images = [(event, system_ns) for event, system_ns in run.events if event.topic == FRONT]
    steady = images[len(images) // 3 :]
    for event, system_ns in steady:
        assert stamp_ns(event.message.header.stamp) == event.stamp_ns
        assert 0 <= system_ns - event.stamp_ns <= 2 * TICK_S * 1e9
    rate = (len(steady) - 1) / ((steady[-1][1] - steady[0][1]) * 1e-9)
    assert 1.1 < rate <= 1 / 0.6 + 0.1, "it does what the renderer can"
    late_ns = [system_ns - event.stamp_ns for event, system_ns in run.events if event.topic == "/tf"]
    assert max(late_ns) <= 2 * TICK_S * 1e9, "poses are not held up"
    health = run.health(4.0)["renderer"]
    assert (
        health.level == WARN and "instead of 4: a set takes" in health.message and f"{workers} worker" in health.message
    )
    assert int(health.values["left_out"]) == counts.left_out


def test_a_drive_with_its_own_clock_waits_for_the_renderer_and_loses_nothing():
    run = Run(RenderPool(work_s=0.6), waits=True)
    clocks = []
    while not run.live.is_over and run.wall_s < 60:
        run.to(run.wall_s + TICK_S)
        clocks.append(run.live.clock_ns)
    assert run.live.is_over and run.live.counts.left_out == 0 and len(run.stamps(FRONT)) == DRIVE.sets
    assert clocks == sorted(clocks)
    assert run.wall_s > 0.6 * DRIVE.sets
    first_s = SETUP.pose_times_s(DRIVE)[0]
    assert clocks[-1] - ZERO_NS < (first_s + DRIVE.seconds + 0.5) * 1e9
    # What was sent by a time of its clock does not depend on how long the renderer took.
    fast = Run(RenderPool(work_s=0.01), waits=True).to(60)
    assert [(e.topic, e.stamp_ns) for e, _ in fast.events] == [(e.topic, e.stamp_ns) for e, _ in run.events]


def test_streets_follow_each_other_with_rising_stamps_and_a_jump_between_images():
    drives = [Drive(seed=seed, seconds=2.0, rate_hz=4.0) for seed in (5, 6, 7)]
    run = Run(RenderPool(work_s=0.05), drives).to(30)
    assert run.live.is_over and run.live.counts.streets == 3
    shown = [bytes(event.message.data).decode() for event in run.of(FRONT)]
    assert shown == [f"{seed}/{number}" for seed in (5, 6, 7) for number in range(8)]
    stamps = run.stamps(FRONT)
    assert stamps == sorted(stamps) and np.diff(stamps).max() * 1e-9 < 1.0
    poses = [(event.stamp_ns, next(transforms(event.message))[3][1, 3]) for event in run.of("/tf")]
    jumps = [(a, b) for a, b in zip(poses, poses[1:]) if a[1] != b[1]]
    assert [(int(a[1]), int(b[1])) for a, b in jumps] == [(500, 600), (600, 700)]
    assert [stamp for stamp, _ in poses] == sorted(stamp for stamp, _ in poses)
    images = [event.stamp_ns for event, _ in run.events if event.topic.endswith("compressed")]
    for (before_ns, _), (after_ns, _) in jumps:
        assert not [stamp for stamp in images if before_ns <= stamp <= after_ns], "its pose would be between streets"
    assert len(run.of("/tf_static")) == 1


def test_things_of_other_streets_have_other_ids():
    class TruePool(RenderPool):
        def rendered(self, drive, number):
            jpegs = (b"",) * len(SETUP.rig)
            class_id, instance_id = np.full((3, 2, 2), OCC3D.free_id, np.uint8), np.zeros((3, 2, 2), np.int32)
            class_id[0, 0], instance_id[0, 0] = OCC3D.names.index("car"), (1, 700)
            geometry = GridGeometry((3, 2, 2), (1.0, 1.0, 1.0), np.eye(4))
            return self._job(self.work_s, RenderedSet(jpegs, GroundTruth(0, geometry, class_id, instance_id), 0.0))

    run = Run(TruePool(), [Drive(seed=5, seconds=1.0, rate_hz=2.0)] * 67).to(150)
    ids = [np.unique(instances_from_message(event.message)).tolist() for event in run.of("/truth/occupancy")]
    assert len(ids) == 2 * 67 and ids[0] == ids[1] == [0, 1, 700]
    assert ids[2] == [0, 1001, 1700] and ids[2 * 65] == [0, 165, 65_001]  # 65,700 is beyond the last id
    assert ids[2 * 66] == [0, 466, 1165]  # and begin again


def test_faults_hit_the_live_drive_and_its_clock():
    run = Run(RenderPool(0.01), faults="drop camera=cam_front from=1 to=2; clock_jump from=3 by=-100", waits=True)
    run.to(2.5)
    front, back = (len(run.of(f"/{name}/image_raw/compressed")) for name in ("cam_front", "cam_back"))
    assert back - front == 4 and run.faults.injected == {"drop cam_front": 4}
    assert run.health()["faults"].level == WARN and "4 drop cam_front" in run.health()["faults"].message
    before_ns = run.live.clock_ns
    run.to(4)
    assert before_ns - run.live.clock_ns > 90e9
    assert run.stamps(FRONT)[-1] < ZERO_NS
    assert run.to(30).live.is_over


def test_a_late_image_at_the_end_is_still_sent():
    run = Run(RenderPool(work_s=0.01), faults="late by=2").to(30)
    assert run.live.is_over and len(run.of(FRONT)) == DRIVE.sets


def test_what_the_renderer_fails_with_is_raised():
    run = Run(RenderPool(work_s=1.0))
    run.live.step(0.0, ZERO_NS)
    for _, future, _ in run.pool.open:
        if not future.done():
            future.set_exception(RuntimeError("no JPEG today"))
    with pytest.raises(RenderError, match="the renderer failed: .*no JPEG today"):
        run.live.step(0.1, ZERO_NS)


def test_the_rate_falls_while_sets_stay_away():
    run = Run(RenderPool(work_s=0.01), [Drive(seed=1, seconds=60, rate_hz=4)]).to(10)
    counts = run.live.counts
    assert abs(counts.rate_hz(run.wall_s) - 4) < 0.1
    assert counts.rate_hz(run.wall_s + 10) < 2 < counts.rate_hz(run.wall_s + 0.3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seconds": -1.0}, "parameter seconds: -1.0 is outside 0..290"),
        ({"seconds": float("nan")}, "parameter seconds"),
        ({"rate_hz": 0.0}, "parameter rate_hz"),
        ({"scale": 9.0}, "parameter scale"),
        ({"seed": -1}, "parameter seed"),
        ({"workers": 99}, "parameter workers"),
        ({"rig": "tricycle"}, "parameter rig: unknown simulated rig 'tricycle'"),
        ({"grid": "pano_tiny"}, "parameter grid: unknown model preset"),
        ({"faults": "drop; melt"}, "parameter faults: unknown fault 'melt'"),
        ({"faults": "drop camera=front"}, "parameter faults: fault drop: the rig has no camera 'front'"),
    ],
)
def test_bad_parameters_are_named(values, words):
    with pytest.raises(SettingsError) as refused:
        settings = SimSettings(**{"scale": 0.05, **values})
        faults_of(settings, setup_of(settings))
    assert words in str(refused.value)


def test_an_endless_drive_goes_from_street_to_street_and_a_loop_drives_the_same_one():
    endless, loop = SimSettings(seed=4), SimSettings(seed=4, seconds=7.0, loop=True)
    assert [drive_of(endless, number).seed for number in range(3)] == [4, 5, 6]
    assert drive_of(endless, 0).seconds == STREET_S
    assert {drive_of(loop, number) for number in range(3)} == {Drive(4, 7.0, 2.0)}
    assert endless.is_endless and loop.is_endless and not SimSettings(seconds=7.0).is_endless
    assert drive_of(SimSettings(seed=2**31 - 1), 1).seed == 0
    assert setup_of(SimSettings(scale=0.05, with_truth=False, rig="nuscenes", grid="none")).grid is None
    assert setup_of(SimSettings(scale=0.05, with_truth=False)).grid is None


def test_every_parameter_is_described():
    for field in dataclasses.fields(SimSettings):
        assert field.metadata["description"].endswith("."), field.name
