"""What drives through simulated streets are made of, and the names of the files that keep them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import ModelConfig
from ..sim.camera import Rig
from ..sim.lidar import Lidar
from ..sim.rig_file import load_sim_rig
from ..types import GridGeometry

FORMAT = 1  # raised when the same plan gives other files
_LEAD_S = 0.5  # the drive's first frame


@dataclass(frozen=True, slots=True)
class StreetPlan:
    """What drives are made of.

    Raises:
        ValueError: a number is out of range; the message names it.
    """

    seconds: float = 12.0
    rate_hz: float = 2.0
    scale: float = 0.16  # image size, 1 is that of the rig's file: 1600x900 for nuScenes
    jpeg_quality: int = 92
    rig: str = "nuscenes"  # a name in config/sim_rigs, or a YAML file
    # The labelled points of a LiDAR, which the family lidar_segmentation learns from, instead of voxels, of which it
    # has too many: 400x400x64 take 4 seconds a frame.
    lidar: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.rate_hz <= 30:
            raise ValueError(f"rate_hz must be more than 0 and at most 30, not {self.rate_hz}")
        if not 1 / self.rate_hz <= self.seconds <= 250:
            raise ValueError(f"seconds must hold at least one frame and be at most 250, not {self.seconds}")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be 1 to 100, not {self.jpeg_quality}")

    @property
    def frames(self) -> int:
        return max(1, int(self.seconds * self.rate_hz + 1e-6))

    def time_s(self, index: int) -> float:
        """When a frame is due, in the scene's time."""
        return _LEAD_S + index / self.rate_hz

    def cameras(self) -> Rig:
        """The rig at the plan's scale.

        Raises:
            ConfigError: there is no such rig, or its file cannot be used.
            ValueError: the scale is not in (0, 4].
        """
        return load_sim_rig(self.rig, self.scale)

    def for_network(self, config: ModelConfig) -> "StreetPlan":
        """The plan with LiDAR points where the network's family learns from them and is measured by them.

        Raises:
            ConfigError: see `cameras`.
            ValueError: the rig's cameras are not those of the network.
        """
        names = [camera.name for camera in self.cameras()]
        if set(names) != set(config.cameras):
            raise ValueError(
                f"the simulated rig {self.rig} has the cameras {', '.join(names)}; {config.name} takes "
                f"{', '.join(config.cameras)}: give a rig whose cameras are called so"
            )
        return replace(self, lidar=config.family == "lidar_segmentation")


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
