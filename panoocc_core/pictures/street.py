"""A look at a simulated street: its images beside its true voxels, as in the README."""

import numpy as np

from ..geometry import rigid
from ..labels import OCC3D
from ..sim.render import Renderer
from ..sim.rig import nuscenes_rig
from ..sim.scene import Scene
from ..sim.truth import truth
from ..types import GridGeometry
from .canvas import Image
from .render import VoxelVolume, contact_sheet

OCC3D_GRID = GridGeometry((200, 200, 16), (0.4, 0.4, 0.4), rigid(np.eye(3), np.array([-40.0, -40.0, -1.0])))


def preview(seed: int, seconds: float = 10.0, time_s: float = 7.0, scale: float = 0.36, supersample: int = 2) -> Image:
    """Contact sheet [h, 1800, 3] of the street `seed` at `time_s`, on the grid of Occ3D-nuScenes.

    Raises:
        ValueError: the scale, `supersample` or the length of the drive is out of range.
    """
    scene = Scene(seed, seconds)
    pictures = Renderer(scene, supersample).pictures(nuscenes_rig(scale), time_s)
    voxels = VoxelVolume(truth(scene, OCC3D_GRID, time_s).class_id, OCC3D_GRID, OCC3D)
    images = {name: picture.rgb for name, picture in pictures.items()}
    return contact_sheet(images, voxels, f"Simulated street {seed}", "true voxels, not predicted")
