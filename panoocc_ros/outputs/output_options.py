"""What outputs can be told: parameters of the node, and options of `panoocc run`.

No library is needed here: launch files read the parameters in the Python of ros2, which need not have PyTorch.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

from ..ros.parameter_fields import SettingsError, check_parameters, parameter

MAX_RATE = "_max_rate_hz"  # ends the parameter of every topic's rate
MAX_HEIGHT_M = 1000.0
LEAST_RATE_HZ = 0.001


def max_rate(default_hz: float, what: str) -> Any:
    """The parameter of one topic's rate."""
    topic, _, why = what.partition(" ")
    text = f"{topic} at most this often{' ' * bool(why)}{why}; 0: as often as grids come."
    return parameter(default_hz, text, limits=(0.0, 1000.0), dynamic=True)


def height(default_m: float, what: str) -> Any:
    """The parameter of one end of a band of heights."""
    return parameter(default_m, f"{what}, above base_frame.", limits=(-MAX_HEIGHT_M, MAX_HEIGHT_M), dynamic=True)


@dataclass(frozen=True)
class OutputOptions:
    """Parameters of what is made of a grid.

    Raises:
        SettingsError: a value is outside its limits or choices, or contradicts another; the message names them.
    """

    encoding: Literal["sparse", "dense"] = parameter(
        "sparse",
        "VoxelGrid: sparse lists occupied voxels, dense all of them.",
        choices=("sparse", "dense"),
        dynamic=True,
    )
    confidence: bool = parameter(True, "Publish the confidence of every voxel.", dynamic=True)
    markers_colour: Literal["class", "instance"] = parameter(
        "class",
        "What gives ~/markers and ~/object_markers their colours.",
        choices=("class", "instance"),
        dynamic=True,
    )
    obstacles_classes: str = parameter(
        "",
        "Classes that are obstacles in ~/obstacles, ~/grid_2d and ~/bev/..., with commas between; empty: all but those "
        "of the ground (driveable_surface, other_flat, sidewalk, terrain, road, walkable).",
        dynamic=True,
    )
    obstacles_min_z_m: float = height(0.3, "~/obstacles: lower end of the band of heights")
    obstacles_max_z_m: float = height(2.2, "~/obstacles: upper end of the band of heights")
    grid_2d_min_z_m: float = height(0.3, "~/grid_2d and ~/bev/...: lower end of the band of heights")
    grid_2d_max_z_m: float = height(2.2, "~/grid_2d and ~/bev/...: upper end of the band of heights")
    grid_2d_resolution_m: float = parameter(
        0.0, "~/grid_2d: edge of a cell; 0: that of a voxel.", limits=(0.0, MAX_HEIGHT_M), dynamic=True
    )
    grid_frame: str = parameter(
        "", "Frame along whose axes ~/grid_2d lies, such as map or odom; empty: base_frame, and it moves along."
    )
    occupancy_max_rate_hz: float = max_rate(0.0, "~/occupancy")
    points_max_rate_hz: float = max_rate(0.0, "~/points")
    obstacles_max_rate_hz: float = max_rate(0.0, "~/obstacles")
    grid_2d_max_rate_hz: float = max_rate(0.0, "~/grid_2d")
    bev_classes_max_rate_hz: float = max_rate(0.0, "~/bev/classes")
    bev_confidence_max_rate_hz: float = max_rate(0.0, "~/bev/confidence")
    bev_points_max_rate_hz: float = max_rate(0.0, "~/bev/points")
    objects_max_rate_hz: float = max_rate(0.0, "~/objects")
    detected_objects_max_rate_hz: float = max_rate(0.0, "~/detected_objects")
    object_markers_max_rate_hz: float = max_rate(0.0, "~/object_markers")
    markers_max_rate_hz: float = max_rate(2.0, "~/markers (RViz is slow with cubes)")

    overlay_max_rate_hz: float = max_rate(1.0, "~/overlay/compressed")
    overlay_width_px: int = parameter(
        1200, "Width of ~/overlay/compressed, all cameras together.", limits=(300, 8000), dynamic=True
    )
    overlay_jpeg_quality: int = parameter(80, "JPEG quality of ~/overlay/compressed.", limits=(1, 100), dynamic=True)

    def __post_init__(self) -> None:
        check_parameters(self)
        for name in (field.name for field in fields(self) if field.name.endswith(MAX_RATE)):
            if 0 < getattr(self, name) < LEAST_RATE_HZ:
                raise SettingsError(f"{getattr(self, name):g} Hz is less than {LEAST_RATE_HZ:g} Hz, and not 0", name)
        for band in ("obstacles", "grid_2d"):
            low, high = f"{band}_min_z_m", f"{band}_max_z_m"
            if not getattr(self, low) < getattr(self, high):
                raise SettingsError(f"{getattr(self, low):g} m is not below {getattr(self, high):g} m", low, high)
        if self.obstacles_classes and not all(self.obstacle_names):
            raise SettingsError(f"{self.obstacles_classes!r} has an empty name", "obstacles_classes")

    @property
    def obstacle_names(self) -> tuple[str, ...]:
        """The names in `obstacles_classes`."""
        return tuple(name.strip() for name in self.obstacles_classes.split(",")) if self.obstacles_classes else ()

    def max_rate_hz(self, topic: str) -> float:
        """How often a topic below `~/` may be sent."""
        rate_hz: float = getattr(self, topic.replace("/", "_") + MAX_RATE)
        return rate_hz
