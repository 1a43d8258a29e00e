"""The network that a command's options name, and what must be said of its weights."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from panoocc_core import ModelConfig
from panoocc_core.network import Network
from panoocc_core.step import Executor

from ...node.choices import loaded_executor, loaded_network

T = TypeVar("T")


def executor_of(arguments: argparse.Namespace, config: ModelConfig) -> Executor:
    """What takes the steps: the network, or an exported file in its place."""
    return _loaded(loaded_executor, arguments, config)


def network_of(arguments: argparse.Namespace, config: ModelConfig) -> Network:
    """The network with the weights, and on the device, that the options name."""
    return _loaded(loaded_network, arguments, config)


def _loaded(load: Callable[..., T], arguments: argparse.Namespace, config: ModelConfig) -> T:
    return load(
        config,
        arguments.checkpoint,
        arguments.seeded_weights,
        arguments.device,
        arguments.precision,
        arguments.threads,
    )


def weights_note(checkpoint: Path | None, is_seeded: bool) -> str:
    """What must be known of a network's weights to judge its voxels; empty where the user has brought them."""
    if is_seeded:
        return "weights seeded, not trained"
    return "" if checkpoint else "weights trained on simulated streets alone"


def tell_weights(command: str, checkpoint: Path | None, is_seeded: bool) -> None:
    """Say on stderr what the weights of the package know."""
    if not checkpoint and not is_seeded:
        note = weights_note(checkpoint, is_seeded)
        print(f"panoocc {command}: NOTE, {note}: of real images they know nothing (config/weights)", file=sys.stderr)
