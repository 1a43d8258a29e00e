"""The simulator's rigs by name; their numbers stand in `config/sim_rigs`."""

from .camera import OPTICAL_FROM_FORWARD, Rig, SimCamera, mounted, pinhole
from .rig_file import load_sim_rig

__all__ = ["OPTICAL_FROM_FORWARD", "Rig", "SimCamera", "mounted", "nuscenes_rig", "pinhole", "waymo_rig"]


def nuscenes_rig(scale: float = 0.18) -> Rig:
    """Six cameras in the arrangement of the nuScenes vehicles (arXiv 1903.11027); `scale` 1 means 1600x900 pixels.

    Raises:
        ValueError: the scale is not in (0, 4].
    """
    return load_sim_rig("nuscenes", scale)


def waymo_rig(scale: float = 0.15) -> Rig:
    """Five cameras in the arrangement of the Waymo Open Dataset's vehicle (arXiv 1912.04838).

    `scale` 1 means 1920x1280 pixels ahead and 1920x886 at the sides.

    Raises:
        ValueError: the scale is not in (0, 4].
    """
    return load_sim_rig("waymo", scale)
