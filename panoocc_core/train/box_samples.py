"""What the box branch learns from, kept where it alone learns: what is frozen is computed once.

That holds where box terms are the only losses, everything but the box branch is frozen, images are not changed at
random and every clip is a whole drive, so that a frame has the same history every time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..voxels import shape_hwz
from .loss_config import TERMS
from .targets import BoxTargets
from .train_config import AugmentConfig, TrainConfig

MAX_BYTES = 4 << 30
_BRANCH = "boxes"
_BOX_TERMS = ("box_class", "box_l1")


@dataclass(frozen=True, slots=True, eq=False)
class BoxSample:
    """One frame for the box branch."""

    box_map: Tensor  # float16 [rows * columns, C], see `Network.box_map`
    targets: BoxTargets


BoxSamples = dict[tuple[int, int], BoxSample]  # by drive and frame; filled while training first goes through them


def kept_samples(config: TrainConfig, model: nn.Module, frames: Sequence[int]) -> BoxSamples | None:
    """Where samples are kept in a training on drives of so many frames; None where maps would change or not fit.

    Args:
        model: what is frozen in it no longer asks for gradients.
    """
    others = [name for name in TERMS if getattr(config.losses, name) and name not in _BOX_TERMS]
    learning = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    whole = config.supervise == "all" and config.clip_frames >= max(frames, default=0)
    network = config.model_config
    rows, columns, _ = shape_hwz(network.grid)
    fits = sum(frames) * rows * columns * network.embed * 2 <= MAX_BYTES
    if others or learning != {_BRANCH} or config.augment != AugmentConfig() or not whole or not fits:
        return None
    return {}
