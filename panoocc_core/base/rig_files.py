"""Which of the package's rigs has the cameras of a network."""

from collections.abc import Sequence

from .resources import listing
from .strict_yaml import ConfigError, load_yaml

AUTO = "auto"  # in place of a name: the one that fits


def rig_with(folder: str, cameras: Sequence[str]) -> str:
    """The name of the rig in a folder of `config` ("rigs", "sim_rigs") with exactly these cameras, else with all of
    them and others; one that says `auto: false` wants to be named.

    Raises:
        ConfigError: there is none, or more than one.
    """
    rigs = {name: load_yaml(path) for name, path in listing(folder).items()}
    names = {name: _camera_names(rig) for name, rig in rigs.items() if rig.get("auto") is not False}
    exact = [rig for rig, there in names.items() if there == set(cameras)]
    found = exact or [rig for rig, there in names.items() if there > set(cameras)]
    if len(found) != 1:
        have = "; ".join(f"{rig} has {', '.join(sorted(names[rig]))}" for rig in found or names)
        which = f"{len(found)} rigs have" if found else "no rig has"
        raise ConfigError(f"{which} the network's cameras {', '.join(cameras)}, of config/{folder} ({have}): name one")
    return found[0]


def _camera_names(rig: dict) -> set[str]:
    """Those of a rig's file, whatever else is wrong with it."""
    cameras = rig.get("cameras")
    entries = cameras if isinstance(cameras, list) else []
    return {str(camera.get("name")) for camera in entries if isinstance(camera, dict)}
