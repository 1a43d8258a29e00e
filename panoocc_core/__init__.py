"""PanoOcc: dense 3-D occupancy from surround cameras (Wang et al., CVPR 2024, arXiv 2306.10013).

Importing this sets the environment variable MKL_CBWR to AUTO,STRICT unless it is set: Intel MKL reads it at its first
call and then gives equal bits from run to run, wherever the memory lies, to the whole process.  It costs no time.
"""

import os

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

from .base.host_memory import give_back_freed_memory, keep_freed_memory
from .cameras.image_bytes import ImageError
from .cameras.image_set import read_frame
from .config import ConfigError, ModelConfig, model_config
from .data.errors import DataError
from .data.grid_file import load_grid, save_grid
from .network import NonFiniteError
from .pictures.figures import overlay, picture
from .step import Wanted
from .stream import OccupancyStream, advance
from .types import CameraImage, Frame, Occupancy, VehicleMotion
from .weights.checkpoint import load_model
from .weights.tensor_files import CheckpointError

__all__ = [
    "CameraImage",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Frame",
    "ImageError",
    "ModelConfig",
    "NonFiniteError",
    "Occupancy",
    "OccupancyStream",
    "VehicleMotion",
    "Wanted",
    "advance",
    "give_back_freed_memory",
    "keep_freed_memory",
    "load_grid",
    "load_model",
    "model_config",
    "overlay",
    "picture",
    "read_frame",
    "save_grid",
]
