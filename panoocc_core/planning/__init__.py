"""What a planner asks of a voxel grid."""

from .columns import Columns, columns
from .flat_map import FlatMap, flat_map
from .known_space import Clearance, KnownSpace, Sight, State, Voxels, class_ids
from .moving_box import OrientedBox
from .obstacles import Band, ground_classes, ground_ids, obstacle_classes

__all__ = [
    "Band",
    "Clearance",
    "Columns",
    "FlatMap",
    "KnownSpace",
    "OrientedBox",
    "Sight",
    "State",
    "Voxels",
    "class_ids",
    "columns",
    "flat_map",
    "ground_classes",
    "ground_ids",
    "obstacle_classes",
]
