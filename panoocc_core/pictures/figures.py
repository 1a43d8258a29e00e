"""Pictures of one frame and its voxels for people, as Pillow images: `.save("picture.png")`, `.show()`."""

from pathlib import Path

from PIL import Image as Pillow
from PIL import PngImagePlugin

from ..base.whole_files import whole_file
from ..types import Frame, Occupancy
from .overlay import rig_overlay
from .render import contact_sheet
from .voxel_view import voxels_of

MARK = "panoocc"


def picture(frame: Frame, occupancy: Occupancy, title: str = "PanoOcc", note: str = "") -> Pillow.Image:
    """Camera images, and the voxels from above and from behind; dark is what no camera sees.

    Args:
        title: stands before the label set, the number of cameras and, where the frame has one, its stamp.
        note: stands out in the heading, such as that the weights were never trained.
    """
    voxels = voxels_of(occupancy).faded()
    images = {camera.name: camera.rgb().cpu().numpy() for camera in frame.cameras}
    return Pillow.fromarray(
        contact_sheet(images, voxels, heading(title, frame, occupancy), note, boxes=occupancy.boxes)
    )


def heading(title: str, frame: Frame, occupancy: Occupancy) -> str:
    """The title of a frame's picture: "PanoOcc nano, occ3d_nuscenes, 6 cameras, 12.500 s"."""
    stamp = f", {frame.stamp_ns * 1e-9:.3f} s" if frame.stamp_ns else ""
    return f"{title}, {occupancy.labels.key}, {len(frame.cameras)} cameras{stamp}"


def overlay(frame: Frame, occupancy: Occupancy, width_px: int = 1600) -> Pillow.Image:
    """Camera images with the voxels, things and the ground where they project: whether a calibration is right."""
    return Pillow.fromarray(rig_overlay(frame, occupancy, width_px=width_px))


def save_marked(path: Path, image: Pillow.Image) -> None:
    """Write a PNG that says who made it, see `is_marked`; it gets its name when it is whole.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    marks = PngImagePlugin.PngInfo()
    marks.add_text("Software", MARK)
    with whole_file(path) as part:
        image.save(part, format="PNG", pnginfo=marks)


def is_marked(path: Path) -> bool:
    """Whether `save_marked` wrote a file."""
    try:
        with Pillow.open(path, formats=("PNG",)) as image:
            return image.info.get("Software") == MARK
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError):
        return False
