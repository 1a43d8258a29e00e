"""Networks and their parts, each part in one file; `panoocc.py` puts those of PanoOcc together."""

from ..config import ModelConfig
from ..network import Network
from .panoocc import PanoOcc


def build_network(config: ModelConfig) -> Network:
    """The network of a configuration, with weights that mean nothing yet; the one place that tells families apart."""
    return PanoOcc(config)
