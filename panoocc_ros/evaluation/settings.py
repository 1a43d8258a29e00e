"""Parameters of the node `evaluator`: names, defaults, limits and what they mean stand only here."""

from dataclasses import dataclass

from panoocc_core.metrics.panoptic import MIN_VOXELS

from ..messages import truth as truth_messages
from ..ros.parameter_fields import SettingsError, check_parameters, parameter
from .evaluator import CAPACITY


@dataclass(frozen=True, slots=True)
class EvaluatorSettings:
    """Parameters of the evaluator.

    Raises:
        SettingsError: a value is outside its limits, or a topic has no name.
    """

    prediction: str = parameter("panoocc/occupancy", "Topic of the grids to evaluate, those of a node beside this one.")
    prediction_labels: str = parameter("panoocc/labels", "Topic of their label set.")
    truth: str = parameter(truth_messages.TRUE_OCCUPANCY, "Topic of the true grids.")
    truth_labels: str = parameter(truth_messages.LABELS, "Topic of their label set.")
    capacity: int = parameter(
        CAPACITY, "Grids of each topic that wait for their partners, or with them for a label set.", (1, 10_000)
    )
    min_voxels: int = parameter(
        MIN_VOXELS, "PQ: an unmatched segment, true or predicted, with fewer voxels does not count.", (1, 1_000_000)
    )
    diagnostics_period_s: float = parameter(1.0, "Time between two messages on /diagnostics.", (0.1, 60.0))

    def __post_init__(self) -> None:
        check_parameters(self)
        for name in ("prediction", "prediction_labels", "truth", "truth_labels"):
            if not getattr(self, name):
                raise SettingsError(f"parameter {name}: must name a topic")
