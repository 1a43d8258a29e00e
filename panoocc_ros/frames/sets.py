"""What comes out of an assembler."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from panoocc_core.geometry import Matrix
from panoocc_core.types import VehicleMotion

from ..streams.notices import Notice, NoticeKind
from ..streams.synchroniser import MessageSet

REFUSED = "refused"  # reason of images that cannot be used
NO_CAMERA_INFO = "no_camera_info"  # reason of images, and of sets, whose CameraInfo never came
NO_MOTION = "no_motion"  # reason of a set that lacks measured rates of the vehicle's motion


class Refused(ValueError):
    """An image that cannot be used, or a set that cannot become a frame without it."""

    def __init__(self, reason: str, camera: str, text: str) -> None:
        super().__init__(f"camera {camera}: {text}")
        self.reason, self.camera, self.text = reason, camera, text


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
    ego_from_network: Matrix | None  # [4, 4] of the frame of the voxels; None: where the network's configuration has it
    reset: str | None  # the stream's memory must be cleared before this set, for this reason
    map_from_ego: Matrix | None = None  # [4, 4] at stamp_ns, of the frame that maps lie in; None: not asked for ...
    map_problem: str | None = None  # ... or not to be had: why
    motion: VehicleMotion | None = None  # as far as sensors measured it
    motion_problems: Mapping[str, str] = field(default_factory=dict)  # topic -> why it did not measure all

    @property
    def arrived_s(self) -> float:
        """time.perf_counter() when the last of its images came."""
        return max(picture.arrived_s for picture in self.messages.messages.values())


@dataclass(frozen=True, slots=True)
class AssemblerStatus:
    """Counters and texts, copied at one moment."""

    images: Counter[str]  # by camera
    sets: int  # formed by the synchroniser
    ready: int  # of these, complete with transforms
    image_drops: Counter[tuple[str, str]]  # (reason, camera)
    set_drops: Counter[tuple[str, str]]  # (reason, camera; "" where none is to blame)
    transform_drops: Counter[str]  # by reason: "late" (filed all the same), "repeated", "too_old", "too_far_ahead", ...
    motion_drops: Counter[tuple[str, str]]  # the same of odometry and IMU: (reason, topic)
    resets: Counter[str]  # by reason
    waiting: int  # sets that are complete but for transforms and calibrations
    collecting: int  # sets whose images are still coming
    waiting_for: str | None  # what the oldest waiting set lacks
    last_drop: str | None  # why the last lost set was lost; says how late what was, as soon as that is known
    last_texts: Mapping[tuple[str, str], str]  # (reason, camera) of set_drops and of refused images -> why the last one
    tf_missing: str | None  # the transform that the last lost set lacked; None once a set had all of them
    notices: tuple[Notice, ...]  # newest first
    blank: Counter[str]  # by camera: sets in which it sees nothing, since no image of it came, or none that can be used
    reused: Counter[str]  # ... with an image that an earlier set had already
    spread_ns: int | None  # from the oldest to the newest image of the last set with transforms, but for reused ones
    transforms_age_s: float | None  # since something came on the rig's tf_topic; None: nothing yet
    missing_info: tuple[str, ...]  # cameras without CameraInfo
    fixed_frame: str | None
    pose_source: str  # who says where the vehicle is
    network_frame: str  # who says where the voxels lie
    geometry: tuple[str, ...] | None  # what cannot be true of mounts and intrinsics; None before the first frame
    pictures: Mapping[str, str]  # camera -> what is wrong with its newest pictures: black, or always the same
    converted: Mapping[str, str]  # camera -> encoding of its images, where cv_bridge decodes them
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
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)  # as image_drops
    spread_ns: int | None = None
    transforms_ns: int | None = None  # when something came last, by the assembler's clock
    last_drop: str | None = None
    last_texts: dict[tuple[str, str], str] = field(default_factory=dict)
    tf_missing: str | None = None
