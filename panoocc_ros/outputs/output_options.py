"""What outputs can be told: parameters of the node, and options of `panoocc run`.

No library is needed here: launch files read the parameters in the Python of ros2, which need not have PyTorch.
"""

from dataclasses import dataclass
from typing import Any, Literal

from ..ros.parameter_fields import check_parameters, parameter

MAX_RATE = "_max_rate_hz"  # ends the parameter of every topic's rate


def max_rate(default_hz: float, what: str) -> Any:
    """The parameter of one topic's rate."""
    return parameter(default_hz, f"{what} at most this often; 0: as often as grids come.", limits=(0.0, 1000.0))


@dataclass(frozen=True)
class OutputOptions:
    """Parameters of what is made of a grid.

    Raises:
        SettingsError: a value is outside its limits or choices; the message names it.
    """

    encoding: Literal["sparse", "dense"] = parameter(
        "sparse", "VoxelGrid: sparse lists occupied voxels, dense all of them.", choices=("sparse", "dense")
    )
    confidence: bool = parameter(True, "Publish the confidence of every voxel.")
    markers_colour: Literal["class", "instance"] = parameter(
        "class", "What gives ~/markers and ~/object_markers their colours.", choices=("class", "instance")
    )
    occupancy_max_rate_hz: float = max_rate(0.0, "~/occupancy")
    points_max_rate_hz: float = max_rate(0.0, "~/points")
    objects_max_rate_hz: float = max_rate(0.0, "~/objects")
    detected_objects_max_rate_hz: float = max_rate(0.0, "~/detected_objects")
    object_markers_max_rate_hz: float = max_rate(0.0, "~/object_markers")
    markers_max_rate_hz: float = max_rate(2.0, "~/markers (RViz is slow with cubes)")

    overlay_max_rate_hz: float = max_rate(1.0, "~/overlay")
    overlay_width_px: int = parameter(1200, "Width of ~/overlay in pixels, all cameras together.", limits=(300, 8000))
    overlay_jpeg_quality: int = parameter(80, "JPEG quality of ~/overlay.", limits=(1, 100))

    def __post_init__(self) -> None:
        check_parameters(self)

    def max_rate_hz(self, topic: str) -> float:
        """How often a topic below `~/` may be sent."""
        rate_hz: float = getattr(self, topic.replace("/", "_") + MAX_RATE)
        return rate_hz
