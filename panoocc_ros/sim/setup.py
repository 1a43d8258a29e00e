"""From the simulator's settings to what it renders: drives, cameras and grid, faults."""

from panoocc_core.base.devices import usable_device
from panoocc_core.base.rig_files import AUTO, rig_with
from panoocc_core.config import model_config
from panoocc_core.labels import OCC3D
from panoocc_core.sim import Rig, load_sim_rig
from panoocc_core.sim.drive_renderer import Drive, RenderSetup, truth_grid, truth_labels

from ..ros.parameter_fields import SettingsError
from .faults import Faults, parse_faults
from .settings import SimSettings

STREET_S = 60.0  # of an endless drive


def drive_of(settings: SimSettings, number: int) -> Drive:
    """The street number `number` of a drive: the same again when it loops, another one when it is endless.

    Raises:
        SettingsError: rate and length do not go together.
    """
    seed = settings.seed if settings.seconds else (settings.seed + number) % 2**31
    try:
        return Drive(seed, settings.seconds or STREET_S, settings.rate_hz, settings.supersample)
    except ValueError as error:
        raise SettingsError(str(error), "seconds", "rate_hz") from error


def setup_of(settings: SimSettings) -> RenderSetup:
    """Rig and grid.

    Raises:
        SettingsError: one of them cannot be used; the message begins with the parameter.
    """
    needs_grid = settings.with_truth or settings.rig == AUTO
    try:
        grid = truth_grid(settings.grid) if needs_grid else None
        labels = truth_labels(settings.grid) if needs_grid else OCC3D
    except ValueError as error:
        raise SettingsError(str(error), "grid") from error
    try:
        rig = rig_for_grid(settings.rig, settings.grid, settings.scale)
    except ValueError as error:
        raise SettingsError(str(error), "rig") from error
    try:
        device = str(usable_device(settings.device))
    except ValueError as error:
        raise SettingsError(str(error), "device") from error
    return RenderSetup(rig, grid if settings.with_truth else None, device, labels)


def rig_for_grid(name: str, model: str, scale: float) -> Rig:
    """The rig called so, or, for "auto", the one with the cameras of the network on whose grid the truth lies.

    Raises:
        ConfigError: there is no such rig or network, or a file cannot be used.
        ValueError: the scale is not in (0, 4].
    """
    return load_sim_rig(rig_with("sim_rigs", model_config(model).cameras) if name == AUTO else name, scale)


def faults_of(settings: SimSettings, setup: RenderSetup) -> Faults:
    """What goes wrong.

    Raises:
        SettingsError: the words are no faults, or name a camera that the rig lacks.
    """
    try:
        return Faults(parse_faults(settings.faults), setup.names, settings.seed)
    except ValueError as error:
        raise SettingsError(str(error), "faults") from error
