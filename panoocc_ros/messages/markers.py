"""visualization_msgs/MarkerArray as CDR bytes, without a Python object per voxel.

The layout is that of the OMG's plain CDR (XCDR1, little endian), which rclpy publishes as it is: `publish(bytes)`.
"""

import struct

import numpy as np

from panoocc_core.geometry import NS_PER_S, quaternion_from_rotation

from .voxel_grid import VoxelList

LITTLE_ENDIAN = b"\x00\x01\x00\x00"
CUBE_LIST = 6
ADD, DELETE_ALL = 0, 3


class CdrWriter:
    """Appends primitives with the alignment of CDR; offsets count from after the four-byte header."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def bytes(self) -> bytes:
        """Header and everything written."""
        return LITTLE_ENDIAN + bytes(self._buffer)

    def pack(self, kind: str, *values: float) -> None:
        """Numbers of one struct format letter, each aligned to its size."""
        self._align(struct.calcsize(kind))
        self._buffer += struct.pack(f"<{len(values)}{kind}", *values)

    def string(self, text: str) -> None:
        """A string with its terminating zero."""
        data = text.encode() + b"\0"
        self.pack("I", len(data))
        self._buffer += data

    def sequence(self, count: int, values: np.ndarray | None = None) -> None:
        """The length of a sequence, and the numbers of all its elements."""
        self.pack("I", count)
        if count and values is not None:
            self._align(values.dtype.itemsize)
            self._buffer += np.ascontiguousarray(values).data.cast("B")

    def _align(self, size: int) -> None:
        self._buffer += bytes(-len(self._buffer) % size)


def marker_array(
    voxels: VoxelList,
    stamp_ns: int,
    frame_id: str,
    *,
    lifetime_s: float = 2.0,
    max_per_marker: int = 20_000,
    cube_scale: float = 0.95,
    alpha: float = 1.0,
) -> bytes:
    """A MarkerArray that first deletes what is shown, then draws every voxel as a cube in its class's colour.

    `lifetime_s` (0: for ever) should be at least three periods of the topic, so that RViz does not blink; `cube_scale`
    leaves gaps between the cubes.
    """
    if max_per_marker < 1:
        raise ValueError(f"max_per_marker must be at least 1, not {max_per_marker}")
    starts = range(0, len(voxels.indices), max_per_marker)
    writer = CdrWriter()
    writer.sequence(1 + len(starts))
    _marker(writer, stamp_ns, frame_id, 0, DELETE_ALL, np.eye(4), (0.0,) * 3, 0.0, np.zeros((0, 3)), np.zeros((0, 4)))
    nx, ny, _ = voxels.geometry.shape_xyz
    index = voxels.indices.astype(np.int64)
    places = np.stack([index % nx, index // nx % ny, index // (nx * ny)], axis=1)
    points = (places + 0.5) * voxels.geometry.voxel_size_m  # in the grid's axes, which the marker's pose turns
    colours = np.empty((len(points), 4), dtype=np.float32)
    colours[:, :3] = voxels.colours().astype(np.float32) / np.float32(255)
    colours[:, 3] = alpha
    scale = tuple(cube_scale * edge for edge in voxels.geometry.voxel_size_m)
    for number, start in enumerate(starts, 1):  # RViz calls two markers of one array with the same id an error
        part = slice(start, start + max_per_marker)
        pose = voxels.geometry.ego_from_grid
        _marker(writer, stamp_ns, frame_id, number, ADD, pose, scale, lifetime_s, points[part], colours[part])
    return writer.bytes()


def _marker(
    writer: CdrWriter,
    stamp_ns: int,
    frame_id: str,
    number: int,
    action: int,
    frame_from_marker: np.ndarray,  # [4, 4]
    scale: tuple[float, ...],
    lifetime_s: float,
    points: np.ndarray,  # float64 [n, 3]
    colours: np.ndarray,  # float32 [n, 4]
) -> None:
    _header(writer, stamp_ns, frame_id)
    writer.string("panoocc")
    writer.pack("i", number, CUBE_LIST, action)
    writer.pack("d", *frame_from_marker[:3, 3], *quaternion_from_rotation(frame_from_marker[:3, :3]), *scale)
    writer.pack("f", 0.0, 0.0, 0.0, 1.0)  # colour of the whole: each cube has its own
    lifetime_ns = round(lifetime_s * NS_PER_S)
    writer.pack("i", lifetime_ns // NS_PER_S)
    writer.pack("I", lifetime_ns % NS_PER_S)
    writer.pack("B", 0)  # frame_locked
    writer.sequence(len(points), points.astype("<f8"))
    writer.sequence(len(colours), colours.astype("<f4"))
    writer.string("")  # texture_resource
    _header(writer, 0, "")  # texture
    writer.string("")
    writer.sequence(0)
    writer.sequence(0)  # uv_coordinates
    writer.string("")  # text
    writer.string("")  # mesh_resource
    writer.string("")  # mesh_file
    writer.sequence(0)
    writer.pack("B", 0)  # mesh_use_embedded_materials


def _header(writer: CdrWriter, stamp_ns: int, frame_id: str) -> None:
    writer.pack("i", stamp_ns // NS_PER_S)
    writer.pack("I", stamp_ns % NS_PER_S)
    writer.string(frame_id)
