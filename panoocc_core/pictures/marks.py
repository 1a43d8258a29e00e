"""Outlines of things and their numbers on views of voxels, in the colour that a number has everywhere."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..labels import Colour, instance_colours
from ..types import ScoredBoxes
from .canvas import Image, put_text, text_size

LEAST_PX = 18.0  # what is smaller has no outline and no number, only its colour
_SCALE, _PAD_PX = 0.36, 2  # of a number's text, and around it
_FAR = 2**20  # sixteenths of a pixel, beyond which OpenCV need not draw
_DARK: Colour = (16, 18, 22)

_Plate = tuple[int, int, int, int]  # left, top, right, bottom


def numbers_of(boxes: ScoredBoxes) -> NDArray[np.int32]:
    """The boxes' numbers [n].

    Raises:
        ValueError: they have none.
    """
    if boxes.instance_id is None:
        raise ValueError("boxes without instance_id have no number to draw")
    return boxes.instance_id


def draw_marks(
    picture: Image,
    outlines: Sequence[NDArray[np.float64]],
    edges: NDArray[np.int_] | None,
    numbers: NDArray[np.int32],
    above: bool,
) -> None:
    """Draw outlines (corners [k, 2], x and y in pixels) and their numbers [n] into a picture.

    Without `edges` an outline has the two ends of every line, one line after the other.

    What is smaller than LEAST_PX is left out.  A number stands `above` its outline or in its middle, if that is in the
    picture.  Larger outlines come first; a number that would cover another one is left out.
    """
    height, width = picture.shape[:2]
    spans = np.array([np.ptp(outline, axis=0).max() for outline in outlines])
    middles = np.array([outline.mean(axis=0) for outline in outlines]).reshape(-1, 2)
    is_inside = np.all((middles >= 0) & (middles < (width, height)), axis=1).tolist()
    largest_first = [int(i) for i in np.argsort(-spans, kind="stable") if spans[i] >= LEAST_PX]
    colours = [(int(r), int(g), int(b)) for r, g, b in instance_colours(numbers)]
    for i in reversed(largest_first):
        pairs = outlines[i].reshape(-1, 2, 2) if edges is None else outlines[i][edges]
        lines = list(np.round(pairs * 16).clip(-_FAR, _FAR).astype(np.int32))
        cv2.polylines(picture, lines, False, colours[i], 1, cv2.LINE_AA, 4)
    taken: list[_Plate] = []
    for i in largest_first:
        plate = _plate(str(numbers[i]), outlines[i], (height, width), above)
        if is_inside[i] and not any(_meet(plate, other) for other in taken):
            taken.append(plate)
            _draw_number(picture, str(numbers[i]), plate, colours[i])


def _plate(text: str, outline: NDArray[np.float64], shape: tuple[int, int], above: bool) -> _Plate:
    """Where a number stands: above the outline or in its middle, moved into a picture of height and width `shape`."""
    wide, tall = (side + 2 * _PAD_PX for side in text_size(text, _SCALE))
    x, y = outline.mean(axis=0)
    left, top = round(x - wide / 2), round(outline[:, 1].min() - tall - 2 if above else y - tall / 2)
    left, top = max(0, min(left, shape[1] - wide)), max(0, min(top, shape[0] - tall))
    return left, top, left + wide, top + tall


def _meet(one: _Plate, other: _Plate) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _draw_number(picture: Image, text: str, plate: _Plate, colour: Colour) -> None:
    left, top, right, bottom = plate
    picture[top:bottom, left:right] = colour
    bright = float(np.dot(colour, (0.299, 0.587, 0.114))) > 120
    put_text(picture, text, (left + _PAD_PX, bottom - _PAD_PX), _SCALE, _DARK if bright else (255, 255, 255))
