"""Every recorded term, assignment, label and gradient of the published losses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from panoocc_core.base.strict_yaml import build
from panoocc_core.config import GridConfig, ModelConfig, UpsampleConfig
from panoocc_core.ground_truth import GroundTruth, TrueBoxes, TruePoints
from panoocc_core.labels import BOX_CLASSES
from panoocc_core.models.network_frame import legacy_yaw_rad
from panoocc_core.network import VoxelLogits
from panoocc_core.step import BoxPrediction
from panoocc_core.train.loss_config import LossConfig
from panoocc_core.train.matching import match_boxes
from panoocc_core.train.objective import loss_terms, supervised_layers
from panoocc_core.train.targets import Targets, make_targets, output_geometry

from ..parity.loss_cases import LossCase, compare
from .conftest import DEVICES

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[1] / "parity" / "losses").glob("*/settings.json"))
RTOL = 1e-5


def case_model(case: LossCase, nano: ModelConfig) -> ModelConfig:
    """A network with the grids, classes and frame of a case; the network frame is the ego frame."""
    settings = case.settings
    x, y, z = settings["grid_xyz"]
    rows, columns, layers = settings.get("coarse_hwz", (y, x, z))
    zoom = (z // layers, y // rows, x // columns)
    pan = settings["family"] == "lidar_segmentation"
    decoder = replace(
        nano.decoder,
        upsample=(UpsampleConfig(kernel=zoom, stride=zoom, padding=(0, 0, 0), channels=nano.decoder.mlp[0]),),
        logit_upsample=(1, 1, 1),
        gate_threshold=None if pan else 0.05,
        empty_below=0.3 if pan else None,
        thing_head=pan,
    )
    limits = tuple(settings["range"])
    grid = GridConfig(rows=rows, columns=columns, layers=layers, range_m=limits)
    return replace(
        nano,
        truth="points" if pan else "voxels",
        grid=grid,
        decoder=decoder,
        boxes=replace(nano.boxes, classes=BOX_CLASSES, layers=settings["layers"], queries=settings["queries"]),
        label_key="nuscenes_lidarseg_free" if pan else "occ3d_nuscenes",
    )


def case_truth(case: LossCase, model: ModelConfig) -> GroundTruth:
    x = case.inputs
    boxes = x["gt_boxes"]
    true_boxes = TrueBoxes(
        centre_m=boxes[:, :3],
        size_m=boxes[:, [4, 3, 5]],
        yaw_rad=legacy_yaw_rad(boxes[:, 6]),
        velocity_mps=boxes[:, 7:9],
        class_id=x["gt_labels"],
        instance_id=np.arange(len(boxes), dtype=np.int32),
    )
    if "semantics" in x:
        mask = x["mask_camera"].astype(bool)
        return GroundTruth(0, output_geometry(model), x["semantics"], camera_mask=mask, boxes=true_boxes)
    points = TruePoints(x["points"], x["point_classes"], np.zeros(len(x["points"]), np.int32))
    return GroundTruth(0, boxes=true_boxes, points=points)


def case_losses(case: LossCase) -> LossConfig:
    layers = "all" if case.settings["family"] == "lidar_segmentation" else "last"
    return build(LossConfig, {**case.settings["weights"], "supervised_layers": layers}, "case")


def predictions(case: LossCase, device: str) -> tuple[dict[str, torch.Tensor], VoxelLogits, BoxPrediction]:
    """The inputs that get gradients, and the network's outputs made of them."""
    names = ("logits", "gate", "thing_logits", "class_logits", "box_parameters")
    x = {name: torch.tensor(case.inputs[name], device=device) for name in names if name in case.inputs}
    for leaf in x.values():
        leaf.requires_grad_()
    logits = VoxelLogits(x["logits"], x.get("gate"), x.get("thing_logits"))
    return x, logits, BoxPrediction(x["class_logits"], x["box_parameters"])


def gradients(terms: dict[str, torch.Tensor], inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """ "gradient.{term}.{input}" of every term and every input that it depends on."""
    boxes = sum(value for name, value in terms.items() if name.startswith("box_"))
    sums = {name: value for name, value in terms.items() if not name.startswith("box_")} | {"boxes": boxes}
    found = {}
    for term, value in sums.items():
        values = torch.autograd.grad(value, list(inputs.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(inputs, values):
            if gradient is not None:
                found[f"gradient.{term}.{name}"] = gradient.cpu().numpy()
    return found


def assignments(boxes: BoxPrediction, targets: Targets, config: LossConfig) -> dict[str, np.ndarray]:
    layers = supervised_layers(boxes, config)
    matches = match_boxes(boxes, targets.boxes, layers, config.match_class_cost, config.match_l1_cost)
    found = {}
    for layer, match in zip(layers, matches):
        rows = torch.full((boxes.codes.shape[1],), -1, device=boxes.codes.device)
        rows[match.queries] = match.boxes
        found[f"assignment.{layer}"] = rows.cpu().numpy()
    return found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_recorded_case(folder, device, nano):
    case = LossCase(folder)
    model, config = case_model(case, nano), case_losses(case)
    targets = make_targets(case_truth(case, model), model, device)
    inputs, logits, boxes = predictions(case, device)
    terms = loss_terms(logits, boxes, targets, config, model)
    outputs = {f"term.{name}": value.detach().cpu().numpy() for name, value in terms.items()}
    outputs |= gradients(terms, inputs) | assignments(boxes, targets, config)
    if targets.point_classes is not None:
        outputs["voxel_labels"] = targets.point_classes.cpu().numpy()
        outputs["coarse_labels"] = targets.thing_classes.cpu().numpy()
    assert set(case.names()) <= set(outputs)
    assert compare(case, outputs, rtol=RTOL)


def test_all_recorded_cases_are_there():
    names = ["occ", "occ_few_classes", "occ_no_boxes", "pan", "pan_few_classes", "pan_no_boxes"]
    assert [folder.name for folder in FOLDERS] == names
