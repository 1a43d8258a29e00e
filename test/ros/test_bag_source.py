"""Bags whose messages were recorded late, out of order or broken: what a set becomes depends on the stamps alone."""

import random

import numpy as np
import pytest

from panoocc_ros.bags.bag import BagReader
from panoocc_ros.bags.source import lateness_ns, ready_sets
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.frames.assembler import FrameAssembler
from panoocc_ros.frames.waiting import AssemblerOptions
from panoocc_ros.messages.types import typestore
from test.ros.bags import PERIOD_NS, RIG, TF, drive
from test.ros.messages import MS

SETS = 30
BACK = RIG.camera("CAM_BACK")


@pytest.fixture(scope="module")
def events():
    """(record time, topic, type, CDR bytes) of a drive."""
    return [(t, topic, kind, cdr(message, kind)) for t, topic, kind, message in drive(sets=SETS)]


def cdr(message, kind):
    return bytes(typestore().serialize_cdr(message, kind))


def recorded_late(events, topics, late_ms):
    """`late_ms`: how late, or a function that says it anew for each message."""
    late = late_ms if callable(late_ms) else lambda: late_ms
    return [(t + int(late() * MS) if topic in topics else t, topic, *more) for t, topic, *more in events]


def write(path, events):
    with BagWriter(path, overwrite=True) as writer:
        for stamp, topic, kind, data in sorted(events, key=lambda event: event[0]):
            writer.write(topic, kind, stamp, data)
    return path


def through(path, **options):
    """What the sets of a bag are made of, the status, and what was broken."""
    broken, sets = [], []
    assembler = FrameAssembler(RIG, AssemblerOptions(**{"missing_camera": "drop", **options}).patient())
    with BagReader(path) as bag:
        for _, ready in ready_sets(bag, assembler, on_broken=lambda error, topic: broken.append((topic, str(error)))):
            poses = {name: pose.world_from_ego.tobytes() for name, pose in ready.poses.items()}
            sets.append((ready.stamp_ns, dict(ready.messages.stamps_ns), poses, ready.reset))
        return sets, assembler.status(bag.end_ns), broken


@pytest.fixture(scope="module")
def in_time(events, tmp_path_factory):
    sets, *_ = through(write(tmp_path_factory.mktemp("bag") / "drive.mcap", events))
    assert len(sets) == SETS
    return sets


@pytest.mark.parametrize("late_ms", [60, 450, 550, 1000, 4000, 9000])
@pytest.mark.parametrize(
    "topics",
    [("/tf",), (BACK.topic,), (BACK.topic, BACK.info_topic), ("/tf", BACK.topic)],
    ids=["tf", "camera", "both", "two"],
)
def test_what_was_recorded_late_is_not_late(tmp_path, events, in_time, topics, late_ms):
    sets, status, _ = through(write(tmp_path / "late.mcap", recorded_late(events, topics, late_ms)))
    assert sets == in_time and not status.set_drops and not status.image_drops and not status.notices


@pytest.mark.parametrize("seed", range(3))
def test_lateness_that_changes_with_every_message(tmp_path, events, in_time, seed):
    chance = random.Random(seed)
    late = recorded_late(events, ("/tf", BACK.topic), lambda: chance.choice((0, 0, 300)))
    sets, *_ = through(write(tmp_path / "late.mcap", late))
    assert sets == in_time


@pytest.mark.parametrize("late_ms", [0, 1500, 60_000])
def test_mounts_and_calibrations_hold_for_all_times(tmp_path, events, in_time, late_ms):
    once, seen = [], set()
    for event in events:
        if not event[1].endswith("camera_info") or event[1] not in seen:
            once.append(event)
        seen.add(event[1])
    topics = ("/tf_static", *(camera.info_topic for camera in RIG.cameras))
    sets, *_ = through(write(tmp_path / "late.mcap", recorded_late(once, topics, late_ms)))
    assert sets == in_time


def test_a_mount_that_is_changed_on_the_way_is_changed_there(tmp_path, events):
    other = [(t + 10 * PERIOD_NS, topic, kind, data) for t, topic, kind, data in events if topic == "/tf_static"]
    message = typestore().deserialize_cdr(other[0][3], TF)
    for one in message.transforms:
        one.transform.translation.z += 0.5
    path = write(tmp_path / "moved.mcap", [*events, (*other[0][:3], cdr(message, TF))])
    heights = []
    assembler = FrameAssembler(RIG, AssemblerOptions().patient())
    with BagReader(path) as bag:
        for _, ready in ready_sets(bag, assembler):
            heights.append(float(ready.poses["CAM_BACK"].ego_from_camera[2, 3]))
    assert heights[0] == pytest.approx(1.6) and heights[-1] == pytest.approx(2.1) and np.all(np.diff(heights) >= 0)


def test_a_looped_recording_resets_where_it_begins_anew(tmp_path, events):
    length = SETS * PERIOD_NS + 200 * MS
    again = [(t + length, *more) for t, *more in events]
    both = recorded_late([*events, *again], ("/tf",), 700)
    sets, status, _ = through(write(tmp_path / "loop.mcap", both))
    assert sum(one[3] is not None for one in sets) == sum(status.resets.values()) == 1
    assert len(sets) >= 2 * SETS - 8  # around the seam transforms of both loops meet


@pytest.mark.parametrize("back_ms", [1500, 3000, 9000])
def test_a_clock_that_is_set_back_is_no_lateness(tmp_path, events, back_ms):
    """All stamps after some moment are smaller; who jumps first must not be taken for late."""
    moved = []
    for number, (t, topic, kind, data) in enumerate(events):
        if topic != "/tf_static" and number > len(events) // 2:
            message = typestore().deserialize_cdr(data, kind)
            for stamp in [one.header.stamp for one in getattr(message, "transforms", [message])]:
                stamp.sec, stamp.nanosec = divmod(stamp.sec * 10**9 + stamp.nanosec - back_ms * MS, 10**9)
            data = cdr(message, kind)
        moved.append((t, topic, kind, data))
    path = write(tmp_path / "back.mcap", moved)
    with BagReader(path) as bag:
        assert lateness_ns(bag, RIG) == {}


@pytest.mark.parametrize("shift_ns", [-37 * 10**9, 100 * 10**9, -(10**18)])
@pytest.mark.parametrize("camera", ["CAM_BACK", RIG.reference])
def test_a_camera_with_another_clock_is_neither_late_nor_does_it_stop_the_others(tmp_path, events, camera, shift_ns):
    moved = []
    for t, topic, kind, data in events:
        if topic == RIG.camera(camera).topic:
            message = typestore().deserialize_cdr(data, kind)
            stamp = message.header.stamp
            stamp.sec, stamp.nanosec = divmod(stamp.sec * 10**9 + stamp.nanosec + shift_ns, 10**9)
            data = cdr(message, kind)
        moved.append((t, topic, kind, data))
    path = write(tmp_path / "clock.mcap", moved)
    with BagReader(path) as bag:
        assert lateness_ns(bag, RIG) == {}
    sets, status, _ = through(path, missing_camera="reuse_last")
    assert len([stamps for _, stamps, *_ in sets if len(stamps) == len(RIG.cameras) - 1]) >= SETS - 3
    assert [notice.subject for notice in status.of_kind("clock")] == [camera] and not status.resets


@pytest.mark.parametrize("topic", [BACK.topic, BACK.info_topic, "/tf", "/tf_static"])
@pytest.mark.parametrize("keep", [0, 3, 11, 40])
def test_one_broken_message_costs_at_most_one_set(tmp_path, events, in_time, topic, keep):
    number = len([event for event in events if event[1] == topic]) // 2
    broken, count = [], 0
    for t, name, kind, data in events:
        if name == topic:
            broken.append((t, name, kind, data[:keep] if count == number else data))
            if topic == "/tf_static":  # the whole one follows
                broken.append((t, name, kind, data))
            count += 1
        else:
            broken.append((t, name, kind, data))
    sets, _, told = through(write(tmp_path / "broken.mcap", broken))
    assert len(sets) >= SETS - 1 and {one[0] for one in sets} <= {one[0] for one in in_time}
    assert [name for name, _ in told] == [topic] and topic in told[0][1] and "cannot be read" in told[0][1]
