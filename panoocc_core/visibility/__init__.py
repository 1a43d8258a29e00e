"""What the cameras can see of a grid: what they cannot see is unknown, whatever the network says of it."""

from .eyes import Eyes, eyes_of
from .sight import visible_voxels

__all__ = ["Eyes", "eyes_of", "visible_voxels"]
