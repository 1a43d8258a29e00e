"""From settings to what runs: the rig as the network needs it, and the network on its device."""

from dataclasses import replace
from pathlib import Path

import torch

from panoocc_core import CheckpointError, ModelConfig, load_model, model_config
from panoocc_core.base.strict_yaml import ConfigError
from panoocc_core.models.panoocc import PanoOcc

from ..frames.rig import Rig, load_rig
from ..ros.parameter_fields import SettingsError
from .settings import NodeSettings


def chosen_rig(settings: NodeSettings) -> Rig:
    """The rig of the settings, with the settings' own frames and spread laid over it.

    Raises:
        SettingsError: it cannot be used; the message begins with the parameter.
    """
    changes: dict[str, object] = {
        name: value for name in ("base_frame", "fixed_frame") if (value := getattr(settings, name))
    }
    if settings.sync_spread_ms:
        changes["spread_ms"] = settings.sync_spread_ms
    try:
        return replace(load_rig(settings.rig), **changes)  # type: ignore[arg-type]
    except ValueError as error:
        raise SettingsError(f"parameter rig: {error}") from error


def rig_for(config: ModelConfig, rig: Rig) -> Rig:
    """The cameras of the rig that the network uses, in its order.

    Raises:
        SettingsError: the rig lacks one.
    """
    try:
        return rig.select(config.cameras)
    except ConfigError as error:
        raise SettingsError(f"parameter rig: {error}") from error


def chosen_config(settings: NodeSettings) -> ModelConfig:
    """The configuration of the network.

    Raises:
        SettingsError: unknown preset, or a file that cannot be used.
    """
    try:
        return model_config(settings.model)
    except ConfigError as error:
        raise SettingsError(f"parameter model: {error}") from error


def loaded_network(settings: NodeSettings, config: ModelConfig) -> PanoOcc:
    """The network with its weights on its device.

    Raises:
        SettingsError: the checkpoint does not fit, or the device is not there.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    checkpoint = Path(settings.checkpoint) if settings.checkpoint else None
    try:
        return load_model(
            config, checkpoint, settings.seeded_weights, chosen_device(settings.device), settings.precision
        )
    except CheckpointError as error:
        raise SettingsError(f"parameter checkpoint: {error}") from error
    except ConfigError as error:
        raise SettingsError(f"parameter model: {error}") from error
    except ValueError as error:
        raise SettingsError(f"parameter device: {error}") from error


def chosen_device(device: str) -> str:
    """`device`, or what auto stands for on this machine."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
