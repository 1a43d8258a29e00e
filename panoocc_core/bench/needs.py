"""Whether a network fits, told before it is built."""

from math import prod

import torch

from ..base.memory_use import free_memory
from ..config import ModelConfig
from ..memory import states_kept
from ..models import build_network
from ..voxels import token_count
from .floor import map_sizes

PROGRAM_MB = 300  # Python and torch
FLOAT32_BYTES = 4


def least_mb(config: ModelConfig, device: torch.device, feature_bytes: int) -> float:
    """What a network takes at least: its weights, which are loaded as float32, its full history, what it sees of the
    images, and its grid.  What its operators need beside that is not counted."""
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in build_network(config).parameters())
    history = states_kept(config.temporal) * token_count(config.grid) * config.embed
    tokens = len(config.cameras) * sum(map(prod, map_sizes(config))) * config.embed
    on_cpu = device.type == "cpu"
    needed = weights * (FLOAT32_BYTES if on_cpu else feature_bytes) + (history + tokens) * feature_bytes
    return (needed + 2 * prod(config.output_shape_xyz)) / 1e6 + (PROGRAM_MB if on_cpu else 0)


def check_memory(config: ModelConfig, device: torch.device, feature_bytes: int) -> None:
    """Raises ValueError where a network cannot fit."""
    free, needed_mb = free_memory(device), least_mb(config, device, feature_bytes)
    if free is not None and free < needed_mb * 1e6:
        raise ValueError(
            f"{config.name} takes at least {needed_mb:.0f} MB, and {free / 1e6:.0f} MB are free on {device}: end other "
            "programs, or take a smaller network (`panoocc models` lists them)"
        )
