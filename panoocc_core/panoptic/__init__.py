"""From classes to things: instances by boxes or by what hangs together, and their tracks."""

from .at_points import PointThings, classes_at_points, things_at_points
from .components import connected_instances
from .things import Things, detected_boxes, find_things
from .tracks import Tracks, follow
from .true_things import true_instance_ids

__all__ = [
    "PointThings",
    "Things",
    "Tracks",
    "classes_at_points",
    "connected_instances",
    "detected_boxes",
    "find_things",
    "follow",
    "things_at_points",
    "true_instance_ids",
]
