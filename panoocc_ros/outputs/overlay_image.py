"""The cameras' images with what was found on them, as one JPEG."""

from typing import Any

import numpy as np
import simplejpeg

from panoocc_core.pictures.overlay import rig_overlay

from ..messages.fields import fill_header, store
from ..messages.types import COMPRESSED_IMAGE
from .output import NewMessage, Result


def overlay_image(result: Result, new_message: NewMessage) -> Any:
    """sensor_msgs/CompressedImage: the cameras' images with voxels, boxes and ground where they project, as a JPEG."""
    options = result.options
    picture = rig_overlay(result.frame, result.occupancy, width_px=options.overlay_width_px)
    jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), options.overlay_jpeg_quality, "RGB", "420")
    message = new_message(COMPRESSED_IMAGE)
    fill_header(message.header, result.occupancy.stamp_ns, result.frame_id)
    message.format = "jpeg"
    store(message, "data", np.frombuffer(jpeg, np.uint8))
    return message
