"""Faults: each kind does what it says and nothing else, and the assembler's counters name the reason."""

import copy
import math

import numpy as np
import pytest

from panoocc_ros.bags.bag import BagReader
from panoocc_ros.bags.source import ready_sets
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.commands.cli import main
from panoocc_ros.frames.assembler import FrameAssembler
from panoocc_ros.frames.sets import Refused
from panoocc_ros.frames.waiting import AssemblerOptions
from panoocc_ros.messages.fields import stamp_ns
from panoocc_ros.sim.faults import KINDS, Event, Fault, FaultError, Faults, parse_fault, parse_faults, with_faults
from test.ros.bags import IMAGE, PERIOD_NS, RIG, T0, drive
from test.ros.messages import MS

SETS = 12
NAMES = tuple(name.lower() for name in RIG.names)
BACK = "/cam_back/image_raw/compressed"
# Set k is 0.1 + k * 0.1 s after the first message; sets 3, 4 and 5 lie between these times.
SPAN = "from=0.35 to=0.65"
HIT = (3, 4, 5)
BACK_IN_SPAN = f"camera=cam_back {SPAN}"


@pytest.fixture(scope="module")
def events():
    return [Event(topic, kind, stamp, message, topic == "/tf_static") for stamp, topic, kind, message in drive(SETS)]


def spoilt(events, *texts, seed=0):
    faults = Faults([parse_fault(text) for text in texts], NAMES, seed)
    return list(with_faults(events, faults)), faults.injected


def images(events, topic=BACK):
    return [event for event in events if event.topic == topic]


def others(events):
    return [event for event in events if event.topic != BACK]


def bytes_of(events):
    return [bytes(event.message.data) for event in events]


def through_assembler(tmp_path, events, *texts):
    """Status of the assembler and stamps of the frames that a bag of the spoilt events gives."""
    with BagWriter(tmp_path / "faulty.mcap") as writer:
        for event in spoilt(events, *texts)[0]:
            writer.write(*event)
    assembler, stamps = FrameAssembler(RIG, AssemblerOptions(missing_camera="drop")), []
    with BagReader(tmp_path / "faulty.mcap") as bag:
        for _, ready in ready_sets(bag, assembler):
            try:
                stamps.append(assembler.frame(ready).stamp_ns)
            except Refused:
                continue
        return assembler.status(bag.end_ns), stamps


def due_ns(k):
    """Stamp of the reference camera's image in set k."""
    return T0 + k * PERIOD_NS - 10 * MS


@pytest.mark.parametrize(
    ("text", "drops"),
    [
        (f"drop {BACK_IN_SPAN}", {("missing_camera", "CAM_BACK"): 3}),
        (f"truncate {BACK_IN_SPAN}", {("image", "CAM_BACK"): 3}),
        (f"garble {BACK_IN_SPAN}", {("image", "CAM_BACK"): 3}),
        (f"repeat {BACK_IN_SPAN}", {("missing_camera", "CAM_BACK"): 3}),
        (f"dead {BACK_IN_SPAN}", {("missing_camera", "CAM_BACK"): 3}),
        (f"freeze {BACK_IN_SPAN}", {}),
        (f"late {BACK_IN_SPAN} by=0.05", {}),  # the assembler waits for longer
    ],
)
def test_lost_sets_are_counted_with_reason_and_camera(tmp_path, events, text, drops):
    status, stamps = through_assembler(tmp_path, events, text)
    assert status.set_drops == drops
    assert stamps == [due_ns(k) for k in range(SETS) if not drops or k not in HIT]
    duplicates = {camera: count for (reason, camera), count in status.image_drops.items() if reason == "duplicate"}
    assert duplicates == ({"CAM_BACK": 3} if text.startswith("repeat") else {}) and not status.resets


def test_an_image_that_a_newer_one_has_overtaken_is_late_and_no_step_back(tmp_path, events):
    status, stamps = through_assembler(tmp_path, events, "late camera=cam_back from=0.35 to=0.45 by=0.25")
    assert not status.resets and status.image_drops["late", "CAM_BACK"] == 1
    assert stamps == [due_ns(k) for k in range(SETS) if k != 3]


def test_the_summary_of_a_run_names_the_faults_reason(tmp_path, events, capsys):
    with BagWriter(tmp_path / "faulty.mcap") as writer:
        for event in spoilt(events, f"dead camera=cam_back {SPAN}", "garble camera=cam_front from=0.75 to=0.85")[0]:
            writer.write(*event)
    words = ["run", str(tmp_path / "faulty.mcap"), "--model", "nano", "--seeded-weights", "--device", "cpu"]
    words += ["--missing-camera", "drop"]
    assert main([*words, "--out", str(tmp_path / "grids.mcap"), "--no-progress", "--outputs", "occupancy"]) == 0
    told = capsys.readouterr().out
    assert "8 grids out, 4 sets lost" in told
    assert "lost: 3 missing_camera (CAM_BACK)" in told and "lost: 1 image (CAM_FRONT)" in told


def test_a_camera_that_dies_is_missing_to_the_end(tmp_path, events):
    status, stamps = through_assembler(tmp_path, events, "dead camera=cam_back from=0.35")
    assert status.set_drops == {("missing_camera", "CAM_BACK"): SETS - 3}
    assert stamps == [due_ns(k) for k in range(3)]


def test_sets_without_transforms_are_lost_for_that_reason(tmp_path, events):
    status, stamps = through_assembler(tmp_path, events, "tf_gap from=0.62")
    assert stamps == [due_ns(k) for k in range(5)]
    assert {reason for reason, _ in status.set_drops} == {"tf_timeout"}
    assert sum(status.set_drops.values()) == SETS - 5


@pytest.mark.parametrize("by_s", [-5, 100])
def test_a_jump_of_the_clock_moves_all_stamps_and_a_step_back_clears_the_queues(tmp_path, events, by_s):
    status, stamps = through_assembler(tmp_path, events, f"clock_jump from=0.65 by={by_s}")
    moved = [stamp for stamp in stamps if stamp in {due_ns(k) + by_s * 1_000_000_000 for k in range(6, SETS)}]
    assert len(moved) >= 4 and set(stamps) - set(moved) <= {due_ns(k) for k in range(6)}
    assert len(status.resets) == (by_s < 0)
    assert all("went back" in reason for reason in status.resets)


def test_without_a_fault_nothing_changes(events):
    same, injected = spoilt(events)
    assert [id(event.message) for event in same] == [id(event.message) for event in events]
    assert not injected


@pytest.mark.parametrize("kind", KINDS)
def test_outside_its_time_and_camera_a_fault_changes_nothing_and_messages_stay_whole(events, kind):
    number = f" {KINDS[kind].word}=1" if KINDS[kind].word else ""
    camera = "camera=cam_back " if KINDS[kind].of_cameras else ""
    before = copy.deepcopy(events)
    after, injected = spoilt(events, f"{kind} {camera}{SPAN}{number}")
    assert sum(injected.values()) > 0
    for one, copied in zip(events, before):
        assert repr(one) == repr(copied), "the fault has written into its input"
    early = [event for event in events if event.stamp_ns < T0 + 240 * MS]
    assert all(one is other for one, other in zip(early, after))
    if KINDS[kind].of_cameras:
        untouched = [event for event in others(events) if kind != "dead" or "cam_back/" not in event.topic]
        rest = {id(event) for event in after}
        assert all(id(event) in rest for event in untouched)


def test_each_kind_does_what_it_says(events):
    whole = images(events)
    cut = images(spoilt(events, f"truncate {BACK_IN_SPAN} keep=0.25")[0])
    assert [len(data) for data in bytes_of(cut)] == [
        len(data) // 4 if k in HIT else len(data) for k, data in enumerate(bytes_of(whole))
    ]
    noise = images(spoilt(events, f"garble {BACK_IN_SPAN} share=0.2")[0])
    for k, (one, other) in enumerate(zip(noise, whole)):
        changed = np.asarray(one.message.data) != np.asarray(other.message.data)
        assert (0.1 < changed.mean() < 0.3 and changed[:2].all()) if k in HIT else not changed.any()
    frozen = images(spoilt(events, f"freeze {BACK_IN_SPAN}")[0])
    assert [bytes_of(whole).index(data) for data in bytes_of(frozen)] == [0, 1, 2, 2, 2, 2, *range(6, SETS)]
    stamps = [stamp_ns(event.message.header.stamp) for event in whole]
    assert [stamp_ns(event.message.header.stamp) for event in frozen] == stamps
    again = images(spoilt(events, f"repeat {BACK_IN_SPAN}")[0])
    shown = [stamps.index(stamp_ns(event.message.header.stamp)) for event in again]
    assert shown == [0, 1, 2, 2, 2, 2, *range(6, SETS)]
    assert [event.stamp_ns for event in again] == [event.stamp_ns for event in whole]
    late = images(spoilt(events, f"late {BACK_IN_SPAN} by=0.03")[0])
    assert [(b.stamp_ns - a.stamp_ns) // MS for a, b in zip(whole, late)] == [30 * (k in HIT) for k in range(SETS)]
    dead = spoilt(events, f"dead {BACK_IN_SPAN}")[0]
    assert len(images(dead)) == len(images(dead, "/cam_back/camera_info")) == SETS - 3


def test_late_messages_keep_the_stream_in_order_of_delivery_and_lose_nothing(events):
    after, injected = spoilt(events, "late by=0.777", "late camera=cam_front by=3")
    assert [event.stamp_ns for event in after] == sorted(event.stamp_ns for event in after)
    assert sorted(id(event.message) for event in after) == sorted(id(event.message) for event in events)
    assert injected == {"late": 6 * SETS, "late cam_front": SETS}


def test_a_share_is_random_by_seed_and_camera_and_the_same_again(events):
    many = [Event(f"/{name}/image_raw/compressed", IMAGE, T0 + k * MS, None) for k in range(1000) for name in NAMES[:2]]
    kept = [[event.stamp_ns for event in spoilt(many, "drop share=0.3", seed=seed)[0]] for seed in (1, 1, 2)]
    assert kept[0] == kept[1] != kept[2]
    assert abs(len(kept[0]) / len(many) - 0.7) < 0.04
    front, right = (
        [event.stamp_ns for event in images(spoilt(many, "drop share=0.3", seed=1)[0], f"/{name}/image_raw/compressed")]
        for name in NAMES[:2]
    )
    assert front != right


def test_static_transforms_do_not_jump_and_the_clock_does(events):
    faults = Faults(parse_faults("clock_jump from=1 to=2 by=-7"), NAMES)
    faults.push(events[0])
    zero = events[0].stamp_ns
    assert [faults.offset_ns(zero + k * 500 * MS) for k in range(5)] == [0, 0, -7_000_000_000, -7_000_000_000, 0]
    (first,), _ = spoilt(events[:1], "clock_jump by=-7")
    assert first is events[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "unknown fault ''; there are drop, late"),
        ("melt camera=cam_back", "unknown fault 'melt'; there are drop, late"),
        ("drop cam_back", "'cam_back' is none of from=, to=, camera=, share="),
        ("drop camera=cam_back share=1.5", "share=1.5 is outside 0..1"),
        ("drop share=nan", "share=nan is outside"),
        ("drop share=some", "share=some is not a number"),
        ("drop from=3 to=2", "from=3 to=2 is no span of time"),
        ("drop from=nan", "no span of time"),
        ("drop from=1 from=2", "from= is given twice"),
        ("late", "by=NUMBER is missing"),
        ("late by=-1", "by=-1 is outside 0..60"),
        ("dead by=3", "'by=3' is none of"),
        ("tf_gap camera=cam_back", "'camera=cam_back' is none of from=, to="),
        ("clock_jump by=inf", "by=inf is outside"),
    ],
)
def test_bad_words_are_quoted_with_what_is_allowed(text, words):
    with pytest.raises(FaultError) as refused:
        parse_fault(text)
    assert words in str(refused.value)


def test_faults_made_in_code_are_checked_too():
    for values, words in (
        ({"kind": "melt"}, "unknown fault 'melt'"),
        ({"kind": "tf_gap", "camera": "cam_back"}, "concerns no single camera"),
        ({"kind": "dead", "amount": 1.0}, "takes no number"),
    ):
        with pytest.raises(FaultError, match=words):
            Fault(**values)
    with pytest.raises(FaultError, match="the rig has no camera 'cam_rear', only cam_front"):
        Faults([Fault("dead", "cam_rear")], NAMES)


def test_words_become_a_fault():
    assert parse_fault("drop camera=CAM_FRONT from=2 to=4 share=0.5") == Fault("drop", "cam_front", 2.0, 4.0, 0.5)
    assert parse_fault("dead") == Fault("dead", None, 0.0, math.inf)
    assert parse_faults(" dead ; tf_gap to=1;") == (Fault("dead"), Fault("tf_gap", end_s=1.0))
    assert parse_faults("") == ()


def test_list_faults_names_every_kind_and_needs_nothing_else(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["sim", "--list-faults"])
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[: len(KINDS)]} == set(KINDS)
