"""Yardsticks on plain numpy arrays: what a prediction is worth against the truth.

A score that does not exist (a class that occurs nowhere) is NaN, never 0.
"""

from .confusion import DISTANCE_EDGES_M, Confusion, DistanceConfusion, distance_bins

__all__ = ["DISTANCE_EDGES_M", "Confusion", "DistanceConfusion", "distance_bins"]
