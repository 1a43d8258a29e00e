"""A film of scenes, made without a display."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from panoocc_core.base.reduction import Pixels
from panoocc_core.cameras.image_bytes import ImageError
from panoocc_core.pictures.animation import AnimationError, Moment, Style, key_colours, pictures, write_timed

from .scene import Scene

WIDTH_PX = 1280
MAX_RATE_HZ = 30.0
MAX_STILL_S = 60.0  # that one scene lasts, whatever comes after it


def write_film(
    path: Path,
    scenes: Iterable[Scene],
    cameras: Sequence[str],
    rate_hz: float,
    title: str,
    problems: dict[str, str],
    width_px: int = WIDTH_PX,
    as_they_came: bool = False,
) -> int:
    """Film scenes into an .mp4, .gif or .webp; returns the number of frames in the file.

    Args:
        cameras: what is shown above the voxels, if the first scene has an image of any of them.
        rate_hz: frames per second.
        problems: gets the cameras of which an image is not shown, and why.
        as_they_came: every scene lasts until the next one, in place of one frame.

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
    frames = (
        (picture, last_s if as_they_came else 1 / rate_hz)
        for moment, last_s in _lasting(moments, 1 / rate_hz)
        for picture in pictures([moment], style)
    )
    return write_timed(path, frames, rate_hz, key_colours(first.voxels.labels))


def usual_rate_hz(times_s: Sequence[float]) -> float:
    """Frames per second with which a film shows all grids of these times: as many as they came at their fastest."""
    gaps_s = np.diff(np.sort(times_s))
    gaps_s = gaps_s[gaps_s > 0]
    return float(np.clip(1 / gaps_s.min(), 1.0, MAX_RATE_HZ)) if gaps_s.size else 1.0


def _lasting(moments: Iterable[Moment], last_s: float) -> Iterator[tuple[Moment, float]]:
    """Moments, and the seconds until the next one; after the last one `last_s`."""
    moments = iter(moments)
    shown = next(moments)
    for moment in moments:
        yield shown, min(max(moment.time_s - shown.time_s, 0.0), MAX_STILL_S)
        shown = moment
    yield shown, last_s


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
