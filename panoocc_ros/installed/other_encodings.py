"""Raw images in encodings that our own table lacks, by cv_bridge."""

from typing import Any

import numpy as np

from panoocc_core.base.reduction import Pixels
from panoocc_core.cameras.image_bytes import MAX_NAME, ImageError, one_line


def by_cv_bridge(message: Any, known: str) -> Pixels:
    """RGB uint8 [height, width, 3] of a sensor_msgs/Image.

    Args:
        known: the encodings that need no cv_bridge, for the text where it is not installed.

    Raises:
        ImageError: cv_bridge is not installed, or cannot make colours of the encoding.
    """
    name = message.encoding[:MAX_NAME]
    try:
        from cv_bridge import CvBridge
    except ImportError as error:
        raise ImageError(
            f"encoding {name!r} is not known; known are {known} (cv_bridge knows more: install it)"
        ) from error
    try:
        rgb = np.ascontiguousarray(CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8"))
    except Exception as error:  # cv_bridge raises many kinds
        raise ImageError(f"encoding {name!r}: cv_bridge cannot convert it: {one_line(error)}") from error
    if rgb.shape != (message.height, message.width, 3) or rgb.dtype != np.uint8:
        raise ImageError(f"encoding {name!r}: cv_bridge makes {rgb.dtype} {rgb.shape} of it, no RGB image of its size")
    return rgb
