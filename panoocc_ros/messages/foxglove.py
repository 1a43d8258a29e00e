"""Message definitions that Foxglove draws without any extension, for bags that are written without ROS."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .fields import fill_grid_pose, set_stamp, store
from .voxel_grid import VoxelList

_FOXGLOVE_UINT8 = 1

# Field names, types and order are foxglove_msgs'; https://docs.foxglove.dev/docs/sdk/schemas/voxel-grid
VOXEL_GRID = """\
builtin_interfaces/Time timestamp
string frame_id
geometry_msgs/Pose pose             # the outer corner of cell 0,0,0
uint32 row_count                    # cells along y
uint32 column_count                 # cells along x
geometry_msgs/Vector3 cell_size     # metres
uint32 slice_stride                 # bytes from one z to the next
uint32 row_stride                   # bytes from one y to the next
uint32 cell_stride                  # bytes from one x to the next
foxglove_msgs/PackedElementField[] fields
uint8[] data                        # z outermost, x innermost
"""

PACKED_ELEMENT_FIELD = """\
uint8 UNKNOWN=0
uint8 UINT8=1
uint8 INT8=2
uint8 UINT16=3
uint8 INT16=4
uint8 UINT32=5
uint8 INT32=6
uint8 FLOAT32=7
uint8 FLOAT64=8
string name
uint32 offset                       # bytes from the start of a cell
uint8 type
"""

DEFINITIONS = {
    "foxglove_msgs/msg/PackedElementField": PACKED_ELEMENT_FIELD,
    "foxglove_msgs/msg/VoxelGrid": VOXEL_GRID,
}


def fill_foxglove_grid(
    message: Any, voxels: VoxelList, stamp_ns: int, frame_id: str, field_class: Callable[..., Any]
) -> Any:
    """Fill a foxglove_msgs/VoxelGrid with one RGBA colour per voxel, transparent where `voxels` has none."""
    nx, ny, nz = voxels.geometry.shape_xyz
    cells = np.zeros((nx * ny * nz, 4), dtype=np.uint8)
    cells[voxels.indices, :3] = voxels.colours()
    cells[voxels.indices, 3] = 255
    set_stamp(message.timestamp, stamp_ns)
    message.frame_id = frame_id
    fill_grid_pose(message.pose, message.cell_size, voxels.geometry)
    message.row_count, message.column_count = ny, nx
    message.cell_stride, message.row_stride, message.slice_stride = 4, 4 * nx, 4 * nx * ny
    names = ("red", "green", "blue", "alpha")
    message.fields = [field_class(name=name, offset=k, type=_FOXGLOVE_UINT8) for k, name in enumerate(names)]
    store(message, "data", cells.reshape(-1))
    return message
