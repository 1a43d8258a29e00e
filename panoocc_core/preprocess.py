"""From a frame to the network's input: choose the cameras, crop, resize, normalise, pad; projections follow.

In the published order: the top rows are cropped, the rest is resized bilinearly, zeros are padded at the right and the
bottom after normalisation.  Networks with `preparation: direct` get pixels of 8 bits, for a fraction of the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .base.reduction import REDUCTIONS, Cut, Fit, Pixels, reduced, reduced_from_pixels
from .base.sent_image import SentImage, sent_rgb
from .config import ImageConfig, ModelConfig
from .cuda.front_end import front_end_on
from .geometry import Matrix, invert
from .optics import CameraView, Projections
from .optics.projections import UNSEEN, LensedImage, lens_groups
from .types import CameraImage, Frame

CPU = torch.device("cpu")
ANTIALIAS_BELOW = 0.5  # stronger shrinking would skip pixels


@dataclass(frozen=True, slots=True, eq=False)
class NetworkInput:
    """Images and projections in the order of the weights."""

    images: Tensor  # float32 [camera, 3, row, column]
    projections: Projections  # of the network frame into the padded images


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


def network_input(frame: Frame, config: ModelConfig, device: torch.device) -> NetworkInput:
    """Images of a frame on a device, and its projections, on the host."""
    cameras = cameras_in_order(frame, config.cameras)
    front_end = front_end_on(device)
    if front_end is None:
        pixels = network_pixels([camera.rgb() for camera in cameras], config.images, device)
        images = normalised_and_padded(pixels, config.images)
    else:
        cuts = [cut_of(camera.size_hw, config.images) for camera in cameras]
        images = front_end.prepare([sent(camera) for camera in cameras], cuts, config.images)
    return NetworkInput(images, _projections(cameras, frame, config))


def sent(camera: CameraImage) -> SentImage:
    """A camera's image as a device takes it."""
    return camera.image if isinstance(camera.image, SentImage) else sent_rgb(camera.image)


def _projections(cameras: list[CameraImage], frame: Frame, config: ModelConfig) -> Projections:
    ego_from_network = config.grid.ego_from_network.matrix
    matrices, lensed = [UNSEEN] * len(cameras), []
    for place, camera in enumerate(cameras):
        cut = input_from_pixels(camera.size_hw, config.images)
        if camera.lens is not None:  # also of a blank camera: what is computed has one form, whether images come or not
            mount = UNSEEN if camera.is_blank else camera_from_ego(camera, frame) @ ego_from_network
            lensed.append((place, LensedImage(camera.lens, cut @ camera.intrinsics, mount)))
        elif not camera.is_blank:
            matrices[place] = cut @ pixels_from_ego(camera, frame) @ ego_from_network
    pinholes = torch.as_tensor(np.stack(matrices), dtype=torch.float32)
    return Projections(pinholes, lens_groups(lensed, torch.float32, CPU))


def camera_from_ego(camera: CameraImage, frame: Frame) -> Matrix:
    """Transform [3, 4] into a camera at its own shutter, from the ego frame at the frame's reference time.

    The vehicle's motion between the two times is part of it.
    """
    shutter_from_reference = invert(camera.world_from_ego) @ frame.world_from_ego
    return (invert(camera.ego_from_camera) @ shutter_from_reference)[:3]


def pixels_from_ego(camera: CameraImage, frame: Frame) -> Matrix:
    """Projection [3, 4] into a pinhole camera's full image, from the ego frame at the frame's reference time."""
    return camera.intrinsics @ camera_from_ego(camera, frame)


def view_of(camera: CameraImage, frame: Frame | None = None) -> CameraView:
    """The view of a camera in pixels of its full image, of points in the ego frame at the frame's reference time; None:
    at the camera's own shutter."""
    mount = invert(camera.ego_from_camera)[:3] if frame is None else camera_from_ego(camera, frame)
    return CameraView(camera.intrinsics, mount, camera.lens)


def pixels_of_points(camera: CameraImage, points_m: Matrix) -> tuple[Matrix, NDArray[np.bool_]]:
    """Where points [n, 3] of the vehicle's frame lie in a camera's image: pixels [n, 2], whole numbers the centres of
    pixels, and which [n] lie before the camera and in the field of its lens; they may be outside the image."""
    return view_of(camera).pixels(points_m)


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


def reduction(size_hw: tuple[int, int], config: ImageConfig) -> int:
    """How many times smaller an image may be, with whole pixels averaged, before the network is given less detail.

    1 for networks that get images as they were taken.
    """
    _, _, rows, columns = crop_window(size_hw, config)
    spare = min(rows / config.height, columns / config.width) if config.preparation == "direct" else 1
    return max(times for times in REDUCTIONS if times <= max(1, spare))


def fit(size_hw: tuple[int, int], config: ImageConfig) -> Fit:
    """How much smaller images of a size are made before they are given to `network_input`: where they are undistorted,
    to the scale of the network's input, so that they are cropped and nothing else."""
    times = reduction(size_hw, config)
    if config.preparation != "direct":
        return Fit(times)
    (height, width), scale = size_hw, max(config.height / size_hw[0], config.width / size_hw[1])
    return Fit(times, (max(config.height, round(height * scale)), max(config.width, round(width * scale))))


def cut_of(size_hw: tuple[int, int], config: ImageConfig) -> Cut:
    """What of an upright image of a size the network gets, and how that is resized."""
    window = crop_window(size_hw, config)
    rows, columns = window[2:]
    if (rows, columns) == (config.height, config.width):
        return Cut(window, "crop")
    if config.preparation == "direct":
        # In one step: what the reduction leaves is at most twice too large, and no pixel is skipped.
        times = reduction(size_hw, config)
        from_input = reduced_from_pixels(times) @ np.linalg.inv(input_from_pixels(size_hw, config))
        return Cut(window, "eight_bits", times, from_input)
    shrinks = min(config.height / rows, config.width / columns) < ANTIALIAS_BELOW
    return Cut(window, "antialiased" if shrinks else "bilinear")


def network_pixels(images: Sequence[Tensor], config: ImageConfig, device: torch.device = CPU) -> Tensor:
    """RGB uint8 [height, width, 3] of any size -> float32 [image, 3, height, width], 0..255, in the network's order."""
    cuts = [cut_of((image.shape[0], image.shape[1]), config) for image in images]
    if config.preparation == "direct":
        small = np.stack([_direct(image.cpu().numpy(), cut, config) for image, cut in zip(images, cuts)])
        pixels = torch.from_numpy(small).to(device).permute(0, 3, 1, 2).float().contiguous()
    else:
        pixels = torch.stack([_stepwise(image.to(device), cut, config) for image, cut in zip(images, cuts)])
    return pixels if config.channel_order == "RGB" else pixels.flip(1)


def _direct(image: Pixels, cut: Cut, config: ImageConfig) -> Pixels:
    if cut.way == "crop":
        top, left, rows, columns = cut.window
        return image[top : top + rows, left : left + columns]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size, border, small = (config.width, config.height), cv2.BORDER_REPLICATE, reduced(image, cut.reduction)
    warped = cv2.warpAffine(small, cut.image_from_input[:2], size, flags=flags, borderMode=border)
    return np.asarray(warped, dtype=np.uint8)


def _stepwise(image: Tensor, cut: Cut, config: ImageConfig) -> Tensor:
    top, left, rows, columns = cut.window
    pixels = image[top : top + rows, left : left + columns].permute(2, 0, 1)[None].float()
    if cut.way != "crop":
        size = (config.height, config.width)
        pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=cut.way == "antialiased")
    return pixels[0]


def normalised_and_padded(pixels: Tensor, config: ImageConfig) -> Tensor:
    """Pixels [image, 3, row, column] centred and scaled (in place), with zeros at the right and the bottom."""
    for channel, mean, std in zip(pixels.unbind(1), config.mean, config.std, strict=True):
        channel.sub_(mean).div_(std)
    height, width = config.padded_hw
    return functional.pad(pixels, (0, width - pixels.shape[-1], 0, height - pixels.shape[-2]))
