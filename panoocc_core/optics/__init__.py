"""How lenses bend rays: from points before a camera to pixels, and back."""

from .camera_view import CameraView
from .lens_model import LensModel
from .projections import Projections

__all__ = ["CameraView", "LensModel", "Projections"]
