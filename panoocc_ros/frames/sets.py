"""What goes into an assembler besides messages, and what comes out of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from panoocc_core.geometry import Matrix

from ..ros.parameter_fields import check_parameters, parameter
from ..streams.notices import Notice, NoticeKind
from ..streams.synchroniser import MISSING_POLICIES, MessageSet, MissingPolicy

FOREVER_S = 1e6  # longer than any recording
PATIENT_SETS = 64


class Refused(ValueError):
    """A set that cannot become a frame because of one camera."""

    def __init__(self, reason: str, camera: str, text: str) -> None:
        super().__init__(f"camera {camera}: {text}")
        self.reason, self.camera, self.text = reason, camera, text


@dataclass(frozen=True, slots=True)
class AssemblerOptions:
    """How long to wait, and what to do without an image: parameters of the node and options of `panoocc run`.

    Raises:
        SettingsError: a value is outside its limits or choices; the message names it.
    """

    missing_camera: MissingPolicy = parameter(
        "reuse_last",
        "What to do with a set that lacks an image: drop it, reuse_last (the camera's last image with its own stamp "
        "and pose, up to reuse_age_s; then as blank), or blank (that camera sees nothing).",
        choices=MISSING_POLICIES,
    )
    deadline_s: float = parameter(0.25, "How long a set waits for its images.", limits=(0.0, FOREVER_S))
    tf_timeout_s: float = parameter(
        0.5,
        "How long a set waits for its transforms and CameraInfos before it is dropped, with the reason.",
        limits=(0.0, FOREVER_S),
    )
    camera_timeout_s: float = parameter(
        2.0,
        "A camera without an image for this long is dead: reported as an ERROR, and no set waits for it. So long the "
        "first sets wait for every camera.",
        limits=(0.1, FOREVER_S),
    )
    reuse_age_s: float = parameter(1.0, "The oldest image that reuse_last takes.", limits=(0.0, FOREVER_S))
    max_waiting: int = parameter(
        8, "How many sets may wait for transforms; the oldest one is dropped when more come.", limits=(1, 10_000)
    )

    def __post_init__(self) -> None:
        check_parameters(self)

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


@dataclass(frozen=True, slots=True, eq=False)
class CameraPose:
    """Where a camera is mounted and where the vehicle was at its shutter time, [4, 4] each."""

    stamp_ns: int
    ego_from_camera: Matrix
    world_from_ego: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class ReadySet:
    """A set of images with all transforms and calibrations; `FrameAssembler.frame` decodes it."""

    stamp_ns: int
    messages: MessageSet
    world_from_ego: Matrix  # [4, 4] at stamp_ns
    poses: Mapping[str, CameraPose]
    infos: Mapping[str, Any]
    fixed_frame: str
    reset: str | None  # the stream's memory must be cleared before this set, for this reason


@dataclass(frozen=True, slots=True)
class AssemblerStatus:
    """Counters and texts, copied at one moment."""

    images: Counter[str]  # by camera
    sets: int  # formed by the synchroniser
    ready: int  # of these, complete with transforms
    image_drops: Counter[tuple[str, str]]  # (reason, camera)
    set_drops: Counter[tuple[str, str]]  # (reason, camera; "" where none is to blame)
    transform_drops: Counter[str]  # by reason: "late" (filed all the same), "repeated", "too_old", "refused"
    resets: Counter[str]  # by reason
    waiting: int  # sets that are complete but for transforms and calibrations
    collecting: int  # sets whose images are still coming
    images_waiting: Mapping[str, int]  # by camera
    waiting_for: str | None  # what the oldest waiting set lacks
    last_drop: str | None  # why the last lost set was lost; says how late what was, as soon as that is known
    tf_missing: str | None  # the transform that the last lost set lacked; None once a set had all of them
    notices: tuple[Notice, ...]  # newest first
    blank: Counter[str]  # by camera: sets in which it sees nothing, since no image of it came
    reused: Counter[str]  # ... with an image that an earlier set had already
    silent: Mapping[str, float | None]  # camera -> age of its last image in seconds
    missing_info: tuple[str, ...]  # cameras without CameraInfo
    fixed_frame: str | None
    geometry: tuple[str, ...] | None  # what cannot be true of mounts and intrinsics; None before the first frame
    pictures: Mapping[str, str]  # camera -> what is wrong with its newest pictures: black, or always the same
    odd_pictures: Counter[tuple[str, str]]  # (what, camera) -> sets so far in which it was so

    def of_kind(self, *kinds: NoticeKind) -> tuple[Notice, ...]:
        """The notices of some kinds, newest first."""
        return tuple(notice for notice in self.notices if notice.kind in kinds)


@dataclass(slots=True)
class Counters:
    """What an assembler counts while it runs."""

    sets: int = 0
    ready: int = 0
    images: Counter[str] = field(default_factory=Counter)
    set_drops: Counter[tuple[str, str]] = field(default_factory=Counter)
    transform_drops: Counter[str] = field(default_factory=Counter)
    resets: Counter[str] = field(default_factory=Counter)
    blank: Counter[str] = field(default_factory=Counter)
    reused: Counter[str] = field(default_factory=Counter)
    last_drop: str | None = None
    tf_missing: str | None = None
