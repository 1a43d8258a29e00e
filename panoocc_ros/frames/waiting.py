"""How an assembler waits: what the node has as parameters and `panoocc run` as options.

No library is needed here: launch files read the parameters in the Python of ros2, which need not have PyTorch.
"""

from dataclasses import dataclass, replace
from typing import Literal

from ..motion.motion_options import MotionOptions
from ..ros.parameter_fields import parameter
from ..streams.missing import MISSING_POLICIES, MissingPolicy

FOREVER_S = 1e6  # longer than any recording
PATIENT_SETS = 64


@dataclass(frozen=True, slots=True)
class AssemblerOptions(MotionOptions):
    """How long to wait, what to do without an image, and whence motion: parameters and options of `panoocc run`.

    Raises:
        SettingsError: a value is outside its limits or choices, or two contradict each other; the message names it.
    """

    sync_policy: Literal["own", "approximate"] = parameter(
        "own",
        "What makes sets of images: own, or approximate: message_filters.ApproximateTimeSynchronizer with the rig's "
        "spread as slop, which makes none while a camera is missing.",
        choices=("own", "approximate"),
    )
    transform_source: Literal["own", "tf2"] = parameter(
        "own", "What answers for transforms: own, or tf2: a tf2_ros.Buffer.", choices=("own", "tf2")
    )
    missing_camera: MissingPolicy = parameter(
        "reuse_last",
        "What to do with a set that lacks an image: drop it, reuse_last (the camera's last image with its own stamp "
        "and pose, up to reuse_age_s; then as blank), or blank (that camera sees nothing).",
        choices=MISSING_POLICIES,
        dynamic=True,
    )
    deadline_s: float = parameter(0.25, "How long a set waits for its images.", limits=(0.0, FOREVER_S), dynamic=True)
    tf_timeout_s: float = parameter(
        0.5,
        "How long a set waits for its transforms, then it is dropped; and for CameraInfos, then such a "
        "camera counts as missing.",
        limits=(0.0, FOREVER_S),
        dynamic=True,
    )
    camera_timeout_s: float = parameter(
        2.0,
        "A camera without an image for this long is dead: reported as an ERROR, and no set waits for it. So long the "
        "first sets wait for every camera; one whose stamps lie further than this (and 1 s) from those of most "
        "cameras counts as absent. Sets go by the stamps of the images, in recordings as well as live.",
        limits=(0.1, FOREVER_S),
    )
    reuse_age_s: float = parameter(
        1.0, "The oldest image that reuse_last takes.", limits=(0.0, FOREVER_S), dynamic=True
    )
    max_waiting: int = parameter(
        8,
        "How many sets may wait for transforms; the oldest one is dropped when more come.",
        limits=(1, 10_000),
        dynamic=True,
    )

    def patient(self) -> "AssemblerOptions":
        """The same, but no clock ends the waiting: stamps decide, and `FrameAssembler.finish`; for recordings.

        What waits stays bounded by `max_waiting`.
        """
        return replace(
            self,
            deadline_s=FOREVER_S,
            tf_timeout_s=FOREVER_S,
            max_waiting=max(self.max_waiting, PATIENT_SETS),
        )
