"""What planners take of a grid: its obstacles, a map, and what pictures from above show; their parameters held against
a network."""

from functools import partial
from typing import Any

import numpy as np

from panoocc_core import ModelConfig
from panoocc_core.labels import LabelSet
from panoocc_core.planning import flat_map, obstacle_classes
from panoocc_core.planning.flat_map import size_in_cells
from panoocc_core.stream import output_geometry

from ..messages.planes import OCCUPANCY_GRID, fill_mono8, fill_occupancy_grid
from ..messages.points import fill_obstacles, fill_organised
from ..messages.types import IMAGE, POINT_CLOUD
from ..messages.vision import LABEL_INFO, fill_label_info
from ..ros.parameter_fields import SettingsError
from .output import NewMessage, Result, checked_band
from .output_options import OutputOptions

_FIELD = "sensor_msgs/msg/PointField"


def check_outputs(options: OutputOptions, config: ModelConfig) -> None:
    """That the parameters of outputs fit a network, `config` placed where its frame is known to be.

    Raises:
        SettingsError: a class that its label set lacks, a band of heights without a voxel, or a map beyond all measure.
    """
    geometry = output_geometry(config)
    try:
        obstacle_classes(config.labels, options.obstacle_names)
    except ValueError as error:
        raise SettingsError(str(error), "obstacles_classes") from error
    for band in ("obstacles", "grid_2d"):
        checked_band(options, band, geometry)
    try:
        size_in_cells(geometry, options.grid_2d_resolution_m)
    except ValueError as error:
        raise SettingsError(str(error), "grid_2d_resolution_m") from error


def obstacles(result: Result, new_message: NewMessage) -> Any:
    """sensor_msgs/PointCloud2: voxels of the obstacles between two heights, the ground left out, with class."""
    stamp_ns, new_field = result.occupancy.stamp_ns, partial(new_message, _FIELD)
    return fill_obstacles(new_message(POINT_CLOUD), result.obstacles, stamp_ns, result.frame_id, new_field)


def grid_2d(result: Result, new_message: NewMessage) -> Any | None:
    """nav_msgs/OccupancyGrid: -1 unknown, 0 to 49 free, 50 to 100 an obstacle between two heights."""
    occupancy, options, map_from_ego = result.occupancy, result.options, result.map_from_ego
    if occupancy.visible is None or (options.grid_frame and map_from_ego is None):
        return None
    if not options.grid_frame:
        map_from_ego = None
    flat = flat_map(
        result.columns.percent, occupancy.geometry, result.band_2d, map_from_ego, options.grid_2d_resolution_m
    )
    height_m = 0.0 if map_from_ego is None else float(map_from_ego[2, 3])
    frame_id = options.grid_frame or result.frame_id
    return fill_occupancy_grid(new_message(OCCUPANCY_GRID), flat, height_m, occupancy.stamp_ns, frame_id)


def bev_classes(result: Result, new_message: NewMessage) -> Any | None:
    """sensor_msgs/Image: from above, the class of the obstacle or else of the ground; 255: unknown."""
    return _picture(result, "class_id", new_message)


def bev_confidence(result: Result, new_message: NewMessage) -> Any | None:
    """sensor_msgs/Image: 255 times the probability of these classes."""
    return _picture(result, "confidence", new_message)


def _picture(result: Result, of_columns: str, new_message: NewMessage) -> Any | None:
    occupancy = result.occupancy
    if occupancy.visible is None:
        return None
    pixels = result.seen_from_above(getattr(result.columns, of_columns))
    return fill_mono8(new_message(IMAGE), pixels, occupancy.stamp_ns, result.frame_id)


def bev_points(result: Result, new_message: NewMessage) -> Any | None:
    """sensor_msgs/PointCloud2: where their pixels lie, organised as these; NaN: unknown."""
    occupancy = result.occupancy
    if occupancy.visible is None:
        return None
    layer = result.columns.layer
    column, row = np.nonzero(layer >= 0)
    places_m = np.full((*layer.shape, 3), np.nan, np.float32)
    places_m[column, row] = occupancy.geometry.centres_m(np.stack((column, row, layer[column, row]), axis=1))
    pixels_m = result.seen_from_above(places_m)
    new_field = partial(new_message, _FIELD)
    return fill_organised(new_message(POINT_CLOUD), pixels_m, occupancy.stamp_ns, result.frame_id, new_field)


def label_info(labels: LabelSet, frame_id: str, new_message: NewMessage) -> Any:
    """vision_msgs/LabelInfo: names of the classes in ~/bev/classes."""
    return fill_label_info(new_message(LABEL_INFO), labels, frame_id, new_message)
