"""Networks and their parts, each part in one file; `panoocc.py` puts those of PanoOcc together."""

import torch

from ..config import ConfigError, ModelConfig
from ..network import Network
from .panoocc import PanoOcc

MAX_PARAMETERS = 1 << 31  # 8 GiB in single precision; the largest published network has 0.3 billion


def build_network(config: ModelConfig) -> Network:
    """The network of a configuration, with weights that mean nothing yet; the one place that tells families apart.

    Raises:
        ConfigError: it would have more than MAX_PARAMETERS; no memory is taken.
    """
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in PanoOcc(config).parameters())
    if parameters > MAX_PARAMETERS:
        raise ConfigError(
            f"{config.name}: the network would have {parameters / 1e9:.1f} billion parameters; at most "
            f"{MAX_PARAMETERS / 1e9:.1f} billion are built: take fewer channels or layers"
        )
    return PanoOcc(config)
