"""A world made from seeds: streets with traffic, images of them from any rig, and the voxels behind the images."""

from .renderer import Picture, Renderer
from .rig import Rig, SimCamera, nuscenes_rig, waymo_rig
from .rig_file import load_sim_rig
from .scene import Scene
from .truth import Truth, truth

__all__ = [
    "Picture",
    "Renderer",
    "Rig",
    "Scene",
    "SimCamera",
    "Truth",
    "load_sim_rig",
    "nuscenes_rig",
    "truth",
    "waymo_rig",
]
