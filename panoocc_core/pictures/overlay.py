"""Camera images with the voxels, the things and the ground where they project: is the calibration right, at one look?

Pictures are RGB uint8 [height, width, 3].  Each camera is drawn from its own pose at its own shutter.
"""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..base.reduction import scaled_from_pixels
from ..geometry import BOX_EDGES, Matrix, box_corners_m
from ..labels import GROUND, instance_colours
from ..optics import CameraView
from ..preprocess import view_of
from ..types import CameraImage, Frame, GridGeometry, Occupancy, ScoredBoxes
from .canvas import WARNING, Image, blank, letterbox, put_camera
from .marks import draw_marks, numbers_of
from .render import camera_mosaic
from .through_lens import layer_through_lens, pieces
from .voxel_view import VoxelVolume, voxels_of

OLD_S = 0.1  # images that are further than this from the frame's stamp are marked
_NEAR_M = 0.3  # what comes nearer to a camera is cut off
_DOT_PX = 3.0  # faces that are no larger are dots, painted all at once
_SHADES = np.array([0.72, 0.86, 1.0], np.float32)  # of faces across x, y and z of the grid
_MAX_GROUPS = 255 // len(_SHADES)
_STRONG, _WEAK = 0.48, 0.24  # share of the colour on the image: of what stands, and of the ground
_SPACING_M, _LINE_SHARE = 5.0, 170  # of the lines on the ground; how white they are, of 255
_FAR = 2**20  # sixteenths of a pixel, beyond which OpenCV need not draw
_AROUND = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
# Corners of a voxel's faces around its middle, [axis, lower or higher, 4, 3].
_CORNERS = np.array(
    [[[np.roll((end, *pair), axis) for pair in _AROUND] for end in (-0.5, 0.5)] for axis in range(3)], np.float32
)


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """What of a volume can be seen at all, in groups of one colour: faces of what stands, and the ground from above."""

    geometry: GridGeometry
    index: NDArray[np.int32]  # [n, 3], voxels that are no ground and border on one that is not drawn
    is_open: NDArray[np.bool_]  # [n, 3, 2]: by axis, whether the neighbour before and behind is not drawn
    group: NDArray[np.uint8]  # [n]
    ground: tuple[
        tuple[int, NDArray[np.uint8]], ...
    ]  # layers from below, and 1 + group [X, Y] of their ground, 0: none
    colours: NDArray[np.float32]  # [group, 3], RGB
    is_ground: NDArray[np.bool_]  # [group]
    number: NDArray[np.int64]  # [group], of the thing; 0: none


def surface_of(source: VoxelVolume | Occupancy) -> Surface:
    """What the overlays of all cameras share.

    Things have the colour of their number, unless there are more than can be told apart in one picture.
    """
    voxels = voxels_of(source)
    drawn = np.pad(voxels.drawn(), 1)
    flat, (_, rows, layers) = drawn.ravel(), drawn.shape
    place = np.flatnonzero(flat)
    is_open = np.stack([~flat[place + sign * step] for step in (rows * layers, layers, 1) for sign in (-1, 1)], axis=1)
    has_face = is_open.any(axis=1)
    place, is_open = place[has_face], is_open[has_face].reshape(-1, 3, 2)
    index = np.stack(np.unravel_index(place, drawn.shape), axis=1).astype(np.int32) - 1
    names, at = len(voxels.labels.names), tuple(index.T)
    key = voxels.class_id[at].astype(np.int64)
    if voxels.instance_id is not None:
        number = voxels.instance_id[at].astype(np.int64)
        numbered = np.where(number > 0, names + number, key)
        key = numbered if len(np.unique(numbered)) <= _MAX_GROUPS else key
    found, group = np.unique(key, return_inverse=True)
    number, kind = np.maximum(found - names, 0), np.minimum(found, names - 1)
    colours = np.array(voxels.labels.colours, np.float32)[kind]
    colours[number > 0] = instance_colours(number[number > 0])
    is_ground = np.array([name in GROUND for name in voxels.labels.names])[kind] & (number == 0)
    stands = ~is_ground[group]
    return Surface(
        voxels.geometry,
        index[stands],
        is_open[stands],
        group[stands].astype(np.uint8),
        _ground_layers(index[~stands], is_open[~stands], group[~stands], voxels.geometry.shape_xyz),
        colours,
        is_ground,
        number,
    )


def _ground_layers(
    index: NDArray[np.int32], is_open: NDArray[np.bool_], group: NDArray[np.int64], shape_xyz: tuple[int, int, int]
) -> tuple[tuple[int, NDArray[np.uint8]], ...]:
    above = is_open[:, 2, 1]
    (x, y, z), group = index[above].T, group[above]
    layers = []
    for layer in np.unique(z).tolist():
        of = z == layer
        groups = np.zeros(shape_xyz[:2], np.uint8)
        groups[x[of], y[of]] = 1 + group[of]
        layers.append((layer, groups))
    return tuple(layers)


def camera_overlay(
    camera: CameraImage, frame: Frame, surface: Surface, size_hw: tuple[int, int], boxes: ScoredBoxes | None = None
) -> Image:
    """One camera's image, of a given size, with what is on it: [height, width, 3].

    Voxels are translucent, nearer ones in front, the ground weaker; white lines lie on the vehicle's plane z = 0, 5 m
    apart, where nothing stands in front.  Boxes, which have numbers, are left out where all their voxels are hidden.
    A blank camera is dark and says so; an image that is more than OLD_S older or newer than the frame bears its age.
    """
    if camera.is_blank:
        picture = blank(*size_hw)
        put_camera(picture, camera.name, "no image", WARNING)
        return picture
    height, width = camera.size_hw
    resized_from_pixels = scaled_from_pixels(size_hw[0] / height, size_hw[1] / width)
    view = view_of(camera, frame)
    view = replace(view, image_from_camera=resized_from_pixels @ view.image_from_camera)
    picture = resized(camera.rgb().cpu().numpy(), size_hw)
    code = _painted(surface, view, size_hw)
    _blend(picture, code, surface)
    _draw_ground(picture, code, surface, view)
    if boxes is not None and len(boxes):
        _draw_boxes(picture, code, surface, view, boxes)
    age_s = (frame.stamp_ns - camera.stamp_ns) * 1e-9
    if abs(age_s) > OLD_S:
        put_camera(picture, camera.name, f"{abs(age_s):.2f} s {'old' if age_s > 0 else 'ahead'}", WARNING)
    else:
        put_camera(picture, camera.name)
    return picture


def rig_overlay(
    frame: Frame, source: VoxelVolume | Occupancy, boxes: ScoredBoxes | None = None, width_px: int = 1200
) -> Image:
    """All cameras of a frame with what is on them (see `camera_overlay`): [height, width_px, 3].

    Args:
        boxes: with numbers; None: those of the occupancy.
    """
    surface = surface_of(source)
    if boxes is None and isinstance(source, Occupancy):
        boxes = source.boxes
    cameras = {camera.name: camera for camera in frame.cameras}
    sizes = {name: camera.size_hw for name, camera in cameras.items() if not camera.is_blank}

    def drawn(name: str, size_hw: tuple[int, int]) -> Image:
        height, width = sizes.get(name, size_hw)
        scale = min(size_hw[0] / height, size_hw[1] / width)
        fitted = max(1, round(height * scale)), max(1, round(width * scale))
        return letterbox(camera_overlay(cameras[name], frame, surface, fitted, boxes), *size_hw)

    return camera_mosaic(tuple(cameras), next(iter(sizes.values()), (9, 16)), width_px, drawn)


def resized(image: Image, size_hw: tuple[int, int]) -> Image:
    """A copy of that size."""
    while (
        min(image.shape[0] / size_hw[0], image.shape[1] / size_hw[1]) >= 2
    ):  # halves are many times faster than others
        half = image.shape[1] // 2, image.shape[0] // 2
        image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), np.uint8)
    if image.shape[:2] == size_hw:
        return image.copy()
    return np.asarray(cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _projected(view: CameraView, points: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Pixels [..., 2] of points [..., 3], in their type, and which [...] are before the camera."""
    if view.lens is not None:
        return view.pixels(points)
    matrix = (view.image_from_camera @ view.camera_from_points).astype(points.dtype)
    local = points @ matrix[:, :3].T + matrix[:, 3]
    return local[..., :2] / np.maximum(local[..., 2:], _NEAR_M), local[..., 2] > _NEAR_M


def _painted(surface: Surface, view: CameraView, size_hw: tuple[int, int]) -> Image:
    """Which face every pixel [height, width] shows: 0 none, else 1 + 3 * group + axis.

    What stands hides the ground, and is painted from far to near.
    """
    g = surface.geometry
    # In units of voxels: voxel i reaches from i to i + 1.
    camera_from_grid = view.camera_from_points @ g.ego_from_grid @ np.diag([*g.voxel_size_m, 1.0])
    eye = np.linalg.solve(camera_from_grid[:, :3], -camera_from_grid[:, 3])
    view = replace(view, camera_from_points=camera_from_grid)
    code = np.zeros(size_hw, np.uint8)
    for layer, groups in surface.ground:
        if layer + 1 < eye[2]:
            _paint_layer(code, groups, view, eye, layer + 1)
    pixels, value = _faces(surface, view, eye.astype(np.float32), size_hw)
    span = np.ptp(pixels, axis=1).max(axis=1)
    is_dot = span <= _DOT_PX
    _paint_dots(code, pixels[is_dot].mean(axis=1), value[is_dot])
    for outline, number in zip(sixteenths(pixels[~is_dot]), value[~is_dot].tolist()):
        cv2.fillConvexPoly(code, outline, number, cv2.LINE_8, 4)
    return code


def _paint_layer(code: Image, groups: NDArray[np.uint8], view: CameraView, eye: Matrix, height: int) -> None:
    """One layer of ground [X, Y], whose upper side lies at a height in voxels."""
    size_hw = (code.shape[0], code.shape[1])
    values = np.where(groups > 0, 3 * groups, 0).astype(np.uint8)  # 1 + 3 * group + axis z
    if view.lens is not None:
        shown = layer_through_lens(values, view, eye, height, size_hw)
    else:
        shown = _layer(values, view.image_from_camera @ view.camera_from_points, height, size_hw)
    cv2.copyTo(shown, shown, code)


def _layer(values: NDArray[np.uint8], image_from_grid: Matrix, height: int, size_hw: tuple[int, int]) -> Image:
    """A layer as a pinhole camera shows it [height, width]."""
    image_from_plane = image_from_grid[:, [0, 1, 3]].copy()  # of x and y in voxels
    image_from_plane[:, 2] += height * image_from_grid[:, 2]
    across, down, depth = image_from_plane[2]
    depths = across * (np.arange(values.shape[0]) + 0.5)[:, None] + down * (np.arange(values.shape[1]) + 0.5) + depth
    # What lies behind the camera would appear above the horizon.
    texture = np.where(depths > _NEAR_M, values, 0).astype(np.uint8)
    image_from_texture = image_from_plane @ np.array(
        [[0, 1, 0.5], [1, 0, 0.5], [0, 0, 1]]
    )  # its pixels: column y, row x
    warped = cv2.warpPerspective(texture, image_from_texture, size_hw[::-1], flags=cv2.INTER_NEAREST)
    return np.asarray(warped, np.uint8)


def _faces(
    surface: Surface, view: CameraView, eye: NDArray[np.float32], size_hw: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Corners [m, 4, 2] in pixels and codes [m] of the faces that look at the eye, the farthest first."""
    middle = surface.index + np.float32(0.5)
    seen = np.flatnonzero(_in_view(view, middle, size_hw))
    away = (middle[seen] - eye) * np.array(surface.geometry.voxel_size_m, np.float32)
    seen = seen[np.argsort(-(away**2).sum(axis=1))]
    middle, towards = middle[seen], eye - middle[seen]
    is_higher = towards > 0  # [m, 3]: the higher face of an axis may look at the eye, else the lower one
    is_open = surface.is_open[seen]
    row, axis = np.nonzero(np.where(is_higher, is_open[..., 1], is_open[..., 0]) & (np.abs(towards) > 0.5))
    offsets = _CORNERS[axis, is_higher[row, axis].astype(np.intp)]  # [m, 4, 3]
    pixels, is_before = _projected(view, middle[row][:, None] + offsets)
    before = is_before.all(axis=1)
    code = 1 + 3 * surface.group[seen[row[before]]].astype(np.int64) + axis[before]
    return pixels[before], code


def _in_view(view: CameraView, middle: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Which voxels [n] may reach into the image."""
    if view.lens is not None:
        pixels, before = view.pixels(middle)
        margin = 0.1 * max(size_hw)
        inside = (pixels > -margin) & (pixels < np.array(size_hw[::-1]) + margin)
        return np.asarray(before & inside.all(axis=1))
    image_from_grid = (view.image_from_camera @ view.camera_from_points).astype(np.float32)
    x, y, depth = image_from_grid[:, :3] @ middle.T + image_from_grid[:, 3:]
    reach = np.linalg.norm(image_from_grid[:, :3], axis=1)  # of pixels times depth, from a voxel's middle
    height, width = size_hw
    return np.asarray(
        (depth > _NEAR_M)
        & (x > -reach[0])
        & (x - width * depth < reach[0] + width * reach[2])
        & (y > -reach[1])
        & (y - height * depth < reach[1] + height * reach[2])
    )


def _paint_dots(code: Image, middle: NDArray[np.float64], value: NDArray[np.int64]) -> None:
    """Faces that are hardly larger than a pixel, the nearest last: what is written last stays."""
    x, y = np.floor(middle).astype(np.int64).T
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        inside = (x + dx >= 0) & (x + dx < code.shape[1]) & (y + dy >= 0) & (y + dy < code.shape[0])
        code[y[inside] + dy, x[inside] + dx] = value[inside]


def _blend(picture: Image, code: Image, surface: Surface) -> None:
    """Colour what the code [height, width] says into a picture, with rims where it changes."""
    count = 3 * len(surface.colours)
    table = np.zeros((256, 1, 3), np.uint8)
    table[1 : 1 + count, 0] = (surface.colours[:, None] * _SHADES[:, None]).reshape(-1, 3)
    layer = cv2.applyColorMap(code, table)
    is_ground = np.repeat(surface.is_ground, 3)
    rim = cv2.morphologyEx(code, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    for weight, codes in ((_WEAK, is_ground), (_STRONG, ~is_ground)):
        mask = _mask(code, codes)
        cv2.copyTo(cv2.addWeighted(layer, weight, picture, 1 - weight, 0), mask, picture)
    cv2.copyTo(layer, cv2.min(rim, code), picture)


def _mask(code: Image, wanted: NDArray[np.bool_], others: bool = False) -> Image:
    """Where the code is one of those wanted [3 * group]; `others`: or 0."""
    table = np.zeros(256, np.uint8)
    table[0], table[1 : 1 + len(wanted)] = 255 * others, 255 * wanted
    return np.asarray(cv2.LUT(code, table), np.uint8)


def _draw_ground(picture: Image, code: Image, surface: Surface, view: CameraView) -> None:
    """Lines along and across the vehicle on its plane z = 0, as far as the grid reaches, where nothing stands."""
    g = surface.geometry
    size = np.array(g.shape_xyz) * g.voxel_size_m
    corners = np.array([[x, y, 0, 1] for x in (0, size[0]) for y in (0, size[1])]) @ g.ego_from_grid.T
    low, high = corners[:, :2].min(axis=0), corners[:, :2].max(axis=0)
    ends = []
    for axis in (0, 1):
        first, last = np.ceil(low[1 - axis] / _SPACING_M), np.floor(high[1 - axis] / _SPACING_M)
        across = np.arange(first, last + 1) * _SPACING_M
        line = np.zeros((len(across), 2, 3))
        line[:, 0, axis], line[:, 1, axis], line[..., 1 - axis] = low[axis], high[axis], across[:, None]
        ends.append(line)
    pixels, is_seen = segments(np.concatenate(ends), view)
    lines = np.zeros(code.shape, np.uint8)
    cv2.polylines(lines, list(sixteenths(pixels[is_seen])), False, _LINE_SHARE, 1, cv2.LINE_AA, 4)
    is_free = _mask(code, np.repeat(surface.is_ground, 3), others=True)
    at = np.divmod(np.flatnonzero(cv2.min(lines, is_free)), code.shape[1])
    share = lines[at][:, None] / np.float32(255)
    picture[at] = (picture[at] * (1 - share) + 255 * share).astype(np.uint8)


def _draw_boxes(picture: Image, code: Image, surface: Surface, view: CameraView, boxes: ScoredBoxes) -> None:
    counts = cv2.calcHist([code], [0], None, [256], [0, 256])[1 : 1 + 3 * len(surface.colours), 0]
    is_hidden = (counts.reshape(-1, 3).sum(axis=1) == 0) & (surface.number > 0)
    boxes = boxes.select(~np.isin(numbers_of(boxes), surface.number[is_hidden]))
    corners_m = box_corners_m(boxes.centre_m, boxes.size_m, boxes.yaw_rad)
    pixels, is_seen = segments(corners_m[:, BOX_EDGES], view)  # [n, m, 2, 2], [n, m]
    of_seen = is_seen[..., None, None]
    low = np.where(of_seen, pixels, np.inf).min(axis=(1, 2))
    high = np.where(of_seen, pixels, -np.inf).max(axis=(1, 2))
    kept = (high > 0).all(axis=1) & (low < code.shape[::-1]).all(axis=1)
    outlines = [box[seen].reshape(-1, 2) for box, seen in zip(pixels[kept], is_seen[kept])]
    draw_marks(picture, outlines, None, numbers_of(boxes)[kept], above=True)


def segments(ends_m: NDArray[np.float64], view: CameraView) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Where lines between two points [..., n, 2, 3] of the ego frame lie in an image [..., m, 2, 2], cut off before the
    camera, and which [..., m] are before it at all; through a lens, which bends them, they are many short ones."""
    if view.lens is not None:
        pixels, is_before = view.pixels(pieces(ends_m))
        return pixels, np.asarray(is_before.all(axis=-1))
    image_from_ego = view.image_from_camera @ view.camera_from_points
    local = ends_m @ image_from_ego[:, :3].T + image_from_ego[:, 3]
    depth = local[..., 2]
    is_seen = np.asarray((depth > _NEAR_M).any(axis=-1))
    for end, other in ((0, 1), (1, 0)):
        cut = is_seen & (depth[..., end] < _NEAR_M)
        share = (_NEAR_M - depth[cut][:, end]) / (depth[cut][:, other] - depth[cut][:, end])
        local[cut, end] += share[:, None] * (local[cut, other] - local[cut, end])
    return local[..., :2] / np.maximum(local[..., 2:], _NEAR_M), is_seen


def sixteenths(pixels: NDArray[np.float64]) -> NDArray[np.int32]:
    """Pixels for OpenCV's drawing with a shift of 4 bits."""
    return np.round(pixels * 16).clip(-_FAR, _FAR).astype(np.int32)
