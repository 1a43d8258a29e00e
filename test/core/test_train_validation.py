"""Validation while training: hand-worked shares of voxels and points, and the same numbers however it is split up."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from panoocc_core import Frame, model_config
from panoocc_core.geometry import Matrix
from panoocc_core.ground_truth import GroundTruth, TruePoints
from panoocc_core.labels import LIDARSEG
from panoocc_core.models import build_network
from panoocc_core.models.panoocc import PanoOcc
from panoocc_core.models.voxel_decoder import classify
from panoocc_core.network import Network, VoxelLogits
from panoocc_core.train import class_bias as calibration
from panoocc_core.train.loop import Options, start_from_scratch, train
from panoocc_core.train.loss_config import LossConfig
from panoocc_core.train.processes import Processes
from panoocc_core.train.validation import confusion_on, validate

from .conftest import street_frame
from .toy_training import NETWORK, recipe, toy_drives, write_network

POINT_NETWORK = {
    "extends": "pano_small_4f",
    **{key: NETWORK[key] for key in ("images", "backbone", "levels", "embed", "heads", "ffn", "boxes")},
    "grid": {"rows": 6, "columns": 6, "layers": 4, "range_m": [-12.0, -12.0, -5.0, 12.0, 12.0, 3.0]},
    "encoder": {"layers": 1, "self_points": 1, "cross_points": 2},
    "decoder": {
        "upsample": [{"kernel": [1, 2, 2], "stride": [1, 2, 2], "padding": [0, 0, 0], "channels": 16}],
        "mlp": [16, 16],
        "logit_upsample": [1, 1, 1],
    },
}
KINDS = ("car",) * 6 + ("pedestrian",) * 2 + ("noise",) * 3


@dataclass(frozen=True, slots=True)
class PointDrive:
    """Frames with the same few labelled points around the vehicle."""

    name: str
    kinds: tuple[str, ...] = KINDS

    def __len__(self) -> int:
        return 4

    def frame(self, index: int) -> Frame:
        return street_frame(index / 2, x_m=2.0 * index, size_hw=(32, 64))

    def world_from_ego(self, index: int) -> Matrix:
        return self.frame(index).world_from_ego

    def truth(self, index: int) -> GroundTruth:
        class_id = np.array([LIDARSEG.names.index(kind) for kind in self.kinds], np.uint8)
        position_m = np.random.default_rng(index).uniform(-8, 8, (len(class_id), 3)).astype(np.float32)
        return GroundTruth(0, points=TruePoints(position_m, class_id, np.zeros(len(class_id), np.int32)))


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return write_network(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def point_network(tmp_path_factory) -> Path:
    return write_network(tmp_path_factory.mktemp("points"), **POINT_NETWORK)


def always(monkeypatch, name: str) -> None:
    """The decoder says the same class everywhere."""

    def decode(self: Network, fused: torch.Tensor) -> VoxelLogits:
        config = self.config
        classes = torch.zeros(*config.output_shape_xyz, config.class_count)
        classes[..., config.labels.names.index(name)] = 20.0
        return VoxelLogits(classes, torch.full(config.output_shape_xyz, 20.0), None)

    def occupancy(self: Network, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return classify(self.decode(fused), self.config.decoder, self.config.labels.free_id)

    monkeypatch.setattr(PanoOcc, "decode", decode)
    monkeypatch.setattr(PanoOcc, "occupancy", occupancy)


def test_voxels_are_counted_where_a_camera_sees_them(network, monkeypatch):
    config = recipe(network)
    always(monkeypatch, "car")
    cars, empty = toy_drives(config)
    model = build_network(config.model_config)
    assert validate(model, [cars]) == {"miou": 1.0, "geometric_iou": 1.0}
    assert validate(model, [cars, empty]) == {"miou": 0.5, "geometric_iou": 0.5}


def test_points_are_counted_but_for_noise(point_network, monkeypatch):
    """Of eight points that count, six are cars and all are taken for cars: 6/8 for cars, 0 for pedestrians."""
    always(monkeypatch, "car")
    model = build_network(model_config(point_network))
    assert validate(model, [PointDrive("one"), PointDrive("two")]) == {"point_miou": (6 / 8 + 0) / 2}
    always(monkeypatch, "noise")  # is missing from the classes that they have
    assert validate(model, [PointDrive("one")]) == {"point_miou": 0.0}


def test_a_frame_without_what_is_counted_is_named(network, point_network):
    wanted = {network: "learns from dense voxels", point_network: "is validated at labelled LiDAR points"}

    class Blind(PointDrive):
        def truth(self, index):
            return GroundTruth(0)

    for path, text in wanted.items():
        with pytest.raises(ValueError, match=f"blind, frame 1: truth: .*{text}, and this frame has none"):
            validate(build_network(model_config(path)), [Blind("blind")])


def test_processes_take_drives_in_turn_and_add_up(network, monkeypatch):
    """Four processes and three drives: one process has nothing to do."""
    config = recipe(network)
    drives = toy_drives(config, (4, 6, 5))
    model = start_from_scratch(build_network(config.model_config), config)
    parts = [[drives[i] for i in range(rank, 3, 4)] for rank in range(4)]
    total = sum(confusion_on(model, part).counts for part in parts)
    assert np.array_equal(total, confusion_on(model, drives).counts) and total.sum() == (2 + 3 + 2) * 12 * 12 * 4

    seen = []

    def recorded(self, counts, device):
        seen.append(counts)
        return total

    monkeypatch.setattr(Processes, "total", recorded)
    scores = [validate(model, drives, processes=Processes(rank, 4)) for rank in range(4)]
    assert all(np.array_equal(counts, confusion_on(model, part).counts) for counts, part in zip(seen, parts))
    monkeypatch.undo()
    assert scores == [validate(model, drives)] * 4


def test_a_network_of_points_gets_its_curve(point_network, tmp_path):
    config = recipe(point_network, losses=LossConfig(semantic_focal=1.0), epochs=2, clip_frames=2)
    config = replace(config, supervise="last")
    model = start_from_scratch(build_network(config.model_config), config)
    told = []
    options = Options(tmp_path, on_validation=lambda progress, values: told.append((progress.epoch, values)))
    train(config, model, [PointDrive("one")], [PointDrive("two")], options)
    header, *rows = (tmp_path / "validation.csv").read_text().splitlines()
    assert header == "step,point_miou" and [row.split(",")[0] for row in rows] == ["3", "7"]
    assert [epoch for epoch, _ in told] == [1, 2] and all(0 <= values["point_miou"] <= 1 for _, values in told)


def test_calibration_lets_a_class_be_chosen_that_is_chosen_too_seldom(network, monkeypatch):
    """Cars lose by half a unit where they are, by one and a half where they are not: a constant in between is right."""
    model = build_network(model_config(network))
    names = model.config.labels.names
    car, free = names.index("car"), names.index("free")
    true = torch.tensor([car, free] * 50)
    logits = torch.full((100, len(names)), -20.0)
    logits[:, car], logits[:, free] = 0.0, torch.where(true == car, 0.5, 1.5)
    monkeypatch.setattr(calibration, "_collected", lambda *_: (logits, true, torch.zeros(100, dtype=torch.bool)))
    bias = model.decoder.mlp[-1].bias.detach().clone()
    found = calibration.calibrate(model, [])
    assert (found["before"], found["after"]) == (0.0, 1.0)
    assert 0.5 < found["car"] - found["free"] < 1.5
    moved = model.decoder.mlp[-1].bias.detach() - bias
    torch.testing.assert_close(moved, torch.tensor([found[name] for name in names]))


def test_calibration_takes_truth_by_grid_and_class_name_as_validation_does(network, tmp_path):
    """The same network whose classes stand in another order is told the same, in its own order."""
    config = recipe(network)
    drives = toy_drives(config)
    logits, true, closed = calibration._collected(build_network(config.model_config), drives, 2)
    names = config.model_config.labels.names
    assert len(logits) == len(closed) == len(true) == 8 * 12 * 12 * 4
    assert set(true.tolist()) == {names.index("car"), names.index("free")}

    turned = write_network(tmp_path, label_key="turned", class_names=list(reversed(names)))
    _, renamed, _ = calibration._collected(build_network(model_config(turned)), drives, 2)
    assert torch.equal(renamed, len(names) - 1 - true)

    nearer = write_network(tmp_path, grid={**NETWORK["grid"], "range_m": [-6.0, -6.0, -1.0, 6.0, 6.0, 5.4]})
    with pytest.raises(ValueError, match="drive 0, frame 1: truth: its grid is not that of the output of toy"):
        calibration.calibrate(build_network(model_config(nearer)), drives)
    with pytest.raises(ValueError, match="blind, frame 1: .*dense voxels, and this frame has none"):
        calibration.calibrate(build_network(config.model_config), [PointDrive("blind")])
    with pytest.raises(ValueError, match="calibration needs drives of at least 2 frames"):
        calibration.calibrate(build_network(config.model_config), toy_drives(config, (1, 1)))


def test_calibration_leaves_closed_voxels_free(network):
    labels = model_config(network).labels
    car = labels.names.index("car")
    logits = 9.0 * torch.nn.functional.one_hot(torch.full((4,), car), len(labels.names))
    true, none = torch.full((4,), car), torch.zeros(len(labels.names))
    closed = torch.tensor([True, False, False, False])
    assert calibration._miou(logits, true, closed, none, labels) == 0.75
