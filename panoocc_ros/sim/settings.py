"""Parameters of the node `simulator`: names, defaults, limits and what they mean stand only here."""

from dataclasses import dataclass

from panoocc_core.sim import load_sim_rig
from panoocc_core.sim.drive_renderer import MAX_SECONDS, MAX_WORKERS, Drive, RenderSetup, truth_grid

from ..ros.parameter_fields import SettingsError, check_parameters, parameter
from .faults import Faults, parse_faults


@dataclass(frozen=True, slots=True)
class SimSettings:
    """Parameters of the simulator.

    Raises:
        SettingsError: a value is outside its limits; the message names the parameter.
    """

    seed: int = parameter(0, "Which street.", (0, 2**31 - 1))
    seconds: float = parameter(
        0.0,
        "Length of the drive; 0 drives for ever, with a new street (the next seed) every minute.",
        (0.0, MAX_SECONDS),
    )
    loop: bool = parameter(False, "Begin again at the end of the drive; else the node ends. Stamps always increase.")
    rate_hz: float = parameter(2.0, "Sets of images per second.", (0.01, 60.0))
    scale: float = parameter(0.16, "Image size; 1 is the rig's own, e.g. 1600x900.", (0.01, 4.0))
    supersample: int = parameter(1, "N x N rays per pixel: smoother, slower.", (1, 8))
    rig: str = parameter("nuscenes", "Cameras: a name in config/sim_rigs, or a YAML file.")
    with_truth: bool = parameter(True, "Publish the truth on /truth/*.")
    grid: str = parameter("nano", "Model preset or YAML file on whose output grid the truth lies.")
    faults: str = parameter("", "What goes wrong, parted by semicolons; see `panoocc sim --list-faults`.")
    use_clock: bool = parameter(
        False,
        "Publish /clock and wait for the renderer; else stamps are the system clock's, and sets are left out where "
        "the renderer cannot keep up.",
    )
    workers: int = parameter(0, "Processes that render; 0 takes all processors but one.", (0, MAX_WORKERS))
    device: str = parameter("cpu", "Device that renders: cpu, cuda or cuda:<number>.")
    diagnostics_period_s: float = parameter(1.0, "Time between two messages on /diagnostics.", (0.1, 60.0))

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def is_endless(self) -> bool:
        """Whether the drive never ends."""
        return self.seconds == 0 or self.loop


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
        raise SettingsError(f"parameters seconds and rate_hz: {error}") from error


def setup_of(settings: SimSettings) -> RenderSetup:
    """Rig and grid.

    Raises:
        SettingsError: one of them cannot be used; the message begins with the parameter.
    """
    try:
        rig = load_sim_rig(settings.rig, settings.scale)
    except ValueError as error:
        raise SettingsError(f"parameter rig: {error}") from error
    try:
        grid = truth_grid(settings.grid) if settings.with_truth else None
    except ValueError as error:
        raise SettingsError(f"parameter grid: {error}") from error
    try:
        return RenderSetup(rig, grid, settings.device)
    except ValueError as error:
        raise SettingsError(f"parameter device: {error}") from error


def faults_of(settings: SimSettings, setup: RenderSetup) -> Faults:
    """What goes wrong.

    Raises:
        SettingsError: the words are no faults, or name a camera that the rig lacks.
    """
    try:
        return Faults(parse_faults(settings.faults), setup.names, settings.seed)
    except ValueError as error:
        raise SettingsError(f"parameter faults: {error}") from error
