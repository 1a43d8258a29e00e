"""Mounts and intrinsics from a YAML file, for recordings and vehicles that send no /tf_static or no CameraInfo."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..base.strict_yaml import ConfigError, build, load_yaml
from ..geometry import Matrix, rigid, rotation_from_quaternion
from .lens import CalibrationError, LensInfo, calibration

MAX_LENGTH_M = 1000.0  # of a vehicle


@dataclass(frozen=True, slots=True)
class Mount:
    """A frame in the rig's base_frame; that of a camera is its optical frame (z ahead, x right, y down).

    Raises:
        ValueError: a number is not finite or much too large, or the quaternion has no direction.
    """

    translation_m: tuple[float, float, float]
    rotation_xyzw: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        if not np.abs(self.translation_m).max() <= MAX_LENGTH_M:  # false for NaN too
            raise ValueError(f"translation_m {list(self.translation_m)} must be metres within the vehicle")
        rotation_from_quaternion(np.array(self.rotation_xyzw))

    @property
    def matrix(self) -> Matrix:
        """ego_from_mounted [4, 4]."""
        return rigid(rotation_from_quaternion(np.array(self.rotation_xyzw)), np.array(self.translation_m))


@dataclass(frozen=True, slots=True)
class CameraIntrinsics:
    """The calibration of a lens under the names of sensor_msgs/CameraInfo; matrices row by row.

    Raises:
        ValueError: the numbers are no calibration.
    """

    width: int
    height: int
    K: tuple[float, float, float, float, float, float, float, float, float]
    distortion_model: str = "plumb_bob"
    D: tuple[float, ...] = ()
    R: tuple[float, float, float, float, float, float, float, float, float] | None = None
    P: tuple[float, float, float, float, float, float, float, float, float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if not (0 < self.width <= 2**16 and 0 < self.height <= 2**16):
            raise ValueError(f"width and height must be 1..65536, not {self.width}x{self.height}")
        try:
            calibration(self.info, is_rectified=False, use="project")  # whoever undistorts it may ask for more
        except CalibrationError as error:
            raise ValueError(str(error)) from error

    @property
    def info(self) -> LensInfo:
        """The same as fields of sensor_msgs/CameraInfo."""
        p = self.P or tuple(np.hstack([np.reshape(self.K, (3, 3)), np.zeros((3, 1))]).reshape(-1))
        return LensInfo(
            width=self.width,
            height=self.height,
            distortion_model=self.distortion_model,
            d=np.array(self.D, dtype=np.float64),
            k=np.array(self.K),
            r=np.array(self.R or np.eye(3).reshape(-1)),
            p=np.array(p),
        )


@dataclass(frozen=True, slots=True)
class CameraCalibration:
    """What the file says about one camera; what it does not say comes from /tf_static and CameraInfo.

    Raises:
        ValueError: it says nothing.
    """

    name: str  # as in the rig
    ego_from_camera: Mount | None = None
    intrinsics: CameraIntrinsics | None = None

    def __post_init__(self) -> None:
        if self.ego_from_camera is None and self.intrinsics is None:
            raise ValueError(f"camera {self.name!r} has neither ego_from_camera nor intrinsics")


@dataclass(frozen=True, slots=True)
class CalibrationFile:
    """Mounts and intrinsics of some cameras of a rig, in place of what messages say.

    Raises:
        ValueError: a camera is named twice, or the file says nothing.
    """

    cameras: tuple[CameraCalibration, ...] = ()
    ego_from_network: Mount | None = None  # the frame in which the network's voxels lie; None: as the rig says

    def __post_init__(self) -> None:
        names = [camera.name for camera in self.cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"cameras: {twice[0]!r} is named twice")
        if not names and self.ego_from_network is None:
            raise ValueError("it has neither cameras nor ego_from_network")

    @property
    def mounts(self) -> dict[str, Matrix]:
        """Camera -> ego_from_camera [4, 4], of those whose mount is given."""
        return {c.name: c.ego_from_camera.matrix for c in self.cameras if c.ego_from_camera is not None}

    @property
    def infos(self) -> dict[str, LensInfo]:
        """Camera -> fields of sensor_msgs/CameraInfo, of those whose intrinsics are given."""
        return {c.name: c.intrinsics.info for c in self.cameras if c.intrinsics is not None}


def load_calibration(path: str | Path, cameras: tuple[str, ...] | None = None) -> CalibrationFile:
    """The calibrations in a YAML file (see `config/calibration_example.yaml`).

    Args:
        cameras: the names of the whole rig, so that a misspelt one is noticed.

    Raises:
        ConfigError: the file cannot be used; the text names file, key and what is allowed.
    """
    found = build(CalibrationFile, load_yaml(Path(path)), str(path))
    unknown = [camera.name for camera in found.cameras if cameras is not None and camera.name not in cameras]
    if unknown:
        raise ConfigError(f"{path}: the rig has no camera {unknown[0]!r}, only {', '.join(cameras or ())}")
    return found
