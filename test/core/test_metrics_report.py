"""The report: the same numbers as text, as JSON and in the picture; what does not exist is no number."""

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from panoocc_core.labels import BOX_CLASSES, LIDARSEG, label_set
from panoocc_core.metrics import (
    Confusion,
    Detection,
    DistanceConfusion,
    PanopticQuality,
    RayHits,
    RayIoU,
    RayPQ,
    Report,
    TrackingQuality,
    as_plain,
    as_text,
    box_section,
    point_section,
    voxel_section,
)
from panoocc_core.metrics.report import Column, Table
from panoocc_core.pictures.scores import write_scores

from .metrics_cases import CLASS_COUNT, box_frames, panoptic_frames

LABELS = label_set("street", ("car", "terrain", "bus", "free"))
CAR, TERRAIN, BUS, FREE = range(4)


@pytest.fixture(scope="module")
def report() -> Report:
    """Cars found by half, far ones not at all; no bus anywhere."""
    true = np.array([CAR] * 4 + [TERRAIN] * 4 + [FREE] * 2)
    predicted = np.array([CAR, CAR, FREE, FREE] + [TERRAIN] * 4 + [FREE] * 2)
    bins = np.array([0, 0, 1, 1] + [0, 0, 1, 1] + [0, 1])
    instance = np.where(true == CAR, 1, 0)
    voxels = DistanceConfusion.empty(4, (10,)).add(predicted, true, bins)
    panoptic = PanopticQuality.empty(4, (), 1).add(predicted, instance, true, instance)
    hits = RayHits(np.array([CAR, TERRAIN], np.uint8), np.array([5.0, 5.0]))
    rays = RayIoU.empty(4).add(hits, RayHits(hits.class_id, np.array([5.5, 6.5])), FREE)
    tracks = TrackingQuality.empty(LABELS).add(predicted, 5 * instance, true, instance)
    tracks = tracks.add(true, 6 * instance, true, instance).add(true, 7 * instance, true, instance)
    ray_hits = RayHits(hits.class_id, hits.depth_m, np.ones(2, np.int32))
    ray_instances = RayPQ.empty(4, min_rays=1).add(ray_hits, replace(ray_hits, depth_m=np.array([5.5, 6.5])), LABELS)
    points = PanopticQuality.empty(CLASS_COUNT, (0,))
    for frame in panoptic_frames():
        points = points.add(frame.predicted_class, frame.predicted_instance, frame.true_class, frame.true_instance)
    boxes = Detection()
    for box_frame in box_frames(frames=3):
        boxes = boxes.add(box_frame.detections, box_frame.truth, box_frame.true_attribute)
    sections = (
        voxel_section(LABELS, voxels, panoptic, rays, tracks, ray_instances),
        point_section(LIDARSEG, points.confusion, points.ignored, points),
        box_section(boxes.scores()),
    )
    return Report("a street", sections, {"preset": "nano", "frames": 3})


def test_the_tree_holds_the_scores(report):
    voxels = as_plain(report)["sections"]["voxels"]
    assert voxels["scores"]["mIoU"] == pytest.approx(0.75)
    assert voxels["scores"]["geometric IoU"] == pytest.approx(6 / 8)
    assert voxels["scores"]["RayIoU at 1 m"] == pytest.approx(0.5) and voxels["scores"]["RayIoU at 2 m"] == 1
    assert voxels["classes"]["car"] == {
        "IoU": 0.5,
        "PQ": 0,
        "SQ": 0,
        "RQ": 0,
        "RayIoU": 1,
        "RayPQ": 1,
        "true voxels": 4,
    }
    # The car has 12 voxels: tubes of 2, 4 and 4 of them.
    scores = voxels["scores"]
    assert scores["AQ"] == pytest.approx((2 * 2 + 4 * 4 + 4 * 4) / 12 / 12)
    assert (scores["true objects"], scores["followed objects"], scores["id switches"]) == (1, 1, 1)
    assert scores["STQ"] == pytest.approx(math.sqrt(scores["AQ"] * (10 / 12 + 1) / 2))
    assert scores["RayPQ at 1 m"] == pytest.approx(0.5) and scores["RayPQ at 2 m"] == scores["RayPQ at 4 m"] == 1
    assert voxels["classes"]["bus"]["IoU"] is None and "free" not in voxels["classes"]
    assert voxels["by distance"]["0-10 m"]["mIoU"] == 1 and voxels["by distance"]["> 10 m"]["mIoU"] == 0.5
    assert voxels["IoU by class and distance"]["car"] == {"0-10 m": 1, "> 10 m": 0}


def test_points_leave_out_what_is_ignored_and_boxes_show_all_classes(report):
    sections = as_plain(report)["sections"]
    assert list(sections["points"]["classes"]) == list(LIDARSEG.names[1:])
    assert list(sections["boxes"]["classes"]) == list(BOX_CLASSES)
    assert sections["boxes"]["classes"]["traffic_cone"]["AOE"] is None
    assert sections["boxes"]["classes"]["trailer"]["true boxes"] == 0
    assert 0 < sections["boxes"]["scores"]["NDS"] < sections["boxes"]["scores"]["NDS of present classes"]


def test_json_reads_back_and_holds_plain_numbers(report):
    read = json.loads(json.dumps(as_plain(report)), parse_constant=lambda name: pytest.fail(name))
    assert read == as_plain(report)
    assert read["facts"] == {"preset": "nano", "frames": 3}


def test_text_is_aligned_and_shows_percent(report):
    lines = as_text(report).splitlines()
    assert lines[:3] == ["a street", "  preset  nano", "  frames  3"]
    at = next(i for i, line in enumerate(lines) if line.startswith("  classes"))
    table = lines[at : at + 4]
    assert table[0].split() == ["classes", "IoU", "%", "PQ", "%", "SQ", "%", "RQ", "%", "RayIoU", "%",
                                "RayPQ", "%", "true", "voxels"]  # fmt: skip
    assert table[1].split() == ["car", "50.0", "0.0", "0.0", "0.0", "100.0", "100.0", "4"]
    assert table[3].split() == ["bus", "-", "-", "-", "-", "-", "-", "0"]
    assert len({len(line) for line in table}) == 1
    assert ["mIoU", "75.0", "%"] in [line.split() for line in lines]
    assert all(line == line.rstrip() for line in lines)


def test_the_picture_shows_bars_in_proportion(report, tmp_path):
    write_scores(tmp_path / "report.png", report)
    shown = cv2.imread(str(tmp_path / "report.png"))[..., ::-1]

    def pixels_of(name: str) -> int:
        colour = LABELS.colours[LABELS.names.index(name)]
        first_bars = shown[:, : shown.shape[1] // 2]
        rows = (first_bars == colour).all(axis=2).sum(axis=1)
        return int(rows[rows > 0][5])

    assert pixels_of("car") == pytest.approx(pixels_of("terrain") / 2, abs=3)
    assert pixels_of("terrain") > 300


def test_a_report_of_less_is_a_report_too(tmp_path):
    bare = voxel_section(LABELS, DistanceConfusion.empty(4))
    report = Report("nothing – yet", (bare,))
    assert as_plain(report)["sections"]["voxels"]["scores"]["mIoU"] is None
    assert ["mIoU", "-", "%"] in [line.split() for line in as_text(report).splitlines()]
    for path, kind in ((tmp_path / "report.svg", b"<?xml"), (tmp_path / "report.pdf", b"%PDF")):
        write_scores(path, report)
        assert path.read_bytes().startswith(kind)
    write_scores(tmp_path / "none.png", Report("no sections", ()))
    assert "geometric IoU" not in as_text(Report("", (voxel_section(LIDARSEG, DistanceConfusion.empty(17)),)))


def test_wrong_tables_and_sizes_are_refused(report):
    with pytest.raises(ValueError, match="table classes: values have the shape"):
        Table("classes", ("car",), (Column("IoU"),), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="occurs twice"):
        Table("classes", ("car", "car"), (Column("IoU"),), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="report.jpg: the name of a picture of numbers must end in .png, .svg, .pdf"):
        write_scores(Path("report.jpg"), report)
    with pytest.raises(ValueError, match="all 10 box classes"):
        box_section(
            Detection().add(box_frames(frames=1)[0].detections, box_frames(frames=1)[0].truth).scores().of_present()
        )
    with pytest.raises(ValueError, match="street has 4 classes, not 17"):
        point_section(LABELS, Confusion.empty(CLASS_COUNT), (0,))
    assert math.isnan(report.sections[0].tables[0].values[BUS, 0])
