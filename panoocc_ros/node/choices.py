"""From names to what runs, for node and commands: the rig as the network needs it, the network on its device."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from panoocc_core import CheckpointError, ModelConfig, load_model, model_config
from panoocc_core.base.devices import check_precision, usable_device, why_no_gpu
from panoocc_core.base.memory_use import free_memory
from panoocc_core.base.rig_files import AUTO, rig_with
from panoocc_core.base.strict_yaml import ConfigError
from panoocc_core.cameras.calibration_file import CalibrationFile, load_calibration
from panoocc_core.cameras.lens import CalibrationError, LensUse, calibration
from panoocc_core.export.running import FileExecutor
from panoocc_core.export.spec import is_exported
from panoocc_core.labels import InstanceSource
from panoocc_core.memory import history_bytes
from panoocc_core.network import Network
from panoocc_core.ops.backend import why_no_kernels
from panoocc_core.voxels import token_count
from panoocc_core.weights.checkpoint import PRECISIONS, NoWeightsError

from ..frames.rig import Rig, load_rig
from ..motion.motion_options import RateSource
from ..ros.parameter_fields import SettingsError


@cache
def warn_once(sentence: str) -> None:
    """Say on stderr what is odd: of a command, which may load many networks."""
    print(f"panoocc: WARNING, {sentence}", file=sys.stderr)


def chosen_rig(
    name: str,
    config: ModelConfig,
    base_frame: str = "",
    fixed_frame: str = "",
    spread_ms: float = 0.0,
    lens: LensUse | Literal[""] = "",
) -> Rig:
    """A rig by its name or file, "auto" for the one with the network's cameras, with frames, spread and what
    becomes of the distortion of all its lenses laid over it where they are given.

    Raises:
        SettingsError: it cannot be used; `names` says "rig".
    """
    changes = {"base_frame": base_frame, "fixed_frame": fixed_frame, "spread_ms": spread_ms}
    with _settings("rig"):
        rig = load_rig(rig_with("rigs", config.cameras) if name == AUTO else name)
        cameras = tuple(replace(camera, lens=lens or camera.lens) for camera in rig.cameras)
        return replace(rig, cameras=cameras, **{key: value for key, value in changes.items() if value})  # type: ignore[arg-type]


def rig_for(config: ModelConfig, rig: Rig, network_frame: str = "") -> Rig:
    """What the network uses of a rig: its cameras, in its order, and the frame of its voxels.

    A rig serves networks of several families: the frame that it names is for those that know one beside the vehicle's.

    Args:
        network_frame: counts for any network, in place of the rig's.

    Raises:
        SettingsError: the rig lacks a camera.
    """
    named = network_frame or (None if config.grid.network_frame is None else rig.network_frame)
    with _settings("rig"):
        return replace(rig.select(config.cameras), network_frame=named)


def unused(config: ModelConfig, rig: Rig, network_frame: str = "") -> tuple[str, ...]:
    """What `rig_for` leaves aside, a sentence each."""
    cameras = [name for name in rig.names if name not in config.cameras]
    sentences = []
    if cameras:
        taken = ", ".join(config.cameras)
        sentences.append(f"of the rig's cameras {', '.join(cameras)} are not used: {config.name} takes {taken}")
    if rig.network_frame is not None and config.grid.network_frame is None and not network_frame:
        sentences.append(
            f"the rig's network_frame {rig.network_frame} is not used: {config.name} predicts in the vehicle's own "
            "frame; the parameter network_frame (--network-frame) or a calibration file can force one"
        )
    return tuple(sentences)


def chosen_config(
    model: str,
    camera_limits: Mapping[str, float] | None = None,
    instances: InstanceSource | Literal[""] = "",
    ego_motion: RateSource = "",
) -> ModelConfig:
    """The configuration of a network by its preset or file.

    Args:
        camera_limits: how far cameras may move before the memory is cleared, by fields of `TemporalConfig`, in place
            of the network's own.
        instances: what tells things apart; empty: as the network has it.
        ego_motion: where the vehicle's rates come from; empty: as the network has it.

    Raises:
        SettingsError: unknown preset, a file that cannot be used, or instances by boxes of a network without boxes.
    """
    with _settings("model"):
        config = model_config(model)
    temporal = replace(config.temporal, **(camera_limits or {}))  # type: ignore[arg-type]
    panoptic = replace(config.panoptic, instances=instances or config.panoptic.instances)
    motion = replace(config.ego_motion, rates=ego_motion or config.ego_motion.rates)
    with _settings("instances"):
        return replace(config, temporal=temporal, panoptic=panoptic, ego_motion=motion)


def chosen_calibration(path: str | Path | None, rig: Rig) -> CalibrationFile | None:
    """Mounts and intrinsics of the cameras of a rig from a file; None where none is given, and they are sent.

    Raises:
        SettingsError: the file cannot be used, or names a camera that the rig lacks.
    """
    with _settings("calibration"):
        if not path:
            return None
        found = load_calibration(path, rig.names)
        for name, info in found.infos.items():
            camera = rig.camera(name)
            try:
                calibration(info, camera.is_rectified, use=camera.lens)
            except CalibrationError as error:
                raise ConfigError(f"{path}: camera {name!r}: {error}") from error
        return found


def placed_by(calibration: CalibrationFile | None, config: ModelConfig) -> ModelConfig:
    """The network with its frame where a calibration file has it, if it does.

    Raises:
        SettingsError: it lies kilometres away.
    """
    if calibration is None or calibration.ego_from_network is None:
        return config
    with _settings("calibration"):
        return config.placed(calibration.ego_from_network.matrix)


def loaded_executor(
    config: ModelConfig,
    checkpoint: str | Path | None = None,
    seeded_weights: bool | None = None,
    device: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    warn: Callable[[str], object] = warn_once,
) -> Network | FileExecutor:
    """As `loaded_network`, or what an exported file given as checkpoint makes of it.

    Raises:
        SettingsError: as that of `loaded_network`; the file is not one of this network, or of another precision.
    """
    if checkpoint is None or not is_exported(checkpoint):
        return loaded_network(config, checkpoint, seeded_weights, device, precision, threads, warn)
    if threads:
        torch.set_num_threads(threads)
    with _settings("checkpoint"):
        found = FileExecutor(Path(checkpoint), config, device, threads)
    if found.spec.precision != precision:
        raise SettingsError(f"{checkpoint} computes in {found.spec.precision}, not in {precision}", "precision")
    for sentence in file_notes(found):
        warn(sentence)
    return found


def loaded_network(
    config: ModelConfig,
    checkpoint: str | Path | None = None,
    seeded_weights: bool | None = None,
    device: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    warn: Callable[[str], object] = warn_once,
) -> Network:
    """The network with its weights on its device; `threads` of the CPU are set for the whole process.

    Args:
        seeded_weights: None where whoever asks has no such setting, so that no text advises it.
        warn: is told what is odd about the device.

    Raises:
        SettingsError: there are no weights, the checkpoint does not fit, the device is not there, does not have the
            precision, or too little memory.
    """
    if is_exported(checkpoint):
        raise SettingsError(f"{checkpoint} is an exported step: here the weights themselves are needed", "checkpoint")
    target = chosen_device(device)
    for sentence in device_notes(device, precision):
        warn(sentence)
    _check_memory(config, target, precision)
    if threads:
        torch.set_num_threads(threads)
    try:
        return load_model(config, Path(checkpoint) if checkpoint else None, bool(seeded_weights), target, precision)
    except NoWeightsError as error:
        trial = "" if seeded_weights is None else "; untrained weights, for trials: seeded_weights (--seeded-weights)"
        raise SettingsError(f"{error}{trial}", "checkpoint") from error
    except CheckpointError as error:
        raise SettingsError(str(error), "checkpoint") from error
    except ConfigError as error:
        raise SettingsError(str(error), "model") from error


def device_notes(device: str, precision: str) -> tuple[str, ...]:
    """What somebody who has chosen device and precision may not expect, a sentence each.

    Raises:
        SettingsError: the device is not there, or does not have the precision.
    """
    target = torch.device(chosen_device(device))
    notes = list[str | None]()
    if device == AUTO and target.type == "cpu":
        notes.append(f"device auto takes the CPU: {why_no_gpu()}; set device to cpu where that is meant")
    with _settings("precision"):
        notes.append(check_precision(target, precision))
    notes.append(why_no_kernels(target))
    return tuple(note for note in notes if note)


def file_notes(file: FileExecutor) -> tuple[str, ...]:
    """As `device_notes`, of where an exported file computes."""
    notes = [check_precision(file.runner.device, file.spec.precision)]
    if file.runner.why_not_cuda is not None:
        notes.append(f"device auto takes the CPU: {file.runner.why_not_cuda}; set device to cpu where that is meant")
    return tuple(note for note in notes if note)


def _check_memory(config: ModelConfig, device: str, precision: str) -> None:
    """What a network takes beside its weights and inside its operators is known from its configuration."""
    size, (height, width) = PRECISIONS[precision].itemsize, config.images.padded_hw
    parts = {
        "history": history_bytes(config, size),
        "voxel features": 2 * token_count(config.grid) * config.embed * size,  # of this frame alone, and fused
        "images": len(config.cameras) * 3 * height * width * size,
    }
    needed, free = sum(parts.values()), free_memory(torch.device(device))
    if free is not None and needed > free:
        most = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items())
        raise SettingsError(
            f"{config.name} needs {needed / 1e9:.2f} GB at least on {device} ({most}), beside its weights, where "
            f"{free / 1e9:.2f} GB are free: take a smaller preset or half precision, or end what else is there",
            *("model", "device"),
        )


def chosen_device(device: str) -> str:
    """The torch device of a name, also for auto, as text.

    Raises:
        SettingsError: unknown, or not on this machine.
    """
    with _settings("device"):
        return str(usable_device(device))


@contextmanager
def _settings(name: str) -> Iterator[None]:
    """What cannot be used is told with the parameter that named it."""
    try:
        yield
    except ValueError as error:
        raise SettingsError(str(error), name) from error
