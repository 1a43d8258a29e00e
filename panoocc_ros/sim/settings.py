"""Parameters of the node `simulator`: names, defaults, limits and what they mean stand only here.

No library is needed here: the launch file reads them in a Python that has none.
"""

from dataclasses import dataclass

from ..ros.parameter_fields import check_parameters, parameter


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
        (0.0, 290.0),
    )
    loop: bool = parameter(False, "Begin again at the end of the drive; else the node ends. Stamps always increase.")
    rate_hz: float = parameter(2.0, "Sets of images per second.", (0.01, 60.0))
    scale: float = parameter(0.16, "Image size; 1 is the rig's own, e.g. 1600x900.", (0.01, 4.0))
    supersample: int = parameter(1, "N x N rays per pixel: smoother, slower.", (1, 8))
    rig: str = parameter(
        "auto", "Cameras: a name in config/sim_rigs, or a YAML file; auto: the rig with the cameras of `grid`'s model."
    )
    with_truth: bool = parameter(True, "Publish the truth on /truth/*.")
    grid: str = parameter("nano", "Model preset or YAML file on whose output grid the truth lies.")
    faults: str = parameter("", "Faults to inject, separated by semicolons; `panoocc sim --list-faults` lists them.")
    use_clock: bool = parameter(
        False,
        "Publish /clock and wait for the renderer; else stamps are the system clock's, and sets are left out where "
        "the renderer cannot keep up.",
    )
    workers: int = parameter(0, "Processes that render; 0 takes all processors but one.", (0, 16))
    device: str = parameter("cpu", "Device on which the images are rendered: cpu, cuda, cuda:<number> or auto.")
    diagnostics_period_s: float = parameter(1.0, "Time between two messages on /diagnostics.", (0.1, 60.0))

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def is_endless(self) -> bool:
        """Whether the drive never ends."""
        return self.seconds == 0 or self.loop
