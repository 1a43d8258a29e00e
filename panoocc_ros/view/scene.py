"""What is shown at one instant, put together from messages as they come: of a bag, or live.

Messages are read by attribute, so that rclpy's and rosbags' classes serve alike.  What cannot be used is left out, and
`Scenes.problems` says of each topic why.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from panoocc_core.base.image_files import JPEG_HEAD, PNG_HEAD
from panoocc_core.base.reduction import Pixels
from panoocc_core.cameras.lens import Calibration, CalibrationError, calibration, same_calibration
from panoocc_core.geometry import Matrix, rigid, rotation_from_quaternion
from panoocc_core.labels import LabelSet
from panoocc_core.pictures.voxel_view import VoxelVolume
from panoocc_core.types import ScoredBoxes

from ..frames.images import decode
from ..health.verdicts import TIMING, summary_from_values
from ..messages.fields import stamp_ns, transforms
from ..messages.types import CAMERA_INFO, IMAGE_TYPES, TRANSFORMS
from ..messages.vision import boxes_from_message
from ..messages.voxel_grid import labels_from_message
from ..motion.poses import FIXED_FRAMES
from ..streams.edge import TransformError
from ..streams.transforms import TransformBuffer, clean_frame
from .numbers import boxes_of, numbered_voxels

OVERLAY = "overlay"  # the node's own picture, which has no place
KEEP_TF_NS = 60 * 10**9
MAX_KEPT, MAX_KEPT_BYTES = 256, 256 << 20  # images of one camera
MAX_MAP_CELLS = 4096 * 4096
MAX_LATENCY_MS = 600_000.0  # more is another clock than that of the stamps
JPEG_QUALITY = 90  # of images that were sent raw
FILE_HEADS = {JPEG_HEAD: "image/jpeg", PNG_HEAD: "image/png"}


@dataclass(frozen=True, slots=True, eq=False)
class SentImage:
    """One camera's image, as it was sent."""

    message: Any  # sensor_msgs Image or CompressedImage
    calibration: Calibration | None = None
    ego_from_camera: Matrix | None = None  # [4, 4], of the rectified camera where the image is

    @property
    def stamp_ns(self) -> int:
        """When it was taken."""
        return stamp_ns(self.message.header.stamp)

    def as_file(self) -> tuple[bytes, str]:
        """A JPEG or PNG and its media type: the bytes that were sent where they are one, else a JPEG of them.

        Raises:
            ImageError: it cannot be decoded.
        """
        if not hasattr(self.message, "encoding"):
            data = bytes(memoryview(self.message.data))
            for head, kind in FILE_HEADS.items():
                if data.startswith(head):
                    return data, kind
        return simplejpeg.encode_jpeg(self.pixels(), JPEG_QUALITY), "image/jpeg"

    def pixels(self) -> Pixels:
        """RGB uint8 [h, w, 3].

        Raises:
            ImageError: it cannot be decoded.
        """
        return decode(self.message)


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """A 2-D grid (nav_msgs/OccupancyGrid) in the frame of the voxels or in the fixed one."""

    cells: NDArray[np.int8]  # [h, w], -1 unknown, else 0..100 percent; row 0 at y = 0
    cell_m: float
    frame_from_map: Matrix  # [4, 4]: the corner of cell 0, 0
    in_world: bool  # the frame is the fixed one


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is shown at one instant."""

    stamp_ns: int
    frame_id: str  # of the vehicle, in which voxels and boxes are given
    voxels: VoxelVolume  # with the numbers of things; faint where no camera sees them, if that is known
    boxes: ScoredBoxes | None
    images: Mapping[str, SentImage]  # by camera
    world_frame: str | None  # the frame that does not move
    world_from_ego: Matrix | None  # [4, 4] at the stamp
    map: Map | None
    numbers: Mapping[str, float]  # what is plotted; "kind/name" of what belongs together

    @property
    def classes(self) -> VoxelVolume:
        """The voxels without their numbers: each has the colour of its class."""
        return replace(self.voxels, instance_id=None)

    @property
    def counts(self) -> dict[str, int]:
        """Voxels of each class that is not free."""
        labels = self.voxels.labels
        found = np.bincount(self.voxels.class_id.ravel(), minlength=len(labels.names)).tolist()
        return {name: found[i] for i, name in enumerate(labels.names) if i != labels.free_id}


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the parts of scenes come from: topics by what they hold."""

    grids: str
    labels: str
    objects: str
    map: str
    cameras: Mapping[str, str] = field(default_factory=dict)  # topic of images -> name
    infos: Mapping[str, str] = field(default_factory=dict)  # topic of CameraInfo -> name of the camera
    transforms: Mapping[str, bool] = field(default_factory=dict)  # topic -> whether it holds fixed ones
    diagnostics: str = "/diagnostics"

    @property
    def companions(self) -> tuple[str, ...]:
        """All topics but that of the grids."""
        return (self.labels, self.objects, self.map, self.diagnostics, *self.cameras, *self.infos, *self.transforms)


def sources_in(topics: Mapping[str, str], grids: str) -> Sources:
    """What belongs to the grids on a topic, among all topics and their types.

    The node's other topics are those beside `grids`.  Cameras are all other topics of images, called after the last
    part of their namespace; of an image that is sent raw and compressed, the compressed one is taken.  A camera's
    CameraInfo lies beside its images.
    """
    node = grids.rpartition("/")[0]
    images = {
        topic: topic.removesuffix("/compressed")
        for topic, kind in topics.items()
        if kind in IMAGE_TYPES and not topic.endswith("/compressedDepth")
    }
    kept = {topic: base for topic, base in images.items() if base != topic or f"{topic}/compressed" not in images}
    outside = {topic: base for topic, base in kept.items() if not topic.startswith(f"{node}/") or not node}
    short = {topic: _camera_name(base) for topic, base in outside.items()}
    taken = Counter(short.values())
    cameras = {topic: name if taken[name] == 1 else outside[topic].strip("/") for topic, name in short.items()}
    infos = {f"{outside[topic].rpartition('/')[0]}/camera_info": name for topic, name in cameras.items()}
    overlay = {topic: OVERLAY for topic, base in kept.items() if base == f"{node}/overlay"}
    return Sources(
        grids=grids,
        labels=f"{node}/labels",
        objects=f"{node}/objects",
        map=f"{node}/grid_2d",
        cameras=cameras | overlay,
        infos={topic: name for topic, name in infos.items() if topics.get(topic) == CAMERA_INFO},
        transforms={topic: "static" in topic for topic, kind in topics.items() if kind == TRANSFORMS},
    )


def _camera_name(base: str) -> str:
    parts = base.strip("/").split("/")
    return parts[-2] if len(parts) > 1 else parts[0]


class Scenes:
    """Takes messages and makes scenes of grids; what it keeps is bounded.

    Args:
        is_wanted: whether an image of this stamp (ns) can belong to a scene.
    """

    def __init__(self, sources: Sources, is_wanted: Callable[[int], bool] = lambda stamp_ns: True) -> None:
        self.sources, self._is_wanted = sources, is_wanted
        self.labels: dict[tuple[str, int], LabelSet] = {}
        self.problems: dict[str, str] = {}  # topic, frame or camera -> what is wrong with it
        self._images: dict[str, deque[Any]] = {}
        self._infos: dict[str, tuple[Any, Calibration | None]] = {}
        self._buffer = TransformBuffer(keep_ns=KEEP_TF_NS)
        self._objects: deque[Any] = deque(maxlen=16)
        self._maps: deque[Any] = deque(maxlen=16)
        self._stages_ms: dict[str, float] = {}

    def add(self, topic: str, message: Any) -> None:
        """Take a message of one of the companions' topics."""
        sources = self.sources
        if topic in sources.cameras:
            if self._is_wanted(stamp_ns(message.header.stamp)):
                self._add_image(topic, message)
        elif topic in sources.infos:
            self._add_info(topic, sources.infos[topic], message)
        elif topic in sources.transforms:
            self._add_transforms(topic, message)
        elif topic == sources.labels:
            self._add_labels(message)
        elif topic == sources.diagnostics:
            self._add_diagnostics(message)
        elif topic in (sources.objects, sources.map):
            (self._objects if topic == sources.objects else self._maps).append(message)

    def _add_image(self, topic: str, message: Any) -> None:
        kept = self._images.setdefault(topic, deque(maxlen=MAX_KEPT))
        kept.append(message)
        while len(kept) > 1 and sum(len(one.data) for one in kept) > MAX_KEPT_BYTES:
            kept.popleft()

    def _add_labels(self, message: Any) -> None:
        try:
            labels = labels_from_message(message)
        except ValueError as error:
            self.problems[self.sources.labels] = f"the label set cannot be used: {error}"
        else:
            self.labels[labels.key, labels.version] = labels

    def _add_info(self, topic: str, camera: str, message: Any) -> None:
        before = self._infos.get(camera)
        if before is not None and same_calibration(before[0], message):
            return
        found = None
        images = next(topic for topic, name in self.sources.cameras.items() if name == camera)
        try:
            found = calibration(message, is_rectified="image_rect" in images)
        except CalibrationError as error:
            self.problems[topic] = f"the camera is shown without its place: {error}"
        self._infos[camera] = message, found

    def _add_transforms(self, topic: str, message: Any) -> None:
        for one in transforms(message):
            try:
                if one.parent_from_child is None:
                    raise ValueError(one.problem)
                static = self.sources.transforms[topic]
                self._buffer.set(one.parent, one.child, one.stamp_ns, one.parent_from_child, static)
            except ValueError as error:
                self.problems[topic] = f"a transform cannot be used: {error}"

    def _add_diagnostics(self, message: Any) -> None:
        for status in message.status:
            if status.name.endswith(f": {TIMING}"):
                try:
                    summary = summary_from_values({one.key: one.value for one in status.values})
                except ValueError as error:
                    self.problems[self.sources.diagnostics] = f"{status.name} cannot be read: {error}"
                else:
                    self._stages_ms = {stage: values["p50"] for stage, values in summary.items() if "p50" in values}

    def scene(self, grid: Any, received_ns: int) -> Scene:
        """What belongs to a panoocc/VoxelGrid that came at `received_ns`.

        Images that are older than its own are dropped: no later grid needs them.

        Raises:
            ValueError: the grid cannot be used; the message says why.
        """
        self._forget_before(stamp_ns(grid.oldest_image_stamp))
        key = (grid.label_set, int(grid.label_set_version))
        if key not in self.labels:
            told = self.problems.get(
                self.sources.labels, f"nothing on {self.sources.labels} says what its classes mean"
            )
            raise ValueError(f"its label set is {key[0]!r}, version {key[1]}: {told}")
        stamp, frame = stamp_ns(grid.header.stamp), clean_frame(grid.header.frame_id)
        voxels = numbered_voxels(grid, self.labels[key]).faded()
        world, pose = self._pose(frame, stamp)
        scene = Scene(
            stamp_ns=stamp,
            frame_id=frame,
            voxels=voxels,
            boxes=self._boxes(grid, voxels),
            images=self._images_of(grid, frame),
            world_frame=world,
            world_from_ego=pose,
            map=self._map(stamp, frame, world),
            numbers={},
        )
        return replace(scene, numbers=self._numbers(scene, grid, received_ns))

    def _boxes(self, grid: Any, voxels: VoxelVolume) -> ScoredBoxes | None:
        """Those that were detected, else those around the voxels of each number."""
        message = _of_stamp(self._objects, stamp_ns(grid.header.stamp))
        try:
            return boxes_of(voxels) if message is None else boxes_from_message(message)
        except ValueError as error:
            self.problems[self.sources.objects] = f"boxes are not shown: {error}"
            return None

    def _images_of(self, grid: Any, frame: str) -> dict[str, SentImage]:
        oldest, newest = stamp_ns(grid.oldest_image_stamp), stamp_ns(grid.newest_image_stamp)
        found = {}
        for topic, name in self.sources.cameras.items():
            for message in self._images.get(topic, ()):
                stamp = stamp_ns(message.header.stamp)
                if oldest <= stamp <= newest:
                    _, calibrated = self._infos.get(name, (None, None))
                    mount = self._mount(topic, message, frame, stamp)
                    if calibrated is not None and mount is not None:
                        mount = mount @ rigid(calibrated.camera_from_rectified, np.zeros(3))
                    found[name] = SentImage(message, calibrated, mount)
        return found

    def _forget_before(self, stamp: int) -> None:
        for images in self._images.values():
            while images and stamp_ns(images[0].header.stamp) < stamp:
                images.popleft()

    def _mount(self, topic: str, message: Any, frame: str, stamp: int) -> Matrix | None:
        camera = clean_frame(message.header.frame_id)
        if not camera or not self.sources.transforms or topic not in self.sources.cameras:
            return None
        try:
            return self._buffer.lookup(frame, camera, stamp)
        except TransformError as error:
            self.problems[topic] = f"the camera is shown without its place: {error}"
            return None

    def _pose(self, frame: str, stamp: int) -> tuple[str | None, Matrix | None]:
        """The frame that does not move, and where the vehicle is in it."""
        if not self.sources.transforms:
            return None, None
        try:
            above = self._buffer.ancestors(frame, stamp)
            moving = [name for name, moves in above.items() if moves]
            world = next((name for name in FIXED_FRAMES if name in above), moving[-1] if moving else None)
            if world is None:
                raise TransformError(f"nothing that does not move is above {frame!r}")
            return world, self._buffer.lookup(world, frame, stamp)
        except TransformError as error:
            self.problems["path"] = f"the vehicle is shown where it stands: {error}"
            return None, None

    def _map(self, stamp: int, frame: str, world: str | None) -> Map | None:
        message = _of_stamp(self._maps, stamp)
        if message is None:
            return None
        height, width, origin = int(message.info.height), int(message.info.width), message.info.origin
        try:
            if not 0 < height * width <= MAX_MAP_CELLS or len(message.data) != height * width:
                raise ValueError(f"{height} x {width} cells, {len(message.data)} values")
            if not 0 < message.info.resolution <= 1000:
                raise ValueError(f"cells of {message.info.resolution} m")
            turn = np.array([getattr(origin.orientation, axis) for axis in "xyzw"])
            place = np.array([getattr(origin.position, axis) for axis in "xyz"])
            frame_from_map = rigid(rotation_from_quaternion(turn), place)
            own = clean_frame(message.header.frame_id)
            if own not in (frame, world):
                raise ValueError(f"it is given in {own!r}, which is neither {frame!r} nor the fixed frame ({world!r})")
        except ValueError as error:
            self.problems[self.sources.map] = f"the 2-D grid is not shown: {error}"
            return None
        cells = np.array(message.data, np.int8).reshape(height, width)
        return Map(cells, float(message.info.resolution), frame_from_map, own == world and own != frame)

    def _numbers(self, scene: Scene, grid: Any, received_ns: int) -> dict[str, float]:
        spread_ns = stamp_ns(grid.newest_image_stamp) - stamp_ns(grid.oldest_image_stamp)
        visible = scene.voxels.visible
        came_ms = (received_ns - scene.stamp_ns) * 1e-6
        return {
            "share/occupied": 100 * sum(scene.counts.values()) / scene.voxels.class_id.size,
            **({} if visible is None else {"share/visible": 100 * float(visible.mean())}),
            **{f"classes/{name}": float(count) for name, count in scene.counts.items()},
            **({"things/boxes": float(len(scene.boxes))} if scene.boxes is not None else {}),
            **({"latency_ms/until recorded": came_ms} if abs(came_ms) < MAX_LATENCY_MS else {}),
            "latency_ms/spread of the images": spread_ns * 1e-6,
            **{f"stage_ms/{stage}": value for stage, value in self._stages_ms.items()},
        }


def _of_stamp(messages: deque[Any], stamp: int) -> Any | None:
    return next((one for one in reversed(messages) if stamp_ns(one.header.stamp) == stamp), None)
