"""Yardsticks on plain numpy arrays: what a prediction is worth against the truth.

All of them are values that add up: `total = total.add(...)` for the next frame, `+` for parts that were counted apart.
A score that does not exist (a class that occurs nowhere) is NaN, never 0.
"""

from .confusion import DISTANCE_EDGES_M, Confusion, DistanceConfusion, distance_bins
from .detection import Detection, DetectionScores, ScoredBoxes
from .panoptic import PanopticMeans, PanopticQuality, panoptic_labels

__all__ = [
    "DISTANCE_EDGES_M",
    "Confusion",
    "Detection",
    "DetectionScores",
    "DistanceConfusion",
    "PanopticMeans",
    "PanopticQuality",
    "ScoredBoxes",
    "distance_bins",
    "panoptic_labels",
]
