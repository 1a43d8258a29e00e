"""A drive as an animation: what the cameras see, the predicted and the true voxels, numbered things, and the score.

`pictures` draws frames, one by one; `write_animation` and `write_timed` make a GIF, WebP or MP4 of them.  Frames are
RGB uint8 [height, width, 3], all of one size.
"""

import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from ..base.whole_files import whole_file
from ..labels import Colour, LabelSet, instance_colours
from ..types import ScoredBoxes
from .canvas import (
    BACKGROUND,
    FAINT,
    PANEL,
    TEXT,
    WARNING,
    Image,
    blank,
    letterbox,
    panel,
    put_camera,
    put_text,
    text_size,
)
from .render import birds_eye_view, camera_mosaic
from .voxel_view import VoxelVolume, perspective

ENDINGS = (".gif", ".mp4", ".webp")
MAX_BYTES = 6_000_000  # of a GIF
MAX_HELD = 600  # frames in memory, of a GIF or WebP
MIN_RATE_HZ = 2.0
MIN_COLOURS = 128
MAX_NUMBERS = 12  # with colours of their own in a GIF

_GAP = 8
_ACCENT: Colour = (92, 200, 250)
_QUIET: Colour = (150, 156, 168)
_SHADES = (0.6, 0.76, 0.94, 1.04)  # about what the faces of a voxel get in `voxel_view`
_WEIGHTS = np.array([0.9, 1.2, 0.9], np.float32)  # of differences in red, green and blue
_TABLE_BITS = 6
_COLOURS = (255, 160)  # of a GIF, the more first
_SWATCH_PX = 20


class AnimationError(ValueError):
    """An animation that cannot be made; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One frame's content."""

    time_s: float  # since the beginning of the drive
    images: Mapping[str, Image]  # RGB uint8 [h, w, 3] by camera; none: the voxels alone
    predicted: VoxelVolume  # what no camera sees is drawn faintly, where that is known; so with the truth
    true: VoxelVolume | None = None
    boxes: ScoredBoxes | None = None  # of the prediction: what gets an outline and its number


@dataclass(frozen=True, slots=True)
class Curve:
    """A running score over the whole drive, fractions of 1; NaN where there is none yet.

    Raises:
        ValueError: times and values differ in number, or the times do not increase.
    """

    times_s: tuple[float, ...]
    values: tuple[float, ...]
    name: str = "mIoU"
    note: str = "where cameras see"

    def __post_init__(self) -> None:
        if len(self.times_s) != len(self.values) or any(b <= a for a, b in zip(self.times_s, self.times_s[1:])):
            raise ValueError("a curve needs one value for each of its increasing times")

    def until(self, time_s: float) -> list[tuple[float, float]]:
        """(time, value) of what exists up to a time."""
        pairs = zip(self.times_s, self.values)
        return [(time, value) for time, value in pairs if time <= time_s + 1e-6 and not math.isnan(value)]


@dataclass(frozen=True, slots=True)
class Style:
    """What stays the same in all frames."""

    title: str
    note: str = ""  # stands out: what a viewer must know to judge the picture
    width_px: int = 1000


def pictures(moments: Iterable[Moment], style: Style, curve: Curve | None = None) -> Iterator[Image]:
    """Frames [h, w, 3] of a drive: cameras, score and truth above, predicted voxels in both views below, and a legend.

    Voxels and boxes with a number have its colour, in all frames.
    """
    for moment in moments:
        yield _picture(moment, style, curve)


def _picture(moment: Moment, style: Style, curve: Curve | None) -> Image:
    inner = style.width_px - 2 * _GAP
    rows = [_heading(style, moment.time_s)]
    if moment.images:
        cameras_px = round(inner * 0.6)
        cameras = _cameras(moment.images, cameras_px)
        rows.append(_beside(cameras, _facts(moment, curve, len(cameras), inner - cameras_px - _GAP)))
    rows += [_voxel_views(moment, inner), _legend(moment.predicted.labels, inner)]
    framed = [np.hstack((blank(len(row), _GAP), row, blank(len(row), _GAP))) for row in rows]
    parts = [part for row in framed for part in (row, blank(_GAP, style.width_px))]
    picture = np.vstack(parts)
    # Video encoders want even sides.
    return picture[: len(picture) // 2 * 2, : style.width_px // 2 * 2]


def _beside(left: Image, right: Image) -> Image:
    return np.hstack((left, blank(len(left), _GAP), right))


def _heading(style: Style, time_s: float) -> Image:
    width = style.width_px - 2 * _GAP
    picture = blank(40, width)
    put_text(picture, style.title, (4, 29), 0.72, (245, 246, 248), bold=True)
    time = f"{time_s:5.1f} s"
    right = width - text_size("000.0 s", 0.6)[0] - 4
    put_text(picture, time, (width - text_size(time, 0.6)[0] - 4, 28), 0.6, _QUIET)
    if style.note:
        wide = text_size(style.note, 0.5)[0]
        left = right - wide - 36
        cv2.rectangle(picture, (left, 8), (left + wide + 20, 34), WARNING, -1, cv2.LINE_AA)
        put_text(picture, style.note, (left + 10, 26), 0.5, (30, 24, 8))
    return picture


def _cameras(images: Mapping[str, Image], width_px: int) -> Image:
    size_hw = next(iter(images.values())).shape[:2]
    return camera_mosaic(
        tuple(images),
        (size_hw[0], size_hw[1]),
        width_px,
        lambda name, cell_hw: _named(letterbox(np.asarray(images[name]), *cell_hw), name),
        _GAP // 2,
    )


def _named(picture: Image, name: str) -> Image:
    """The picture with the camera's name."""
    named = picture.copy()
    put_camera(named, name)
    return named


def _facts(moment: Moment, curve: Curve | None, height: int, width: int) -> Image:
    """The truth from above, where there is one, and the score beside it."""
    if moment.true is not None:
        side = min(height, (width - _GAP) // 2)
        true = letterbox(birds_eye_view(moment.true.faded(), side), height, side)
        score = _score(moment, curve, height, width - side - _GAP)
        return _beside(score, panel(true, "truth"))
    return _score(moment, curve, height, width)


def _score(moment: Moment, curve: Curve | None, height: int, width: int) -> Image:
    picture = blank(height, width, PANEL)
    if curve is None:
        _write_facts(picture, moment.predicted)
        return picture
    past = curve.until(moment.time_s)
    value = f"{100 * past[-1][1]:.1f} %" if past else "-"
    put_text(picture, f"running {curve.name}", (12, 26), 0.4, TEXT)
    put_text(picture, curve.note, (12, 44), 0.36, _QUIET)
    put_text(picture, value, (width - text_size(value, 0.62, bold=True)[0] - 10, 32), 0.62, _ACCENT, bold=True)
    _draw_curve(picture, curve, past)
    return picture


def _write_facts(picture: Image, voxels: VoxelVolume) -> None:
    """What there is to say without truth: how many voxels, and which classes are the commonest."""
    shape, size = voxels.geometry.shape_xyz, voxels.geometry.voxel_size_m
    drawn, labels = voxels.class_id[voxels.drawn()], voxels.labels
    put_text(picture, f"{len(drawn):,} voxels".replace(",", " "), (16, 32), 0.62, _ACCENT, bold=True)
    grid = f"of {shape[0]} x {shape[1]} x {shape[2]}, each {size[0]:g} x {size[1]:g} x {size[2]:g} m"
    put_text(picture, grid, (16, 54), 0.4, _QUIET)
    counts = np.bincount(drawn, minlength=len(labels.names))
    rows = [i for i in np.argsort(-counts, kind="stable").tolist() if counts[i]][: max(0, (len(picture) - 76) // 22)]
    left, right = 16 + max((text_size(labels.names[i], 0.4)[0] for i in rows), default=0) + 12, picture.shape[1] - 70
    for row, i in enumerate(rows):
        y = 70 + 22 * row
        put_text(picture, labels.names[i].replace("_", " "), (16, y + 13), 0.4, TEXT)
        end = left + round((right - left) * counts[i] / counts[rows[0]])
        cv2.rectangle(picture, (left, y + 2), (max(end, left + 1), y + 15), labels.colours[i], -1)
        put_text(picture, f"{counts[i]:,}".replace(",", " "), (max(end, left + 1) + 8, y + 13), 0.38, _QUIET)


def _draw_curve(picture: Image, curve: Curve, past: Sequence[tuple[float, float]]) -> None:
    height, width = picture.shape[:2]
    left, right, top, bottom = 46, width - 14, 62, height - 26
    known = [value for value in curve.values if not math.isnan(value)]
    high = _ceiling(max(known, default=1.0))
    span_s = max(curve.times_s[-1] - curve.times_s[0], 1e-9) if curve.times_s else 1.0

    def place(time_s: float, value: float) -> tuple[int, int]:
        x = left + (time_s - curve.times_s[0]) / span_s * (right - left)
        return round(x * 16), round((bottom - value / high * (bottom - top)) * 16)

    for share in (0, 0.5, 1):
        y = round(bottom - share * (bottom - top))
        cv2.line(picture, (left, y), (right, y), FAINT, 1)
        text = f"{100 * share * high:.0f} %"
        put_text(picture, text, (left - 8 - text_size(text, 0.38)[0], y + 4), 0.38, _QUIET)
    for share in (0, 1):
        text = f"{span_s * share:.0f} s"
        put_text(picture, text, (left + share * (right - left - text_size(text, 0.38)[0]), bottom + 17), 0.38, _QUIET)
    if past:
        line = np.array([place(*point) for point in past], np.int32)
        cv2.polylines(picture, [line], False, _ACCENT, 2, cv2.LINE_AA, 4)
        cv2.circle(picture, (int(line[-1][0]), int(line[-1][1])), 5 * 16, _ACCENT, -1, cv2.LINE_AA, 4)


def _ceiling(value: float) -> float:
    """The top of the axis: the next of a few round shares."""
    return next((share for share in (0.1, 0.2, 0.4, 0.6, 0.8) if value <= share * 0.95), 1.0)


def _voxel_views(moment: Moment, width_px: int) -> Image:
    height = round(width_px * 0.36)
    predicted = moment.predicted.faded()
    deep = perspective(predicted, width_px - height - _GAP, height, moment.boxes)
    above = letterbox(birds_eye_view(predicted, height, moment.boxes), height, height)
    hint = "" if predicted.faint is None else "   (dark: no camera sees it)"
    return _beside(panel(deep, f"prediction{hint}"), panel(above, "from above"))


def _legend(labels: LabelSet, width_px: int) -> Image:
    """Swatches and names of all classes but free space, so that the picture does not jump when one leaves."""
    shown = [i for i, name in enumerate(labels.names) if i != labels.free_id and name != "noise"]
    rows = 2 if len(shown) > 8 else 1
    columns = [shown[i : i + rows] for i in range(0, len(shown), rows)]
    names = [name.replace("_", " ") for name in labels.names]
    widths = [_SWATCH_PX + max(text_size(names[i], 0.4)[0] for i in column) for column in columns]
    gap = (width_px - sum(widths) - 4) / max(1, len(columns) - 1)
    picture, left = blank(rows * 22, width_px), 2.0
    for column, width in zip(columns, widths):
        for row, class_id in enumerate(column):
            x, y = round(left), 4 + row * 22
            cv2.rectangle(picture, (x, y), (x + 13, y + 13), labels.colours[class_id], -1)
            put_text(picture, names[class_id], (x + _SWATCH_PX, y + 12), 0.4, TEXT)
        left += width + gap
    return picture


def key_colours(labels: LabelSet, numbers: Sequence[int] = ()) -> list[Colour]:
    """What a palette must not lose: colours of classes and of numbers on faces in light and shade, and those of text.

    Of many numbers the first MAX_NUMBERS count.
    """
    first = np.array(numbers[:MAX_NUMBERS], np.int64)
    shown = [rgb for i, rgb in enumerate(labels.colours) if i != labels.free_id]
    shown += [(int(r), int(g), int(b)) for r, g, b in instance_colours(first)]
    lit = [(r, g, b) for rgb in shown for r, g, b in np.clip(np.outer(_SHADES, rgb), 0, 255).astype(int).tolist()]
    return [*lit, BACKGROUND, PANEL, FAINT, TEXT, _ACCENT, _QUIET, WARNING]


def write_animation(
    path: Path, frames: Iterable[Image], rate_hz: float, key: Sequence[Colour] = (), max_bytes: int = MAX_BYTES
) -> int:
    """Write frames, all of which last equally long; otherwise as `write_timed`."""
    return write_timed(path, ((frame, 1 / rate_hz) for frame in frames), rate_hz, key, max_bytes)


def write_timed(
    path: Path,
    frames: Iterable[tuple[Image, float]],
    rate_hz: float,
    key: Sequence[Colour] = (),
    max_bytes: int = MAX_BYTES,
) -> int:
    """Write frames and the seconds that each lasts as an animated GIF or WebP, or as an MP4, by the name's ending.

    Returns the number of frames in the file.  Those of an MP4 are written as they come, at `rate_hz`, again and again
    while they last; the others hold them, at most MAX_HELD.  A GIF has one palette, with the colours of `key` in it.
    One that would be larger than `max_bytes` leaves frames out, evenly, and keeps its duration, down to MIN_RATE_HZ,
    and has fewer colours, down to MIN_COLOURS; beyond that it is larger.  The file appears only once it is whole.

    Raises:
        AnimationError: there are no frames, or too many, they differ in size, the ending is none of these, or it cannot
            be encoded.
        OSError: the folder is missing or cannot be written, or the disk is full.
    """
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise AnimationError(f"{path}: the name must end in {' or '.join(ENDINGS)}")
    # The writers know the format by the ending.
    with whole_file(path, path.with_name(f"{path.stem}.part{path.suffix}")) as part:
        alike = _of_one_size(path, frames)
        if kind == ".mp4":
            return _write_mp4(part, _repeated(alike, rate_hz), rate_hz)
        held = list(islice(alike, MAX_HELD + 1))
        if len(held) > MAX_HELD:
            raise AnimationError(f"{path}: a {kind} has at most {MAX_HELD} frames: choose .mp4, or fewer frames")
        images, seconds = [image for image, _ in held], [last_s for _, last_s in held]
        if kind == ".gif":
            return _write_gif(part, images, seconds, rate_hz, key, max_bytes)
        return _write_webp(part, images, seconds)


def _repeated(frames: Iterable[tuple[Image, float]], rate_hz: float) -> Iterator[Image]:
    """Frames at a fixed rate: each at least once, and until the next one is due."""
    end_s, count = 0.0, 0
    for frame, last_s in frames:
        end_s += last_s
        times = max(1, round(end_s * rate_hz) - count)
        count += times
        yield from repeat(frame, times)


def _of_one_size(path: Path, frames: Iterable[tuple[Image, float]]) -> Iterator[tuple[Image, float]]:
    """The frames, of which there is at least one, and all of which have the size of the first."""
    shape = None
    for frame, last_s in frames:
        shape = shape or frame.shape
        if frame.shape != shape:
            raise AnimationError(f"{path}: an animation needs frames of one size, not {shape} and {frame.shape}")
        yield frame, last_s
    if shape is None:
        raise AnimationError(f"{path}: an animation needs at least one frame")


def _write_webp(path: Path, images: Sequence[Image], seconds: Sequence[float]) -> int:
    first, *rest = map(Pillow.fromarray, images)
    first.save(path, save_all=True, append_images=rest, duration=_in_ms(seconds), loop=0, quality=80, method=3)
    return len(images)


def _in_ms(seconds: Iterable[float]) -> list[int]:
    return [max(1, round(1000 * last_s)) for last_s in seconds]


def _write_gif(
    path: Path,
    images: Sequence[Image],
    seconds: Sequence[float],
    rate_hz: float,
    key: Sequence[Colour],
    max_bytes: int,
) -> int:
    steps = range(1, max(1, min(int(rate_hz / MIN_RATE_HZ), len(images) - 1)) + 1)
    for step, colours in (*((step, colours) for step in steps for colours in _COLOURS), (steps[-1], MIN_COLOURS)):
        kept = images[::step]
        longer = [sum(seconds[i : i + step]) for i in range(0, len(seconds), step)]
        _encode_gif(path, kept, longer, _palette(images, key, colours))
        if path.stat().st_size <= max_bytes:
            break
    return len(kept)


def _encode_gif(path: Path, images: Sequence[Image], seconds: Sequence[float], palette: NDArray[np.uint8]) -> None:
    nearest = _nearest_table(palette)
    frames = []
    for image in _steady(images):
        frame = Pillow.fromarray(nearest[tuple(np.moveaxis(image >> (8 - _TABLE_BITS), 2, 0))])
        frame.putpalette(palette.tobytes())
        frames.append(frame)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=_in_ms(seconds), loop=0, optimize=False)


def _palette(images: Sequence[Image], key: Sequence[Colour], colours: int) -> NDArray[np.uint8]:
    """One palette [n, 3] for all frames: the key colours, and what a few frames need beside them.

    So colours do not flicker, unchanged pixels cost nothing, and rare classes keep their colour.
    """
    chosen = [images[i] for i in np.unique(np.linspace(0, len(images) - 1, 6).astype(int))]
    sample = Pillow.fromarray(np.vstack([image[::2, ::2] for image in chosen]))
    free = max(16, colours - len(key))
    found = sample.quantize(free, method=Pillow.Quantize.MEDIANCUT).getpalette() or []
    adapted = np.array(found, np.uint8).reshape(-1, 3)[:free]
    return np.vstack((np.array(key, np.uint8).reshape(-1, 3), adapted))[:255]


def _nearest_table(palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Index of the nearest colour of a palette [n, 3], by the upper bits of red, green and blue: [m, m, m]."""
    levels = ((np.arange(1 << _TABLE_BITS) + 0.5) * (1 << (8 - _TABLE_BITS))).astype(np.float32)
    green_blue = np.stack(np.meshgrid(levels, levels, indexing="ij"), axis=-1).reshape(-1, 2)
    inner = ((green_blue[:, None] - palette[None, :, 1:].astype(np.float32)) ** 2 @ _WEIGHTS[1:]).astype(np.float32)
    reds = (levels[:, None] - palette[None, :, 0].astype(np.float32)) ** 2 * _WEIGHTS[0]
    table = np.stack([(inner + red).argmin(axis=1) for red in reds])
    return table.astype(np.uint8).reshape((len(levels),) * 3)


def _steady(images: Sequence[Image], least_change: int = 6) -> Iterator[Image]:
    """Frames whose pixels keep their value while they change by less than can be seen: noise does not compress."""
    shown = images[0]
    yield shown
    for image in images[1:]:
        changed = cv2.absdiff(image, shown).max(axis=2) > least_change
        shown = np.where(changed[..., None], image, shown)
        yield shown


def _write_mp4(path: Path, images: Iterable[Image], rate_hz: float) -> int:
    count, writer = 0, None
    try:
        for image in images:
            if writer is None:
                size, code = image.shape[1::-1], cv2.VideoWriter_fourcc(*"mp4v")  # type: ignore[attr-defined]
                writer = cv2.VideoWriter(str(path), code, rate_hz, size)
                if not writer.isOpened():
                    raise AnimationError(f"{path}: this OpenCV cannot write MP4; choose a name that ends in .gif")
            writer.write(np.ascontiguousarray(image[..., ::-1]))
            count += 1
    finally:
        if writer is not None:
            writer.release()
    written = _frames_in(path)
    if written != count:  # OpenCV does not report what it could not write
        free_mb = shutil.disk_usage(path.parent).free / 1e6
        raise OSError(
            f"{path}: only {written} of {count} frames could be written; is the disk full ({free_mb:.0f} MB are "
            "left), or the file's size limited?"
        )
    return count


def _frames_in(path: Path) -> int:
    """How many frames of a video can be decoded; 0 where it cannot be opened."""
    video = cv2.VideoCapture(str(path))
    try:
        return sum(1 for _ in iter(video.grab, False))
    finally:
        video.release()
