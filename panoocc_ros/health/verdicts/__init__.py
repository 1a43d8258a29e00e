"""What the node says about itself: one status per subject, in words that name the cause.  Pure; no ROS here.

A warning lasts while its cause does, and `HOLD_S` longer.  Totals are values of a status and never its level.
"""

from .budget import budget_health
from .health import BUDGET, ERROR, LOOK_AT_TRANSFORMS, OK, OUTPUT, TIMING, WARN, Health
from .inputs import camera_health, clock_health, geometry_health, sets_health
from .lately import Lately
from .model import DEVICE_NOTES, callbacks_health, model_health
from .output import IDLE, NO_NEW_GRID, SUBSCRIBERS, WAITING, WORKING, output_health
from .timing import StepTime, summary_from_values, timing_health
from .transforms import transforms_health

__all__ = [
    "BUDGET",
    "DEVICE_NOTES",
    "ERROR",
    "IDLE",
    "LOOK_AT_TRANSFORMS",
    "NO_NEW_GRID",
    "OK",
    "OUTPUT",
    "SUBSCRIBERS",
    "TIMING",
    "WAITING",
    "WARN",
    "WORKING",
    "Health",
    "Lately",
    "StepTime",
    "budget_health",
    "callbacks_health",
    "camera_health",
    "clock_health",
    "geometry_health",
    "model_health",
    "output_health",
    "sets_health",
    "summary_from_values",
    "timing_health",
    "transforms_health",
]
