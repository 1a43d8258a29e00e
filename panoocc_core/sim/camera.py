"""A camera of the simulator: where it sits, what it sees, when its shutter opens.

Pixels follow OpenCV: the centre of the pixel in column u and row v has the image coordinates (u, v).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from ..base.image_files import MAX_IMAGE_SIDE
from ..geometry import Matrix, check_rigid, rigid
from ..optics import LensModel

OPTICAL_FROM_FORWARD = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])  # REP-103: z ahead, x right


@dataclass(frozen=True, slots=True, eq=False)
class SimCamera:
    """A camera: a pinhole without distortion, or a lens.

    Raises:
        ValueError: size, intrinsics or mounting are not usable; the message names the camera.
    """

    name: str
    width: int
    height: int
    intrinsics: Matrix  # [3, 3], pixels
    ego_from_camera: Matrix  # [4, 4], optical frame
    shutter_offset_s: float = 0.0  # after the stamp of the set
    lens: LensModel | None = None

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


def pinhole(width: int, height: int, horizontal_fov_deg: float) -> Matrix:
    """Intrinsics [3, 3] with square pixels and the optical axis through the middle of the image."""
    focal = width / 2 / math.tan(math.radians(horizontal_fov_deg) / 2)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])


def mounted(
    position_m: tuple[float, float, float], yaw_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0
) -> Matrix:
    """`ego_from_camera` [4, 4] of a camera that is turned by roll, pitch and yaw in this order.

    Signs follow REP-103: positive yaw looks to the left, positive pitch down; positive roll lowers the right side.
    """
    yaw, pitch, roll = _turn(yaw_deg, 2), _turn(pitch_deg, 1), _turn(roll_deg, 0)
    return rigid(yaw @ pitch @ roll @ OPTICAL_FROM_FORWARD.T, np.array(position_m))


def _turn(angle_deg: float, axis: int) -> Matrix:
    """Rotation [3, 3] about the x (0), y (1) or z (2) axis."""
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[first, first] = rotation[second, second] = cosine
    rotation[first, second], rotation[second, first] = -sine, sine
    return rotation
