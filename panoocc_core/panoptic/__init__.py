"""From classes to things: instances by boxes or by what hangs together, and their tracks."""

from .components import connected_instances
from .things import Things, detected_boxes, find_things
from .tracks import Tracks, follow

__all__ = ["Things", "Tracks", "connected_instances", "detected_boxes", "find_things", "follow"]
