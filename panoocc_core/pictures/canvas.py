"""Small drawing helpers for `render`: text, panels, blanks."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ..labels import Colour

Image = NDArray[np.uint8]

BACKGROUND: Colour = (24, 27, 33)
PANEL: Colour = (34, 38, 46)
FAINT: Colour = (62, 68, 80)
TEXT: Colour = (226, 230, 236)
WARNING: Colour = (255, 196, 70)
_FONT, _BOLD = cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX


def blank(height: int, width: int, colour: Colour = BACKGROUND) -> Image:
    """An empty picture."""
    return np.full((height, width, 3), colour, np.uint8)


def text_size(text: str, scale: float, bold: bool = False) -> tuple[int, int]:
    """Width and height in pixels."""
    (width, height), _ = cv2.getTextSize(text, _BOLD if bold else _FONT, scale, 1)
    return int(width), int(height)


def put_text(
    picture: Image,
    text: str,
    place: tuple[float, float],
    scale: float,
    colour: Colour,
    halo: bool = False,
    bold: bool = False,
) -> None:
    """Write text whose lower left corner is at `place` (x, y), with a dark halo where it stands on a picture."""
    corner, font = (round(place[0]), round(place[1])), _BOLD if bold else _FONT
    if halo:
        cv2.putText(picture, text, corner, font, scale, (16, 18, 22), 3, cv2.LINE_AA)
    cv2.putText(picture, text, corner, font, scale, colour, 1, cv2.LINE_AA)


def put_camera(picture: Image, camera: str, note: str = "", colour: Colour = TEXT) -> None:
    """Write a camera's name, and what there is to say of its image, in small letters in the lower left corner."""
    name = camera.lower().removeprefix("cam_").replace("_", " ")
    put_text(picture, f"{name}: {note}" if note else name, (6, len(picture) - 7), 0.42, colour, halo=True)


def letterbox(image: Image, height: int, width: int) -> Image:
    """The image as large as fits into `height` x `width`, centred."""
    if image.shape[:2] == (height, width):
        return image
    scale = min(height / image.shape[0], width / image.shape[1])
    tall, wide = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    fitted = np.asarray(cv2.resize(np.ascontiguousarray(image), (wide, tall), interpolation=method), np.uint8)
    picture = blank(height, width)
    top, left = (height - tall) // 2, (width - wide) // 2
    picture[top : top + tall, left : left + wide] = fitted
    return picture


def panel(picture: Image, name: str) -> Image:
    """The picture with its name in the upper left corner."""
    named = picture.copy()
    width, height = text_size(name, 0.5)
    tag = named[0 : height + 16, 0 : width + 20]
    tag[:] = (tag * 0.35 + np.array(BACKGROUND) * 0.65).astype(np.uint8)
    put_text(named, name, (10, height + 8), 0.5, TEXT)
    return named
