"""Maps of free, occupied and unknown cells from above, as planners read them."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ..labels import Colour
from .canvas import PANEL, TEXT, Image, blank, put_text, text_size
from .render import draw_rings, draw_vehicle

_UNKNOWN: Colour = (58, 63, 74)
_FREE: Colour = (232, 236, 230)
_OCCUPIED: Colour = (196, 44, 44)
_KEY_PX = 30


def map_view(
    percent: NDArray[np.int8], corner_m: tuple[float, float], resolution_m: float, size_px: int = 700
) -> Image:
    """Picture [size_px + key, w, 3] of a map around the vehicle, x ahead upwards and y to the left.

    Args:
        percent: [row, column], as in nav_msgs/OccupancyGrid: rows along y, columns along x; -1: unknown, 0: free to
            100: occupied.
        corner_m: x and y of the outer corner of its first cell.
    """
    colours = np.linspace(_FREE, _OCCUPIED, 101)
    cells = np.vstack((colours, np.array(_UNKNOWN)[None]))[percent.astype(np.int64)]  # -1 is the last one
    upright = cells.transpose(1, 0, 2)[::-1, ::-1].astype(np.uint8)  # [x ahead upwards, y to the left]
    scale = size_px / (max(percent.shape) * resolution_m)
    tall, wide = (max(1, round(side * resolution_m * scale)) for side in upright.shape[:2])
    picture = np.asarray(cv2.resize(upright, (wide, tall), interpolation=cv2.INTER_NEAREST), np.uint8)
    low = np.array(corner_m, np.float64)
    high = low + np.array(percent.shape[::-1]) * resolution_m
    draw_rings(picture, low, high, scale)
    draw_vehicle(picture, high, scale)
    return np.vstack((picture, _key(picture.shape[1])))


def _key(width: int) -> Image:
    key, left = blank(_KEY_PX, width, PANEL), 12.0
    for name, colour in (("free", _FREE), ("occupied", _OCCUPIED), ("unknown", _UNKNOWN)):
        cv2.rectangle(key, (round(left), 8), (round(left) + 14, 22), colour, -1)
        put_text(key, name, (left + 22, 20), 0.44, TEXT)
        left += 22 + text_size(name, 0.44)[0] + 24
    return key
