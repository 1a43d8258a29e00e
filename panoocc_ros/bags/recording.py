"""From the node's messages back to what can be drawn and reported: the side of whoever receives them."""

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panoocc_core.base.reduction import Pixels
from panoocc_core.cameras.image_bytes import ImageError
from panoocc_core.labels import LabelSet

from ..frames.images import decode
from ..frames.rig import Rig
from ..messages.fields import stamp_ns
from ..messages.types import LABEL_SET
from ..messages.voxel_grid import labels_from_message
from .bag import BagError, BagReader, RawMessage


@dataclass(frozen=True, slots=True)
class Recording:
    """What a node published, as it was recorded."""

    grids: int
    last_grid: Any  # the newest VoxelGrid, None where there is none
    labels: LabelSet | None
    diagnostics: dict[str, Any]  # subject -> the newest DiagnosticStatus
    received_ns: tuple[int, ...] = ()  # when each grid came, by the recorder's clock


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


def newest_message(path: Path, topic: str) -> Any | None:
    """The last message on a topic of a bag; None where there is none.

    Raises:
        BagError: the bag cannot be read.
    """
    with BagReader(path) as bag:
        newest = deque(bag.messages((topic,)), maxlen=1)
        return bag.deserialise(newest[0]) if newest else None


def images_of_grid(bag_path: Path, rig: Rig, grid: Any) -> dict[str, Pixels]:
    """The camera images that a grid was made from: those of its bag whose stamps lie in the grid's span.

    Raises:
        BagError: the bag cannot be read, has none of these images, or one that cannot be decoded.
    """
    oldest_ns, newest_ns = stamp_ns(grid.oldest_image_stamp), stamp_ns(grid.newest_image_stamp)
    cameras = {camera.topic: camera.name for camera in rig.cameras}
    images: dict[str, Pixels] = {}
    with BagReader(bag_path) as bag:
        for raw in bag.messages(tuple(cameras)):
            message = bag.deserialise(raw)
            if oldest_ns <= stamp_ns(message.header.stamp) <= newest_ns:
                try:
                    images[cameras[raw.topic]] = decode(message)
                except ImageError as error:
                    raise BagError(f"{bag_path}: {raw.topic}: {error}") from error
    if not images:
        raise BagError(f"{bag_path} has no image from {oldest_ns} to {newest_ns} ns, of which the grid was made")
    return images
