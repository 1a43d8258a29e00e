"""Grids back from messages, and the demo's report from a recording."""

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from panoocc_core.base.whole_files import write_json
from panoocc_core.geometry import rigid
from panoocc_core.labels import LIDARSEG, OCC3D
from panoocc_core.types import GridGeometry, HistoryReport, Occupancy
from panoocc_ros.bags.bag import BagError
from panoocc_ros.bags.recording import images_of_grid, read_recording
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.demo.report import DemoRun, demo_report, rate_hz, stages, write_picture
from panoocc_ros.health.latency import summarise
from panoocc_ros.health.ledger import Accounts
from panoocc_ros.health.verdicts import ERROR, OUTPUT, TIMING, Health, timing_health
from panoocc_ros.messages.types import new_message, typestore
from panoocc_ros.messages.voxel_grid import (
    fill_label_set,
    fill_voxel_grid,
    instances_from_message,
    labels_from_message,
    visible_from_message,
    voxels_from_message,
)
from panoocc_ros.planner.reader import known_space
from test.ros.drive import Drive
from test.ros.statuses import output

DRIVE = Drive()
KINDS = {"occupancy": "panoocc/msg/VoxelGrid", "labels": "panoocc/msg/LabelSet"}
TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def occupancy(labels=OCC3D, stamp_ns=0):
    random = torch.Generator().manual_seed(1)
    class_id = torch.randint(0, len(labels.names), (5, 4, 3), generator=random, dtype=torch.uint8)
    offsets = [camera.shutter_offset_ns for camera in DRIVE.rig.cameras]
    return Occupancy(
        stamp_ns=stamp_ns,
        oldest_image_stamp_ns=stamp_ns + min(offsets),
        newest_image_stamp_ns=stamp_ns + max(offsets),
        class_id=class_id,
        confidence=torch.randint(1, 256, (5, 4, 3), generator=random, dtype=torch.uint8),
        instance_id=None,
        geometry=GridGeometry((5, 4, 3), (0.4, 0.5, 0.6), rigid(TURN, np.array([1.0, -2.0, 0.5]))),
        labels=labels,
        cameras=DRIVE.rig.names,
        history=HistoryReport(ages_s=(0.5,)),
    )


@pytest.mark.parametrize("labels", [OCC3D, LIDARSEG], ids=lambda labels: labels.key)
@pytest.mark.parametrize("encoding", ["sparse", "dense"])
def test_a_grid_comes_back_as_it_was(labels, encoding):
    sent = occupancy(labels)
    message = fill_voxel_grid(new_message(KINDS["occupancy"]), sent, 0, encoding=encoding)
    meaning = labels_from_message(fill_label_set(new_message(KINDS["labels"]), labels))
    assert meaning == labels
    voxels = voxels_from_message(message, meaning)
    assert (voxels.class_id == sent.class_id.numpy()).all()
    occupied = sent.occupied.numpy()
    assert (voxels.confidence[occupied] == sent.confidence.numpy()[occupied]).all()
    np.testing.assert_allclose(voxels.geometry.ego_from_grid, sent.geometry.ego_from_grid, atol=1e-12)
    assert voxels.geometry.voxel_size_m == sent.geometry.voxel_size_m


def test_a_message_of_another_kind_is_named():
    grid = fill_voxel_grid(new_message(KINDS["occupancy"]), occupancy(), 0)
    labels = fill_label_set(new_message(KINDS["labels"]), OCC3D)
    for read in (
        visible_from_message,
        instances_from_message,
        lambda message: voxels_from_message(message, OCC3D),
        lambda message: known_space(message, OCC3D),
    ):
        with pytest.raises(ValueError, match="a LabelSet is no panoocc/VoxelGrid: it lacks header"):
            read(labels)
    with pytest.raises(ValueError, match="a VoxelGrid is no panoocc/LabelSet: it lacks key"):
        labels_from_message(grid)
    with pytest.raises(ValueError, match="labels is a LabelSet: give what labels_from_message makes"):
        known_space(grid, labels)


def test_grids_that_do_not_fit_are_refused():
    message = fill_voxel_grid(new_message(KINDS["occupancy"]), occupancy(), 0)
    with pytest.raises(ValueError, match="label set 'occ3d_nuscenes', version 1, not 'nuscenes_lidarseg'"):
        voxels_from_message(message, LIDARSEG)
    message.size_x = 1
    with pytest.raises(ValueError, match="that of a SPARSE grid of .1, 4, 3. has 2"):
        voxels_from_message(message, OCC3D)


def pose(position=(0, 0, 0), orientation=(0, 0, 0, 1)):
    names = "xyzw"
    return SimpleNamespace(
        position=SimpleNamespace(**dict(zip(names, map(float, position)))),
        orientation=SimpleNamespace(**dict(zip(names, map(float, orientation)))),
    )


GRIDS_THAT_CONTRADICT_THEMSELVES = {
    "giant": ({"size_x": 2**32 - 1, "size_y": 2**32 - 1, "size_z": 2**32 - 1}, "size_x, size_y, size_z"),
    "just too large": ({"size_x": 400, "size_y": 400, "size_z": 401}, "more than 64000000"),
    "empty": ({"size_z": 0}, "no voxels"),
    "one class for all": ({"class_id": np.array([3], np.uint8)}, "class_id has 1 values"),
    "confidence short": ({"confidence": np.array([3, 4], np.uint8)}, "confidence has 2 values"),
    "class too large": ({"class_id": [300] * 60}, "class_id has values that are no uint8"),
    "class unknown": ({"class_id": [18] * 60}, "class_id has 18: label set 'occ3d_nuscenes' has 18 classes"),
    "encoding": ({"encoding": 7}, "encoding 7 is neither DENSE .0. nor SPARSE .1."),
    "dense with a list": ({"occupied": np.zeros(8, np.uint8)}, "occupied has 8 bytes: that of a DENSE grid .* has 0"),
    "seen in part": ({"visible": np.zeros(7, np.uint8)}, "visible has 7 bytes: one bit for each voxel .* takes 8"),
    "seen beyond": ({"visible": np.full(8, 255, np.uint8)}, "visible has bits after the last of 60 voxels"),
    "giant of nothing": (
        {"encoding": 1, "size_x": 4000, "size_y": 400, "size_z": 20, "class_id": np.zeros(0, np.uint8)},
        "occupied has 0 bytes: that of a SPARSE grid .* has 4000000",
    ),
    "voxels of no size": ({"voxel_size": SimpleNamespace(x=0.4, y=0.4, z=1e308)}, "voxel_size is"),
    "no place": ({"origin": pose(position=(0, 1e300, 0))}, "origin is no pose: .*1e.300"),
    "no direction": ({"origin": pose(orientation=(0, 0, 0, 0))}, "origin is no pose"),
    "a long name": ({"label_set": "x" * 1_000_000}, "label set 'x{200}', version 1"),
}


@pytest.mark.parametrize(
    "change, words", GRIDS_THAT_CONTRADICT_THEMSELVES.values(), ids=GRIDS_THAT_CONTRADICT_THEMSELVES
)
def test_sizes_are_checked_before_anything_is_reserved(change, words, monkeypatch):
    message = fill_voxel_grid(new_message(KINDS["occupancy"]), occupancy(), 0, encoding="dense")
    fields = {name: getattr(message, name) for name in message.__dataclass_fields__}
    monkeypatch.setattr(np, "full", lambda *_, **__: pytest.fail("memory was reserved"))
    with pytest.raises(ValueError, match=words):
        voxels_from_message(SimpleNamespace(**(fields | change)), OCC3D)


def test_lists_and_lengths_that_do_not_fit_are_refused():
    message = fill_voxel_grid(new_message(KINDS["occupancy"]), occupancy(), 0, encoding="sparse")
    fields = {name: getattr(message, name) for name in message.__dataclass_fields__}
    more = np.array(message.occupied)
    more[0] ^= 1
    for occupied, words in (
        (more, f"class_id has {len(message.class_id)} values, and the grid of .* lists {np.unpackbits(more).sum()}"),
        (np.full(8, 255, np.uint8), "occupied has bits after the last of 60 voxels"),
        (np.zeros(9, np.uint8), "occupied has 9 bytes: that of a SPARSE grid .* has 8"),
    ):
        with pytest.raises(ValueError, match=words):
            voxels_from_message(SimpleNamespace(**(fields | {"occupied": occupied})), OCC3D)
    with pytest.raises(ValueError, match="occupied lists not every voxel"):
        some = fields | {"label_set": LIDARSEG.key, "label_set_version": LIDARSEG.version}
        voxels_from_message(SimpleNamespace(**some), LIDARSEG)
    with pytest.raises(ValueError, match="instance_id has 1 values"):
        instances_from_message(SimpleNamespace(**(fields | {"instance_id": np.ones(1, np.uint16)})))
    for source, ids, words in ((4, 3, "instance_source 4 is none of"), (0, 3, "instance_id has 3 .* INSTANCES_NONE")):
        change = {"instance_id": np.ones(ids, np.uint16), "instance_source": source}
        with pytest.raises(ValueError, match=words):
            instances_from_message(SimpleNamespace(**(fields | change)))
    size = SimpleNamespace(x=0.4, y=float("nan"), z=0.4)
    with pytest.raises(ValueError, match="voxel_size"):
        voxels_from_message(SimpleNamespace(**(fields | {"voxel_size": size})), OCC3D)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"is_thing": [True]}, "is_thing has 1 flags for 18 names"),
        ({"rgb": [1, 2, 3]}, "rgb has 3 values for 18 names"),
        ({"rgb": [300] * 54}, "rgb has values that are no uint8"),
        ({"free_id": 18}, "free_id 18 is none of the 18 names"),
        ({"names": [], "is_thing": [], "rgb": []}, "names has 0 classes"),
        ({"names": ["a"] * 256}, "names has 256 classes"),
        ({"names": ["x" * 1_000_000] + ["a"] * 17}, "at most 200 bytes of UTF-8"),
        ({"key": "x" * 1_000_000}, "at most 200 bytes of UTF-8"),
    ],
)
def test_label_sets_that_contradict_themselves_are_refused_by_field(change, words):
    message = fill_label_set(new_message(KINDS["labels"]), OCC3D)
    fields = {name: getattr(message, name) for name in message.__dataclass_fields__}
    with pytest.raises(ValueError, match=words) as refused:
        labels_from_message(SimpleNamespace(**(fields | change)))
    assert len(str(refused.value)) < 200


def test_nothing_but_value_errors_comes_out_of_mutated_grids():
    random, kind, taken = np.random.default_rng(0), KINDS["occupancy"], 0
    whole = [
        bytes(typestore().serialize_cdr(fill_voxel_grid(new_message(kind), occupancy(), 0, encoding=encoding), kind))
        for encoding in ("sparse", "dense")
    ]
    for _ in range(2000):
        data = bytearray(whole[random.integers(2)])
        for place in random.integers(4, len(data), size=random.integers(1, 4)):
            data[place] = int(random.choice([0, 1, 2, 127, 255, random.integers(256)]))
        try:
            message = typestore().deserialize_cdr(bytes(data), kind)
        except Exception:
            continue  # the reader of bags has refused it
        try:
            voxels_from_message(message, OCC3D)
            instances_from_message(message)
            taken += 1
        except ValueError:
            continue
    assert taken > 100


def diagnostics(healths):
    array = new_message("diagnostic_msgs/msg/DiagnosticArray")
    for health in healths:
        status = new_message("diagnostic_msgs/msg/DiagnosticStatus")
        status.level, status.name, status.message = health.level, f"panoocc: {health.subject}", health.message
        for key, value in health.values.items():
            pair = new_message("diagnostic_msgs/msg/KeyValue")
            pair.key, pair.value = key, value
            status.values.append(pair)
        array.status.append(status)
    return array


@pytest.fixture
def run(tmp_path):
    """A demo's input and recording: three sets in, two grids out, one dropped."""
    bag = DRIVE.write_bag(tmp_path / "drive.mcap", 3)
    summary = {"decode": summarise([1.0, 3.0]), "ready_to_output": summarise([20.0, 40.0])}
    model = {"model": "nano", "weights": "seeded", "device": "cpu", "precision": "fp32", "history_fused": "1"}
    states = [
        SimpleNamespace(subject="model", level=1, message="", values=model | {"resets.requested": "1"}),
        SimpleNamespace(subject="sets", level=0, message="", values={"formed": "3", "incomplete.CAM_BACK": "2"}),
        output(Accounts(2, Counter(busy=1), last_grid_age_s=0.1), sets=3),
        timing_health(summary, {}),
    ]
    with BagWriter(tmp_path / "occupancy.mcap") as writer:
        writer.write("/panoocc/labels", KINDS["labels"], 0, fill_label_set(new_message(KINDS["labels"]), OCC3D))
        for k in range(2):
            grid = fill_voxel_grid(new_message(KINDS["occupancy"]), occupancy(stamp_ns=DRIVE.stamp_ns(k)), k)
            writer.write("/panoocc/occupancy", KINDS["occupancy"], k, grid)
        writer.write("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", 3, diagnostics(states))
    recording = read_recording(tmp_path / "occupancy.mcap", "panoocc")
    return recording, DemoRun(bag, bag_is_simulated=True, pace="real time", wall_s=2.5), summary


def test_the_report_has_what_the_node_said(run, tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    recording, how, summary = run
    write_json(tmp_path / "report.json", demo_report(recording, how))
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["sets_in"], report["grids_out"], report["grids_recorded"]) == (3, 2, 2)
    assert report["drops"] == {"busy": 1} and report["sets_in"] == report["grids_out"] + sum(report["drops"].values())
    assert report["incomplete_sets"] == {"CAM_BACK": 2} and report["resets"] == {"requested": 1}
    assert report["stages"] == summary == stages(recording)
    assert report["weights"] == "seeded, not trained" and report["bag"] == "simulated street"
    assert {OUTPUT, TIMING} <= set(recording.diagnostics)


def test_the_silence_after_the_end_of_a_bag_is_no_last_word(run):
    recording, how, _ = run
    silent = Health("camera CAM_FRONT", ERROR, "dead: the last image came 3.0 s ago")
    accounts = {count: Accounts(count, last_grid_age_s=3.0 if count else None) for count in (0, 2)}
    accounts["failed"] = Accounts(2, last_grid_age_s=3.0, problem="no transform", problem_age_s=1.0)
    words = {key: output(one, silent, sets=3).message for key, one in accounts.items()}

    def last_words(grids, message):
        recording.diagnostics[OUTPUT].message = message
        return demo_report(replace(recording, grids=grids), how)["last_words"]

    assert last_words(2, words[2]) is None
    assert last_words(0, words[0]).startswith("no grid yet: camera CAM_FRONT: dead")
    assert last_words(2, words["failed"]) == "no grid from the last set and none for 3.0 s: no transform"


def test_the_rate_is_that_of_the_grids_that_came():
    assert rate_hz((0, 200_000_000, 600_000_000)) == pytest.approx(2 / 0.6, abs=1e-3)
    assert rate_hz(()) is rate_hz((5,)) is rate_hz((5, 5)) is None


def test_the_picture_shows_the_newest_grid_and_its_images(run, tmp_path):
    recording, how, _ = run
    images = images_of_grid(how.bag, DRIVE.rig, recording.last_grid)
    assert set(images) == set(DRIVE.rig.names)
    for name, image in images.items():
        assert np.abs(image.astype(int) - DRIVE.pictures[name][1]).mean() < 3, "the images of set 1, not of set 0 or 2"
    report = {"model": "nano", "weights": "seeded, not trained"}
    write_picture(tmp_path / "picture.png", recording, how, DRIVE.rig, report)
    assert cv2.imread(str(tmp_path / "picture.png")).shape[1] == 1800


def test_a_silent_node_and_a_foreign_bag_are_told(run, tmp_path):
    recording, how, _ = run
    with pytest.raises(ValueError, match="never ready"):
        demo_report(SimpleNamespace(diagnostics={}), how)
    recording.last_grid.oldest_image_stamp.sec += 100
    recording.last_grid.newest_image_stamp.sec += 100
    with pytest.raises(BagError, match=r"drive\.mcap has no image"):
        images_of_grid(how.bag, DRIVE.rig, recording.last_grid)
