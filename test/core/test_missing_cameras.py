"""Dead cameras in an evaluation: what the node makes of them, and that only they are what is measured."""

import json

import numpy as np
import pytest

from panoocc_core import load_model, model_config
from panoocc_core.data.simulated import SimulatedStreets
from panoocc_core.evaluation import Measures, evaluate
from panoocc_core.geometry import NS_PER_S
from panoocc_core.missing_cameras import dead_camera_sweep, failures, without
from panoocc_core.models import build_network
from panoocc_core.weights.checkpoint import save_published
from panoocc_ros.commands.cli import main
from panoocc_ros.ros.exit_codes import BAD_INPUT
from panoocc_ros.streams.synchroniser import Synchroniser

from .conftest import YAWS_DEG, street_frame
from .toy_training import rendered_streets, write_network

DEAD = "CAM_BACK"


@pytest.fixture(scope="module")
def streets():
    return SimulatedStreets(tuple(sorted(rendered_streets()[1].glob("street-*.npz"))[:1]))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("toy"), panoptic={"instances": "none"})


@pytest.mark.parametrize("missing", ["blank", "reuse_last"])
def test_a_dead_camera_is_what_the_synchroniser_makes_of_it(missing):
    """Two images a second; the camera has sent those of the first second only."""
    frames = [street_frame(0.5 * k) for k in range(8)]
    sets = Synchroniser([*YAWS_DEG], "CAM_FRONT", NS_PER_S // 20, period_ns=NS_PER_S // 2, missing=missing)
    made = []
    for index, frame in enumerate(frames):
        for camera in frame.cameras:
            if index < 3 or camera.name != DEAD:
                made += sets.add(camera.name, camera.stamp_ns, camera, frame.stamp_ns)
        made += sets.expire(frame.stamp_ns + NS_PER_S // 3)
    assert len(made) == len(frames)
    for one, frame in zip(made[3:], frames[3:]):
        camera = {c.name: c for c in without(frame, {DEAD}, frames[2], missing).cameras}[DEAD]
        assert camera.is_blank == (DEAD in one.blank)
        assert camera.is_blank or (DEAD in one.reused and camera is one.messages[DEAD])
    assert any(DEAD in one.reused for one in made) == (missing == "reuse_last")
    assert DEAD in made[-1].blank


def test_cameras_that_have_never_sent_see_nothing_whatever_the_policy():
    frame = without(street_frame(1), {DEAD}, None, "reuse_last")
    assert [c.name for c in frame.cameras if c.is_blank] == [DEAD]


def test_singles_are_all_cameras_and_more_are_drawn_by_the_drive():
    cameras = [*YAWS_DEG]
    assert [dead for _, dead in failures(cameras, [1], 0)] == [{name} for name in cameras]
    draws = [next(failures(cameras, [2], drive)) for drive in range(20)]
    assert draws == [next(failures(cameras, [2], drive)) for drive in range(20)]
    assert {name for name, _ in draws} == {"2 of 6"} and all(len(dead) == 2 for _, dead in draws)
    assert len({dead for _, dead in draws}) > 5


def test_without_dead_cameras_the_scores_are_those_of_the_evaluation(network, streets):
    model = load_model(network, seeded_weights=True)
    rows = dead_camera_sweep(model, streets, [1, 5], dead_from_s=0)
    usual = evaluate(model, streets, Measures(without_history=False, panoptic=False, rays=False)).voxels.total
    labels = model.config.labels
    assert (rows[0].dead, rows[0].soon) == ("none", None)
    assert rows[0].later.miou == pytest.approx(usual.miou_of_present(labels))
    assert rows[0].later.geometric_iou == pytest.approx(usual.geometric_iou(labels))
    by_case = {(row.dead, row.missing): row.later for row in rows[1:]}
    assert {name for name, _ in by_case} == {*model.config.cameras, "5 of 6", "1 of 6"}
    for name, _ in by_case:  # nothing was there to be reused
        assert by_case[name, "blank"] == by_case[name, "reuse_last"]
    assert by_case["5 of 6", "blank"] != rows[0].later


def test_the_last_images_serve_for_a_second(network, streets):
    model = load_model(network, seeded_weights=True)
    rows = {(row.dead, row.missing): row for row in dead_camera_sweep(model, streets, [5], dead_from_s=0.5)}
    blank, reused = rows["5 of 6", "blank"], rows["5 of 6", "reuse_last"]
    assert blank.soon != reused.soon


def test_the_command_says_what_was_measured(network, tmp_path, capsys):
    options = ["eval", "--model", str(network), "--data", str(rendered_streets()[1]), "--no-progress"]
    weights = tmp_path / "toy.safetensors"
    save_published(build_network(model_config(network)), weights, {})
    options += ["--checkpoint", str(weights), "--json", str(tmp_path / "dead.json")]
    assert main([*options, "--dead-cameras", "2", "--dead-from", "0.5"]) == 0
    said, found = capsys.readouterr().out, json.loads((tmp_path / "dead.json").read_text())
    assert "2 of 6" in said and [row["dead"] for row in found["rows"]] == ["none", "2 of 6", "2 of 6"]
    assert np.isfinite([row["soon"]["miou"] for row in found["rows"]]).all() and found["dead_from_s"] == 0.5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--dead-cameras", "6"), "has 6 cameras: 1 to 5 of them can die, not 6"),
        (("--dead-cameras", "1", "--no-rays"), "--no-rays does not go with --dead-cameras"),
        (("--dead-cameras", "1", "--capacity", "0.5"), "--dead-cameras does not go with --capacity"),
        (("--dead-from", "2"), "--dead-from is for --dead-cameras"),
    ],
)
def test_what_cannot_be_compared_is_refused(words, told, capsys):
    assert main(["eval", *words]) == BAD_INPUT
    assert told in capsys.readouterr().err


def test_a_drive_that_ends_before_is_named(network, streets):
    with pytest.raises(ValueError, match=r"street.*: has no frame 60 s after its first one"):
        dead_camera_sweep(load_model(network, seeded_weights=True), streets, [1], dead_from_s=60)
