"""The least time that a device needs for a frame: counted FLOPs and bytes, measured rates, and what both give."""

from .counting import BOXES, FrameFacts, Work, map_sizes, works
from .floors import TOTAL, Floor, floors
from .rates import Rates, measure_rates

__all__ = ["BOXES", "TOTAL", "Floor", "Rates", "FrameFacts", "Work", "floors", "map_sizes", "measure_rates", "works"]
