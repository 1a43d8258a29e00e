"""Pictures of an occupancy: bird's-eye view, 3-D view, and a contact sheet with the camera images.

All pictures are RGB uint8 [height, width, 3].  Ahead is up.  Only numpy and OpenCV are needed.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..base.whole_files import whole_file
from ..geometry import BOX_EDGES, Matrix, box_corners_m, invert
from ..types import Occupancy, ScoredBoxes
from .canvas import BACKGROUND, FAINT, TEXT, Image, blank, letterbox, panel, put_text, text_size
from .marks import draw_marks, numbers_of
from .voxel_view import VoxelVolume, perspective, voxels_of

__all__ = ["VoxelVolume", "birds_eye_view", "contact_sheet", "legend", "perspective", "voxels_of", "write_png"]

EGO_OUTLINE_M = (-1.05, 3.75, 0.95)  # rear, front and half width of a passenger car around base_link
_RINGS_M = (1, 2, 5, 10, 20, 50, 100)


def birds_eye_view(source: VoxelVolume | Occupancy, size_px: int = 700, boxes: ScoredBoxes | None = None) -> Image:
    """Top view [h, w, 3] in the ego frame, x ahead upwards and y to the left; the longer side has `size_px` pixels.

    Colours are those of the topmost voxel of each column, lighter with height and shaded as if lit from the upper left.
    `boxes` get outlines and their numbers.
    """
    voxels = voxels_of(source)
    low, high = _extent_m(voxels)
    scale = size_px / max(high - low)
    shape = max(1, round((high[0] - low[0]) * scale)), max(1, round((high[1] - low[1]) * scale))
    fine = 2
    column, row = _columns_of_pixels(voxels, low, high, (shape[0] * fine, shape[1] * fine))
    rows, columns = voxels.class_id.shape[:2]
    known = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    row, column = np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)
    shaded = _relief(voxels)
    image = np.where(known[..., None], shaded[row, column], np.array(BACKGROUND, np.float32))
    image = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA)
    picture = np.clip(image, 0, 255).astype(np.uint8)
    draw_rings(picture, low, high, scale)
    draw_vehicle(picture, high, scale)
    if boxes is not None:
        outlines = (high - box_corners_m(boxes.centre_m, boxes.size_m, boxes.yaw_rad)[:, :4, :2])[..., ::-1] * scale
        draw_marks(picture, list(outlines), BOX_EDGES[:4], numbers_of(boxes), above=False)
    return picture


def _extent_m(voxels: VoxelVolume) -> tuple[Matrix, Matrix]:
    """Least and greatest x, y of the grid in the ego frame, without the slivers that a small rotation adds."""
    g = voxels.geometry
    size = np.array(g.shape_xyz) * np.asarray(g.voxel_size_m)
    corners = np.array([[x, y, 0] for x in (0, size[0]) for y in (0, size[1])])
    ego = (corners @ g.ego_from_grid[:3, :3].T + g.ego_from_grid[:3, 3])[:, :2]
    return ego.min(axis=0), ego.max(axis=0)


def _columns_of_pixels(
    voxels: VoxelVolume, low: Matrix, high: Matrix, shape: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Grid column (iy) and row (ix) below each pixel [h, w], where the pixel's vertical line meets z = 0."""
    g = voxels.geometry
    x = high[0] - (np.arange(shape[0]) + 0.5) * (high[0] - low[0]) / shape[0]
    y = high[1] - (np.arange(shape[1]) + 0.5) * (high[1] - low[1]) / shape[1]
    grid_from_ego = invert(g.ego_from_grid)
    turn, move = grid_from_ego[:2, :2], grid_from_ego[:2, 3]
    ix = (turn[0, 0] * x[:, None] + turn[0, 1] * y[None] + move[0]) / g.voxel_size_m[0]
    iy = (turn[1, 0] * x[:, None] + turn[1, 1] * y[None] + move[1]) / g.voxel_size_m[1]
    return np.floor(iy).astype(np.int64), np.floor(ix).astype(np.int64)


def _relief(voxels: VoxelVolume) -> NDArray[np.float32]:
    """Colours [X, Y, 3] 0..255 of the columns."""
    layer, height_m = voxels.top()
    seen = layer >= 0
    colours = np.full((*seen.shape, 3), BACKGROUND, np.float32)
    colours[seen] = voxels.colours((*np.nonzero(seen), layer[seen]))
    level = np.where(seen, height_m, np.float32(0))
    # Light falls from ahead and left: what is lower than its neighbour on that side lies in its shade.
    ahead_left = invert(voxels.geometry.ego_from_grid)[:2, :2] @ np.array([1.0, 1.0])
    step = np.sign(np.round(ahead_left, 1)).astype(int)
    slope = level - np.roll(level, tuple(-step), axis=(0, 1))
    crowd = cv2.blur(level, (9, 9)) - level
    shade = 1 + np.clip(slope, -1.5, 1.5) * 0.13 - np.clip(crowd, 0, 2.5) * 0.10
    shade += np.clip(level, -1, 6) * 0.035
    out = colours * np.clip(shade, 0.45, 1.3)[..., None]
    out[~seen] = BACKGROUND
    return out.astype(np.float32)


def draw_rings(picture: Image, low: Matrix, high: Matrix, scale: float) -> None:
    """Circles around the vehicle with their radii, into a view from above.

    Args:
        low, high: least and greatest x and y in the ego frame; scale: pixels to a metre.
    """
    reach = float(np.abs(np.concatenate((low, high))).max())
    spacing = next((r for r in _RINGS_M if reach / r <= 5), _RINGS_M[-1])
    centre = high[1] * scale, high[0] * scale
    overlay = picture.copy()
    radii = np.arange(spacing, reach * 1.45, spacing)
    for radius in radii:
        middle = round(centre[0] * 16), round(centre[1] * 16)
        cv2.circle(overlay, middle, round(radius * scale * 16), (255, 255, 255), 1, cv2.LINE_AA, 4)
    cv2.addWeighted(overlay, 0.45, picture, 0.55, 0, dst=picture)
    for radius in radii:
        text = f"{radius:g} m"
        width, height = text_size(text, 0.42)
        x, y = centre[0] - width / 2, centre[1] - radius * scale + height / 2
        if y - height > 0 and 0 < x < picture.shape[1] - width:
            put_text(picture, text, (x, y), 0.42, TEXT, halo=True)


def draw_vehicle(picture: Image, high: Matrix, scale: float) -> None:
    """The ego vehicle, into a view from above; see `draw_rings`."""
    rear, front, half = EGO_OUTLINE_M
    nose = front - 0.5
    left = np.array([[rear, half], [nose, half], [front, half * 0.6]])
    outline = np.concatenate((left, left[::-1] * (1, -1)))
    pixels = np.round((high - outline)[:, ::-1] * scale * 16).astype(np.int32)
    cv2.fillPoly(picture, [pixels], (250, 250, 250), cv2.LINE_AA, 4)
    cv2.polylines(picture, [pixels], True, (20, 22, 26), max(1, round(scale * 0.12)), cv2.LINE_AA, 4)
    arrow = np.array([[nose - 0.4, 0], [0.8, half * 0.55], [0.8, -half * 0.55]])
    pixels = np.round((high - arrow)[:, ::-1] * scale * 16).astype(np.int32)
    cv2.fillPoly(picture, [pixels], (232, 74, 60), cv2.LINE_AA, 4)


def legend(source: VoxelVolume | Occupancy, width_px: int) -> Image:
    """Swatches and names of the classes that are present, commonest first: [h, width_px, 3]."""
    voxels = voxels_of(source)
    counts = np.bincount(voxels.class_id.ravel(), minlength=len(voxels.labels.names))
    counts[[i for i in (voxels.labels.free_id, voxels.ignored_id) if i is not None]] = 0
    present = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    cell = 22 + max((text_size(voxels.labels.names[i].replace("_", " "), 0.46)[0] for i in present), default=0) + 18
    per_row = max(1, (width_px - 16) // cell)
    per_row = math.ceil(len(present) / max(1, math.ceil(len(present) / per_row))) or 1
    rows = max(1, math.ceil(len(present) / per_row))
    picture = blank(rows * 26 + 10, width_px)
    for place, class_id in enumerate(present):
        x, y = 14 + place % per_row * (width_px - 16) // per_row, 8 + place // per_row * 26
        cv2.rectangle(picture, (x, y), (x + 16, y + 16), voxels.labels.colours[class_id], -1, cv2.LINE_AA)
        put_text(picture, voxels.labels.names[class_id].replace("_", " "), (x + 24, y + 13), 0.46, TEXT)
    return picture


def hint(voxels: VoxelVolume, boxes: ScoredBoxes | None) -> str:
    """What the colours beside those of the legend mean."""
    hints = [] if voxels.faint is None else ["dark: no camera sees it"]
    hints += ["things with a number have a colour of their own"] if boxes is not None and len(boxes) else []
    return f"   ({'; '.join(hints)})" if hints else ""


def contact_sheet(
    images: Mapping[str, Image],
    source: VoxelVolume | Occupancy,
    title: str,
    note: str = "",
    width_px: int = 1800,
    boxes: ScoredBoxes | None = None,
) -> Image:
    """One picture: cameras that look ahead above, those that look back below, both views of the voxels between.

    `images` are RGB uint8 [h, w, 3] by camera name (numpy or torch).  `boxes` get outlines and their numbers.  `note`
    stands out in the heading: what a reader must know to judge it, such as that the weights were never trained.

    Raises:
        ValueError: there are no images, or one is not RGB uint8.
    """
    voxels = voxels_of(source)
    pictures = {name: _checked(name, np.asarray(image)) for name, image in images.items()}
    if not pictures:
        raise ValueError("a contact sheet needs at least one camera image")
    gap = 10
    above, below = camera_rows(tuple(pictures))
    inner = width_px - 2 * gap
    rows = [_heading(title, note, width_px), _row([(n, pictures[n]) for n in above], inner, gap)]
    middle_px = round(inner * 0.385)
    view = birds_eye_view(voxels, middle_px, boxes)
    top = letterbox(view, middle_px, middle_px)
    deep = perspective(voxels, inner - middle_px - gap, middle_px, boxes)
    spacer = blank(middle_px, gap)
    rows.append(np.hstack((panel(top, "bird's-eye view"), spacer, panel(deep, f"3-D view{hint(voxels, boxes)}"))))
    rows.append(legend(voxels, inner))
    if below:
        rows.append(_row([(n, pictures[n]) for n in below], inner, gap))
    padded = [rows[0]] + [np.hstack((blank(len(r), gap), r, blank(len(r), gap))) for r in rows[1:]]
    parts = [part for row in padded for part in (row, blank(gap, width_px))]
    return np.vstack(parts)


def camera_rows(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Cameras that look ahead and cameras that look back, each from left to right, judged by their names."""

    def column(name: str) -> int:
        return 0 if "left" in name.lower() else 2 if "right" in name.lower() else 1

    back = [name for name in names if any(word in name.lower() for word in ("back", "rear"))]
    ahead = [name for name in names if name not in back]
    if not ahead:
        ahead, back = back, []
    return sorted(ahead, key=column), sorted(back, key=column)


def camera_mosaic(
    names: tuple[str, ...],
    size_hw: tuple[int, int],
    width_px: int,
    draw: Callable[[str, tuple[int, int]], Image],
    gap: int = 4,
) -> Image:
    """Cameras that look ahead above those that look back, each row from left to right: [h, width_px, 3].

    Args:
        size_hw: height and width whose ratio the cells have.
        draw: makes the picture of a camera, in the height and width that it is given.
    """
    rows = [row for row in camera_rows(names) if row]
    if len(rows) == 1 and len(rows[0]) > 3:
        rows = [rows[0][1:-1], [rows[0][0], rows[0][-1]]]  # the outermost ones below
    each = (width_px - gap * (len(rows[0]) - 1)) // len(rows[0])
    tall = min(round(each * size_hw[0] / size_hw[1]), each)
    lines = []
    for row in rows:
        line = np.hstack([part for name in row for part in (draw(name, (tall, each)), blank(tall, gap))][:-1])
        line = line[:, :width_px]
        lines += [np.hstack((line, blank(tall, width_px - line.shape[1]))), blank(gap, width_px)]
    return np.vstack(lines[:-1])


def _checked(name: str, image: Image) -> Image:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"camera {name}: the image must be uint8 [height, width, 3], not {image.dtype} {image.shape}")
    return image


def _row(cameras: list[tuple[str, Image]], width_px: int, gap: int) -> Image:
    each = (width_px - gap * (len(cameras) - 1)) // len(cameras)
    tall = min(round(max(each * i.shape[0] / i.shape[1] for _, i in cameras)), round(width_px * 0.3))
    cells: list[Image] = []
    for name, image in cameras:
        cells += [panel(letterbox(image, tall, each), name), blank(tall, gap)]
    row = np.hstack(cells[:-1])
    return np.hstack((row, blank(tall, width_px - row.shape[1])))


def _heading(title: str, note: str, width_px: int) -> Image:
    picture = blank(58, width_px)
    put_text(picture, title, (14, 39), 0.9, (245, 246, 248), bold=True)
    if note:
        width, _ = text_size(note, 0.62)
        left = width_px - width - 34
        cv2.rectangle(picture, (left, 12), (width_px - 10, 47), (255, 196, 70), -1, cv2.LINE_AA)
        put_text(picture, note, (left + 12, 36), 0.62, (30, 24, 8))
    cv2.line(picture, (10, 57), (width_px - 10, 57), FAINT, 1)
    return picture


def write_png(path: Path, image: Image) -> None:
    """Write a picture; the file appears only once it is whole.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    done, data = cv2.imencode(".png", image[..., ::-1])
    if not done:
        raise OSError(f"{path}: the picture could not be encoded")
    with whole_file(path) as part:
        part.write_bytes(data.tobytes())
