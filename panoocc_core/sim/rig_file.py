"""Rigs of the simulator as YAML files: `config/sim_rigs/<name>.yaml`, or one's own."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..base.image_files import MAX_IMAGE_SIDE
from ..base.resources import listing
from ..base.strict_yaml import ConfigError, build, load_yaml
from ..geometry import Matrix
from .camera import Rig, SimCamera, mounted, pinhole

MAX_SCALE = 4
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,99}")  # a part of a topic's name, in small letters as they are used there
_VEHICLE_FRAMES = ("base_link", "odom")
_MIN_WIDTH, _MIN_HEIGHT = 16, 9


@dataclass(frozen=True, slots=True)
class RigFileCamera:
    """One camera as its file describes it.  Lens: either `horizontal_fov_deg`, or fx, fy, cx and cy in pixels.

    Raises:
        ValueError: the lens is given in both ways, in part, or not at all, a value is out of range, or the name
            makes no topic.
    """

    name: str  # its topics and its frame are called so, in small letters
    width: int
    height: int
    position_m: tuple[float, float, float]  # in the ego frame, whose z is 0 on the ground
    yaw_deg: float  # left of ahead is positive
    pitch_deg: float = 0.0  # down is positive
    roll_deg: float = 0.0  # lowering the right side is positive
    shutter_offset_s: float = 0.0  # after the stamp of the set
    horizontal_fov_deg: float | None = None  # square pixels, axis through the middle
    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None

    def __post_init__(self) -> None:
        name = self.name.lower()
        if not _NAME.fullmatch(name) or "__" in name:
            raise ValueError(
                f"name {self.name!r} makes no ROS topic: use at most 100 letters, digits and single underscores, "
                "no digit at the beginning"
            )
        if name in _VEHICLE_FRAMES:
            raise ValueError(f"name {self.name!r} is that of a frame of the vehicle: choose another one")
        if self.position_m[2] <= 0:
            raise ValueError(
                f"camera {self.name}: position_m has z = {self.position_m[2]:g}: it must be above the ground at z = 0"
            )
        if not (0 < self.width <= MAX_IMAGE_SIDE and 0 < self.height <= MAX_IMAGE_SIDE):
            raise ValueError(f"width and height must be 1..{MAX_IMAGE_SIDE}, not {self.width} and {self.height}")
        given = [value is not None for value in (self.fx, self.fy, self.cx, self.cy)]
        if any(given) != all(given) or all(given) == (self.horizontal_fov_deg is not None):
            raise ValueError("give either horizontal_fov_deg or all of fx, fy, cx and cy")
        if self.horizontal_fov_deg is not None and not 0 < self.horizontal_fov_deg < 179:
            raise ValueError(f"horizontal_fov_deg must be above 0 and below 179, not {self.horizontal_fov_deg}")
        if not np.isfinite((self.yaw_deg, self.pitch_deg, self.roll_deg)).all():
            raise ValueError("yaw_deg, pitch_deg and roll_deg must be finite")
        if not abs(self.shutter_offset_s) <= 1:
            raise ValueError(f"shutter_offset_s must be within -1..1, not {self.shutter_offset_s}")

    def camera(self, scale: float) -> SimCamera:
        """The camera with `scale` times as many pixels along each side.

        Raises:
            ValueError: size, intrinsics or mounting are not usable.
        """
        mount = mounted(self.position_m, self.yaw_deg, self.pitch_deg, self.roll_deg)
        if self.horizontal_fov_deg is None:
            whole = SimCamera(self.name, self.width, self.height, self._matrix(), mount, self.shutter_offset_s)
            return whole.scaled(scale)
        width = max(_MIN_WIDTH, round(self.width * scale))
        height = max(_MIN_HEIGHT, round(self.height * scale))
        lens = pinhole(width, height, self.horizontal_fov_deg)
        return SimCamera(self.name, width, height, lens, mount, self.shutter_offset_s)

    def _matrix(self) -> Matrix:
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class RigFile:
    """The whole file.

    Raises:
        ValueError: no camera, or two of one name (in small letters).
    """

    cameras: tuple[RigFileCamera, ...]

    def __post_init__(self) -> None:
        names = [camera.name for camera in self.cameras]
        if not names:
            raise ValueError("cameras: a rig needs at least one")
        first: dict[str, str] = {}  # the name of the topics -> the name in the file
        for name in names:
            topic = name.lower()
            if first.get(topic) == name:
                raise ValueError(f"cameras: name {name!r} is used twice")
            if topic in first:
                raise ValueError(f"cameras: names {first[topic]!r} and {name!r} make the same topics, /{topic}/...")
            first[topic] = name


def load_sim_rig(path_or_name: str | Path, scale: float = 1.0) -> Rig:
    """The rig called so in `config/sim_rigs`, or the one in a YAML file; `scale` multiplies the pixels along each side.

    Raises:
        ConfigError: there is no such rig, or its file cannot be used; the text names file, key and what is allowed.
        ValueError: the scale is not in (0, 4].
    """
    if not 0 < scale <= MAX_SCALE:
        raise ValueError(f"scale must be in (0, {MAX_SCALE}], not {scale}")
    rigs = listing("sim_rigs")
    path = rigs.get(str(path_or_name)) or Path(path_or_name)
    if not path.is_file():
        raise ConfigError(f"no simulated rig {str(path_or_name)!r}: give a YAML file or one of {', '.join(rigs)}")
    entries = build(RigFile, load_yaml(path), path.name).cameras
    try:
        return tuple(entry.camera(scale) for entry in entries)
    except ValueError as error:
        raise ConfigError(f"{path.name}: {error}") from error
