"""Pictures of one frame and its voxels for people, as Pillow images: `.save("picture.png")`, `.show()`."""

from PIL import Image as Pillow

from ..types import Frame, Occupancy
from .overlay import rig_overlay
from .render import contact_sheet


def picture(frame: Frame, occupancy: Occupancy, title: str = "PanoOcc", note: str = "") -> Pillow.Image:
    """Camera images, and the voxels from above and from behind.

    Args:
        note: stands out in the heading, such as that the weights were never trained.
    """
    images = {camera.name: camera.image.cpu().numpy() for camera in frame.cameras}
    return Pillow.fromarray(contact_sheet(images, occupancy, title, note, boxes=occupancy.boxes))


def overlay(frame: Frame, occupancy: Occupancy, width_px: int = 1600) -> Pillow.Image:
    """Camera images with the voxels, things and the ground where they project: whether a calibration is right."""
    return Pillow.fromarray(rig_overlay(frame, occupancy, width_px=width_px))
