"""Outlines and numbers of things: where they are, in their colour, within the picture, and nothing for the rest."""

from dataclasses import replace

import numpy as np
import pytest

from panoocc_core.geometry import BOX_EDGES, box_corners_m, rigid
from panoocc_core.labels import OCC3D, instance_colours
from panoocc_core.pictures.marks import LEAST_PX, draw_marks
from panoocc_core.pictures.render import birds_eye_view
from panoocc_core.pictures.voxel_view import VoxelVolume, perspective
from panoocc_core.types import GridGeometry, ScoredBoxes

GREY = 90
SQUARE = np.array([[0.0, 0.0], [40.0, 0.0], [40.0, 30.0], [0.0, 30.0]])
GRID = GridGeometry((40, 40, 8), (1.0, 1.0, 1.0), rigid(np.eye(3), np.array([-20.0, -20.0, -1.0])))
EMPTY = VoxelVolume(np.full((40, 40, 8), OCC3D.names.index("free"), np.uint8), GRID, OCC3D)


def boxes(*rows):
    """Boxes of x, y, yaw and number; 4 m long, 2 m wide, on the ground."""
    table = np.array(rows, np.float32).reshape(-1, 4)
    count = len(table)
    return ScoredBoxes(
        centre_m=np.stack((table[:, 0], table[:, 1], np.ones(count, np.float32)), axis=1),
        size_m=np.tile(np.array([4.0, 2.0, 2.0], np.float32), (count, 1)),
        yaw_rad=table[:, 2],
        velocity_mps=np.zeros((count, 2), np.float32),
        class_id=np.zeros(count, np.int64),
        score=np.ones(count, np.float32),
        instance_id=table[:, 3].astype(np.int32),
    )


def drawn(outlines, numbers, above=True):
    picture = np.full((120, 160, 3), GREY, np.uint8)
    draw_marks(picture, outlines, BOX_EDGES[:4], np.array(numbers, np.int32), above)
    return picture


def in_colour(picture, number):
    """Rows and columns [n, 2] of pixels in the colour of a number."""
    return np.argwhere((picture == instance_colours(np.array([number]))[0]).all(axis=2))


def test_corners_of_a_turned_box_are_where_it_ends():
    box = boxes((10, 5, np.pi / 2, 1))
    corners = box_corners_m(box.centre_m, box.size_m, box.yaw_rad)[0]
    assert corners.min(axis=0) == pytest.approx([9, 3, 0], abs=1e-5)
    assert corners.max(axis=0) == pytest.approx([11, 7, 2], abs=1e-5)
    lengths = sorted(round(float(np.linalg.norm(corners[a] - corners[b])), 4) for a, b in BOX_EDGES)
    assert lengths == [2.0] * 8 + [4.0] * 4


def test_the_same_number_has_the_same_colour_wherever_it_is():
    here, there = drawn([SQUARE + 20], [7]), drawn([SQUARE + 60], [7])
    assert len(in_colour(here, 7)) > 100 and len(in_colour(there, 7)) > 100
    assert not len(in_colour(here, 8))


@pytest.mark.parametrize("place", [(-15, -10), (130, 95), (-15, 95), (60, 0)])
@pytest.mark.parametrize("above", [True, False])
def test_a_number_at_the_edge_stands_whole_within_the_picture(place, above):
    inside, at_edge = (written(drawn([SQUARE + at], [7], above)) for at in (50, place))
    assert inside == at_edge > 5


def written(picture):
    """Pixels of dark digits."""
    return int((picture.max(axis=2) < 70).sum())


def test_nothing_is_drawn_for_what_is_outside_or_tiny():
    untouched = np.full((120, 160, 3), GREY, np.uint8)
    tiny = SQUARE * (LEAST_PX - 1) / 40 + 50
    outside = [SQUARE + place for place in ((200, 40), (-60, 40), (40, 140), (40, -50))]
    assert np.array_equal(drawn([*outside, tiny], [1, 2, 3, 4, 5]), untouched)
    assert np.array_equal(drawn([], []), untouched)


def test_of_numbers_that_would_cover_each_other_the_larger_things_is_written():
    large, small = SQUARE * 1.5 + 40, SQUARE * 0.5 + (60, 40)
    both, alone = drawn([small, large], [3, 4]), drawn([large], [4])
    top = slice(24, 37)
    assert np.array_equal(both[top], alone[top]) and len(in_colour(alone[top], 4)) > 50
    assert (both != alone).any()  # its outline is there


@pytest.mark.parametrize("view", [birds_eye_view, lambda voxels, boxes: perspective(voxels, 600, 420, boxes)])
def test_both_views_mark_a_box_where_it_is(view):
    ahead, left, nothing = boxes((12, 0, 0, 3)), boxes((0, 12, 0, 3)), boxes()
    pictures = {name: view(EMPTY, boxes=one) for name, one in (("ahead", ahead), ("left", left), ("no", nothing))}
    assert np.array_equal(pictures["no"], view(EMPTY, boxes=None)) and not len(in_colour(pictures["no"], 3))
    middles = {name: in_colour(pictures[name], 3).mean(axis=0) for name in ("ahead", "left")}
    assert middles["ahead"][0] < middles["left"][0] and middles["left"][1] < middles["ahead"][1]
    outside = view(EMPTY, boxes=boxes((0, 300, 0, 3), (-300, 0, 0, 3)))
    assert np.array_equal(outside, pictures["no"])


def test_boxes_without_numbers_are_refused():
    with pytest.raises(ValueError, match="instance_id"):
        birds_eye_view(EMPTY, boxes=replace(boxes((0, 12, 0, 3)), instance_id=None))
