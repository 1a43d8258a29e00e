"""PanoOcc: dense 3-D occupancy from surround cameras (Wang et al., CVPR 2024, arXiv 2306.10013)."""

from .checkpoint import CheckpointError, load_model
from .config import ConfigError, ModelConfig, model_config
from .stream import NonFiniteError, OccupancyStream, advance
from .types import CameraImage, Frame, Occupancy, VehicleMotion

__all__ = [
    "CameraImage",
    "CheckpointError",
    "ConfigError",
    "Frame",
    "ModelConfig",
    "NonFiniteError",
    "Occupancy",
    "OccupancyStream",
    "VehicleMotion",
    "advance",
    "load_model",
    "model_config",
]
