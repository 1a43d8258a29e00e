"""`panoocc eval` on nuScenes' tables written by hand: what it measures, prints, refuses and writes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from panoocc_core import OccupancyStream, Wanted, evaluation, load_model, model_config
from panoocc_core.data import open_dataset
from panoocc_core.evaluation import evaluate
from panoocc_core.labels import LIDARSEG
from panoocc_core.metrics.published import Published
from panoocc_core.panoptic import PointLabels, PointRules, label_points
from panoocc_ros.commands import eval as eval_command
from panoocc_ros.commands.cli import main

from . import nuscenes_folder as by_hand
from .toy_training import NETWORK, write_network

ON_POINTS = {
    "truth": "points",
    "label_key": "nuscenes_lidarseg_free",
    "decoder": {**NETWORK["decoder"], "gate_threshold": None, "empty_below": 0.3},
    "panoptic": {"instances": "boxes"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A toy network that learns from points, and nuScenes."""
    path = tmp_path_factory.mktemp("nuscenes_eval")
    write_network(path, **ON_POINTS)
    by_hand.write_nuscenes(path / "nuscenes")
    return path


@pytest.fixture(autouse=True)
def weights(monkeypatch):
    """No file has weights of a toy: seeded ones."""
    monkeypatch.setattr(
        eval_command, "loaded_network", lambda config, *_, **__: load_model(config, seeded_weights=True)
    )


def panoocc_eval(folder: Path, *words: object) -> int:
    network = ("--model", folder / "toy.yaml", "--checkpoint", "toy.pth")
    given = {"--data": folder / "nuscenes", "--split": "all"}
    own = [word for option, value in given.items() if option not in words for word in (option, value)]
    return main([str(word) for word in ("eval", *network, "--no-progress", *own, *words)])


def test_the_split_that_networks_are_measured_on_is_taken(folder, capsys):
    """mini_val of v1.0-mini; one of its two scenes is not in the tables by hand."""
    words = ("eval", "--model", folder / "toy.yaml", "--no-progress", "--data", folder / "nuscenes")
    assert main([str(word) for word in words]) == 2
    assert "has no scene scene-0103 (1 of 2 scenes are not in it)" in capsys.readouterr().err


def test_points_and_boxes_are_measured_with_what_was_published_beside(folder, tmp_path, capsys, monkeypatch):
    known = Published("val", "a table", {"mIoU": 0.5, "NDS": 0.25})
    monkeypatch.setattr(eval_command, "published_scores", lambda model: known)
    (tmp_path / "one.txt").write_text("scene-0061\n")
    assert panoocc_eval(folder, "--split", tmp_path / "one.txt", "--json", tmp_path / "eval.json") == 0
    text, found = capsys.readouterr().out, json.loads((tmp_path / "eval.json").read_text())
    sections = found["report"]["sections"]
    assert found["instances"] == found["report"]["facts"]["instances"] == "boxes"
    assert list(sections) == ["published for val", "points", "boxes"] and found["frames"] == 3
    score = sections["published for val"]["score"]
    assert score["mIoU"]["here"] == pytest.approx(found["point_miou"], abs=1e-5) and score["mIoU"]["published"] == 0.5
    assert score["NDS"]["here"] == pytest.approx(found["nds"], abs=1e-5) and score["NDS"]["published"] == 0.25
    assert score["PQ"]["here"] is not None and score["PQ"]["published"] is None
    assert score["mAP"]["here"] == pytest.approx(found["map"], abs=1e-5)
    assert "NOT COMPARABLE: published for the split val" in text and "a table" in text
    assert sum(sections["boxes"]["classes"][name]["true boxes"] for name in ("car", "truck", "bus", "pedestrian")) > 0


class Oracle:
    """Stands where points get class and instance: gives the truth, its instances numbered anew by the caller."""

    def __init__(self, number=lambda instance_id: instance_id):
        self.number, self.truths = number, iter(())

    def load(self, drives):
        self.truths = iter([drive.truth(index).points for drive in drives for index in range(len(drive))])

    def __call__(self, position_m, ego_from_points, occupancy, rules):
        truth = next(self.truths)
        np.testing.assert_array_equal(position_m, truth.position_m)
        certain = np.full(len(position_m), 255, np.uint8)
        return PointLabels(truth.class_id, self.number(truth.instance_id).astype(np.uint16), certain)


@pytest.fixture
def oracle(folder, monkeypatch):
    oracle = Oracle()
    oracle.load(open_dataset(folder / "nuscenes", "nuscenes"))
    monkeypatch.setattr(evaluation, "label_points", oracle)
    return oracle


def read_results(folder: Path) -> dict[str, np.ndarray]:
    """As the task's documentation says: np.load, key `data`."""
    found = {}
    for path in folder.iterdir():
        token, _, rest = path.name.partition("_")
        assert rest == "panoptic.npz"
        with np.load(path) as arrays:
            found[token] = arrays["data"]
    return found


def test_panoptic_results_have_a_label_for_every_point_of_every_sweep(folder, tmp_path, oracle):
    oracle.number = lambda instance_id: np.where(instance_id > 0, instance_id + 20_000, 0)
    assert panoocc_eval(folder, "--panoptic-out", tmp_path / "out", "--json", tmp_path / "eval.json") == 0
    results = read_results(tmp_path / "out/panoptic/all")
    sweeps = {by_hand.token("sample_data", s, "LIDAR_TOP", i) for s in by_hand.TIMES_US for i in range(3)}
    assert set(results) == sweeps
    for data in results.values():
        assert data.dtype == np.uint16 and data.shape == (by_hand.POINTS,)
        class_id, number = np.divmod(data.astype(int), 1000)
        assert class_id.max() <= 16 and not number[(class_id == 0) | (class_id > 10)].any()
        truth = by_hand.categories_of_points()
        expected = [by_hand_class(category) for category in truth]
        assert class_id.tolist() == expected
        # Two categories are buses: instance 7 of each is another one.
        buses = number[(class_id == LIDARSEG.names.index("bus")) & (np.arange(len(data)) >= by_hand.POINTS // 2)]
        assert sorted(set(buses.tolist())) == [1, 2]
    meta = json.loads((tmp_path / "out/all/submission.json").read_text())["meta"]
    assert meta["use_camera"] and not meta["use_lidar"] and meta["task"] == "segmentation"
    found = json.loads((tmp_path / "eval.json").read_text())
    points = found["report"]["sections"]["points"]
    present = [row["PQ"] for row in points["classes"].values() if row["true points"]]
    assert present and present == pytest.approx([1.0] * len(present)), "the truth itself scores 1"
    assert points["scores"]["mIoU"] == pytest.approx(1.0)
    assert points["scores"]["STQ of present classes"] == pytest.approx(1.0) and not points["scores"]["id switches"]


def by_hand_class(category: int) -> int:
    """The class of the challenge by a category's name, written out once more."""
    name = by_hand.CATEGORIES[category]
    special = {
        "human.pedestrian.adult": 7,
        "human.pedestrian.child": 7,
        "human.pedestrian.construction_worker": 7,
        "human.pedestrian.police_officer": 7,
        "movable_object.barrier": 1,
        "movable_object.trafficcone": 8,
        "vehicle.bicycle": 2,
        "vehicle.bus.bendy": 3,
        "vehicle.bus.rigid": 3,
        "vehicle.car": 4,
        "vehicle.construction": 5,
        "vehicle.motorcycle": 6,
        "vehicle.trailer": 9,
        "vehicle.truck": 10,
        "flat.driveable_surface": 11,
        "flat.other": 12,
        "flat.sidewalk": 13,
        "flat.terrain": 14,
        "static.manmade": 15,
        "static.vegetation": 16,
    }
    return special.get(name, 0)


def test_results_that_are_there_are_refused_before_any_work(folder, tmp_path, capsys, oracle):
    (tmp_path / "panoptic/all").mkdir(parents=True)
    (tmp_path / "panoptic/all/mine.npz").write_text("mine")
    assert panoocc_eval(folder, "--panoptic-out", tmp_path) == 2
    assert "is there already; give a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*.*")] == ["mine.npz"]


def bare(root: Path, *tables: str, **changes) -> Path:
    """The folder without some tables of labels, and others changed."""
    content = by_hand.write_nuscenes(root)
    by_hand.write_tables(root, {**changes})
    for name in tables:
        (root / by_hand.VERSION / f"{name}.json").unlink()
    assert set(changes) <= set(content)
    return root


def test_results_of_a_version_without_truth_are_written(folder, tmp_path, capsys):
    """As v1.0-test: nothing to measure, but something to send."""
    root = bare(tmp_path / "test", "lidarseg", "panoptic", sample_annotation=[], instance=[])
    assert panoocc_eval(folder, "--data", root) == 2
    assert "has no labelled LiDAR points for toy; unpack nuScenes' lidarseg labels" in capsys.readouterr().err
    assert panoocc_eval(folder, "--data", root, "--panoptic-out", tmp_path / "out") == 0
    results = read_results(tmp_path / "out/panoptic/all")
    assert len(results) == 6 and all(data.shape == (by_hand.POINTS,) for data in results.values())


def test_without_instances_in_truth_there_is_no_panoptic_quality(folder, tmp_path):
    root = bare(tmp_path / "lidarseg", "panoptic")
    assert panoocc_eval(folder, "--data", root, "--json", tmp_path / "eval.json") == 0
    scores = json.loads((tmp_path / "eval.json").read_text())["report"]["sections"]["points"]["scores"]
    assert "PQ" not in scores and scores["mIoU"] is not None


def test_what_the_folder_lacks_is_said(folder, tmp_path, capsys):
    root = bare(tmp_path / "bare", "lidarseg", "panoptic")
    assert panoocc_eval(folder, "--data", root) == 0
    assert "no mIoU and no PQ: the tables have no labels of points" in capsys.readouterr().out.replace("\n    ", " ")


def test_voxel_labels_do_not_bear_on_a_network_of_points(folder, tmp_path, capsys):
    root = tmp_path / "both"
    by_hand.write_nuscenes(root)
    (root / "gts").mkdir()
    assert panoocc_eval(folder, "--data", root) == 0
    capsys.readouterr()
    assert panoocc_eval(folder, "--data", root, "--gts", root / "gts") == 2
    assert "--gts is for networks that learn from voxels; toy does from points" in capsys.readouterr().err


def test_a_folder_with_holes_is_refused_before_any_work(folder, tmp_path, capsys):
    root = tmp_path / "holes"
    by_hand.write_nuscenes(root)
    next(root.glob("samples/CAM_BACK/*")).unlink()
    assert panoocc_eval(folder, "--data", root) == 2
    error = capsys.readouterr().err
    assert "samples/CAM_BACK/" in error and "unpack the archives of key frames" in error and "(of 54 files)" in error


def test_panoptic_results_are_for_points_of_nuscenes(folder, tmp_path, capsys):
    assert main(["eval", "--panoptic-out", str(tmp_path / "out")]) == 2
    assert "--panoptic-out is for a data set: give its folder with --data" in capsys.readouterr().err
    write_network(tmp_path)  # the usual toy: of voxels
    words = ("--model", tmp_path / "toy.yaml", "--no-progress", "--panoptic-out", tmp_path / "out")
    assert main([str(word) for word in ("eval", "--data", folder / "nuscenes", "--split", "all", *words)]) == 2
    words = capsys.readouterr().err
    assert "--panoptic-out is for the LiDAR points of nuScenes, and for networks" in words and "pano_small_4f" in words
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["boxes", "components"])
def test_points_are_measured_by_what_a_stream_labels_them_with(folder, source):
    """Class, number of the track and border voxels are those of `panoocc label` with clamping."""
    config = model_config(folder / "toy.yaml")
    config = replace(config, panoptic=replace(config.panoptic, instances=source, min_score=0.0, min_voxels=1))
    network, drives = load_model(config, seeded_weights=True), open_dataset(folder / "nuscenes", "nuscenes")
    measured = []

    class Taken:
        def add(self, drive, index, class_id, instance_id):
            measured.append((class_id, instance_id))

    scores = evaluate(network, drives, results=Taken())
    rules, labelled = PointRules("clamp", config.points, config.panoptic), []
    for drive in drives:
        stream = OccupancyStream(network)
        for index in range(len(drive)):
            seen = stream.step(drive.frame(index), Wanted(logits=True))
            found = label_points(drive.truth(index).points.position_m, np.eye(4), seen, rules)
            labelled.append((found.class_id, found.instance_id))
    np.testing.assert_array_equal(measured, labelled)
    assert scores.points is not None and scores.point_tracks is not None
    assert source == "boxes" or np.array(labelled)[:, 1].any(), "else no instance was measured"


def test_what_tells_nothing_apart_has_no_panoptic_quality(folder, tmp_path, capsys):
    assert panoocc_eval(folder, "--instances", "none", "--json", tmp_path / "eval.json") == 0
    found = json.loads((tmp_path / "eval.json").read_text())
    assert "point_miou" in found and not {"point_pq", "point_stq"} & set(found)
    assert "no PQ and no STQ: nothing tells the things of a class apart" in capsys.readouterr().out


def test_logits_that_are_not_finite_name_drive_and_frame(folder):
    network = load_model(model_config(folder / "toy.yaml"), seeded_weights=True)
    torch.nn.init.constant_(network.classifier.bias, torch.nan)
    with pytest.raises(ValueError, match="^scene-0916, frame 0: the class logits are not finite"):
        evaluate(network, open_dataset(folder / "nuscenes", "nuscenes"))


def test_points_in_several_boxes_are_no_error_of_instances(folder, tmp_path, oracle):
    """They count for the classes, by lidarseg, and not for PQ."""
    root = tmp_path / "several"
    by_hand.write_nuscenes(root)
    for path in (root / "panoptic" / by_hand.VERSION).iterdir():
        numbers = by_hand.panoptic_of_points()
        numbers[by_hand.POINTS // 2 :] = 0
        np.savez_compressed(path, data=numbers)
    drives = open_dataset(root, "nuscenes")
    oracle.load(drives)
    network = load_model(model_config(folder / "toy.yaml"), seeded_weights=True)
    scores = evaluate(network, drives)
    assert scores.point_classes.counts.sum() == 6 * by_hand.POINTS
    assert scores.points.confusion.counts[1:].sum() < scores.point_classes.counts[1:].sum()
    assert scores.points.false_negatives.sum() == 0
