"""Yardsticks on plain numpy arrays: what a prediction is worth against the truth.

All of them are values that add up: `total = total.add(...)` for the next frame, `+` for parts that were counted apart.
A score that does not exist (a class that occurs nowhere) is NaN, never 0.
"""

from .confusion import DISTANCE_EDGES_M, Confusion, DistanceConfusion, distance_bins
from .detection import Detection, DetectionScores
from .panoptic import PanopticMeans, PanopticQuality, panoptic_labels
from .ray_iou import RayHits, RayIoU, cast_rays, ray_directions, ray_origins_m
from .ray_pq import RayPQ
from .report import Report, Section, as_plain, as_text, box_section, point_section, visible_section, voxel_section
from .seen_space import SeenSpace
from .tracking import TrackingMeans, TrackingQuality

__all__ = [
    "DISTANCE_EDGES_M",
    "Confusion",
    "Detection",
    "DetectionScores",
    "DistanceConfusion",
    "PanopticMeans",
    "PanopticQuality",
    "RayHits",
    "RayIoU",
    "RayPQ",
    "Report",
    "Section",
    "SeenSpace",
    "TrackingMeans",
    "TrackingQuality",
    "as_plain",
    "as_text",
    "box_section",
    "cast_rays",
    "distance_bins",
    "panoptic_labels",
    "point_section",
    "ray_directions",
    "ray_origins_m",
    "visible_section",
    "voxel_section",
]
