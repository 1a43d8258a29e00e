"""One diagnostic status, and words that several of them share."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...frames.sets import NO_MOTION

OK, WARN, ERROR = 0, 1, 2  # the levels of diagnostic_msgs/DiagnosticStatus

OUTPUT = "output"  # the status that says whether grids come out, and why not
BUDGET = "budget"  # the status that says what is not made, so that sets keep to `frame_budget_ms`
TIMING = "timing"  # the status with the latencies of every stage
MISSING_CAMERA = "missing_camera"  # reason of sets that lacked an image of a camera
LOOK_AT_TRANSFORMS = "ros2 run tf2_ros tf2_monitor"


@dataclass(frozen=True, slots=True)
class Health:
    """One diagnostic status: a level, a sentence, numbers, and what to do where it is not what the subject suggests."""

    subject: str
    level: int
    message: str
    values: Mapping[str, str] = field(default_factory=dict)
    remedy: str = ""


def age_text(age_s: float | None) -> str:
    """An age as a value: seconds, or "never"."""
    return "never" if age_s is None else f"{age_s:.2f}"


def counts_text(counts: Mapping[str, int]) -> str:
    """`CAM_BACK (3), CAM_FRONT (1)`, the largest first."""
    return ", ".join(f"{name} ({count})" for name, count in Counter(counts).most_common())


def is_of_transforms(reason: str) -> bool:
    """Whether a set was lost for want of a pose or of motion, whichever camera needed it first."""
    return reason.startswith("tf_") or reason == NO_MOTION


def without_image(set_drops: Mapping[tuple[str, str], int]) -> Counter[str]:
    """Camera -> sets that were dropped because its image was missing."""
    return Counter({camera: count for (reason, camera), count in set_drops.items() if reason == MISSING_CAMERA})
