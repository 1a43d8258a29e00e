"""A film of scenes, made without a display."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from panoocc_core.cameras.image_bytes import ImageError, Pixels
from panoocc_core.pictures.animation import AnimationError, Moment, Style, key_colours, pictures, write_animation

from .scene import Scene

WIDTH_PX = 1280


def write_film(
    path: Path,
    scenes: Iterable[Scene],
    cameras: Sequence[str],
    rate_hz: float,
    title: str,
    problems: dict[str, str],
    width_px: int = WIDTH_PX,
) -> int:
    """Film scenes, one frame each, into an .mp4, .gif or .webp; returns the number of frames in the file.

    Args:
        cameras: what is shown above the voxels, if the first scene has an image of any of them.
        rate_hz: frames per second.
        problems: gets the cameras of which an image is not shown, and why.

    Raises:
        AnimationError: there are no scenes, or the file is of another kind.
        OSError: it cannot be written.
    """
    rest = iter(scenes)
    first = next(rest, None)
    if first is None:
        raise AnimationError(f"{path}: there is nothing to film")
    shown = cameras if set(cameras) & set(first.images) else ()
    moments = _moments(chain([first], rest), shown, problems)
    style = Style(title, width_px=width_px)
    return write_animation(path, pictures(moments, style), rate_hz, key_colours(first.voxels.labels))


def _moments(scenes: Iterable[Scene], cameras: Sequence[str], problems: dict[str, str]) -> Iterator[Moment]:
    begin_ns: int | None = None
    empty: Pixels = np.zeros((9, 16, 3), np.uint8)
    for scene in scenes:
        begin_ns = scene.stamp_ns if begin_ns is None else begin_ns
        boxes = scene.boxes
        if boxes is not None and boxes.instance_id is not None:
            boxes = boxes.select(boxes.instance_id > 0)
        found = _pixels(scene, cameras, problems)
        if found:
            empty = np.zeros_like(next(iter(found.values())))
        images = {name: found.get(name, empty) for name in cameras}
        time_s = (scene.stamp_ns - begin_ns) * 1e-9
        yield Moment(time_s, images, scene.voxels, boxes=boxes)


def _pixels(scene: Scene, cameras: Sequence[str], problems: dict[str, str]) -> dict[str, Pixels]:
    found = {}
    for name in filter(scene.images.__contains__, cameras):
        try:
            found[name] = scene.images[name].pixels()
        except ImageError as error:
            problems[name] = f"an image is not shown: {error}"
    return found
