"""Images changed at random while training: colours, left-right mirroring, GridMask.

Pure functions of what they change and of a generator.  Colours change in the frame, before everything else; mirror and
mask change the network's input.  No truth changes: a mirrored image comes with a mirrored projection, so every voxel
still finds the pixels that show it, and voxels, boxes, poses and history stay where they are.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import ImageConfig
from ..preprocess import NetworkInput
from ..types import Frame
from .train_config import AugmentConfig

BRIGHTNESS = 32.0  # at most so many 8-bit steps more or less
CONTRAST = SATURATION = (0.5, 1.5)
HUE_DEG = 18.0
SMALLEST_CELL = 2  # of GridMask, in pixels


@dataclass(frozen=True, slots=True, eq=False)
class InputChange:
    """What happens to the input of one frame, all cameras alike."""

    mirrored: bool = False
    mask: Tensor | None = None  # bool [row, column] of the padded input: what is kept


def generator_of(seed: int, *place: int) -> torch.Generator:
    """Random numbers that follow from the seed and a place in the training alone, so that resuming repeats them."""
    state = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def _happens(probability: float, random: torch.Generator) -> bool:
    return _uniform(0.0, 1.0, random) < probability


def _uniform(low: float, high: float, random: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=random, dtype=torch.float64))


def distorted_frame(frame: Frame, config: AugmentConfig, random: torch.Generator) -> Frame:
    """The frame with the colours of every image changed on their own; calibrations and poses are the same."""
    if not config.colour:
        return frame
    cameras = tuple(replace(camera, image=distorted(camera.rgb(), config, random)) for camera in frame.cameras)
    return replace(frame, cameras=cameras)


def distorted(image: Tensor, config: AugmentConfig, random: torch.Generator) -> Tensor:
    """RGB uint8 [height, width, 3] with brightness, contrast, saturation, hue and order of channels changed, each with
    the probability `colour`; contrast comes before or after saturation and hue (arXiv 1512.02325)."""
    pixels = image.numpy().astype(np.float32)
    if _happens(config.colour, random):
        pixels += np.float32(_uniform(-BRIGHTNESS, BRIGHTNESS, random))
    contrast = _uniform(*CONTRAST, random) if _happens(config.colour, random) else 1.0
    contrast_first = _happens(0.5, random)
    if contrast_first:
        pixels *= np.float32(contrast)
    saturation = _uniform(*SATURATION, random) if _happens(config.colour, random) else 1.0
    turn_deg = _uniform(-HUE_DEG, HUE_DEG, random) if _happens(config.colour, random) else 0.0
    if saturation != 1.0 or turn_deg != 0.0:
        pixels = _recoloured(pixels, saturation, turn_deg)
    if not contrast_first:
        pixels *= np.float32(contrast)
    if _happens(config.colour, random):
        pixels = pixels[..., torch.randperm(3, generator=random).numpy()]
    return torch.from_numpy(np.ascontiguousarray(_eight_bits(pixels, config.overflow)))


def _recoloured(pixels: NDArray[np.float32], saturation: float, turn_deg: float) -> NDArray[np.float32]:
    """RGB float32 [height, width, 3], 0..255 or beyond, with its saturation scaled and its hue turned."""
    hsv = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), np.float32)  # hue 0..360, saturation 0..1, value as given
    hsv[..., 0] = (hsv[..., 0] + np.float32(turn_deg)) % 360
    hsv[..., 1] *= np.float32(saturation)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.float32)


def _eight_bits(pixels: NDArray[np.float32], overflow: str) -> NDArray[np.uint8]:
    """Fractions are cut off.  "wrap" is what published weights saw: 256 becomes 0 and -1 becomes 255."""
    if overflow == "clip":
        return pixels.clip(0, 255).astype(np.uint8)
    return pixels.astype(np.int32).astype(np.uint8)


def input_change(
    config: AugmentConfig, learns: bool, padded_hw: tuple[int, int], random: torch.Generator
) -> InputChange:
    """Whether a frame is mirrored and what of it is masked; a frame that only fills the memory is never masked."""
    mirrored = _happens(config.mirror, random)
    masked = learns and _happens(config.grid_mask, random)
    return InputChange(mirrored, grid_mask(padded_hw, config.grid_mask_ratio, random) if masked else None)


def grid_mask(size_hw: tuple[int, int], ratio: float, random: torch.Generator) -> Tensor:
    """GridMask (arXiv 2001.04086): squares in a grid of random spacing are removed, bool [row, column], True = kept.

    Rows and columns in stripes of `ratio` times the spacing are kept, which lies between two pixels and the height.
    """
    spacing = int(torch.randint(SMALLEST_CELL, max(size_hw[0], SMALLEST_CELL + 1), (), generator=random))
    stripe = min(max(int(spacing * ratio + 0.5), 1), spacing - 1)
    rows, columns = (
        (torch.arange(size) + torch.randint(spacing, (), generator=random)) % spacing < stripe for size in size_hw
    )
    return rows[:, None] | columns[None, :]


def mirrored_images(images: Tensor, width: int) -> Tensor:
    """Images [camera, 3, row, padded column] mirrored left to right; the padding stays at the right."""
    return torch.cat((images[..., :width].flip(-1), images[..., width:]), dim=-1)


def changed_input(inputs: NetworkInput, change: InputChange, images: ImageConfig) -> NetworkInput:
    """The input with the frame's change made."""
    pixels, projections = inputs.images, inputs.projections
    if change.mirrored:
        pixels, projections = mirrored_images(pixels, images.width), projections.mirrored(images.width)
    if change.mask is not None:
        pixels = pixels * change.mask.to(pixels.device)
    return NetworkInput(pixels, projections)
