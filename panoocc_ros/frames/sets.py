"""What goes into a assembler besides messages, and what comes out of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from panoocc_core.geometry import Matrix

from .synchroniser import MessageSet, MissingPolicy


class Refused(ValueError):
    """A set that cannot become a frame because of one camera."""

    def __init__(self, reason: str, camera: str, text: str) -> None:
        super().__init__(f"camera {camera}: {text}")
        self.reason, self.camera, self.text = reason, camera, text


@dataclass(frozen=True, slots=True)
class AssemblerOptions:
    """How long to wait, and what to do without an image."""

    missing_camera: MissingPolicy = "drop"
    deadline_s: float = 0.25  # a set waits this long for its images
    tf_timeout_s: float = 0.5  # ... and this long for its transforms and calibrations
    camera_timeout_s: float = 2.0  # a camera without images for so long is called silent
    reuse_age_s: float = 1.0  # the oldest image that missing_camera="reuse_last" takes
    max_waiting: int = 8  # sets that wait for transforms


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
    resets: Counter[str]  # by reason
    waiting: int  # sets
    collecting: int  # sets whose images are still coming
    waiting_for: str | None  # what the oldest waiting set lacks
    last_drop: str | None
    tf_missing: str | None  # the transform that the last lost set lacked; None once a set had all of them
    tf_problem: str | None  # the newest transform that was refused
    blank: Counter[str]  # by camera: sets with a black image instead of one that never came
    reused: Counter[str]  # ... with an image that an earlier set had already
    silent: Mapping[str, float | None]  # camera -> age of its last image in seconds
    last_stamp_ns: Mapping[str, int]
    missing_info: tuple[str, ...]  # cameras without CameraInfo
    fixed_frame: str | None


@dataclass(slots=True)
class Counters:
    """What a assembler counts while it runs."""

    sets: int = 0
    ready: int = 0
    images: Counter[str] = field(default_factory=Counter)
    set_drops: Counter[tuple[str, str]] = field(default_factory=Counter)
    resets: Counter[str] = field(default_factory=Counter)
    blank: Counter[str] = field(default_factory=Counter)
    reused: Counter[str] = field(default_factory=Counter)
    last_stamp_ns: dict[str, int] = field(default_factory=dict)
    last_drop: str | None = None
    tf_missing: str | None = None
    tf_problem: str | None = None
