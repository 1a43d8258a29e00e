"""Maps: ahead is up, left is left, and free, occupied and unknown look different."""

import numpy as np

from panoocc_core.pictures.map_view import map_view

UNKNOWN, FREE, OCCUPIED = -1, 0, 100


def pixel(picture, x_m, y_m, reach_m=20.0, size_px=400):
    """Where a point of the ego frame lies in a map that reaches as far to all sides."""
    scale = size_px / (2 * reach_m)
    return picture[round((reach_m - x_m) * scale), round((reach_m - y_m) * scale)].astype(int)


def test_cells_lie_where_they_are():
    percent = np.full((40, 40), FREE, np.int8)  # 1 m a cell, [y, x]
    percent[29:32, 34:37] = OCCUPIED  # x 14..17 m, y 9..12 m: ahead and left
    percent[:8] = UNKNOWN  # beyond y = -12 m: to the right
    picture = map_view(percent, (-20.0, -20.0), 1.0, 400)
    assert picture.shape[1] == 400 and picture.shape[0] > 400
    obstacle, free, unknown = pixel(picture, 15.5, 10.5), pixel(picture, -13.0, 7.0), pixel(picture, 7.0, -17.0)
    assert obstacle[0] > obstacle[1] + 100 and free.min() > 200 and unknown.max() < 100
    for x_m, y_m in ((15.5, -10.5), (-15.5, 10.5), (-15.5, -10.5)):
        assert np.abs(pixel(picture, x_m, y_m) - free).max() < 30
    assert np.abs(pixel(picture, 1.5, 0.6) - (250, 250, 250)).max() < 10  # the vehicle


def test_likelier_is_redder_and_any_shape_and_place_is_drawn():
    reds = [map_view(np.full((9, 9), of, np.int8), (-4.5, -4.5), 1.0, 180)[30, 60].astype(int) for of in (0, 40, 80)]
    greens = [int(red[1]) for red in reds]
    assert greens == sorted(greens, reverse=True) and greens[0] - greens[2] > 100
    wide = map_view(np.full((3, 11), FREE, np.int8), (30.0, -70.0), 0.25, 200)  # far from the vehicle
    assert wide.shape[1] == round(200 * 3 / 11) and wide[:200].min() > 150
