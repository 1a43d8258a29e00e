"""Published numbers: a table that is whole, and a report that has them beside its own."""

import numpy as np
import pytest

from panoocc_core.config import presets
from panoocc_core.labels import BOX_CLASSES
from panoocc_core.metrics.attributes import ATTRIBUTES, attributes_by_speed
from panoocc_core.metrics.published import _table, beside, published_scores
from panoocc_core.metrics.report import Report, Score, Section, as_plain, as_text


def test_every_entry_is_of_a_preset_and_holds_fractions():
    networks = _table().networks
    assert set(networks) <= set(presets()) and len(networks) >= 7
    for entry in networks.values():
        assert entry.source and entry.scores and all(0.2 < value < 1 for value in entry.scores.values())
    assert published_scores("nano") is None


def test_a_larger_network_was_never_published_as_worse():
    """A slip of the pen in the table would show."""
    scores = [published_scores(f"pano_{name}").scores for name in ("small_1f", "small_4f", "base_4f", "large_4f")]
    for smaller, larger in zip(scores, scores[1:]):
        assert all(smaller[name] < larger[name] for name in ("mIoU", "mAP", "NDS"))


def own_report(**scores: float) -> Report:
    points = Section("points", tuple(Score(name, value) for name, value in scores.items() if name != "NDS"), ())
    boxes = Section("boxes", (Score("NDS", scores["NDS"]),), ()) if "NDS" in scores else None
    return Report("title", tuple(section for section in (points, boxes) if section), {"weights": "file"})


def test_published_numbers_stand_beside_the_measured_ones():
    tree = beside(own_report(mIoU=0.7, PQ=0.5, NDS=0.4), published_scores("pano_small_4f"), "val")
    table = as_plain(tree)["sections"]["published for val"]["score"]
    assert table["mIoU"] == pytest.approx({"here": 0.7, "published": 0.682, "difference": 0.018})
    assert table["NDS"] == pytest.approx({"here": 0.4, "published": 0.421, "difference": -0.021})
    assert table["PQ"] == {"here": 0.5, "published": None, "difference": None}, "unknown stays empty"
    assert table["mAP"] == {"here": None, "published": 0.331, "difference": None}, "so does what was not measured"
    text = as_text(tree)
    assert "README of github.com/Robertwyq/PanoOcc" in text and "points whose truth is noise" in text
    assert "NOT COMPARABLE" not in text and "Occ3D's mask" not in text, "no note on voxels, none were measured"


def test_another_split_than_the_published_one_is_said_first():
    tree = beside(own_report(mIoU=0.7), published_scores("pano_small_4f"), "mini_val")
    assert tree.notes[0] == "NOT COMPARABLE: published for the split val, measured here on mini_val"
    assert not any("attributes" in note for note in tree.notes), "no boxes, no note on them"


def test_attributes_follow_from_class_and_speed():
    kinds = np.array([BOX_CLASSES.index(name) for name in ("car", "car", "bus", "bicycle", "pedestrian", "barrier")])
    velocity = np.array([(0.3, 0), (0.1, 0.1), (0, 0), (3, 4), (0, -0.21), (9, 9)], np.float32)
    names = [ATTRIBUTES[number] for number in attributes_by_speed(kinds, velocity)]
    assert names == ["vehicle.moving", "vehicle.parked", "vehicle.stopped", "cycle.with_rider", "pedestrian.moving", ""]
    assert attributes_by_speed(np.zeros(0, np.int64), np.zeros((0, 2))).shape == (0,)
