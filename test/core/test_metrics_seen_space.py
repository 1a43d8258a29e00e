"""Seen space: against counting voxel by voxel, where the answer is known, and what is refused."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from panoocc_core.metrics import SeenSpace, as_plain, as_text, distance_bins, visible_section
from panoocc_core.metrics.report import Report
from panoocc_core.metrics.seen_space import VISIBLE_SCORES
from panoocc_core.pictures.scores import write_scores
from panoocc_core.types import GridGeometry

EDGES = (2.0, 4.0)
SHAPE = (9, 8, 3)
GRID = GridGeometry(SHAPE, (1.0, 1.0, 1.0), np.array([[1.0, 0, 0, -4.5], [0, 1, 0, -4], [0, 0, 1, -1], [0, 0, 0, 1]]))
BINS = distance_bins(GRID, EDGES)


def masks(seed):
    """Called free, called visible, truly occupied, truly visible."""
    random = np.random.default_rng(seed)
    return tuple(random.random(SHAPE) < share for share in (0.7, 0.5, 0.3, 0.4))


def share(part, whole):
    return sum(part) / sum(whole) if sum(whole) else math.nan


def counted_slowly(voxels):
    """Of (called free, called visible, truly occupied, truly visible) of every voxel."""
    feared = [(o, v, t) for f, v, o, t in voxels if f]
    return {
        "visible_iou": share([v and t for _, v, _, t in voxels], [v or t for _, v, _, t in voxels]),
        "falsely_visible": share([v and not t for _, v, _, t in voxels], [v for _, v, _, _ in voxels]),
        "falsely_hidden": share([t and not v for _, v, _, t in voxels], [t for _, _, _, t in voxels]),
        "free_but_occupied": share([o and v for o, v, _ in feared], [v for _, v, _ in feared]),
        "free_but_occupied_hidden": share([o and not v for o, v, _ in feared], [not v for _, v, _ in feared]),
        "free_but_occupied_truly_visible": share([o and t for o, _, t in feared], [t for _, _, t in feared]),
    }


def voxels_of(frames, number=None):
    found = []
    for frame in frames:
        chosen = np.ones(SHAPE, bool) if number is None else number == BINS
        found += zip(*(mask[chosen].tolist() for mask in frame))
    return found


def test_scores_are_those_of_counting_voxel_by_voxel():
    frames = [masks(seed) for seed in range(3)]
    first = SeenSpace.empty(EDGES).add(*frames[0], BINS).add(*frames[1], BINS)
    total = first + SeenSpace.empty(EDGES).add(*frames[2], BINS)
    assert tuple(total.scores()) == VISIBLE_SCORES
    assert total.scores() == pytest.approx(counted_slowly(voxels_of(frames)))
    by_distance = total.by_distance()
    assert list(by_distance) == ["0-2 m", "2-4 m", "> 4 m"]
    for number, row in enumerate(by_distance.values()):
        assert row == pytest.approx(counted_slowly(voxels_of(frames, number)))
        called_free = [v for f, v, _, _ in voxels_of(frames, number) if f]
        assert total.called_free()[number].tolist() == [called_free.count(False), called_free.count(True)]


def test_the_truth_gets_perfect_numbers():
    _, _, is_occupied, is_visible = masks(0)
    scores = SeenSpace.empty(EDGES).add(~is_occupied, is_visible, is_occupied, is_visible, BINS).scores()
    assert scores.pop("visible_iou") == 1 and set(scores.values()) == {0.0}


def test_what_is_a_share_of_nothing_does_not_exist():
    nothing, everything = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    hidden = SeenSpace.empty(EDGES).add(everything, nothing, everything, nothing, BINS).scores()
    assert hidden.pop("free_but_occupied_hidden") == 1 and all(math.isnan(value) for value in hidden.values())
    assert all(math.isnan(value) for value in SeenSpace.empty().scores().values())


def test_what_does_not_fit_is_refused():
    empty, frame = SeenSpace.empty(EDGES), masks(0)
    with pytest.raises(ValueError, match="masks must be bool"):
        empty.add(*frame, BINS[1:])
    with pytest.raises(ValueError, match="masks must be bool"):
        empty.add(*frame[:3], frame[3].astype(np.uint8), BINS)
    with pytest.raises(ValueError, match="distance bin"):
        empty.add(*frame, BINS + 1)
    with pytest.raises(ValueError, match="other distance edges"):
        empty + SeenSpace.empty((5.0,))
    with pytest.raises(ValueError, match="the counts of 1 distance edges"):
        SeenSpace((1.0,), empty.counts)


def test_the_report_shows_them_by_distance(tmp_path):
    found = SeenSpace.empty(EDGES).add(*masks(1), BINS)
    section = visible_section(found)
    tree = Report("a street", (section,))
    plain = json.loads(json.dumps(as_plain(tree)))["sections"]["visible"]
    assert plain["scores"]["free but occupied"] == pytest.approx(found.scores()["free_but_occupied"])
    row = plain["by distance"]["2-4 m"]
    assert row["visible IoU"] == pytest.approx(found.by_distance()["2-4 m"]["visible_iou"])
    assert row["free and visible"] == found.called_free()[1, 1]
    assert "free but occupied, hidden" in as_text(tree)
    write_scores(tmp_path / "scores.png", tree)
    with Image.open(tmp_path / "scores.png") as drawn:
        assert min(drawn.size) > 300
