"""What a planner asks of a voxel grid."""

from .known_space import Clearance, KnownSpace, Sight, State, Voxels, class_ids
from .moving_box import OrientedBox

__all__ = ["Clearance", "KnownSpace", "OrientedBox", "Sight", "State", "Voxels", "class_ids"]
