"""Voxel grids and label sets between messages and the core's types, both ways; never a Python object per voxel.

Messages are read and filled by attribute, so that rclpy's and rosbags' classes share one path.  Every `fill_*` takes an
empty message and returns it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from panoocc_core.geometry import Matrix, check_rigid, rigid, rotation_from_quaternion
from panoocc_core.labels import InstanceSource, LabelSet, instance_colours
from panoocc_core.pictures.voxel_view import VoxelVolume
from panoocc_core.types import GridGeometry, HistoryReport, ListedVoxels, Occupancy

from .fields import fill_grid_pose, fill_header, set_stamp, stamp_ns, store

Encoding = Literal["dense", "sparse"]
ColourBy = Literal["class", "instance"]
DENSE, SPARSE = 0, 1  # as in VoxelGrid.msg
INSTANCE_SOURCES: tuple[InstanceSource, ...] = ("none", "boxes", "components")  # by their number in VoxelGrid.msg ...
INSTANCES_NONE, INSTANCES_TRUTH = 0, 3  # ... which has one more
GRID_SOURCES = (*INSTANCE_SOURCES, "truth")
NO_FREE_ID = 255
# Limits of what is received: what lies beyond was damaged or forged on its way.
MAX_GRID_VOXELS = 64_000_000
MAX_VOXEL_M = 100.0
MAX_NAME = 200  # bytes of UTF-8 of a class's or a label set's name
# The fields that are read.
_OF_LABELS = ("key", "version", "names", "is_thing", "rgb", "free_id")
_OF_GRID = (
    *("header", "oldest_image_stamp", "newest_image_stamp", "origin", "voxel_size", "size_x", "size_y", "size_z"),
    *("encoding", "class_id", "confidence", "instance_source", "instance_id", "label_set", "label_set_version"),
)


@dataclass(frozen=True, eq=False)
class VoxelList:
    """Some voxels of a grid, such as those that are not free, ordered by index."""

    indices: NDArray[np.uint32]  # [n], (iz * ny + iy) * nx + ix, strictly increasing
    class_id: NDArray[np.uint8]  # [n]
    instance_id: NDArray[np.uint16] | None  # [n]
    confidence: NDArray[np.uint8] | None  # [n]
    geometry: GridGeometry
    labels: LabelSet

    def centres_m(self) -> Matrix:
        """Centres [n, 3] in the vehicle frame, the grid's rotation included."""
        return self._centres_m

    @cached_property
    def _centres_m(self) -> Matrix:
        return self.geometry.centres_m(self.places())

    def places(self) -> NDArray[np.uint32]:
        """Numbers [n, 3] of the voxels along x, y and z."""
        nx, ny, _ = self.geometry.shape_xyz
        row = self.indices // np.uint32(nx)  # NumPy divides whole numbers fast, but is slow with remainders
        layer = row // np.uint32(ny)
        return np.stack([self.indices - row * np.uint32(nx), row - layer * np.uint32(ny), layer], axis=1)

    def select(self, rows: NDArray[np.bool_]) -> "VoxelList":
        """Those of a mask [n]."""
        return VoxelList(
            self.indices[rows],
            self.class_id[rows],
            None if self.instance_id is None else self.instance_id[rows],
            None if self.confidence is None else self.confidence[rows],
            self.geometry,
            self.labels,
        )

    def colours(self, by: ColourBy = "class") -> NDArray[np.uint8]:
        """RGB [n, 3] of the voxels' classes, or of their instances where they have one."""
        colours = np.array(self.labels.colours, dtype=np.uint8).reshape(-1, 3)[self.class_id]
        if by == "instance" and self.instance_id is not None:
            things = self.instance_id > 0
            colours[things] = instance_colours(self.instance_id[things])
        return colours


def occupied_voxels(occupancy: Occupancy) -> VoxelList:
    """The voxels of `occupancy` that are not free, as arrays on the CPU."""
    geometry, labels, listed = occupancy.geometry, occupancy.labels, occupancy.listed
    if listed is None:
        is_occupied = _flat(occupancy.occupied)
        assert is_occupied is not None
        index, none = np.flatnonzero(is_occupied).astype(np.uint32), np.zeros(0, np.uint8)
        listed = ListedVoxels(index, none, none, None)
        class_id, confidence = (
            None if grid is None else listed.at(grid.cpu()) for grid in (occupancy.class_id, occupancy.confidence)
        )
        assert class_id is not None
    else:
        class_id, confidence = listed.class_id, listed.confidence
    instances = None if occupancy.instance_id is None else _instances(listed.at(occupancy.instance_id.cpu()))
    return VoxelList(listed.index, class_id, instances, confidence, geometry, labels)


def all_voxels(occupancy: Occupancy) -> VoxelList:
    """Every voxel of `occupancy`, free or not, as arrays on the CPU."""
    every = np.arange(occupancy.class_id.numel(), dtype=np.uint32)
    class_id, instances = _flat(occupancy.class_id), _instances(_flat(occupancy.instance_id))
    assert class_id is not None
    return VoxelList(every, class_id, instances, _flat(occupancy.confidence), occupancy.geometry, occupancy.labels)


def fill_voxel_grid(
    message: Any,
    occupancy: Occupancy,
    sequence: int,
    *,
    frame_id: str = "base_link",
    rig_cameras: Sequence[str] | None = None,
    encoding: Encoding = "sparse",
    with_confidence: bool = True,
    voxels: VoxelList | None = None,
) -> Any:
    """Fill a panoocc/VoxelGrid; `voxels` saves work where the occupied ones are known already.

    Raises:
        ValueError: `encoding` is neither dense nor sparse, or a camera is not in the rig.
    """
    if encoding not in ("dense", "sparse"):
        raise ValueError(f"encoding {encoding!r} is neither 'dense' nor 'sparse'")
    sparse = encoding == "sparse"
    if not sparse:
        voxels = all_voxels(occupancy)
    elif voxels is None:
        voxels = occupied_voxels(occupancy)
    fill_header(message.header, occupancy.stamp_ns, frame_id)
    set_stamp(message.oldest_image_stamp, occupancy.oldest_image_stamp_ns)
    set_stamp(message.newest_image_stamp, occupancy.newest_image_stamp_ns)
    message.sequence = sequence
    message.history_frames = min(255, len(occupancy.history.ages_s))
    message.cameras_used = camera_mask(occupancy.cameras, rig_cameras or occupancy.cameras)
    fill_grid_pose(message.origin, message.voxel_size, occupancy.geometry)
    message.size_x, message.size_y, message.size_z = occupancy.geometry.shape_xyz
    message.encoding = SPARSE if sparse else DENSE
    is_listed = _occupied_bits(voxels) if sparse else np.zeros(0, np.uint8)
    store(message, "occupied", is_listed)
    store(message, "visible", _or_empty(_visible_bits(occupancy), np.uint8))
    store(message, "class_id", voxels.class_id)
    message.instance_source = INSTANCE_SOURCES.index(occupancy.instances)
    store(message, "instance_id", _or_empty(voxels.instance_id, np.uint16))
    store(message, "confidence", _or_empty(voxels.confidence if with_confidence else None, np.uint8))
    message.label_set, message.label_set_version = occupancy.labels.key, occupancy.labels.version
    return message


def fill_label_set(message: Any, labels: LabelSet) -> Any:
    """Fill a panoocc/LabelSet."""
    message.key, message.version = labels.key, labels.version
    message.names = list(labels.names)
    store(message, "is_thing", np.array(labels.is_thing, dtype=bool))
    store(message, "rgb", np.array(labels.colours, dtype=np.uint8).reshape(-1))
    message.free_id = NO_FREE_ID if labels.free_id is None else labels.free_id
    return message


def camera_mask(used: Sequence[str], rig_cameras: Sequence[str]) -> int:
    """Bit i is set where camera i of the rig was used.

    Raises:
        ValueError: a camera is not in the rig, or is beyond the 64 bits.
    """
    places = [rig_cameras.index(name) for name in used]
    if max(places, default=0) >= 64:
        raise ValueError("cameras_used has 64 bits: the rig has too many cameras")
    return sum(1 << place for place in places)


def _occupied_bits(voxels: VoxelList) -> NDArray[np.uint8]:
    flags = np.zeros(math.prod(voxels.geometry.shape_xyz), bool)
    flags[voxels.indices] = True
    return np.packbits(flags, bitorder="little")


def _visible_bits(occupancy: Occupancy) -> NDArray[np.uint8] | None:
    if occupancy.listed is not None and occupancy.visible is not None:
        return occupancy.listed.visible
    seen = _flat(occupancy.visible)
    return None if seen is None else np.packbits(seen, bitorder="little")


def _flat(grid: torch.Tensor | None) -> NDArray[Any] | None:
    """[X, Y, Z] as one row in the order of VoxelGrid's indices, on the CPU."""
    # NumPy turns the axes several times faster than torch does, whose threads are not worth waking for this.
    return None if grid is None else grid.cpu().numpy().transpose(2, 1, 0).ravel()


def _instances(values: Any) -> NDArray[np.uint16] | None:
    if values is None:
        return None
    if values.size and not 0 <= values.min() <= values.max() <= 0xFFFF:
        raise ValueError(f"instance ids reach from {values.min()} to {values.max()}: VoxelGrid holds 0 to 65535")
    return values.astype(np.uint16)


def _or_empty(values: Any, kind: type) -> Any:
    return np.zeros(0, kind) if values is None else values


def labels_from_message(message: Any) -> LabelSet:
    """The label set in a panoocc/LabelSet.

    Raises:
        ValueError: it is another message, or its fields do not fit each other; the text names the field.
    """
    _check_kind(message, "panoocc/LabelSet", _OF_LABELS)
    count = len(message.names)
    if not 0 < count <= NO_FREE_ID:
        raise ValueError(f"names has {count} classes: class ids are 0 to {NO_FREE_ID - 1}")
    if any(len(text.encode(errors="surrogatepass")) > MAX_NAME for text in (message.key, *message.names)):
        raise ValueError(f"key and names must have at most {MAX_NAME} bytes of UTF-8 each")
    if len(message.is_thing) != count:
        raise ValueError(f"is_thing has {len(message.is_thing)} flags for {count} names")
    if len(message.rgb) != 3 * count:
        raise ValueError(f"rgb has {len(message.rgb)} values for {count} names, not 3 for each")
    if message.free_id != NO_FREE_ID and not 0 <= message.free_id < count:
        raise ValueError(f"free_id {message.free_id} is none of the {count} names")
    rgb = _exactly(message.rgb, np.uint8, "rgb").reshape(-1, 3).tolist()
    return LabelSet(
        key=message.key,
        version=int(message.version),
        names=tuple(message.names),
        is_thing=tuple(bool(flag) for flag in message.is_thing),
        colours=tuple((r, g, b) for r, g, b in rgb),
        free_id=None if message.free_id == NO_FREE_ID else int(message.free_id),
    )


def voxels_from_message(message: Any, labels: LabelSet) -> VoxelVolume:
    """The volume in a panoocc/VoxelGrid, sparse or dense, as arrays [X, Y, Z].

    Raises:
        ValueError: it is no grid, names another label set, is larger than its message can mean, or a field does not fit
            it; the text names the field.
    """
    _check_grid(message)
    if not isinstance(labels, LabelSet):
        raise ValueError(f"labels is a {_name(labels)}: give what labels_from_message makes of the panoocc/LabelSet")
    if (message.label_set, message.label_set_version) != (labels.key, labels.version):
        raise ValueError(
            f"the grid is of label set {message.label_set[:MAX_NAME]!r}, version {message.label_set_version}, not "
            f"{labels.key!r}, version {labels.version}"
        )
    shape = _shape(message)
    if labels.free_id is None and message.encoding == SPARSE and len(message.class_id) != math.prod(shape):
        raise ValueError(f"occupied lists not every voxel, and label set {labels.key!r} has no class for the others")
    class_id = _volume(message, "class_id", shape, labels.free_id or 0)
    if class_id.max() >= len(labels.names):
        raise ValueError(f"class_id has {class_id.max()}: label set {labels.key!r} has {len(labels.names)} classes")
    confidence = _volume(message, "confidence", shape, 0) if len(message.confidence) else None
    visible = visible_from_message(message)
    return VoxelVolume(class_id, _geometry(message, shape), labels, confidence, visible=visible)


def visible_from_message(message: Any) -> NDArray[np.bool_] | None:
    """Whether a camera sees each voxel [X, Y, Z] of a panoocc/VoxelGrid; None where the message does not say it.

    Raises:
        ValueError: it is no grid, is larger than its message can mean, or `visible` does not fit its size.
    """
    _check_grid(message)
    shape = _shape(message)
    return _to_xyz(_bits(message, "visible", shape), shape) if len(message.visible) else None


def instances_from_message(message: Any) -> np.ndarray | None:
    """Instance ids int32 [X, Y, Z] in a panoocc/VoxelGrid, 0 where there is no thing; None where none were told apart.

    Raises:
        ValueError: it is no grid, is larger than its message can mean, its arrays do not fit its size, or
            `instance_source` is unknown, or not that of a grid with ids.
    """
    _check_grid(message)
    source = int(message.instance_source)
    if not INSTANCES_NONE <= source <= INSTANCES_TRUTH:
        raise ValueError(f"instance_source {source} is none of VoxelGrid's, {INSTANCES_NONE} to {INSTANCES_TRUTH}")
    if source == INSTANCES_NONE:
        if len(message.instance_id):
            raise ValueError(
                f"instance_id has {len(message.instance_id)} values, and instance_source is INSTANCES_NONE"
            )
        return None
    return _volume(message, "instance_id", _shape(message), 0, np.int32)


def occupancy_from_message(message: Any, labels: LabelSet) -> Occupancy:
    """What a panoocc/VoxelGrid says of the voxels; the boxes of its instances are in other messages.

    Raises:
        ValueError: as `voxels_from_message` and `instances_from_message`.
    """
    voxels, instances = voxels_from_message(message, labels), instances_from_message(message)
    return Occupancy(
        stamp_ns=stamp_ns(message.header.stamp),
        oldest_image_stamp_ns=stamp_ns(message.oldest_image_stamp),
        newest_image_stamp_ns=stamp_ns(message.newest_image_stamp),
        class_id=torch.from_numpy(voxels.class_id),
        confidence=None if voxels.confidence is None else torch.from_numpy(voxels.confidence),
        instance_id=None if instances is None else torch.from_numpy(instances),
        visible=None if voxels.visible is None else torch.from_numpy(voxels.visible),
        geometry=voxels.geometry,
        labels=labels,
        cameras=(),
        history=HistoryReport(),
    )


def _geometry(message: Any, shape: tuple[int, int, int]) -> GridGeometry:
    position, turn, size = message.origin.position, message.origin.orientation, message.voxel_size
    if not all(0 < length <= MAX_VOXEL_M for length in (size.x, size.y, size.z)):
        raise ValueError(f"voxel_size is {(size.x, size.y, size.z)} m, not three lengths of up to {MAX_VOXEL_M:g} m")
    try:
        rotation = rotation_from_quaternion(np.array([turn.x, turn.y, turn.z, turn.w]))
        pose = check_rigid(rigid(rotation, np.array([position.x, position.y, position.z])), "its transform")
    except ValueError as error:
        raise ValueError(f"origin is no pose: {error}") from error
    return GridGeometry(shape, (size.x, size.y, size.z), pose)


def _check_grid(message: Any) -> None:
    _check_kind(message, "panoocc/VoxelGrid", _OF_GRID)
    if not (hasattr(message, "occupied") and hasattr(message, "visible")):
        raise ValueError(
            "its VoxelGrid is that of an earlier version of panoocc, without the field `occupied`: make the bag anew "
            "(`panoocc sim` the truth, `panoocc run` or the node the grids)"
        )


def _check_kind(message: Any, kind: str, fields: Sequence[str]) -> None:
    """Raises ValueError unless a message has the fields of its kind: messages have no common class."""
    lacking = [field for field in fields if not hasattr(message, field)]
    if lacking:
        raise ValueError(f"a {_name(message)} is no {kind}: it lacks {', '.join(lacking[:3])}")


def _name(message: Any) -> str:
    return type(message).__name__.rpartition("__")[2]  # rosbags: panoocc__msg__LabelSet


def _shape(message: Any) -> tuple[int, int, int]:
    """Size of a grid in voxels (x, y, z), held against what its message holds before anything is reserved."""
    if message.encoding not in (DENSE, SPARSE):
        raise ValueError(f"encoding {message.encoding} is neither DENSE ({DENSE}) nor SPARSE ({SPARSE})")
    shape = (int(message.size_x), int(message.size_y), int(message.size_z))
    if min(shape) < 1 or math.prod(shape) > MAX_GRID_VOXELS:
        raise ValueError(f"size_x, size_y, size_z are {shape}: no voxels, or more than {MAX_GRID_VOXELS}")
    wanted = -(-math.prod(shape) // 8) if message.encoding == SPARSE else 0
    if len(message.occupied) != wanted:
        kind = "SPARSE" if message.encoding == SPARSE else "DENSE"
        raise ValueError(f"occupied has {len(message.occupied)} bytes: that of a {kind} grid of {shape} has {wanted}")
    return shape


def _bits(message: Any, field: str, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """One flag a voxel, in the order of the message."""
    packed, count = getattr(message, field), math.prod(shape)
    if len(packed) != -(-count // 8):
        raise ValueError(f"{field} has {len(packed)} bytes: one bit for each voxel of {shape} takes {-(-count // 8)}")
    flags = np.unpackbits(_exactly(packed, np.uint8, field), bitorder="little")
    if flags[count:].any():
        raise ValueError(f"{field} has bits after the last of {count} voxels")
    return flags[:count].view(bool)


def _to_xyz(flat: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    """[voxel] in the order of the message -> [X, Y, Z], a view."""
    return flat.reshape(shape[::-1]).transpose(2, 1, 0)


def _volume(
    message: Any, field: str, shape: tuple[int, int, int], fill: int, kind: type[np.generic] = np.uint8
) -> np.ndarray:
    """A field's values of a grid's voxels [X, Y, Z]; voxels that a sparse grid does not list get `fill`."""
    is_listed = _bits(message, "occupied", shape) if message.encoding == SPARSE else None
    wanted = math.prod(shape) if is_listed is None else int(np.count_nonzero(is_listed))
    values = getattr(message, field)
    if len(values) != wanted:
        raise ValueError(f"{field} has {len(values)} values, and the grid of {shape} voxels lists {wanted}")
    flat = _exactly(values, kind, field)
    if is_listed is not None:
        listed, flat = flat, np.full(len(is_listed), fill, dtype=kind)
        flat[is_listed] = listed
    return _to_xyz(flat, shape)


def _exactly(values: Any, kind: type[np.generic], field: str) -> np.ndarray:
    try:
        return np.array(values, dtype=kind)
    except (OverflowError, ValueError, TypeError) as error:
        raise ValueError(f"{field} has values that are no {np.dtype(kind)}") from error
