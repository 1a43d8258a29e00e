"""Our numbers of tracks and rays against the code of those who made the metrics, where it lies on the path; else
`test_metrics_recorded.py` compares them with what it said.

    git clone https://github.com/google-research/deeplab2    # STQ; recorded at 64bc1c1a
    git clone https://github.com/MCG-NJU/SparseOcc           # RayPQ; recorded at af4d9df8; wants prettytable
    export PYTHONPATH=.:deeplab2/evaluation/numpy:SparseOcc/loaders
    python -m pytest test/core/test_metrics_authors.py

    python -m test.core.test_metrics_authors                 # records the numbers anew
"""

import json

import numpy as np
import pytest

from panoocc_core.labels import LIDARSEG, OCC3D

from .metrics_cases import CLASS_COUNT, RECORDED_OF_AUTHORS, our_numbers_of_authors, ray_frames, tracked_drives

REASON = "the authors' code is not here; the recorded comparison runs without it"
stq = pytest.importorskip("segmentation_and_tracking_quality", reason=REASON)
ray_pq = pytest.importorskip("ray_pq", reason=REASON)

BITS = 18  # of an id


def stq_numbers() -> dict[str, list[float]]:
    things = [i for i, thing in enumerate(LIDARSEG.is_thing) if thing]
    quality = stq.STQuality(CLASS_COUNT, things, 255, BITS, 2**30)
    for number, drive in enumerate(tracked_drives()):
        for frame in drive:
            quality.update_state(
                (frame.true_class << BITS) + frame.true_instance,
                (frame.predicted_class << BITS) + frame.predicted_instance,
                number,
            )
    found = quality.result()
    return {
        "tracks": [found["STQ"], found["AQ"], found["IoU"]],
        "tracks stq by drive": found["STQ_per_seq"],
        "tracks aq by drive": found["AQ_per_seq"],
    }


def ray_numbers() -> dict[str, list[float]]:
    metric = ray_pq.Metric_RayPQ(OCC3D.names, len(OCC3D.names))
    for predicted, true in ray_frames():
        kept = true.class_id != OCC3D.free_id
        metric.add_batch(
            predicted.class_id[kept].astype(int),
            true.class_id[kept].astype(int),
            predicted.instance_id[kept].astype(int),
            true.instance_id[kept].astype(int),
            np.abs(predicted.depth_m[kept] - true.depth_m[kept]),
        )
    means = metric.count_pq()
    solid = slice(0, OCC3D.free_id)
    segments = np.maximum(metric.pan_tp + 0.5 * metric.pan_fp + 0.5 * metric.pan_fn, 1e-5)
    return {
        "rays means": [means["RayPQ"], means["RayPQ@1"], means["RayPQ@2"], means["RayPQ@4"]],
        "rays pq": (metric.pan_iou / segments)[:, solid].ravel(),
        "rays matches": metric.pan_tp[:, solid].ravel(),
        "rays false positives": metric.pan_fp[:, solid].ravel(),
        "rays false negatives": metric.pan_fn[:, solid].ravel(),
    }


def authors_numbers() -> dict[str, list[float]]:
    """All that is recorded."""
    numbers = {**stq_numbers(), **ray_numbers()}
    return {name: [round(float(value), 10) for value in values] for name, values in numbers.items()}


def test_our_numbers_are_the_authors():
    ours, theirs = our_numbers_of_authors(), authors_numbers()
    assert set(ours) == set(theirs)
    for name, values in theirs.items():
        assert ours[name] == pytest.approx(values, rel=1e-6, abs=1e-9), name


if __name__ == "__main__":
    lines = [f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in authors_numbers().items()]
    RECORDED_OF_AUTHORS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
