"""The demo's animation: recorded grids, the images that they were made from, and the truth where the bag has it."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from panoocc_core.base.reduction import Pixels
from panoocc_core.cameras.image_bytes import ImageError
from panoocc_core.labels import LabelSet
from panoocc_core.pictures.animation import Curve, Moment, Style, key_colours, pictures, write_animation
from panoocc_core.pictures.canvas import blank

from ..bags.bag import BagReader
from ..evaluation.evaluator import FrameScores
from ..frames.images import decode
from ..frames.rig import Rig
from ..messages.fields import stamp_ns
from ..messages.truth import TRUE_OCCUPANCY
from ..view.numbers import boxes_of, followed_numbers, numbered_voxels

MAX_FRAMES = 30
RATE_HZ = 4.0  # of the animation, which runs faster than the drive where that is long
CAMERA_PX = 400  # images are kept no wider than this


@dataclass(slots=True)
class Content:
    """What belongs to one grid; messages as they came."""

    grid: Any
    images: dict[str, Pixels] = field(default_factory=dict)
    true: Any = None


def animate(
    path: Path,
    recorded: Path,
    bag: Path,
    rig: Rig,
    labels: LabelSet,
    style: Style,
    *,
    node: str = "panoocc",
    true_labels: LabelSet | None = None,
    scores: Sequence[FrameScores] = (),
) -> int:
    """Write the animation of the grids in `recorded`, made from `bag`; returns the number of its frames.

    Args:
        true_labels: label set of the truth in `bag`; None draws none.
        scores: by frame, for the curve.

    Raises:
        AnimationError: there are no grids, or the ending of `path` is no animation's.
        BagError: a bag cannot be read.
    """
    contents = _contents(recorded, bag, rig, node)
    with BagReader(recorded) as reader:
        followed = followed_numbers(reader.deserialise(raw) for raw in reader.messages((f"/{node}/occupancy",)))
    begin_ns = min((stamp_ns(one.grid.header.stamp) for one in contents), default=0)
    moments = (_moment(one, rig, labels, true_labels, begin_ns, followed) for one in contents)
    curve = _curve(scores, begin_ns) if true_labels is not None and scores else None
    with tqdm(moments, total=len(contents), desc="animation", unit="frame") as bar:
        return write_animation(path, pictures(bar, style, curve), RATE_HZ, key_colours(labels, followed))


def _contents(recorded: Path, bag_path: Path, rig: Rig, node: str) -> list[Content]:
    """At most MAX_FRAMES grids, evenly chosen, with what belongs to them."""
    with BagReader(recorded) as reader:
        topic = f"/{node}/occupancy"
        count = reader.count((topic,))
        chosen = set(np.linspace(0, count - 1, min(count, MAX_FRAMES)).round().astype(int).tolist())
        messages = enumerate(reader.messages((topic,)))
        contents = [Content(reader.deserialise(raw)) for number, raw in messages if number in chosen]
    contents.sort(key=lambda one: stamp_ns(one.grid.header.stamp))
    with BagReader(bag_path) as reader:
        _add_images(contents, reader, rig)
        by_stamp = {stamp_ns(one.grid.header.stamp): one for one in contents}
        for raw in reader.messages((TRUE_OCCUPANCY,)):
            message = reader.deserialise(raw)
            one = by_stamp.get(stamp_ns(message.header.stamp))
            if one is not None:
                one.true = message
    return contents


def _add_images(contents: Sequence[Content], reader: BagReader, rig: Rig) -> None:
    oldest_ns = [stamp_ns(one.grid.oldest_image_stamp) for one in contents]
    cameras = {camera.topic: camera.name for camera in rig.cameras}
    for raw in reader.messages(tuple(cameras)):
        message = reader.deserialise(raw)
        stamp = stamp_ns(message.header.stamp)
        place = bisect_right(oldest_ns, stamp) - 1
        if place >= 0 and stamp <= stamp_ns(contents[place].grid.newest_image_stamp):
            try:
                contents[place].images[cameras[raw.topic]] = _small(decode(message))
            except ImageError:
                continue  # the node has refused it too, and said so


def _small(image: Pixels) -> Pixels:
    height, width = image.shape[:2]
    if width <= CAMERA_PX:
        return image
    size = CAMERA_PX, max(1, round(height * CAMERA_PX / width))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _moment(
    one: Content, rig: Rig, labels: LabelSet, true_labels: LabelSet | None, begin_ns: int, followed: Sequence[int]
) -> Moment:
    true = None
    if true_labels is not None and one.true is not None:
        true = numbered_voxels(one.true, true_labels)
    some = next(iter(one.images.values()), blank(9, 16))
    images = {camera.name: one.images.get(camera.name, blank(some.shape[0], some.shape[1])) for camera in rig.cameras}
    time_s = (stamp_ns(one.grid.header.stamp) - begin_ns) * 1e-9
    voxels = numbered_voxels(one.grid, labels)
    if true is not None:
        true = replace(true, instance_id=found_numbers(true.instance_id, voxels.instance_id))
    return Moment(time_s, images, voxels, true, boxes_of(voxels, followed))


def found_numbers(true: NDArray[np.int32] | None, predicted: NDArray[np.int32] | None) -> NDArray[np.int32] | None:
    """Instance ids [X, Y, Z] of the truth, each replaced by the predicted number that most of its voxels have; else 0.

    None where either has no ids, or they lie on different grids.
    """
    if true is None or predicted is None or true.shape != predicted.shape:
        return None
    both = (true > 0) & (predicted > 0)
    pairs, counts = np.unique(np.stack((true[both], predicted[both])), axis=1, return_counts=True)
    order = np.argsort(counts, kind="stable")  # the commonest number is written last, and stays
    number_of = np.zeros(int(true.max()) + 1, np.int32)
    number_of[pairs[0, order]] = pairs[1, order]
    return number_of[true]


def _curve(scores: Sequence[FrameScores], begin_ns: int) -> Curve:
    ordered = sorted(scores, key=lambda score: score.stamp_ns)
    times_s = tuple((score.stamp_ns - begin_ns) * 1e-9 for score in ordered)
    return Curve(times_s, tuple(score.running.miou for score in ordered))
