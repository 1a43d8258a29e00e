"""Our numbers against the nuScenes devkit itself, where it is installed; else `test_metrics_recorded.py` compares them
with what it said.  It wants numpy below 2, so give it an environment of its own, with what our core imports:

    python -m venv devkit
    devkit/bin/pip install nuscenes-devkit==1.2.0 'numpy<2' torch PyYAML pytest pytest-timeout
    PYTHONPATH=. devkit/bin/python -m pytest test/core/test_metrics_devkit.py

    PYTHONPATH=. devkit/bin/python -m test.core.test_metrics_devkit   # records the numbers anew
"""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from panoocc_core.labels import BOX_CLASSES, LIDARSEG

from .metrics_cases import (
    ATTRIBUTES,
    CLASS_COUNT,
    MIN_POINTS,
    RECORDED,
    box_frames,
    lidarseg_points,
    our_numbers,
    panoptic_frames,
)

pytest.importorskip("nuscenes", reason="the nuScenes devkit is not installed; the recorded comparison runs without it")
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.detection.data_classes import DetectionBox
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.eval.lidarseg.utils import ConfusionMatrix
from nuscenes.eval.panoptic.panoptic_seg_evaluator import PanopticEval

ERROR_NAMES = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")


def devkit_lidarseg() -> dict[str, list[float]]:
    predicted, true = lidarseg_points()
    confusion = ConfusionMatrix(CLASS_COUNT, ignore_idx=0)
    confusion.update(true, predicted)
    return {"lidarseg iou": list(confusion.get_per_class_iou()), "lidarseg miou": [confusion.get_mean_iou()]}


def devkit_panoptic(smallest: int) -> dict[str, list[float]]:
    """As `NuScenesPanopticEval` uses it: instances are panoptic labels."""
    evaluation = PanopticEval(CLASS_COUNT, ignore=[0], min_points=smallest)
    for frame in panoptic_frames():
        evaluation.addBatch(
            frame.predicted_class,
            frame.predicted_class * 1000 + frame.predicted_instance,
            frame.true_class,
            frame.true_class * 1000 + frame.true_instance,
        )
    *means, pq, sq, rq = evaluation.getPQ()
    miou, iou = evaluation.getSemIoU()
    iou[0] = 0  # ignored: ours has no number for it
    dagger = np.where(LIDARSEG.is_thing, pq, iou)[1:].mean()
    name = f"panoptic {smallest}"
    return {
        f"{name} matches": evaluation.pan_tp,
        f"{name} false positives": evaluation.pan_fp,
        f"{name} false negatives": evaluation.pan_fn,
        f"{name} pq": pq,
        f"{name} sq": sq,
        f"{name} rq": rq,
        f"{name} iou": iou,
        f"{name} means": [*means, miou, dagger],
    }


def evaluated(boxes, scores, attributes, token: str, reach_m: dict[str, float]) -> list[DetectionBox]:
    """Boxes of the devkit, those within the range of their class."""
    result = []
    for i in range(len(boxes)):
        yaw = float(boxes.yaw_rad[i])
        centre = tuple(float(v) for v in boxes.centre_m[i])
        box = DetectionBox(
            sample_token=token,
            translation=centre,
            size=tuple(float(v) for v in boxes.size_m[i][[1, 0, 2]]),  # width, length, height
            rotation=(math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)),
            velocity=tuple(float(v) for v in boxes.velocity_mps[i]),
            ego_translation=centre,
            detection_name=BOX_CLASSES[boxes.class_id[i]],
            detection_score=float(scores[i]),
            attribute_name=ATTRIBUTES[attributes[i]],
        )
        if box.ego_dist < reach_m[box.detection_name]:
            result.append(box)
    return result


def devkit_detection(with_attributes: bool) -> dict[str, list[float]]:
    config = config_factory("detection_cvpr_2019")
    truth, detections = EvalBoxes(), EvalBoxes()
    for number, frame in enumerate(box_frames()):
        token, found = str(number), frame.detections
        known = frame.true_attribute if with_attributes else np.zeros_like(frame.true_attribute)
        nothing = np.full(len(frame.truth), -1.0)
        truth.add_boxes(token, evaluated(frame.truth, nothing, known, token, config.class_range))
        detections.add_boxes(token, evaluated(found, found.score, found.attribute_id, token, config.class_range))
    evaluation = SimpleNamespace(cfg=config, gt_boxes=truth, pred_boxes=detections, verbose=False)
    metrics, _ = DetectionEval.evaluate(evaluation)
    name = "detection" if with_attributes else "detection without attributes"
    return {
        f"{name} ap": [metrics.get_label_ap(c, distance) for c in BOX_CLASSES for distance in config.dist_ths],
        f"{name} errors": [metrics.get_label_tp(c, error) for c in BOX_CLASSES for error in ERROR_NAMES],
        f"{name} means": [metrics.mean_ap, *(metrics.tp_errors[error] for error in ERROR_NAMES), metrics.nd_score],
    }


def devkit_numbers() -> dict[str, list[float]]:
    numbers = devkit_lidarseg()
    for smallest in MIN_POINTS:
        numbers |= devkit_panoptic(smallest)
    for with_attributes in (True, False):
        numbers |= devkit_detection(with_attributes)
    return {name: [float(value) for value in values] for name, values in numbers.items()}


def test_our_numbers_are_the_devkits():
    devkit = devkit_numbers()
    ours = our_numbers()
    assert set(ours) == set(devkit)
    for name, values in devkit.items():
        assert ours[name] == pytest.approx(values, rel=1e-6, abs=1e-9, nan_ok=True), name


def test_the_recorded_numbers_are_the_devkits():
    recorded = json.loads(RECORDED.read_text())
    for name, values in devkit_numbers().items():
        given = [math.nan if value is None else value for value in recorded[name]]
        assert given == pytest.approx(values, rel=1e-7, abs=1e-9, nan_ok=True), name


if __name__ == "__main__":
    plain = {
        name: [None if math.isnan(value) else round(value, 10) for value in values]
        for name, values in devkit_numbers().items()
    }
    lines = [f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in plain.items()]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
