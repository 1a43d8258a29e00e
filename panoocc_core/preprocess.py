"""From a frame to the network's input: choose the cameras, crop, resize, normalise, pad; projections follow.

In the published order: the top rows are cropped, the rest is resized bilinearly, zeros are padded at the right and the
bottom after normalisation.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .config import ImageConfig, ModelConfig
from .geometry import Matrix, invert
from .types import CameraImage, Frame

ANTIALIAS_BELOW = 0.5  # stronger shrinking would skip pixels
UNSEEN = np.array([[0.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, -1]])  # projection of a blank camera: all lies behind it


@dataclass(frozen=True, slots=True, eq=False)
class NetworkInput:
    """Images and projections in the order of the weights."""

    images: Tensor  # float32 [camera, 3, row, column]
    image_from_network: Tensor  # float32 [camera, 3, 4], pixels of the padded image


def cameras_in_order(frame: Frame, names: tuple[str, ...]) -> list[CameraImage]:
    """The frame's cameras in the order of the weights.

    Raises:
        ValueError: one is missing or unknown; the message names it and the cameras that the network takes.
    """
    given = {camera.name: camera for camera in frame.cameras}
    missing = [name for name in names if name not in given]
    unknown = [name for name in given if name not in names]
    if missing or unknown:
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has {', '.join(unknown)}"] if unknown else []
        raise ValueError(
            f"the frame {' and '.join(parts)}; the network takes {', '.join(names)} (name them in the rig)"
        )
    return [given[name] for name in names]


def prepare(frame: Frame, config: ModelConfig, device: torch.device) -> NetworkInput:
    """Network input of a frame on a device."""
    cameras = cameras_in_order(frame, config.cameras)
    pixels = torch.stack([network_pixels(camera.image.to(device), config.images) for camera in cameras])
    ego_from_network = config.grid.ego_from_network.matrix
    projections = [
        UNSEEN
        if camera.is_blank
        else input_from_pixels(camera.size_hw, config.images) @ pixels_from_ego(camera, frame) @ ego_from_network
        for camera in cameras
    ]
    images = normalised_and_padded(pixels, config.images)
    return NetworkInput(images, torch.as_tensor(np.stack(projections), dtype=torch.float32, device=device))


def pixels_from_ego(camera: CameraImage, frame: Frame) -> Matrix:
    """Projection [3, 4] into a camera's full image, from the ego frame at the frame's reference time.

    The vehicle's motion between the reference time and the camera's own shutter is part of it.
    """
    shutter_from_reference = invert(camera.world_from_ego) @ frame.world_from_ego
    camera_from_ego = invert(camera.ego_from_camera) @ shutter_from_reference
    return camera.intrinsics @ camera_from_ego[:3]


def crop_window(size_hw: tuple[int, int], config: ImageConfig) -> tuple[int, int, int, int]:
    """Rows and columns (top, left, height, width) of an image that are used: full width or height at the network's
    aspect ratio, from the bottom, in the middle."""
    height, width = size_hw
    scale = max(config.height / height, config.width / width)
    rows, columns = min(height, round(config.height / scale)), min(width, round(config.width / scale))
    return height - rows, (width - columns) // 2, rows, columns


def input_from_pixels(size_hw: tuple[int, int], config: ImageConfig) -> Matrix:
    """[3, 3] map of homogeneous pixels of the full image to those of the network's input; whole numbers are centres."""
    top, left, rows, columns = crop_window(size_hw, config)
    scale_x, scale_y = config.width / columns, config.height / rows
    centre = 0.5 if config.resized_intrinsics == "exact" else 0.0  # from a pixel's corner
    shift_x, shift_y = (centre - left) * scale_x - centre, (centre - top) * scale_y - centre
    return np.array([[scale_x, 0, shift_x], [0, scale_y, shift_y], [0, 0, 1.0]])


def network_pixels(image: Tensor, config: ImageConfig) -> Tensor:
    """RGB uint8 [height, width, 3] of any size -> float32 [3, height, width], 0..255, in the network's order."""
    top, left, rows, columns = crop_window((image.shape[0], image.shape[1]), config)
    pixels = image[top : top + rows, left : left + columns].permute(2, 0, 1)[None].float()
    if (rows, columns) != (config.height, config.width):
        shrinks = min(config.height / rows, config.width / columns) < ANTIALIAS_BELOW
        size = (config.height, config.width)
        pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=shrinks)
    return (pixels if config.channel_order == "RGB" else pixels.flip(1))[0]


def normalised_and_padded(pixels: Tensor, config: ImageConfig) -> Tensor:
    """Pixels [image, 3, row, column] centred and scaled (in place), with zeros at the right and the bottom."""
    for channel, mean, std in zip(pixels.unbind(1), config.mean, config.std, strict=True):
        channel.sub_(mean).div_(std)
    height, width = config.padded_hw
    return functional.pad(pixels, (0, width - pixels.shape[-1], 0, height - pixels.shape[-2]))
