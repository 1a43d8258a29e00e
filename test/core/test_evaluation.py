"""Evaluation: the truth itself scores 1, sums do not depend on how drives are put together, wrong truth is refused."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from panoocc_core import OccupancyStream, evaluation, load_model, model_config
from panoocc_core.config import PanopticConfig
from panoocc_core.data.simulated import SimulatedStreets
from panoocc_core.evaluation import (
    DriveScores,
    Measures,
    _check_measurable,
    _point_scores,
    evaluate,
    evaluate_drive,
    report,
)
from panoocc_core.ground_truth import GroundTruth, TrueBoxes, TruePoints
from panoocc_core.labels import BOX_CLASSES, LIDARSEG, OCC3D
from panoocc_core.metrics.report import as_plain
from panoocc_core.models.box_head import Boxes, decode_boxes
from panoocc_core.models.network_frame import box_codes, ego_boxes
from panoocc_core.models.voxel_decoder import classify
from panoocc_core.network import VoxelLogits
from panoocc_core.panoptic import PointLabels
from panoocc_core.step import BoxPrediction
from panoocc_core.stream import Instances
from panoocc_ros.commands.eval import summary

from .toy_training import rendered_streets

FREE = OCC3D.names.index("free")
FAST = Measures(without_history=False, panoptic=False, rays=False, boxes=False)


@pytest.fixture(scope="module")
def streets() -> SimulatedStreets:
    folder = rendered_streets()[1]
    return SimulatedStreets(tuple(sorted(folder.glob("street-*.npz"))[:2]))


@pytest.fixture()
def model():
    config = model_config(rendered_streets()[1] / "toy.yaml")
    return load_model(replace(config, panoptic=PanopticConfig("boxes")), seeded_weights=True)


@dataclass
class Oracle:
    """Gives the network's decoder the truth, frame by frame, wrong in a share of the voxels."""

    truths: list
    wrong: float = 0.0
    calls: int = 0

    def __call__(self, fused: torch.Tensor) -> VoxelLogits:
        class_id = self.truths[self.calls].class_id.astype(np.int64)
        random = np.random.default_rng(self.calls)
        class_id = np.where(random.random(class_id.shape) < self.wrong, FREE, class_id)
        self.calls += 1
        classes = 20.0 * torch.nn.functional.one_hot(torch.from_numpy(class_id), len(OCC3D.names))
        return VoxelLogits(classes, torch.from_numpy(np.where(class_id == FREE, -20.0, 20.0)).float(), None)


def forced(model, streets, monkeypatch, wrong: float = 0.0, each: int = 1) -> Oracle:
    truths = [drive.truth(i) for drive in streets for i in range(len(drive)) for _ in range(each)]
    oracle = Oracle(truths, wrong)
    free_id, decoder = model.config.labels.free_id, model.config.decoder
    monkeypatch.setattr(type(model), "decode", lambda self, fused: oracle(fused))
    monkeypatch.setattr(type(model), "occupancy", lambda self, fused: classify(oracle(fused), decoder, free_id))
    return oracle


def test_the_truth_scores_one(model, streets, monkeypatch):
    forced(model, streets, monkeypatch, each=2)  # with history, and without
    scores = evaluate(model, streets, Measures())
    found = summary(scores, model.config)
    assert found["frames"] == 8
    for key in ("miou", "geometric_iou", "miou_without_history", "geometric_iou_without_history", "ray_iou"):
        assert found[key] == 1.0, key
    assert set(found["per_class"].values()) == {1.0}
    assert found["pq"] > 0.5  # instances are joined where they touch
    assert found["visible_iou"] > 0.5 and found["falsely_visible"] < 0.1  # voxels are thicker than surfaces
    assert {found[key] for key in found if key.startswith("free_but_occupied")} == {0.0}
    assert found["visible_by_distance"]["0-10 m"].keys() < found.keys()


def test_what_is_wrongly_free_is_found_where_it_is_called_visible(model, streets, monkeypatch):
    forced(model, streets, monkeypatch, wrong=0.5)
    found = summary(evaluate(model, streets, Measures(without_history=False, panoptic=False, rays=False)), model.config)
    assert 0 < found["free_but_occupied"] < 0.5 and found["free_but_occupied_hidden"] > 0
    forced(model, streets, monkeypatch, wrong=0.5)
    without = Measures(without_history=False, panoptic=False, rays=False, visible=False)
    assert "visible_iou" not in summary(evaluate(model, streets, without), model.config)
    blind = [Altered(drive, change_truth=lambda _, truth: replace(truth, camera_mask=None)) for drive in streets]
    forced(model, streets, monkeypatch)
    assert evaluate(model, blind, FAST).seen is None


def with_ids(monkeypatch, oracle, renumbered):
    """Lets the voxels of true things have their true ids, given by `renumbered(ids, frame number)`."""

    def instances(step, class_id, confidence, boxes):
        number = oracle.calls - 1
        ids = renumbered(oracle.truths[number].instance_id, number)
        return Instances(class_id, class_id, torch.from_numpy(ids), None, "boxes", step.memory)

    monkeypatch.setattr("panoocc_core.evaluation.instances", instances)


def test_true_things_with_one_id_each_score_one(model, streets, monkeypatch):
    oracle = forced(model, streets, monkeypatch)
    with_ids(monkeypatch, oracle, lambda ids, number: np.where(ids > 0, 60_000 - ids, 0).astype(np.int32))
    scores = evaluate(model, streets, Measures(without_history=False))
    found = summary(scores, model.config)
    assert [found[key] for key in ("pq", "stq", "aq", "raypq", "ray_iou")] == [1.0] * 5
    assert found["id_switches"] == 0 and 0 < found["followed_objects"] <= found["true_objects"]
    masked = [(t.instance_id[t.camera_mask], i // 4) for i, t in enumerate(oracle.truths)]
    assert found["true_objects"] == len({(n, drive) for ids, drive in masked for n in np.unique(ids[ids > 0])})
    shown = as_plain(report(scores, model.config, "", {}))["sections"]["voxels"]
    joined = shown["scores"]["PQ of present classes, connected voxels"]
    assert found["pq_components"] == pytest.approx(joined, abs=1e-5) and joined < 1
    assert shown["scores"]["STQ"] == shown["scores"]["RayPQ"] == 1 and "RayPQ" in shown["classes"]["car"]


def test_ids_that_change_from_frame_to_frame_cost_tracks_and_nothing_else(model, streets, monkeypatch):
    oracle = forced(model, streets, monkeypatch)
    with_ids(monkeypatch, oracle, lambda ids, number: np.where(ids > 0, ids + 1000 * number, 0).astype(np.int32))
    found = summary(evaluate(model, streets, Measures(without_history=False)), model.config)
    assert found["pq"] == found["raypq"] == found["miou"] == 1.0
    assert found["aq"] < 0.7 and found["stq"] == pytest.approx(np.sqrt(found["aq"]), abs=1e-4)
    assert found["id_switches"] >= found["followed_objects"] > 0


def test_a_network_that_tells_no_things_apart_has_no_tracks(model, streets):
    network = load_model(replace(model.config, panoptic=PanopticConfig(instances="none")), seeded_weights=True)
    found = summary(evaluate(network, [streets[0]], Measures(without_history=False)), network.config)
    assert {"pq_components", "ray_iou"} <= set(found) and found["instances"] == "none"
    assert not {"pq", "stq", "aq", "id_switches", "raypq"} & set(found)


def test_ids_at_points_are_followed_through_a_drive_and_no_further():
    car, road = LIDARSEG.names.index("car"), LIDARSEG.names.index("driveable_surface")
    class_id = np.repeat([car, road, 0], (20, 20, 10)).astype(np.uint8)
    true = TruePoints(np.zeros((50, 3), np.float32), class_id, np.where(class_id == car, 5, 0).astype(np.int32))

    def frame(number, guess=class_id):
        ids = np.where(guess == car, number, 0).astype(np.uint16)
        return DriveScores(1, **_point_scores(PointLabels(guess, ids, np.full(50, 255, np.uint8)), true, True))

    everything_a_car = np.full(50, car, np.uint8)  # noise counts for nobody
    drive = frame(1).then(frame(1)).then(frame(2)).then(frame(2, everything_a_car))
    assert (drive.point_tracks.means().objects, drive.point_tracks.means().id_switches) == (1, 1)
    assert drive.point_tracks.means().aq == pytest.approx((40 * 40 / 80 + 40 * 40 / 100) / 80)
    both = drive + frame(1).then(frame(1))
    assert (both.point_tracks.means().objects, both.point_tracks.means().id_switches) == (2, 1) and both.frames == 6
    shown = report(both, model_config("pano_small_4f"), "", {})
    assert as_plain(shown)["sections"]["points"]["scores"]["id switches"] == 1
    told = summary(both, model_config("pano_small_4f"))
    assert told["point_id_switches"] == 1 and told["point_stq"] == round(both.point_tracks.means().stq, 5)


def test_boxes_are_looked_for_once_a_frame_and_not_at_all_where_nobody_wants_them(model, streets, monkeypatch):
    looked, boxes_in = [], type(model).boxes_in
    monkeypatch.setattr(type(model), "boxes_in", lambda self, found: looked.append(1) or boxes_in(self, found))
    for measures, times in ((Measures(), 4), (Measures(boxes=False), 4), (FAST, 0)):
        looked.clear()
        evaluate(model, [streets[0]], replace(measures, rays=False, without_history=False))
        assert len(looked) == times


def test_tracks_go_on_through_frames_without_truth(model, streets, monkeypatch):
    """As in the node: the last frame's things have the numbers that the stream gives them."""
    network = load_model(replace(model.config, panoptic=PanopticConfig("components")), seeded_weights=True)
    stream, drive, found = OccupancyStream(network), streets[0], []
    expected = [stream.step(drive.frame(index)).instance_id for index in range(len(drive))][-1]
    asked = evaluation.predict
    monkeypatch.setattr(evaluation, "predict", lambda *given: found.append(asked(*given)) or found[-1])
    last = Altered(drive, change_truth=lambda i, truth: truth if i == 3 else GroundTruth(truth.stamp_ns))
    scores = evaluate(network, [last], Measures(rays=False))
    assert scores.voxels.total.counts.sum() == drive.truth(3).camera_mask.sum()
    assert torch.equal(found[-1].things.instance_id, expected) and expected.max() > 0
    assert found[-1].memory.tracks.next_number == stream.memory.tracks.next_number
    connected = summary(scores, network.config)
    assert connected["pq_components"] == connected["pq"]


def test_half_of_the_truth_scores_half(model, streets, monkeypatch):
    forced(model, streets, monkeypatch, wrong=0.5)
    found = summary(evaluate(model, streets, FAST), model.config)
    assert found["geometric_iou"] == pytest.approx(0.5, abs=0.05)
    assert not {"pq", "ray_iou", "miou_without_history"} & set(found)


def test_only_what_a_camera_sees_is_counted(model, streets, monkeypatch):
    oracle = forced(model, streets, monkeypatch)
    for i, truth in enumerate(oracle.truths):  # what no camera sees is said to be a car
        oracle.truths[i] = replace(truth, class_id=np.where(truth.camera_mask, truth.class_id, 4).astype(np.uint8))
    found = summary(evaluate(model, streets, FAST), model.config)
    assert found["miou"] == 1.0 and found["geometric_iou"] == 1.0


def test_sums_do_not_depend_on_how_drives_are_grouped(model, streets):
    measures = Measures(rays=False)
    together = evaluate(model, streets, measures)
    apart = DriveScores() + evaluate_drive(model, streets[1], measures) + evaluate_drive(model, streets[0], measures)
    one, other = summary(together, model.config), summary(apart, model.config)
    assert one == other and one["frames"] == 8
    found, expected = apart.boxes.scores(), together.boxes.scores()
    assert expected.true_count.sum() > 0 and (found.true_count == expected.true_count).all()
    np.testing.assert_allclose(found.ap, expected.ap)
    np.testing.assert_allclose(found.errors, expected.errors)


def test_a_drive_begins_without_history(model, streets):
    """Its first frame is the same with and without; later ones are not."""
    measures = Measures(panoptic=False, rays=False)

    @dataclass
    class First:
        drive: object
        frames: int
        name: str = "first"

        def __len__(self):
            return self.frames

        def frame(self, index):
            return self.drive.frame(index)

        def world_from_ego(self, index):
            return self.drive.world_from_ego(index)

        def truth(self, index):
            return self.drive.truth(index)

    one, all_four = (evaluate_drive(model, First(streets[0], count), measures) for count in (1, 4))
    assert np.array_equal(one.voxels.total.counts, one.voxels_without_history.counts)
    assert not np.array_equal(all_four.voxels.total.counts, all_four.voxels_without_history.counts)


def test_truth_of_another_network_is_refused_by_drive_and_frame(model, streets):
    other = load_model("nano", seeded_weights=True)
    with pytest.raises(
        ValueError, match=rf"{streets[0].name}, frame 0: .*not those of nano: .*\(12, 12, 4\).*\(64, 64, 16\)"
    ):
        evaluate(other, streets, FAST)


def test_truth_elsewhere_is_refused(model, streets):
    drive = streets[0]
    moved = drive._geometry.ego_from_grid.copy()
    moved[0, 3] += 0.5
    drive._geometry = replace(drive._geometry, ego_from_grid=moved)
    with pytest.raises(ValueError, match="not those of toy: its pose puts a corner 0.5 m away"):
        evaluate_drive(model, drive, FAST)


@dataclass
class Altered:
    """A drive whose frames or truths are changed on the way."""

    drive: object
    frames: list = field(default_factory=list)  # that were asked for
    change_frame: object = staticmethod(lambda index, frame: frame)
    change_truth: object = staticmethod(lambda index, truth: truth)
    name: str = "altered"

    def __len__(self):
        return len(self.drive)

    def frame(self, index):
        self.frames.append(index)
        return self.change_frame(index, self.drive.frame(index))

    def world_from_ego(self, index):
        return self.drive.world_from_ego(index)

    def truth(self, index):
        return self.change_truth(index, self.drive.truth(index))


def without_voxels(index, truth):
    return GroundTruth(truth.stamp_ns, boxes=truth.boxes)


def test_drives_without_what_is_measured_are_refused_before_any_work(model, streets):
    blind = Altered(streets[0], change_truth=without_voxels)
    with pytest.raises(ValueError, match="altered: has no true voxels for toy; give --gts FOLDER"):
        evaluate(model, [blind], Measures(boxes=False))
    assert not blind.frames
    assert evaluate(model, [blind], Measures(rays=False)).boxes is not None
    point_config = replace(model.config, truth="points", name="points")
    with pytest.raises(ValueError, match="altered: has no labelled LiDAR points for points; unpack"):
        _check_measurable(point_config, blind, Measures(boxes=False))


def test_one_frame_with_truth_is_enough(model, streets):
    last = Altered(streets[0], change_truth=lambda i, truth: truth if i == 3 else without_voxels(i, truth))
    scores = evaluate(model, [last], FAST)
    mask = streets[0].truth(3).camera_mask
    assert scores.frames == 4 and scores.voxels.total.counts.sum() == mask.sum()


def test_images_are_read_once(model, streets):
    whole = Altered(streets[0])
    evaluate(model, [whole], Measures(without_history=False, panoptic=False))
    assert whole.frames == [0, 1, 2, 3]


@pytest.mark.parametrize("rays", [True, False])
def test_a_pose_that_is_not_finite_names_drive_and_frame(model, streets, rays):
    drive = streets[0]
    drive._arrays["world_from_ego"] = drive._arrays["world_from_ego"].copy()
    drive._arrays["world_from_ego"][2, 0, 3] = np.nan
    with pytest.raises(ValueError, match=rf"^{drive.name}, frame 2: .*world_from_ego has entries that are not finite"):
        evaluate(model, [drive], replace(FAST, rays=rays))


def test_a_class_that_does_not_exist_names_drive_and_frame(model, streets):
    drive = streets[0]
    drive._arrays["class_id"] = drive._arrays["class_id"].copy()
    drive._arrays["class_id"][1, 0, 0, 0] = 77
    with pytest.raises(ValueError, match=rf"^{drive.name}, frame 1: truth: class_id holds the class 77, .* 0\.\.17"):
        evaluate(model, [drive], FAST)


def test_nothing_to_evaluate_is_an_error(model):
    with pytest.raises(ValueError, match="no frame to evaluate"):
        evaluate(model, [])


def test_boxes_come_back_in_the_ego_frame():
    """A car that the network sees 10 m ahead of its LiDAR, which looks to the vehicle's left."""
    config = model_config("pano_small_4f")
    lidar = config.grid.ego_from_network.matrix
    # x, y, z, width, length, height, yaw (clockwise from -y), vx, vy in the network's frame.
    box = torch.tensor([[3.0, 10.0, -1.0, 2.0, 4.5, 1.6, -np.pi / 2, 5.0, 0.0]])
    found = ego_boxes(Boxes(box, torch.tensor([0.9]), torch.tensor([config.boxes.classes.index("bus")])), config)
    assert np.allclose(found.centre_m[0], lidar[:3, :3] @ (3.0, 10.0, -1.0) + lidar[:3, 3], atol=1e-4)
    assert np.allclose(found.size_m[0], (4.5, 2.0, 1.6)) and BOX_CLASSES[found.class_id[0]] == "bus"
    along_x = lidar[:2, 0] / np.linalg.norm(lidar[:2, 0])
    assert np.allclose((np.cos(found.yaw_rad[0]), np.sin(found.yaw_rad[0])), along_x, atol=1e-4)  # -(-90) - 90 = 0
    assert np.allclose(found.velocity_mps[0], 5 * lidar[:2, 0], atol=1e-4)


def test_true_boxes_come_back_from_their_codes_in_the_network_s_frame():
    """Through the tilted frame of a roof LiDAR; a flat box loses no more than the tilt of under 2 degrees takes."""
    config, random = model_config("pano_small_4f"), np.random.default_rng(4)
    n = 40
    truth = TrueBoxes(
        centre_m=random.uniform(-30, 30, (n, 3)).astype(np.float32),
        size_m=random.uniform(0.3, 9, (n, 3)).astype(np.float32),
        yaw_rad=random.uniform(-np.pi, np.pi, n).astype(np.float32),
        velocity_mps=random.uniform(-9, 9, (n, 2)).astype(np.float32),
        class_id=random.integers(0, len(BOX_CLASSES), n),
        instance_id=np.arange(n, dtype=np.int32),
    )
    codes = torch.from_numpy(box_codes(truth, config.grid))
    scores = torch.full((1, n, len(BOX_CLASSES)), -20.0)
    kinds = [config.boxes.classes.index(BOX_CLASSES[k]) for k in truth.class_id]
    scores[0, range(n), kinds] = torch.linspace(9, 1, n)  # best first, so that the order stays
    everywhere = replace(config.boxes, max_boxes=n, centre_limits_m=(-99.0,) * 3 + (99.0,) * 3)
    found = ego_boxes(decode_boxes(BoxPrediction(scores, codes[None]), everywhere), config)
    assert np.array_equal(found.class_id, truth.class_id)
    np.testing.assert_allclose(found.centre_m, truth.centre_m, atol=1e-4)
    np.testing.assert_allclose(found.size_m, truth.size_m, rtol=1e-5)
    turn = (found.yaw_rad - truth.yaw_rad + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(turn, 0, atol=2e-3)
    np.testing.assert_allclose(found.velocity_mps, truth.velocity_mps, atol=0.01)


def test_the_report_has_a_section_for_everything_measured(model, streets):
    scores = evaluate(model, [streets[0]], Measures())
    tree = report(scores, model.config, "title", {"weights": "seeded"})
    names = [section.name for section in tree.sections]
    assert len(names) == 4 and {"voxels without history", "visible"} < set(names) and tree.title == "title"
