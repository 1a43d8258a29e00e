"""From classes to things: instances by boxes or by what hangs together, and their tracks."""

from .components import connected_instances
from .labelling import PointLabels, PointRules, classes_at, label_points
from .things import Things, detected_boxes, find_things
from .tracks import Tracks, follow
from .true_things import true_instance_ids

__all__ = [
    "PointLabels",
    "PointRules",
    "Things",
    "Tracks",
    "classes_at",
    "connected_instances",
    "detected_boxes",
    "find_things",
    "follow",
    "label_points",
    "true_instance_ids",
]
