"""The worked planner: in the simulator, over a bag, and in C++."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from panoocc_core import OccupancyStream, Wanted, load_model, model_config
from panoocc_core.data.simulated import simulated_streets
from panoocc_core.data.street_plan import StreetPlan
from panoocc_core.geometry import invert, rigid
from panoocc_core.labels import OCC3D
from panoocc_core.planning import KnownSpace, class_ids, ground_ids
from panoocc_core.sim.scene import Scene
from panoocc_core.stream import output_geometry
from panoocc_core.types import GridGeometry, HistoryReport, Occupancy
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.messages.types import LABEL_SET, VOXEL_GRID, new_message
from panoocc_ros.messages.voxel_grid import fill_label_set, fill_voxel_grid

from .cases import GROUND, Case, Question, grid_bytes
from .readers import ROOT, ask_python, compile_cpp

SEED, PLAN = 100, StreetPlan(seconds=1.0)  # the first street of `panoocc eval`


def example(name: str):
    specification = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look for it
    specification.loader.exec_module(module)
    return module


simulator, loop = example("planner_in_simulator"), example("planner_loop")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("streets")


@pytest.fixture(scope="module")
def drive(folder):
    return simulated_streets(folder, [SEED], output_geometry(model_config("nano")), PLAN, workers=1)[0]


def true_occupancy(truth) -> Occupancy:
    return Occupancy(
        stamp_ns=truth.stamp_ns,
        oldest_image_stamp_ns=truth.stamp_ns,
        newest_image_stamp_ns=truth.stamp_ns,
        class_id=torch.from_numpy(truth.class_id),
        confidence=None,
        instance_id=torch.from_numpy(truth.instance_id),
        visible=torch.from_numpy(truth.camera_mask),
        geometry=truth.geometry,
        labels=OCC3D,
        cameras=(),
        history=HistoryReport(),
        instances="boxes",
    )


@pytest.fixture(scope="module")
def grids(drive) -> dict[str, list[Occupancy]]:
    """True and predicted grids of the street."""
    stream = OccupancyStream(load_model("nano"))
    frames = range(len(drive))
    return {
        "true": [true_occupancy(drive.truth(index)) for index in frames],
        "nano": [stream.step(drive.frame(index), Wanted(instances=False)) for index in frames],
    }


@pytest.mark.parametrize("whose", ["true", "nano"])
def test_along_the_way_both_readers_say_the_same(whose, grids, drive, cpp):
    scene, cases = Scene(SEED, PLAN.time_s(PLAN.frames) + 1), []
    for index, occupancy in enumerate(grids[whose]):
        now_from_world = invert(drive.world_from_ego(index))
        times_s = PLAN.time_s(index) + np.arange(0.5, 2.6, 0.5)
        boxes = simulator.path_boxes([now_from_world @ scene.world_from_ego(float(t)) for t in times_s], index)
        questions = [Question("box", (box,)) for box in boxes]
        questions += [Question("ahead", (box, (1.0, 0.0, 0.0), 20.0)) for box in boxes]
        questions += [Question("along", (box.centre_m, (1.0, 0.1, 0.0), 40.0)) for box in boxes]
        questions += [Question("at", (box.centre_m,)) for box in boxes]
        message = fill_voxel_grid(new_message(VOXEL_GRID), occupancy, index)
        cases.append(Case(grid_bytes(message), tuple(questions), ignored=GROUND))
    expected = [ask_python(case) for case in cases]
    assert cpp.ask(cases) == expected
    # The grid itself, before it was a message.
    for occupancy, case, answers in zip(grids[whose], cases, expected):
        space = KnownSpace.of(occupancy, ignored=class_ids(OCC3D, GROUND))
        boxes = [place for place, question in enumerate(case.questions) if question.method == "box"]
        assert [int(space.box(*case.questions[place].arguments)) for place in boxes] == [answers[k] for k in boxes]
    states = [answer for answers in expected for answer in answers if isinstance(answer, int)]
    assert {0, 1, 2} == set(states), "a street on which nothing is free, unknown or occupied"


def test_no_free_answer_of_a_true_grid_lies_in_an_obstacle(folder, drive):
    counts = simulator.measure(folder, [SEED], PLAN, "nano")
    print("\n" + simulator.table(counts))
    for kind, count in counts["true"].items():
        assert count.wrong == 0 < count.free < count.asked, kind
    assert all(0 < count.free < count.asked for count in counts["nano"].values())
    assert counts["nano"]["point"].wrong < 0.1 * counts["nano"]["point"].free


def test_who_believes_that_nothing_is_an_obstacle_is_found_out(drive):
    """Else the test above could not fail."""
    truth, scene = drive.truth(0), Scene(SEED, PLAN.time_s(PLAN.frames) + 1)
    space = KnownSpace(truth.class_id, truth.geometry, OCC3D, ignored=range(18), trust_unseen=True)
    counts = {kind: simulator.Count() for kind in ("point", "box", "way ahead")}
    pose = drive.world_from_ego(0)
    boxes = simulator.path_boxes([invert(pose) @ scene.world_from_ego(PLAN.time_s(0) + 1.0)], 0)
    simulator.check(space, boxes, scene.shapes_at(PLAN.time_s(0)), pose, 0, counts)
    assert all(count.wrong > 0 for count in counts.values())


@pytest.fixture(scope="module")
def bag(grids, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bag") / "grids.mcap"
    with BagWriter(path) as writer:
        writer.write("/panoocc/labels", LABEL_SET, 0, fill_label_set(new_message(LABEL_SET), OCC3D))
        for number, occupancy in enumerate(grids["true"] + grids["nano"]):
            message = fill_voxel_grid(new_message(VOXEL_GRID), occupancy, number)
            writer.write("/panoocc/occupancy", VOXEL_GRID, number + 1, message)
    return path


def test_the_planner_reads_a_bag_and_its_twin_in_cpp_decides_the_same(bag, tmp_path, capsys):
    assert loop.main([str(bag), "--cdr", str(tmp_path)]) == 0
    *decisions, summary = capsys.readouterr().out.splitlines()
    assert summary.startswith("4 grids, ") and len(decisions) == 4
    program = compile_cpp(tmp_path / "planner_loop", ("-O1",), ROOT / "examples" / "planner_loop.cpp")
    files = [str(tmp_path / "labels.cdr"), *(str(tmp_path / f"{number:05d}.cdr") for number in range(4))]
    done = subprocess.run([str(program), *files], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stdout.splitlines() == decisions, done.stderr
    (tmp_path / "00000.cdr").write_bytes(b"\0\1\0\0")
    done = subprocess.run([str(program), *files], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "header.stamp reaches beyond the end" in done.stderr


def test_the_planner_slows_down_for_what_is_near_and_for_what_nobody_sees(drive):
    truth = drive.truth(0)
    class_id, seen = np.full(truth.class_id.shape, OCC3D.free_id, np.uint8), np.ones(truth.class_id.shape, bool)
    ground = ground_ids(OCC3D)

    def decision(distance_m=None, kind="car", **options):
        there = class_id.copy()
        if distance_m is not None:
            there[int((distance_m + loop.FRONT_M + 25.6) / 0.8), 32, 4] = OCC3D.names.index(kind)
        options = {"visible": seen, "ignored": ground} | options
        return loop.decide(KnownSpace(there, truth.geometry, OCC3D, **options))

    speeds = [decision(distance_m).speed_mps for distance_m in (3.5, 7, 12, 20, None)]
    before_the_bumper = decision(1.2, "pedestrian")  # where no camera sees the road
    assert before_the_bumper.speed_mps == 0 and before_the_bumper.reason == "pedestrian"
    assert before_the_bumper.free_m < 1.2
    assert speeds == sorted(set(speeds)) and decision(12).reason == "car"
    assert decision(12, "sidewalk").reason == decision().reason == "unknown"  # the grid's end
    unseen = decision(visible=None)
    assert unseen.speed_mps == unseen.free_m == 0 and unseen.left.name == "UNKNOWN"
    blind = seen.copy()
    blind[32 : int((loop.FRONT_M + loop.BLIND_M + 25.6) / 0.8) - 1] = False  # boxes touch what they border on
    assert decision(visible=blind).speed_mps == decision().speed_mps
    assert decision(visible=None, trust_unseen=True).speed_mps == decision().speed_mps


@pytest.mark.parametrize("age_s", [0.0, 0.2, 1.0, 3600.0])
def test_the_planner_stops_in_time_by_an_old_grid(age_s):
    """What it went since the stamp, goes until it misses the next grid, and brakes, fits into what was free."""
    where = GridGeometry((80, 40, 10), (0.5, 0.5, 0.5), rigid(np.eye(3), np.array([-10.0, -10.0, -1.0])))
    class_id = np.full(where.shape_xyz, OCC3D.free_id, np.uint8)
    decision = loop.decide(KnownSpace(class_id, where, OCC3D, trust_unseen=True), age_s)
    speed = decision.speed_mps
    way_m = speed * (age_s + loop.PATIENCE_S) + speed**2 / (2 * loop.BRAKING_MPS2)
    assert 0 < speed < loop.TOP_MPS and way_m == pytest.approx(decision.free_m - loop.MARGIN_M, abs=1e-6)


def test_a_bag_without_grids_is_told(tmp_path, capsys):
    path = tmp_path / "empty.mcap"
    with BagWriter(path) as writer:
        writer.write("/panoocc/labels", LABEL_SET, 0, fill_label_set(new_message(LABEL_SET), OCC3D))
    assert loop.main([str(path)]) == 1
    assert "there is no /panoocc/occupancy" in capsys.readouterr().err
    assert loop.main([str(tmp_path / "nothing")]) == 1
    assert "no such bag" in capsys.readouterr().err
