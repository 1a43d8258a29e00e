"""Rigs of the simulator as YAML files: `config/sim_rigs/<name>.yaml`, or one's own."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from ..base.image_files import MAX_IMAGE_SIDE
from ..base.ranges import Length, Within, check_ranges, shown
from ..base.strict_yaml import ConfigError, build, load_yaml, named_yaml
from ..cameras.lens import CalibrationError, lens_model
from ..geometry import Matrix
from ..optics import LensModel
from .camera import Rig, SimCamera, mounted, pinhole

MAX_SCALE = 4
Side = Annotated[int, Within(1, MAX_IMAGE_SIDE)]
Metres = Annotated[float, Within(-1000, 1000)]
Degrees = Annotated[float, Within(-360, 360)]
Focal = Annotated[float, Within(1, 100 * MAX_IMAGE_SIDE)]  # pixels
Pixels = Annotated[float, Within(-10 * MAX_IMAGE_SIDE, 10 * MAX_IMAGE_SIDE)]
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,99}")  # a part of a topic's name, in small letters as they are used there
_VEHICLE_FRAMES = ("base_link", "odom")
_MIN_WIDTH, _MIN_HEIGHT = 16, 9
_WIDEST_DEG = 178.0  # of a flat picture


@dataclass(frozen=True, slots=True)
class RigFileCamera:
    """One camera as its file describes it.  Lens: either `horizontal_fov_deg`, or fx, fy, cx and cy in pixels; with
    distortion under the names of sensor_msgs/CameraInfo.

    Raises:
        ValueError: the lens is given in both ways, in part, or not at all, a value is out of range, or the name
            makes no topic.
    """

    name: str  # its topics and its frame are called so, in small letters
    width: Side
    height: Side
    position_m: tuple[Metres, Metres, Metres]  # in the ego frame, whose z is 0 on the ground
    yaw_deg: Degrees  # left of ahead is positive
    pitch_deg: Degrees = 0.0  # down is positive
    roll_deg: Degrees = 0.0  # lowering the right side is positive
    shutter_offset_s: Annotated[float, Within(-1, 1)] = 0.0  # after the stamp of the set
    # Square pixels, axis through the middle; of the lens without its coefficients.
    horizontal_fov_deg: Annotated[float, Within(1, 350)] | None = None
    fx: Focal | None = None
    fy: Focal | None = None
    cx: Pixels | None = None
    cy: Pixels | None = None
    distortion_model: Literal["plumb_bob", "rational_polynomial", "equidistant"] = "plumb_bob"
    D: Annotated[tuple[float, ...], Length(0, 14)] = ()

    def __post_init__(self) -> None:
        check_ranges(self)
        name = self.name.lower()
        if not _NAME.fullmatch(name) or "__" in name:
            raise ValueError(
                f"name {shown(self.name)} makes no ROS topic: use at most 100 letters, digits and single underscores, "
                "no digit at the beginning"
            )
        if name in _VEHICLE_FRAMES:
            raise ValueError(f"name {self.name!r} is that of a frame of the vehicle: choose another one")
        if self.position_m[2] <= 0:
            raise ValueError(
                f"camera {self.name}: position_m has z = {self.position_m[2]:g}: it must be above the ground at z = 0"
            )
        given = [value is not None for value in (self.fx, self.fy, self.cx, self.cy)]
        if any(given) != all(given) or all(given) == (self.horizontal_fov_deg is not None):
            raise ValueError("give either horizontal_fov_deg or all of fx, fy, cx and cy")
        if (self.horizontal_fov_deg or 0) > _WIDEST_DEG and self.distortion_model != "equidistant":
            raise ValueError(
                f"camera {self.name}: horizontal_fov_deg {self.horizontal_fov_deg:g} is more than {_WIDEST_DEG:g}, "
                "which takes the distortion_model equidistant"
            )
        self._lens()

    def camera(self, scale: float) -> SimCamera:
        """The camera with `scale` times as many pixels along each side.

        Raises:
            ValueError: size, intrinsics or mounting are not usable.
        """
        mount = mounted(self.position_m, self.yaw_deg, self.pitch_deg, self.roll_deg)
        if self.horizontal_fov_deg is None:
            whole = SimCamera(
                self.name, self.width, self.height, self._matrix(), mount, self.shutter_offset_s, self._lens()
            )
            return whole.scaled(scale)
        width = max(_MIN_WIDTH, round(self.width * scale))
        height = max(_MIN_HEIGHT, round(self.height * scale))
        intrinsics = pinhole(width, height, min(self.horizontal_fov_deg, _WIDEST_DEG))
        if self.distortion_model == "equidistant":
            intrinsics[0, 0] = intrinsics[1, 1] = width / math.radians(self.horizontal_fov_deg)
        return SimCamera(self.name, width, height, intrinsics, mount, self.shutter_offset_s, self._lens())

    def _lens(self) -> LensModel | None:
        try:
            return lens_model(self.distortion_model, self.D)
        except CalibrationError as error:
            raise ValueError(f"camera {self.name}: {error}") from error

    def _matrix(self) -> Matrix:
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class RigFile:
    """The whole file.

    Raises:
        ValueError: no camera, or two of one name (in small letters).
    """

    cameras: Annotated[tuple[RigFileCamera, ...], Length(1, 100)]
    auto: bool = True  # whether `auto` may mean it

    def __post_init__(self) -> None:
        check_ranges(self)
        names = [camera.name for camera in self.cameras]
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
    path = named_yaml("sim_rigs", str(path_or_name), "simulated rig")
    entries = build(RigFile, load_yaml(path), path.name).cameras
    try:
        return tuple(entry.camera(scale) for entry in entries)
    except ValueError as error:
        raise ConfigError(f"{path.name}: {error}") from error
