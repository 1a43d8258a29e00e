"""Camera rigs of the simulator: where cameras sit, what they see, when their shutters open.

Pixels follow OpenCV: the centre of the pixel in column u and row v has the image coordinates (u, v).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from ..geometry import Matrix, check_rigid, rigid
from ..types import MAX_IMAGE_SIDE

OPTICAL_FROM_FORWARD = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])  # REP-103: z ahead, x right


@dataclass(frozen=True, slots=True, eq=False)
class SimCamera:
    """A pinhole camera without distortion.

    Raises:
        ValueError: size, intrinsics or mounting are not usable; the message names the camera.
    """

    name: str
    width: int
    height: int
    intrinsics: Matrix  # [3, 3], pixels
    ego_from_camera: Matrix  # [4, 4], optical frame
    shutter_offset_s: float = 0.0  # after the stamp of the set

    def __post_init__(self) -> None:
        if not (0 < self.width <= MAX_IMAGE_SIDE and 0 < self.height <= MAX_IMAGE_SIDE):
            size = f"{self.width}x{self.height}"
            raise ValueError(f"camera {self.name}: image size {size} is outside 1..{MAX_IMAGE_SIDE}")
        k = np.asarray(self.intrinsics, dtype=np.float64)
        if k.shape != (3, 3) or not np.isfinite(k).all() or k[0, 0] <= 0 or k[1, 1] <= 0:
            raise ValueError(f"camera {self.name}: intrinsics must be a finite 3x3 matrix with positive focal lengths")
        object.__setattr__(self, "intrinsics", k)
        mount = check_rigid(self.ego_from_camera, f"camera {self.name}: ego_from_camera")
        object.__setattr__(self, "ego_from_camera", mount)

    def scaled(self, factor: float) -> "SimCamera":
        """The same view with `factor` times as many pixels along each side."""
        width, height = max(1, round(self.width * factor)), max(1, round(self.height * factor))
        sx, sy = width / self.width, height / self.height
        k = self.intrinsics.copy()
        k[0, :2] *= sx
        k[1, :2] *= sy
        # Edges of the image stay where they are, so pixel centres move by half a pixel before and after scaling.
        k[0, 2] = (self.intrinsics[0, 2] + 0.5) * sx - 0.5
        k[1, 2] = (self.intrinsics[1, 2] + 0.5) * sy - 0.5
        return replace(self, width=width, height=height, intrinsics=k)


Rig = tuple[SimCamera, ...]

# Name, mount (x, y, z) in m, yaw and horizontal field of view in degrees, shutter in s after the front camera's.
_NUSCENES = (
    ("CAM_FRONT", (1.72, 0.00, 1.49), 0.0, 70.0, 0.000),
    ("CAM_FRONT_RIGHT", (1.58, -0.50, 1.50), -55.0, 70.0, 0.008),
    ("CAM_FRONT_LEFT", (1.58, 0.50, 1.50), 55.0, 70.0, -0.008),
    ("CAM_BACK", (0.05, 0.00, 1.57), 180.0, 110.0, 0.025),
    ("CAM_BACK_LEFT", (1.05, 0.48, 1.56), 110.0, 70.0, 0.035),
    ("CAM_BACK_RIGHT", (1.05, -0.48, 1.55), -110.0, 70.0, 0.016),
)


def pinhole(width: int, height: int, horizontal_fov_deg: float) -> Matrix:
    """Intrinsics [3, 3] with square pixels and the optical axis through the middle of the image."""
    focal = width / 2 / math.tan(math.radians(horizontal_fov_deg) / 2)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])


def mounted(position_m: tuple[float, float, float], yaw_deg: float) -> Matrix:
    """`ego_from_camera` [4, 4] of a level camera that looks along `yaw_deg` (left of ahead is positive)."""
    yaw = math.radians(yaw_deg)
    cosine, sine = math.cos(yaw), math.sin(yaw)
    ego_from_forward = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
    return rigid(ego_from_forward @ OPTICAL_FROM_FORWARD.T, np.array(position_m))


def nuscenes_rig(scale: float = 0.18) -> Rig:
    """Six cameras in the arrangement of the nuScenes vehicles (arXiv 1903.11027); `scale` 1 means 1600x900 pixels.

    Raises:
        ValueError: the scale is not in (0, 4].
    """
    if not 0 < scale <= 4:
        raise ValueError(f"scale must be in (0, 4], not {scale}")
    width, height = max(16, round(1600 * scale)), max(9, round(900 * scale))
    return tuple(
        SimCamera(name, width, height, pinhole(width, height, fov), mounted(position, yaw), offset)
        for name, position, yaw, fov, offset in _NUSCENES
    )
