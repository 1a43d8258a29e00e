"""What RViz draws, as visualization_msgs/MarkerArray: voxels as cubes, things as outlines with number and velocity.

The CDR bytes are made here, which rclpy publishes as they are: `publish(bytes)`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panoocc_core.geometry import BOX_EDGES, NS_PER_S, Matrix, box_corners_m, quaternion_from_rotation
from panoocc_core.ground_truth import TrueBoxes
from panoocc_core.labels import BOX_CLASSES, BOX_COLOURS, instance_colours
from panoocc_core.types import ScoredBoxes

from .cdr import LITTLE_ENDIAN, CdrWriter
from .voxel_grid import ColourBy, VoxelList

ARROW, LINE_LIST, CUBE_LIST, TEXT_VIEW_FACING = 0, 5, 6, 9  # of visualization_msgs/Marker
ADD, DELETE_ALL = 0, 3

UPRIGHT = (0.0, 0.0, 0.0, 1.0)  # quaternion of no turn
LINE_M, TEXT_M = 0.08, 0.8
ARROW_M = (0.15, 0.4, 0.5)  # across the shaft and the head, along the head
SLOWEST_MPS = 0.5  # that gets an arrow, whose length is the way of one second


@dataclass(frozen=True, slots=True, eq=False)
class _Marker:
    namespace: str
    kind: int
    scale: tuple[float, ...] = (0.0,) * 3
    points: Matrix = field(default_factory=lambda: np.zeros((0, 3)))  # [n, 3], in the marker's axes
    colours: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))  # [n, 4], RGBA
    colour: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0)  # of the whole, where points have none
    pose: tuple[float, ...] = (0.0, 0.0, 0.0, *UPRIGHT)  # of its axes in the frame: place, quaternion
    text: str = ""
    action: int = ADD


def marker_array(
    voxels: VoxelList | None,
    stamp_ns: int,
    frame_id: str,
    *,
    boxes: ScoredBoxes | None = None,
    colour_by: ColourBy = "class",
    max_per_marker: int = 20_000,
    cube_scale: float = 0.95,
    alpha: float = 1.0,
) -> bytes:
    """A MarkerArray that first deletes what is shown, then draws every voxel as a cube and every box as an outline.

    All of it stays until the next one comes, however seldom that is.

    Args:
        boxes: in the frame `frame_id`; a box gets its class and number, and an arrow where it moves.
        colour_by: class, or instance; stuff has the colour of its class in any case.
        cube_scale: leaves gaps between the cubes.
    """
    if max_per_marker < 1:
        raise ValueError(f"max_per_marker must be at least 1, not {max_per_marker}")
    markers = [_Marker("panoocc", CUBE_LIST, action=DELETE_ALL)]
    if voxels is not None:
        markers += _cubes(voxels, colour_by, max_per_marker, cube_scale, alpha)
    if boxes is not None and len(boxes):  # RViz takes an empty list of lines for an error
        markers += _things(boxes, colour_by)
    writer = CdrWriter()
    writer.sequence(len(markers))
    header = _block(lambda block: _header(block, stamp_ns, frame_id))
    for number, marker in enumerate(markers):  # RViz calls two markers of one array with the same id an error
        _write(writer, marker, number, header)
    return writer.bytes()


def outlines_m(boxes: ScoredBoxes | TrueBoxes) -> Matrix:
    """Both ends of every edge of boxes, [n, 24, 3], as a LINE_LIST takes them."""
    corners_m = box_corners_m(boxes.centre_m, boxes.size_m, boxes.yaw_rad)
    return corners_m[:, BOX_EDGES].reshape(len(boxes), 24, 3)


def _cubes(
    voxels: VoxelList, colour_by: ColourBy, max_per_marker: int, cube_scale: float, alpha: float
) -> Iterator[_Marker]:
    size_m = np.array(voxels.geometry.voxel_size_m, np.float64)
    points = (voxels.places() + 0.5) * size_m  # in the grid's axes, which the marker's pose turns
    colours = _rgba(voxels.colours(colour_by), alpha)
    scale = tuple((cube_scale * size_m).tolist())
    ego_from_grid = voxels.geometry.ego_from_grid
    pose = (*ego_from_grid[:3, 3].tolist(), *quaternion_from_rotation(ego_from_grid[:3, :3]).tolist())
    for start in range(0, len(points), max_per_marker):
        part = slice(start, start + max_per_marker)
        yield _Marker("panoocc", CUBE_LIST, scale, points[part], colours[part], pose=pose)


def _things(boxes: ScoredBoxes, colour_by: ColourBy) -> Iterator[_Marker]:
    colours = _rgba(_box_colours(boxes, colour_by))
    ends_m = outlines_m(boxes)
    of_ends = colours.repeat(ends_m.shape[1], axis=0)
    yield _Marker("boxes", LINE_LIST, (LINE_M, 0.0, 0.0), ends_m.reshape(-1, 3), of_ends)
    centres, heights = boxes.centre_m.astype(np.float64), boxes.size_m[:, 2].astype(np.float64)
    for row, colour in enumerate(colours):
        x, y, z = centres[row].tolist()
        above = (x, y, z + heights[row] / 2 + TEXT_M, *UPRIGHT)
        number = "" if boxes.instance_id is None else f" {boxes.instance_id[row]}"
        text = BOX_CLASSES[boxes.class_id[row]] + number
        yield _Marker("numbers", TEXT_VIEW_FACING, (0.0, 0.0, TEXT_M), colour=(1.0,) * 4, pose=above, text=text)
        velocity = boxes.velocity_mps[row].astype(np.float64)
        if np.hypot(*velocity) >= SLOWEST_MPS:
            way = np.stack([centres[row], centres[row] + (*velocity, 0.0)])
            yield _Marker("velocities", ARROW, ARROW_M, way, colour=tuple(colour.tolist()))


def _box_colours(boxes: ScoredBoxes, colour_by: ColourBy) -> NDArray[np.uint8]:
    if colour_by == "instance" and boxes.instance_id is not None:
        return instance_colours(boxes.instance_id)
    return np.array(BOX_COLOURS, np.uint8)[boxes.class_id]


def _rgba(rgb: NDArray[np.uint8], alpha: float = 1.0) -> NDArray[np.float32]:
    colours = np.empty((len(rgb), 4), dtype=np.float32)
    colours[:, :3] = rgb.astype(np.float32) / np.float32(255)
    colours[:, 3] = alpha
    return colours


def _write(writer: CdrWriter, marker: _Marker, number: int, header: memoryview) -> None:
    writer.raw(header, 4)
    writer.string(marker.namespace)
    writer.pack("i", number, marker.kind, marker.action)
    writer.pack("d", *marker.pose, *marker.scale)
    writer.pack("f", *marker.colour)
    writer.pack("i", 0)  # lifetime: for ever
    writer.pack("I", 0)
    writer.pack("B", 0)  # frame_locked
    writer.sequence(len(marker.points), marker.points.astype("<f8"))
    writer.sequence(len(marker.colours), marker.colours.astype("<f4"))
    writer.raw(_NO_TEXTURE, 4)
    writer.string(marker.text)
    writer.raw(_NO_MESH, 4)


def _block(write: Callable[[CdrWriter], None]) -> memoryview:
    """Fields that are the same in many markers, and begin at a multiple of four bytes."""
    writer = CdrWriter()
    write(writer)
    return memoryview(writer.bytes())[len(LITTLE_ENDIAN) :]


def _no_texture(writer: CdrWriter) -> None:
    writer.string("")  # texture_resource
    _header(writer, 0, "")  # texture
    writer.string("")
    writer.sequence(0)
    writer.sequence(0)  # uv_coordinates


def _no_mesh(writer: CdrWriter) -> None:
    writer.string("")  # mesh_resource
    writer.string("")  # mesh_file
    writer.sequence(0)
    writer.pack("B", 0)  # mesh_use_embedded_materials


def _header(writer: CdrWriter, stamp_ns: int, frame_id: str) -> None:
    writer.pack("i", stamp_ns // NS_PER_S)
    writer.pack("I", stamp_ns % NS_PER_S)
    writer.string(frame_id)


_NO_TEXTURE, _NO_MESH = _block(_no_texture), _block(_no_mesh)
