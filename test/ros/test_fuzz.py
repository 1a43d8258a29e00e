"""The fuzzer finds what it is for, and in what is shipped it finds nothing."""

import pytest

pytest.importorskip("hypothesis")

from hypothesis import strategies as st

from panoocc_ros.commands.cli import main
from panoocc_ros.fuzz import engine
from panoocc_ros.fuzz.damage import Edit, edited, message_edits, yaml_edits
from panoocc_ros.fuzz.events import drive_assembler, drive_synchroniser
from panoocc_ros.fuzz.targets import Target
from panoocc_ros.fuzz.wholes import messages
from panoocc_ros.messages.types import CAMERA_INFO
from panoocc_ros.ros.exit_codes import BAD_INPUT, FAILED


@pytest.mark.timeout(600)
def test_nothing_that_is_shipped_has_a_fault():
    findings = list(engine.fuzz(2000, 1))
    assert not [f"{one.name}: {one.fault}" for one in findings if one.fault is not None]
    assert sum(one.inputs for one in findings) >= 1950
    assert all(one.refused for one in findings if one.name in ("image", "camera_info", "cdr", "rig", "pth", "mcap"))
    assert any(one.refused < one.inputs for one in findings if one.name == "image")  # damage is not all


def fragile(value):
    if value > 40:
        raise IndexError("out of range")
    if value < 0:
        raise ValueError("negative")


BACK_NS = -3_000_000_000
SET = "set"


def test_an_image_that_came_late_into_a_set_does_not_come_again_when_its_clock_goes_back():
    """Found once."""
    ahead = [("front", 0, 0)] * 3 + [("left", 0, 0)] * 2 + [("front", 0, 0), ("front", BACK_NS, 0), ("left", -1, 0)]
    behind = [("right", 0, 0), *[("right", 1, 0)] * 3, ("right", BACK_NS, 0), ("left", 1, 0), ("left", 0, 0)]
    drive_synchroniser([*ahead, *behind, ("right", 1, 0)])


def test_a_set_of_which_no_image_can_be_used_ends_nothing():
    """Found once: nobody has a CameraInfo, and the stamps are years apart."""
    image, stamp = "sensor_msgs/msg/Image", ("header", "stamp")
    drive_assembler(
        [
            (image, "left", 0, 0, [Edit((*stamp, "nanosec"), SET, 0)]),
            ("tf2_msgs/msg/TFMessage", "front", 0, 0, []),
            (image, "front", 0, 0, [Edit((*stamp, "sec"), SET, 2**31 - 1)]),
            (image, "front", 0, 0, [Edit((*stamp, "nanosec"), SET, 0)]),
            ("sensor_msgs/msg/CameraInfo", "left", 0, 0, [Edit((*stamp, "sec"), SET, -(2**31))]),
        ]
    )


@pytest.fixture
def one_reader(monkeypatch):
    def put(read, refuses=(ValueError,)):
        monkeypatch.setattr(engine, "targets", lambda folder: {"reader": Target(st.integers(-99, 99), read, refuses)})

    return put


def test_a_fault_is_told_with_the_smallest_input_and_comes_again(one_reader, capsys):
    one_reader(fragile)
    (finding,) = engine.fuzz(500, 3)
    assert finding.fault is not None and finding.refused
    assert finding.fault.error == "IndexError: out of range" and finding.fault.input == "41"
    assert "fragile" in finding.fault.where
    assert [again.fault for again in engine.fuzz(500, 3)] == [finding.fault]
    assert main(["fuzz", "--inputs", "500", "--seed", "3", "--no-progress"]) == FAILED
    told = capsys.readouterr()
    assert "FAULT" in told.out and "panoocc fuzz --seed 3 --only reader --inputs 500" in told.out
    assert "faults in reader" in told.err


def test_what_takes_too_long_or_too_much_memory_is_a_fault(one_reader, monkeypatch):
    monkeypatch.setattr(engine, "SLOW_S", 0.05)

    def slow(value):
        while value == 0:
            pass

    one_reader(slow)
    (finding,) = engine.fuzz(50, 0)
    assert finding.fault is not None and finding.fault.error.startswith("TimeoutError")
    monkeypatch.setattr(engine, "SLOW_S", 30.0)
    monkeypatch.setattr(engine, "MEMORY_MB", 64)
    taken = []
    one_reader(lambda value: taken.append(bytearray(8 << 20)))
    (finding,) = engine.fuzz(10_000, 0)
    assert finding.fault is not None and "MB were taken" in finding.fault.error
    assert finding.inputs < 2000


def test_an_unknown_reader_is_named_with_those_there_are(capsys):
    assert main(["fuzz", "--only", "nothing", "--no-progress"]) == BAD_INPUT
    assert "there is no reader nothing; there are image, " in capsys.readouterr().err


def test_edits_change_a_copy_and_every_place_can_be_reached():
    info = messages()[CAMERA_INFO][0]
    before = repr(info)
    places = set()

    from hypothesis import given, settings

    @settings(max_examples=400, database=None, deadline=None)
    @given(message_edits(info, CAMERA_INFO))
    def collect(changes):
        edited(info, changes)
        places.update(change.place[0] for change in changes)

    collect()
    assert repr(info) == before
    assert {"header", "height", "width", "distortion_model", "d", "k", "r", "p", "roi"} <= places


def test_a_change_of_what_an_earlier_one_replaced_is_left_out():
    changes = [
        Edit(("a",), "set", 5),
        Edit(("a",), "resize", 3),
        Edit(("a", 0), "set", 1),
        Edit(("b",), "remove", None),
    ]
    assert edited({"a": [1, 2], "b": 0}, changes) == {"a": 5}


def test_yaml_values_are_replaced_or_taken_away():
    found = set()

    from hypothesis import given, settings

    @settings(max_examples=200, database=None, deadline=None)
    @given(yaml_edits({"a": {"b": [1, 2]}}))
    def collect(changes):
        found.update((change.place, change.what) for change in changes)

    collect()
    assert {(("a",), "remove"), (("a", "b"), "resize"), (("a", "b", 0), "set")} <= found
