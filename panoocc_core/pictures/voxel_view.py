"""Volumes of voxels for pictures, and their 3-D view: faces painted from far to near, without a graphics library."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry import BOX_EDGES, Matrix, box_corners_m
from ..labels import LabelSet, instance_colours
from ..types import GridGeometry, Occupancy, ScoredBoxes
from .canvas import BACKGROUND, PANEL, Image
from .marks import draw_marks, numbers_of

_FACES = tuple((axis, sign) for axis in range(3) for sign in (1, -1))
_LIGHT = np.array([-0.35, 0.45, 0.82])  # towards the light, in the ego frame
_EGO_BOX = ((-1.05, 3.75), (-0.95, 0.95), (0.25, 1.5))  # metres
_FADED = 0.62  # share of the background in what is faint
_NEAR_M = 0.5  # what comes nearer to the eye is left out
_FINE = 2  # drawn this much larger, then averaged


@dataclass(frozen=True, slots=True, eq=False)
class VoxelVolume:
    """A class volume with what is needed to draw it.

    Networks without a class for free space put a class into every voxel.  Of such a volume one voxel per column is
    drawn: the one with the greatest confidence, or without confidences the lowest of the column's commonest class.  The
    ignored class (noise) is never drawn.

    Raises:
        ValueError: the volume does not fit the grid or the label set.
    """

    class_id: NDArray[np.uint8]  # [X, Y, Z]
    geometry: GridGeometry
    labels: LabelSet
    confidence: NDArray[np.uint8] | None = None  # [X, Y, Z]
    instance_id: NDArray[np.int32] | None = None  # [X, Y, Z]; what has a number is drawn in the colour of its number
    faint: NDArray[np.bool_] | None = None  # [X, Y, Z]; what is drawn nearly as dark as the background
    visible: NDArray[np.bool_] | None = None  # [X, Y, Z]; what the cameras see, where that is known

    def __post_init__(self) -> None:
        if self.class_id.dtype != np.uint8 or self.class_id.shape != tuple(self.geometry.shape_xyz):
            raise ValueError(
                f"class_id must be uint8 {self.geometry.shape_xyz}, not {self.class_id.dtype} {self.class_id.shape}"
            )
        if self.class_id.size and self.class_id.max() >= len(self.labels.names):
            raise ValueError(f"class {self.class_id.max()} is not in the label set {self.labels.key}")
        for name, values in (("instance_id", self.instance_id), ("faint", self.faint), ("visible", self.visible)):
            if values is not None and values.shape != self.class_id.shape:
                raise ValueError(f"{name} must be {self.class_id.shape}, as class_id is, not {values.shape}")

    def faded(self) -> "VoxelVolume":
        """The same voxels, those that no camera sees nearly as dark as the background, where that is known."""
        return self if self.visible is None else replace(self, faint=~self.visible)

    @property
    def ignored_id(self) -> int | None:
        """The class that says nothing, which lidar segmentation calls noise."""
        return self.labels.names.index("noise") if "noise" in self.labels.names else None

    def colours(self, place: tuple[NDArray[np.int64], ...]) -> NDArray[np.float32]:
        """RGB [n, 3], 0..255, of the voxels at these x, y and z, each [n]."""
        colours = np.array(self.labels.colours, np.float32)[self.class_id[place]]
        if self.instance_id is not None:
            numbers = self.instance_id[place]
            colours[numbers > 0] = instance_colours(numbers[numbers > 0])
        if self.faint is not None:
            faint = self.faint[place]
            colours[faint] += _FADED * (np.array(BACKGROUND, np.float32) - colours[faint])
        return colours

    def drawn(self) -> NDArray[np.bool_]:
        """Which voxels [X, Y, Z] are drawn."""
        if self.labels.free_id is not None:
            return self.class_id != self.labels.free_id
        return self._one_per_column()

    def _one_per_column(self) -> NDArray[np.bool_]:
        class_id = self.class_id
        allowed = np.ones_like(class_id, bool) if self.ignored_id is None else class_id != self.ignored_id
        if self.confidence is not None:
            score = np.where(allowed, self.confidence.astype(np.int16), np.int16(-1))
        else:
            counts = np.stack([(class_id == i).sum(axis=2) for i in range(len(self.labels.names))], axis=2)
            if self.ignored_id is not None:
                counts[..., self.ignored_id] = -1
            commonest = counts.argmax(axis=2).astype(np.uint8)
            score = (allowed & (class_id == commonest[..., None])).astype(np.int16)
        layer = score.argmax(axis=2)
        return (np.arange(class_id.shape[2]) == layer[..., None]) & allowed

    def top(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Layer [X, Y] of the topmost drawn voxel, -1 for none, and the height [X, Y] in metres of its upper face."""
        drawn = self.drawn()
        layer = np.where(drawn.any(axis=2), drawn.shape[2] - 1 - drawn[:, :, ::-1].argmax(axis=2), -1)
        height = self.geometry.ego_from_grid[2, 3] + (layer + 1) * self.geometry.voxel_size_m[2]
        return layer, height.astype(np.float32)


def voxels_of(source: VoxelVolume | Occupancy) -> VoxelVolume:
    """What to draw of an occupancy."""
    if isinstance(source, VoxelVolume):
        return source
    class_id, confidence, numbers, visible = (
        None if grid is None else grid.cpu().numpy()
        for grid in (source.class_id, source.confidence, source.instance_id, source.visible)
    )
    assert class_id is not None
    return VoxelVolume(class_id, source.geometry, source.labels, confidence, numbers, visible=visible)


@dataclass(frozen=True, slots=True, eq=False)
class _Faces:
    """Parallelograms in the ego frame."""

    corners: NDArray[np.float32]  # [n, 4, 3], around the face
    solid_m: NDArray[np.float32]  # [n, 3], middle of the solid that the face belongs to
    colour: NDArray[np.float32]  # [n, 3], 0..255


@dataclass(frozen=True, slots=True, eq=False)
class _Eye:
    """A pinhole that looks down at the scene; columns of `axes` are right, down and ahead."""

    position: Matrix  # [3]
    axes: Matrix  # [3, 3]
    focal_px: float
    height: int
    width: int


def perspective(
    source: VoxelVolume | Occupancy, width_px: int = 1000, height_px: int = 700, boxes: ScoredBoxes | None = None
) -> Image:
    """View [height_px, width_px, 3] from behind and above the ego vehicle, which is drawn as a white box.

    `boxes` get outlines and their numbers.
    """
    voxels = voxels_of(source)
    eye = _eye(voxels, width_px * _FINE, height_px * _FINE)
    canvas = _backdrop(eye.height, eye.width)
    _paint(canvas, [*_voxel_faces(voxels, eye.position), *_ego_faces(eye.position)], eye)
    picture = np.asarray(cv2.resize(canvas, (width_px, height_px), interpolation=cv2.INTER_AREA), np.uint8)
    if boxes is not None:
        corners = box_corners_m(boxes.centre_m, boxes.size_m, boxes.yaw_rad)  # [n, 8, 3]
        in_front = (((corners - eye.position) @ eye.axes)[..., 2] > _NEAR_M).all(axis=1)
        outlines = [_pixels(eye, box) / _FINE for box in corners[in_front]]
        draw_marks(picture, outlines, BOX_EDGES, numbers_of(boxes)[in_front], above=True)
    return picture


def _eye(voxels: VoxelVolume, width: int, height: int) -> _Eye:
    g = voxels.geometry
    size = np.array(g.shape_xyz) * np.asarray(g.voxel_size_m)
    middle = g.ego_from_grid[:3, :3] @ (size / 2) + g.ego_from_grid[:3, 3]
    reach = float(max(size[:2])) / 2
    position = np.array([middle[0] - 1.42 * reach, middle[1] + 0.3 * reach, 1.02 * reach])
    ahead = np.array([middle[0] - 0.1 * reach, middle[1], 0.0]) - position
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    axes = np.stack((right, np.cross(ahead, right), ahead), axis=1)
    return _Eye(position, axes, 0.98 * min(width, 1.55 * height), height, width)


def _backdrop(height: int, width: int) -> NDArray[np.uint8]:
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    column = np.array(PANEL, np.float32) * 1.5 * (1 - share) + np.array(BACKGROUND, np.float32) * share
    return np.ascontiguousarray(np.broadcast_to(column, (height, width, 3)), np.uint8)


def _voxel_faces(voxels: VoxelVolume, eye_m: Matrix) -> list[_Faces]:
    """Faces that border on nothing and look at the eye, one group per direction."""
    drawn, g = voxels.drawn(), voxels.geometry
    size, rotation = np.asarray(g.voxel_size_m), g.ego_from_grid[:3, :3]
    groups = []
    for axis, sign in _FACES:
        beyond = np.zeros_like(drawn)
        here, there = [slice(None)] * 3, [slice(None)] * 3
        here[axis], there[axis] = (slice(None, -1), slice(1, None)) if sign > 0 else (slice(1, None), slice(None, -1))
        beyond[tuple(here)] = drawn[tuple(there)]
        index = np.argwhere(drawn & ~beyond)
        middle = g.centres_m(index.astype(float))
        normal = rotation[:, axis] * sign
        facing = (eye_m - middle) @ normal > size[axis] / 2
        index, middle = index[facing], middle[facing]
        lift = _shade(normal) * (0.94 + 0.035 * np.clip(middle[:, 2], -1.0, 7.0))
        colour = voxels.colours(tuple(index.T)) * lift[:, None]
        groups.append(_Faces(_around(middle, rotation * size, axis, sign), middle.astype(np.float32), colour))
    return groups


def _around(middle: Matrix, edges: Matrix, axis: int, sign: int) -> NDArray[np.float32]:
    """Corners [n, 4, 3] of one face of boxes with these middles [n, 3]; columns of `edges` are the boxes' edges."""
    out, first, second = (edges[:, i] / 2 for i in (axis, (axis + 1) % 3, (axis + 2) % 3))
    offsets = np.stack([sign * out + a * first + b * second for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
    return (middle[:, None] + offsets).astype(np.float32)


def _shade(normal: Matrix) -> float:
    return 0.62 + 0.40 * max(0.0, float(normal @ _LIGHT))


def _ego_faces(eye_m: Matrix) -> list[_Faces]:
    """The ego vehicle as small boxes, so that sorting by distance works."""
    low, high = (np.array([bounds[i] for bounds in _EGO_BOX]) for i in (0, 1))
    counts = (10, 4, 3)
    size = (high - low) / counts
    middle = low + (np.argwhere(np.ones(counts)) + 0.5) * size
    groups = []
    for axis, sign in _FACES:
        edge = high[axis] if sign > 0 else low[axis]
        outer = middle[np.abs(middle[:, axis] - edge) < size[axis]]
        normal = np.eye(3)[axis] * sign
        if (eye_m - outer[0]) @ normal > size[axis] / 2:
            colour = np.full((len(outer), 3), 250 * _shade(normal), np.float32)
            groups.append(_Faces(_around(outer, np.diag(size), axis, sign), outer.astype(np.float32), colour))
    return groups


def _pixels(eye: _Eye, points_m: NDArray[np.floating]) -> NDArray[np.float64]:
    """Where points [..., 3] of the ego frame lie on the canvas: x and y [..., 2]."""
    local = (points_m - eye.position) @ eye.axes
    return np.asarray(local[..., :2] / np.maximum(local[..., 2:], 0.1) * eye.focal_px + (eye.width / 2, eye.height / 2))


def _paint(canvas: NDArray[np.uint8], groups: list[_Faces], eye: _Eye) -> None:
    """Painter's algorithm: far solids first, each face with a darker rim where it is large enough to show one."""
    corners = np.concatenate([group.corners for group in groups])
    solids = np.concatenate([group.solid_m for group in groups])
    colours = np.concatenate([group.colour for group in groups])
    local = (corners - eye.position) @ eye.axes
    pixels = _pixels(eye, corners)
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    seen = (local[..., 2] > _NEAR_M).all(axis=1) & (high > 0).all(axis=1) & (low < (eye.width, eye.height)).all(axis=1)
    order = np.flatnonzero(seen)
    order = order[np.argsort(-((solids[order] - eye.position) ** 2).sum(axis=1), kind="stable")]
    size = (high - low).max(axis=1)[order]
    rims = colours[order] * (1 - 0.22 * np.clip((size - 6) / 12, 0, 1))[:, None]
    outlines = np.round(pixels[order] * 16).astype(np.int32)
    fills = np.clip(colours[order], 0, 255).tolist()
    for outline, fill, rim, edged in zip(outlines, fills, np.clip(rims, 0, 255).tolist(), (size > 6).tolist()):
        cv2.fillConvexPoly(canvas, outline, fill, cv2.LINE_8, 4)
        if edged:
            cv2.polylines(canvas, [outline], True, rim, 1, cv2.LINE_8, 4)
