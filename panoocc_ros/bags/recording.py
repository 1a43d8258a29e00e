"""From the node's messages back to what can be drawn and reported: the side of whoever receives them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panoocc_core.geometry import rigid, rotation_from_quaternion
from panoocc_core.labels import LabelSet
from panoocc_core.pictures.voxel_view import Voxels
from panoocc_core.types import GridGeometry

from ..frames.images import Pixels, decode
from ..frames.rig import Rig
from ..messages.voxel_grid import DENSE, NO_FREE_ID, stamp_ns
from .bag import BagError, BagReader, RawMessage

LABEL_SET = "panoocc/msg/LabelSet"
MAX_GRID_VOXELS = 64_000_000  # of a message: what is larger was damaged or forged on its way


@dataclass(frozen=True, slots=True)
class Recording:
    """What a node published, as it was recorded."""

    grids: int
    last_grid: Any  # the newest VoxelGrid, None where there is none
    labels: LabelSet | None
    diagnostics: dict[str, Any]  # subject -> the newest DiagnosticStatus
    received_ns: tuple[int, ...] = ()  # when each grid came, by the recorder's clock


def labels_from_message(message: Any) -> LabelSet:
    """The label set in a panoocc/LabelSet.

    Raises:
        ValueError: its fields do not fit each other; the message names the field.
    """
    if len(message.rgb) != 3 * len(message.names):
        raise ValueError(f"rgb has {len(message.rgb)} values for {len(message.names)} names, not 3 for each")
    if message.free_id != NO_FREE_ID and not 0 <= message.free_id < len(message.names):
        raise ValueError(f"free_id {message.free_id} is none of the {len(message.names)} names")
    rgb = np.asarray(message.rgb, dtype=np.uint8).reshape(-1, 3).tolist()
    return LabelSet(
        key=message.key,
        version=int(message.version),
        names=tuple(message.names),
        is_thing=tuple(bool(flag) for flag in message.is_thing),
        colours=tuple((r, g, b) for r, g, b in rgb),
        free_id=None if message.free_id == NO_FREE_ID else int(message.free_id),
    )


def recorded_labels(bag: BagReader, raw: RawMessage) -> LabelSet:
    """The label set in one of the messages of a bag.

    Raises:
        BagError: it is no label set, or its fields do not fit each other; the text names bag and topic.
    """
    if raw.type != LABEL_SET:
        raise BagError(f"{bag.path}: {raw.topic} holds {raw.type}, not {LABEL_SET}: record the label set's own topic")
    try:
        return labels_from_message(bag.deserialise(raw))
    except ValueError as error:
        raise BagError(
            f"{bag.path}: the label set on {raw.topic} cannot be used: {error}; make the bag anew, or mend what "
            "publishes it"
        ) from error


def voxels_from_message(message: Any, labels: LabelSet) -> Voxels:
    """The volume in a panoocc/VoxelGrid, sparse or dense, as arrays [X, Y, Z].

    Raises:
        ValueError: the grid names another label set, is larger than MAX_GRID_VOXELS, or a field does not fit it.
    """
    if (message.label_set, message.label_set_version) != (labels.key, labels.version):
        raise ValueError(f"the grid is of label set {message.label_set!r}, not {labels.key!r}")
    shape = _shape(message)
    class_id = _volume(message, "class_id", shape, labels.free_id or 0)
    confidence = _volume(message, "confidence", shape, 0) if len(message.confidence) else None
    position, turn, size = message.origin.position, message.origin.orientation, message.voxel_size
    if not all(math.isfinite(length) and length > 0 for length in (size.x, size.y, size.z)):
        raise ValueError(f"voxel_size is {(size.x, size.y, size.z)} m, not three lengths")
    rotation = rotation_from_quaternion(np.array([turn.x, turn.y, turn.z, turn.w]))
    ego_from_grid = rigid(rotation, np.array([position.x, position.y, position.z]))
    return Voxels(class_id, GridGeometry(shape, (size.x, size.y, size.z), ego_from_grid), labels, confidence)


def instances_from_message(message: Any) -> np.ndarray | None:
    """Instance ids int32 [X, Y, Z] in a panoocc/VoxelGrid, 0 where there is no thing; None where it has no ids.

    Raises:
        ValueError: the grid is larger than MAX_GRID_VOXELS, or its arrays do not fit its size.
    """
    if not len(message.instance_id):
        return None
    return _volume(message, "instance_id", _shape(message), 0, np.int32)


def _shape(message: Any) -> tuple[int, int, int]:
    """Size of a grid in voxels (x, y, z); nothing is reserved for one that is too large."""
    shape = (int(message.size_x), int(message.size_y), int(message.size_z))
    if min(shape) < 1 or math.prod(shape) > MAX_GRID_VOXELS:
        raise ValueError(f"size_x, size_y, size_z are {shape}: no voxels, or more than {MAX_GRID_VOXELS}")
    return shape


def _volume(
    message: Any, field: str, shape: tuple[int, int, int], fill: int, kind: type[np.generic] = np.uint8
) -> np.ndarray:
    """A field's values of a grid's voxels [X, Y, Z]; voxels that a sparse grid does not list get `fill`."""
    values, count = getattr(message, field), math.prod(shape)
    wanted = count if message.encoding == DENSE else len(message.indices)
    if len(values) != wanted or wanted > count:
        raise ValueError(f"{field} has {len(values)} values: a grid of {shape} voxels does not hold them, or {wanted}")
    if message.encoding == DENSE:
        flat = _exactly(values, kind, field)
    else:
        indices = np.asarray(message.indices, dtype=np.int64)
        if wanted and not 0 <= indices.min() <= indices.max() < count:
            raise ValueError(
                f"indices has {indices.min()} to {indices.max()}: a grid of {shape} voxels does not hold them"
            )
        flat = np.full(count, fill, dtype=kind)
        flat[indices] = _exactly(values, kind, field)
    return flat.reshape(shape[::-1]).transpose(2, 1, 0)


def _exactly(values: Any, kind: type[np.generic], field: str) -> np.ndarray:
    try:
        return np.array(values, dtype=kind)
    except (OverflowError, ValueError, TypeError) as error:
        raise ValueError(f"{field} has values that are no {np.dtype(kind)}") from error


def read_recording(path: Path, node: str) -> Recording:
    """What the node called `node` published, from a bag.

    Raises:
        BagError: the bag cannot be read, or its label set cannot be used.
    """
    received_ns: list[int] = []
    last_grid, labels = None, None
    diagnostics: dict[str, Any] = {}
    with BagReader(path) as bag:
        for raw in bag.messages((f"/{node}/occupancy", f"/{node}/labels", "/diagnostics")):
            message = bag.deserialise(raw)
            if raw.topic.endswith("/occupancy"):
                received_ns.append(raw.stamp_ns)
                last_grid = message
            elif raw.topic.endswith("/labels"):
                labels = recorded_labels(bag, raw)
            else:
                prefix = f"{node}: "
                own = [status for status in message.status if status.name.startswith(prefix)]
                diagnostics |= {status.name.removeprefix(prefix): status for status in own}
    return Recording(len(received_ns), last_grid, labels, diagnostics, tuple(received_ns))


def images_of_grid(bag_path: Path, rig: Rig, grid: Any) -> dict[str, Pixels]:
    """The camera images that a grid was made from: those of its bag whose stamps lie in the grid's span.

    Raises:
        BagError: the bag cannot be read, or has none of these images.
    """
    oldest_ns, newest_ns = stamp_ns(grid.oldest_image_stamp), stamp_ns(grid.newest_image_stamp)
    cameras = {camera.topic: camera.name for camera in rig.cameras}
    images: dict[str, Pixels] = {}
    with BagReader(bag_path) as bag:
        for raw in bag.messages(tuple(cameras)):
            message = bag.deserialise(raw)
            if oldest_ns <= stamp_ns(message.header.stamp) <= newest_ns:
                images[cameras[raw.topic]] = decode(message)
    if not images:
        raise BagError(f"{bag_path} has no image from {oldest_ns} to {newest_ns} ns, of which the grid was made")
    return images
