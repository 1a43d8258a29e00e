"""What goes into the core and what comes out: validated on creation, free of ROS.

Images are RGB uint8 [height, width, 3]; poses are float64 [4, 4] (see `geometry`); stamps are int64 nanoseconds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .base.image_files import MAX_IMAGE_SIDE
from .base.sent_image import SentImage
from .geometry import Matrix, check_rigid
from .labels import BOX_CLASSES, InstanceSource, LabelSet
from .optics import LensModel

T = TypeVar("T")
Triple = tuple[float, float, float]  # x, y, z


@dataclass(frozen=True, slots=True, eq=False)
class CameraImage:
    """One upright image of one camera, with its calibration and the vehicle's pose at its own shutter time.

    Raises:
        ValueError: a field is misshapen, not finite or not usable; the message names the camera.
    """

    name: str
    stamp_ns: int
    image: Tensor | SentImage  # uint8 [height, width, 3], RGB; or as it was sent, for a device that decodes by itself
    intrinsics: Matrix  # [3, 3], pixels
    ego_from_camera: Matrix  # [4, 4], where the camera (optical frame) is mounted
    world_from_ego: Matrix  # [4, 4], at stamp_ns
    is_blank: bool = False  # stands in for an image that never came: sees nothing, whatever the other fields say
    lens: LensModel | None = None  # whose distortion is in the image; None: none is (any more)
    cut_off: float = 0.0  # share of the picture, as it was taken, that was lost when it was undistorted

    def __post_init__(self) -> None:
        image, k = self.image, np.asarray(self.intrinsics, dtype=np.float64)
        where = f"camera {self.name}"
        if isinstance(image, Tensor) and (image.dtype != torch.uint8 or image.dim() != 3 or image.shape[2] != 3):
            raise ValueError(f"{where}: image must be uint8 [height, width, 3], not {image.dtype} {tuple(image.shape)}")
        if not 0 < min(self.size_hw) <= max(self.size_hw) <= MAX_IMAGE_SIDE:
            raise ValueError(f"{where}: image size {self.size_hw} is outside 1..{MAX_IMAGE_SIDE}")
        if k.shape != (3, 3) or not np.isfinite(k).all() or k[0, 0] <= 0 or k[1, 1] <= 0:
            raise ValueError(f"{where}: intrinsics must be a finite 3x3 matrix with positive focal lengths")
        object.__setattr__(self, "intrinsics", k)
        for name in ("ego_from_camera", "world_from_ego"):
            object.__setattr__(self, name, check_rigid(getattr(self, name), f"{where}: {name}"))

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        image = self.image
        return image.size_hw if isinstance(image, SentImage) else (int(image.shape[0]), int(image.shape[1]))

    def rgb(self) -> Tensor:
        """RGB uint8 [height, width, 3]; of an image as it was sent, decoded by the host."""
        return self.image.rgb() if isinstance(self.image, SentImage) else self.image


@dataclass(frozen=True, slots=True)
class VehicleMotion:
    """Motion of the vehicle, in the vehicle frame (entries 7 to 15 of the vector that `ego_motion` makes).

    Raises:
        ValueError: a number is not finite.
    """

    acceleration_mps2: Triple | None = None  # contains gravity: about +9.8 on z at rest; None: not measured
    rotation_rate_radps: Triple | None = None
    velocity_mps: Triple | None = None

    def __post_init__(self) -> None:
        if not np.isfinite([value for triple in self.measured.values() for value in triple]).all():
            raise ValueError("vehicle motion has entries that are not finite")

    @property
    def measured(self) -> dict[str, Triple]:
        """What is known, by the names of the fields."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def is_complete(self) -> bool:
        """Whether all is known."""
        return len(self.measured) == len(fields(self))


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One set of camera images around one reference time.

    Raises:
        ValueError: no camera, a camera given twice, or a pose that is not rigid.
    """

    stamp_ns: int
    world_from_ego: Matrix  # [4, 4], at stamp_ns
    cameras: tuple[CameraImage, ...]
    motion: VehicleMotion | None = None  # from IMU and odometry, where the vehicle has them
    ego_from_network: Matrix | None = None  # [4, 4], the frame of the voxels; None: as the network's configuration says

    def __post_init__(self) -> None:
        names = [camera.name for camera in self.cameras]
        if not names:
            raise ValueError("a frame needs at least one camera")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"cameras given twice in one frame: {', '.join(twice)}")
        object.__setattr__(self, "world_from_ego", check_rigid(self.world_from_ego, "frame: world_from_ego"))
        if self.ego_from_network is not None:
            object.__setattr__(self, "ego_from_network", check_rigid(self.ego_from_network, "frame: ego_from_network"))


@dataclass(frozen=True, slots=True, eq=False)
class GridGeometry:
    """Where a voxel grid lies: voxel (ix, iy, iz) fills [ix, ix + 1] x ... in units of the voxel size."""

    shape_xyz: tuple[int, int, int]
    voxel_size_m: tuple[float, float, float]
    ego_from_grid: Matrix  # [4, 4]: outer corner of voxel 0,0,0 and the axes of the grid

    def centres_m(self, indices: NDArray[Any]) -> Matrix:
        """Voxel centres [n, 3] in the ego frame, of integer indices [n, 3] (x, y, z)."""
        local = (np.asarray(indices) + 0.5) * np.asarray(self.voxel_size_m)
        return local @ self.ego_from_grid[:3, :3].T + self.ego_from_grid[:3, 3]

    def differs_from(self, other: "GridGeometry", tolerance_m: float = 1e-3) -> str | None:
        """What sets this grid apart from another one, as a sentence; None where their voxels are the same.

        Args:
            tolerance_m: how far the corners of the two grids may lie apart.
        """
        if tuple(self.shape_xyz) != tuple(other.shape_xyz):
            return f"it has {tuple(self.shape_xyz)} voxels (x, y, z), not {tuple(other.shape_xyz)}"
        mine, theirs = np.array(self.voxel_size_m), np.array(other.voxel_size_m)
        # Written so that what is not finite differs.
        if not (np.abs(mine - theirs) * self.shape_xyz <= tolerance_m).all():
            return f"its voxel size is {tuple(mine.tolist())} m (x, y, z), not {tuple(theirs.tolist())} m"
        ends = np.indices((2, 2, 2)).reshape(3, -1).T
        corners = np.asarray(ends * np.array(self.shape_xyz) - 0.5, dtype=np.float64)
        apart_m = np.linalg.norm(self.centres_m(corners) - other.centres_m(corners), axis=1).max()
        if not apart_m <= tolerance_m:
            return (
                f"its pose puts a corner {apart_m:.4g} m away from where it should be: rotation and corner in the "
                f"vehicle frame are {self.ego_from_grid[:3].tolist()}, not {other.ego_from_grid[:3].tolist()}"
            )
        return None


@dataclass(frozen=True, slots=True, eq=False)
class ScoredBoxes:
    """Detections of one frame in the ego frame, n of them.

    Raises:
        ValueError: the arrays disagree in length, a number is not finite, a size is not positive, a class is unknown.
    """

    centre_m: NDArray[np.float32]  # [n, 3], the middle of the box
    size_m: NDArray[np.float32]  # [n, 3], length, width, height
    yaw_rad: NDArray[np.float32]  # [n], heading, counter-clockwise from x
    velocity_mps: NDArray[np.float32]  # [n, 2], over ground, along the ego frame's x and y
    class_id: NDArray[np.int64]  # [n], index into labels.BOX_CLASSES
    score: NDArray[np.float32]  # [n]
    instance_id: NDArray[np.int32] | None = None  # [n], as in Occupancy.instance_id
    attribute_id: NDArray[np.int64] | None = None  # [n], numbers of the caller's own

    def __post_init__(self) -> None:
        check_boxes("detections", self, finite=("centre_m", "size_m", "yaw_rad", "velocity_mps", "score"))
        check_box_classes("detections", self.class_id)

    def __len__(self) -> int:
        return len(self.centre_m)

    def select(self, rows: NDArray[Any]) -> "ScoredBoxes":
        """The boxes of some rows: numbers, or a mask."""
        return rows_of(self, rows)


def check_boxes(where: str, boxes: Any, finite: Sequence[str]) -> None:
    """What boxes of any kind must be: columns of one length, those of `finite` finite, sizes positive.

    Raises:
        ValueError: they are not; the message begins with `where` and names the column.
    """
    n, wide = len(boxes.centre_m), {"centre_m": (3,), "size_m": (3,), "velocity_mps": (2,)}
    for column in fields(boxes):
        values, wanted = getattr(boxes, column.name), (n, *wide.get(column.name, ()))
        if values is not None and values.shape != wanted:
            raise ValueError(f"{where}: {column.name} has the shape {values.shape}, not {wanted}")
    for name in finite:
        if not np.isfinite(getattr(boxes, name)).all():
            raise ValueError(f"{where}: {name} has entries that are not finite")
    if (boxes.size_m <= 0).any():
        raise ValueError(f"{where}: size_m must be positive")


def rows_of(boxes: T, rows: NDArray[Any]) -> T:
    """Boxes of any kind, those of some rows: numbers, or a mask."""
    columns = {column.name: getattr(boxes, column.name) for column in fields(boxes)}  # type: ignore[arg-type]
    chosen = {name: None if values is None else values[rows] for name, values in columns.items()}
    return replace(boxes, **chosen)  # type: ignore[type-var]


def check_box_classes(where: str, class_id: NDArray[Any]) -> None:
    """Raises ValueError, with `where` in front, if a number is no index of labels.BOX_CLASSES."""
    if class_id.size and not (class_id.min() >= 0 and class_id.max() < len(BOX_CLASSES)):
        raise ValueError(f"{where}: class_id must be an index of the {len(BOX_CLASSES)} box classes")


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """What the temporal memory did in one step."""

    ages_s: tuple[float, ...] = ()  # ages of the states that were fused, oldest first; empty after a reset
    states_kept: int = 0
    reset: str | None = None  # why the memory was cleared before this step, or None
    resets: Mapping[str, int] = field(default_factory=dict)  # reason -> how often, since the stream began
    ego_motion: str = "zeros"  # where the ego-motion vector's rates came from


@dataclass(frozen=True, slots=True, eq=False)
class ListedVoxels:
    """The n voxels of a volume [X, Y, Z] that are not free, x fastest, then y, then z; on the host."""

    index: NDArray[np.uint32]  # [n], (iz * ny + iy) * nx + ix
    class_id: NDArray[np.uint8]  # [n]
    confidence: NDArray[np.uint8]  # [n]
    visible: NDArray[np.uint8] | None  # [voxels / 8, rounded up]: a bit for every voxel of the volume, lowest first

    def volumes(self, shape_xyz: tuple[int, int, int], free_id: int | None) -> tuple[Tensor, Tensor]:
        """Classes and confidences, uint8 [X, Y, Z] on the host; of free voxels the confidence is 0."""
        filled = []
        for values, free in ((self.class_id, free_id or 0), (self.confidence, 0)):
            flat = np.full(math.prod(shape_xyz), free, np.uint8)
            flat[self.index] = values
            filled.append(torch.from_numpy(np.ascontiguousarray(flat.reshape(shape_xyz[::-1]).transpose(2, 1, 0))))
        return filled[0], filled[1]

    def at(self, volume: Tensor) -> NDArray[Any]:
        """The values [n] of a volume [X, Y, Z] of the host."""
        nx, ny, nz = volume.shape
        row = self.index // np.uint32(nx)  # NumPy divides whole numbers fast, but is slow with remainders
        layer = row // np.uint32(ny)
        x, y = self.index - row * np.uint32(nx), row - layer * np.uint32(ny)
        return np.asarray(volume.numpy().ravel()[(x * np.uint32(ny) + y) * np.uint32(nz) + layer])


@dataclass(frozen=True, slots=True, eq=False)
class Occupancy:
    """A semantic voxel grid around the vehicle at `stamp_ns`."""

    stamp_ns: int
    oldest_image_stamp_ns: int
    newest_image_stamp_ns: int
    class_id: Tensor  # uint8 [X, Y, Z]
    confidence: Tensor | None  # uint8 [X, Y, Z], 255 * probability of class_id; of free voxels, of being free
    # int32 [X, Y, Z]: number of a track (panoptic/tracks.py); 0 for stuff, free space and what nothing claimed.
    instance_id: Tensor | None
    geometry: GridGeometry
    labels: LabelSet
    cameras: tuple[str, ...]  # used, in the order of the weights
    history: HistoryReport
    boxes: ScoredBoxes | None = None  # one for every instance
    instances: InstanceSource = "none"  # where these come from; "none" also where nobody asked, then they are None
    # bool [X, Y, Z]: what a camera sees, see `visibility`; None where nobody asked, and without a class for free space.
    visible: Tensor | None = None
    logits: Tensor | None = None  # [X, Y, Z, class], where somebody asked for them
    listed: ListedVoxels | None = None  # what is not free, where a device has made a list of it
    timings_ms: Mapping[str, float] = field(default_factory=dict)  # stage -> wall time
    cpu_ms: Mapping[str, float] = field(default_factory=dict)  # stage -> CPU time of the process, all cores together

    @property
    def occupied(self) -> Tensor:
        """Bool [X, Y, Z]: every voxel that is not free."""
        if self.labels.free_id is None:
            return torch.ones_like(self.class_id, dtype=torch.bool)
        return self.class_id != self.labels.free_id
