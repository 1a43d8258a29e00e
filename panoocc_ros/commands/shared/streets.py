"""Simulated streets in full size for commands that need a bag and were given none, and the load that is made of one."""

import argparse
import sys
from pathlib import Path
from typing import Literal

from panoocc_core import ConfigError, ModelConfig
from panoocc_core.base.resources import shipped_weights
from panoocc_core.base.rig_files import AUTO, rig_with
from panoocc_core.labels import InstanceSource
from panoocc_core.sim import load_sim_rig

from ...frames.rig import Rig
from ...live_bench.run import Load, write_tiny
from ...node.choices import chosen_config, chosen_rig, rig_for
from ...ros.parameter_fields import SettingsError
from ...sim.bag import write_street_bag
from ...sim.messages import image_topic

LIVE_SETS = 2  # of a simulated street that are sent by turns


def street_rig(config: ModelConfig, rig: Rig) -> str:
    """The simulator's rig with the network's cameras.

    Raises:
        SettingsError: there is none, or its topics are not those that the network listens to.
    """
    try:
        name = rig_with("sim_rigs", config.cameras)
    except ConfigError as error:
        raise SettingsError(f"{error}, or give a bag with --bag", "model") from error
    if not {camera.topic for camera in rig.cameras} <= {image_topic(camera) for camera in load_sim_rig(name)}:
        raise SettingsError("its topics are not those of the simulated street: give a bag with --bag", "rig")
    return name


def street_bag(path: Path, rig_name: str, frames: int) -> Path:
    """A simulated street with full-size images, one set every half second."""
    rig = load_sim_rig(rig_name)
    size = f"{rig[0].width}x{rig[0].height}"
    print(f"rendering a simulated street with {len(rig)} images of {size} a frame ...", file=sys.stderr)
    return write_street_bag(path, 0, frames * 0.5, 2.0, rig)


def live_load(
    arguments: argparse.Namespace,
    model: str | None,
    instances: Literal["", InstanceSource],
    seconds: float,
    folder: Path,
    at_once: bool = False,
) -> tuple[ModelConfig, Load]:
    """A network, and what is sent to the node that runs it.

    Args:
        arguments: of a command with --rig, --bag, --rate, --device, --precision and --threads.
        model: preset or file; None: a tiny network.
        folder: where what is made lies.

    Raises:
        ConfigError, SettingsError: model, rig or street cannot be used.
    """
    model = str(write_tiny(folder / "tiny.yaml")) if model is None else model
    config = chosen_config(model, instances=instances)
    cameras = rig_for(config, chosen_rig(arguments.rig, config))
    rig = rig_with("rigs", config.cameras) if arguments.rig == AUTO else arguments.rig
    bag = arguments.bag or street_bag(folder / "street.mcap", street_rig(config, cameras), LIVE_SETS)
    given = {"device": arguments.device, "precision": arguments.precision, "threads": arguments.threads or 0}
    seeded = shipped_weights(config.name) is None  # with those, things and lines of sight are noise
    parameters = {"model": model, "seeded_weights": seeded, "rig": rig, "instances": instances, **given}
    return config, Load(bag, rig, cameras.names, parameters, seconds, arguments.rate, at_once)
