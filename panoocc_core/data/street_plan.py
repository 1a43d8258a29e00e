"""What drives through simulated streets are made of, and the names of the files that keep them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from ..base.ranges import Text, Within, check_ranges
from ..base.rig_files import AUTO, rig_with
from ..base.strict_yaml import ConfigError
from ..config import ModelConfig
from ..sim.camera import Rig
from ..sim.lidar import Lidar
from ..sim.rig_file import load_sim_rig
from ..types import GridGeometry

FORMAT = 1  # raised when the same plan gives other files
_LEAD_S = 0.5  # the drive's first frame

Seconds = Annotated[float, Within(0, 250, above=True)]
RateHz = Annotated[float, Within(0, 30, above=True)]
Scale = Annotated[float, Within(0, 4, above=True)]


@dataclass(frozen=True, slots=True)
class StreetPlan:
    """What drives are made of.

    Raises:
        ValueError: a number is out of range; the message names it.
    """

    seconds: Seconds = 12.0
    rate_hz: RateHz = 2.0
    scale: Scale = 0.16  # image size, 1 is that of the rig's file: 1600x900 for nuScenes
    jpeg_quality: Annotated[int, Within(1, 100)] = 92
    rig: Text = "nuscenes"  # a name in config/sim_rigs, a YAML file, or, before `for_network`, "auto"
    # The labelled points of a LiDAR, which some networks learn from, instead of voxels, of which they
    # have too many: 400x400x64 take 4 seconds a frame.
    lidar: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.seconds < 1 / self.rate_hz:
            raise ValueError(f"seconds must hold at least one frame of {1 / self.rate_hz:g} s, not {self.seconds}")

    @property
    def frames(self) -> int:
        return max(1, int(self.seconds * self.rate_hz + 1e-6))

    def time_s(self, index: int) -> float:
        """When a frame is due, in the scene's time."""
        return _LEAD_S + index / self.rate_hz

    def cameras(self) -> Rig:
        """The rig at the plan's scale.

        Raises:
            ConfigError: there is no such rig, its file cannot be used, or it has lenses, which no drive on disk keeps.
            ValueError: the scale is not in (0, 4].
        """
        rig = load_sim_rig(self.rig, self.scale)
        lensed = [camera.name for camera in rig if camera.lens is not None]
        if lensed:
            raise ConfigError(
                f"rig {self.rig!r}: {', '.join(lensed)} have lens distortion, which drives on disk do not keep: "
                "take a rig without, or make a bag (panoocc sim --out)"
            )
        return rig

    def for_network(self, config: ModelConfig) -> "StreetPlan":
        """The plan with LiDAR points where the network learns from them, and with the network's rig where it is "auto".

        Raises:
            ConfigError: see `cameras`.
            ValueError: the rig's cameras are not those of the network.
        """
        if self.rig == AUTO:
            return replace(self, rig=rig_with("sim_rigs", config.cameras)).for_network(config)
        names = [camera.name for camera in self.cameras()]
        if set(names) != set(config.cameras):
            raise ValueError(
                f"the simulated rig {self.rig} has the cameras {', '.join(names)}; {config.name} takes "
                f"{', '.join(config.cameras)}: give a rig whose cameras are called so"
            )
        return replace(self, lidar=config.truth == "points")


def drive_files(folder: Path, seeds: Sequence[int], plan: StreetPlan, geometry: GridGeometry) -> tuple[Path, ...]:
    """Where the drives of the seeds are kept: the names change with everything that the content depends on.

    Raises:
        ConfigError: see `StreetPlan.cameras`.
    """
    key: dict[str, Any] = {"format": FORMAT, **_content(plan)}
    if not plan.lidar:
        key |= {
            "shape": geometry.shape_xyz,
            "voxel": geometry.voxel_size_m,
            "pose": _rounded(geometry.ego_from_grid),
        }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:10]
    return tuple(folder / f"street-{digest}-{seed:06d}.npz" for seed in seeds)


def _content(plan: StreetPlan) -> dict[str, Any]:
    """What a drive's content depends on, but for its grid.

    Rigs are told apart by their cameras: the file of a rig may be moved, and may change.
    """
    cameras = [
        [c.name, c.width, c.height, c.shutter_offset_s, _rounded(c.intrinsics), _rounded(c.ego_from_camera)]
        for c in plan.cameras()
    ]
    return {**asdict(plan), "rig": cameras, "lidar": asdict(Lidar()) if plan.lidar else None}


def _rounded(values: NDArray[np.float64]) -> list[Any]:
    """Values that are the same on every machine: the last bits differ, and with them the sign of a zero."""
    return (values.round(9) + 0.0).tolist()
