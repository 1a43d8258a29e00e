"""Which topics are those of one camera: images, their CameraInfo, the optical frame; by names and frames.  Pure."""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from panoocc_core.cameras.lens import FISHEYE_MODELS
from panoocc_core.geometry import Matrix

from ..frames.directions import looks_deg, said_yaw_deg
from ..frames.images import DEPTH_ENCODINGS
from ..messages.types import CAMERA_INFO
from ..streams.edge import TransformError
from ..streams.transforms import TransformBuffer
from .intake import Heard, Intake
from .tree import OPTICAL

COMPRESSED = "/compressed"
GREY = ("mono", "infra", "thermal")  # in the names of topics that are taken if there is nothing else
MAX_ELEVATION_DEG = 50.0  # of an optical axis; beyond it the frame is rather that of the camera's body


@dataclass(frozen=True, slots=True, eq=False)
class FoundCamera:
    """What is known of one camera without a rig."""

    topic: str
    heard: Heard
    info_topic: str  # where its CameraInfo came, or should come
    info: Heard | None
    frame: str | None  # to be named in the rig, where the images name none or another one
    mount: Matrix | None  # ego_from_camera [4, 4]
    others: tuple[str, ...] = ()  # further topics with its images

    @property
    def yaw_deg(self) -> float | None:
        """Where it looks, by its mount, else by its topic's name; left of ahead is positive."""
        return said_yaw_deg(self.topic) if self.mount is None else looks_deg(self.mount)

    @property
    def width_deg(self) -> float | None:
        """Its horizontal field of view by its CameraInfo."""
        if self.info is None or not self.info.calibrations:
            return None
        info = self.info.calibrations[0]
        focal, width = float(np.asarray(info.k).reshape(-1)[0]), float(info.width)
        if not (focal > 0 and width > 0):
            return None
        is_fisheye = info.distortion_model in FISHEYE_MODELS  # of which the image is about as wide as the angle
        return min(math.degrees(width / focal if is_fisheye else 2 * math.atan2(width / 2, focal)), 360.0)


def folder_of(topic: str) -> str:
    """The namespace of a topic of images, in which its CameraInfo is by convention."""
    return topic.removesuffix(COMPRESSED).rpartition("/")[0]


def found_cameras(intake: Intake, buffer: TransformBuffer, base_frame: str | None, stamp_ns: int) -> list[FoundCamera]:
    """The cameras that colour images came of, by topic."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for topic, heard in intake.images.items():
        if heard.stamps_ns and not _is_depth(heard):
            groups[folder_of(topic), heard.frame].append(topic)
    infos = intake.of_types(CAMERA_INFO)
    own = {key: _own_info(infos, *key) for key in groups}
    with_own = {frame for (_, frame), info in own.items() if info is not None and frame}
    taken = set(own.values())
    found = []
    for key, topics in groups.items():
        info_topic = own[key]
        if info_topic is None and key[1] in with_own:
            continue  # a picture made of another camera's
        if info_topic is None:
            info_topic = _foreign_info(infos, key[1], taken)
        best, *others = sorted(topics, key=_how_little_wanted)
        info = infos.get(info_topic) if info_topic else None
        frame, mount = _frame(intake.heard[best], info, buffer, base_frame, stamp_ns)
        found.append(
            FoundCamera(
                best,
                intake.heard[best],
                info_topic or f"{key[0]}/camera_info",
                info,
                frame,
                mount,
                tuple(others),
            )
        )
    return sorted(found, key=lambda camera: camera.topic)


def _is_depth(heard: Heard) -> bool:
    (kind, _), *_ = heard.encodings.most_common(1) or [("", 0)]
    return kind.lower() in DEPTH_ENCODINGS or "compresseddepth" in kind.lower() or kind.lower().startswith("16uc1")


def _own_info(infos: dict[str, Heard], folder: str, frame: str) -> str | None:
    """The CameraInfo in an image's own namespace."""
    if (usual := f"{folder}/camera_info") in infos:
        return usual
    beside = [topic for topic, info in infos.items() if topic.rpartition("/")[0] == folder and info.frame == frame]
    return beside[0] if len(beside) == 1 else None


def _foreign_info(infos: dict[str, Heard], frame: str, taken: set[str | None]) -> str | None:
    """A CameraInfo elsewhere, of the images' frame, that is nobody's else."""
    of_frame = [topic for topic, info in infos.items() if frame and info.frame == frame and topic not in taken]
    return of_frame[0] if len(of_frame) == 1 else None


def _how_little_wanted(topic: str) -> tuple[bool, bool, bool, str]:
    """Colour before grey; rectified, which saves the node a step; compressed, which loads the network less."""
    return any(word in topic for word in GREY), "image_rect" not in topic, not topic.endswith(COMPRESSED), topic


def _frame(
    heard: Heard, info: Heard | None, buffer: TransformBuffer, base_frame: str | None, stamp_ns: int
) -> tuple[str | None, Matrix | None]:
    """The frame that has to be named, if any, and the mount [4, 4], if there is one."""
    said = [heard.frame, info.frame if info else ""]
    below = [
        name
        for name in buffer.frames
        if OPTICAL in name and heard.frame in buffer.frames and heard.frame in buffer.ancestors(name, stamp_ns)
    ]
    first: tuple[str | None, Matrix] | None = None
    for frame in [*said, *below]:
        if not frame or base_frame is None:
            continue
        try:
            mount = buffer.lookup(base_frame, frame, stamp_ns)
        except TransformError:
            continue
        named = None if frame == heard.frame else frame
        if abs(mount[2, 2]) <= math.sin(math.radians(MAX_ELEVATION_DEG)):
            return named, mount
        first = first or (named, mount)
    return first or (None, None)
