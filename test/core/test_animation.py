"""Animations: frames that change, files that open, sizes that are kept, and words for what cannot be drawn."""

import weakref
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from panoocc_core.geometry import rigid
from panoocc_core.labels import OCC3D, instance_colours
from panoocc_core.pictures.animation import (
    ENDINGS,
    MAX_HELD,
    AnimationError,
    Curve,
    Moment,
    Style,
    key_colours,
    pictures,
    write_animation,
    write_timed,
)
from panoocc_core.pictures.canvas import BACKGROUND
from panoocc_core.pictures.voxel_view import VoxelVolume
from panoocc_core.types import GridGeometry

CAMERAS = [f"CAM_{name}" for name in ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "BACK", "BACK_LEFT", "BACK_RIGHT")]
SHAPE = (12, 10, 4)
GRID = GridGeometry(SHAPE, (1.0, 1.0, 0.5), rigid(np.eye(3), np.array([-6.0, -5.0, -1.0])))
CAR, PEDESTRIAN, ROAD, FREE = (OCC3D.names.index(n) for n in ("car", "pedestrian", "driveable_surface", "free"))
EVERY = tuple(np.indices(SHAPE).reshape(3, -1))
STYLE = Style("a drive", width_px=480)


def voxels(step=0):
    class_id = np.full(SHAPE, FREE, np.uint8)
    class_id[..., 0] = ROAD
    class_id[2 + step : 6 + step, 2:4, 1:3] = CAR
    return VoxelVolume(class_id, GRID, OCC3D)


def moment(step=0, true=True):
    images = {name: np.full((36, 64, 3), 20 * k + 10 * step, np.uint8) for k, name in enumerate(CAMERAS)}
    seen = replace(voxels(step), visible=np.ones(SHAPE, bool)) if true else voxels(step)
    return Moment(0.5 * step, images, seen, voxels() if true else None)


CURVE = Curve((0.0, 0.5, 1.0, 1.5), (0.1, 0.2, float("nan"), 0.3))


def drive(count=4, true=True):
    return list(pictures((moment(step, true) for step in range(count)), STYLE, CURVE if true else None))


@pytest.mark.parametrize("true", [True, False])
def test_frames_differ_and_have_one_even_size(true):
    frames = drive(true=true)
    assert len({frame.shape for frame in frames}) == 1 and frames[0].dtype == np.uint8
    assert frames[0].shape[1] == STYLE.width_px and not frames[0].shape[0] % 2
    for before, after in zip(frames, frames[1:]):
        assert (before != after).any(axis=2).mean() > 0.01


def test_what_is_drawn_is_what_there_is():
    frame = drive(1)[0]
    for changed in (
        replace(moment(), predicted=voxels(3)),
        replace(moment(), true=voxels(3)),
        replace(moment(), predicted=replace(voxels(), visible=np.zeros(SHAPE, bool))),
        replace(moment(), images=moment().images | {"CAM_BACK": np.full((36, 64, 3), 255, np.uint8)}),
    ):
        other = next(pictures([changed], STYLE, CURVE))
        assert other.shape == frame.shape and (other != frame).any()
    # The cameras of each row go from left to right: the left one is the second of the list.
    upper_left = frame[48 : 48 + 20, 10 : 10 + 60]
    assert np.abs(upper_left.astype(int) - 20).mean() < 3


def test_the_curve_shows_the_past_only():
    assert CURVE.until(0.5) == [(0.0, 0.1), (0.5, 0.2)] and CURVE.until(1.2) == CURVE.until(0.5)
    with pytest.raises(ValueError, match="increasing"):
        Curve((0.0, 0.0), (0.1, 0.2))
    nothing = Curve((0.0, 1.0), (float("nan"),) * 2)
    assert next(pictures([moment()], STYLE, nothing)).shape == drive(1)[0].shape


def test_hidden_voxels_are_fainter_and_free_space_stays_free():
    hidden = np.ones(SHAPE, bool)
    hidden[3] = False
    shown = replace(voxels(), faint=hidden)
    assert np.array_equal(shown.drawn(), voxels().drawn())
    seen, unseen = shown.colours((np.array([3, 2]), np.array([2, 2]), np.array([1, 1])))
    assert np.array_equal(seen, OCC3D.colours[CAR])
    between = [0.38 * c + 0.62 * b for c, b in zip(OCC3D.colours[CAR], BACKGROUND)]
    assert unseen == pytest.approx(between, abs=0.01)
    assert np.array_equal(replace(voxels(), faint=np.zeros(SHAPE, bool)).colours(EVERY), voxels().colours(EVERY))


def numbered(number, step=0):
    drawn = voxels(step)
    return replace(drawn, instance_id=np.where(drawn.class_id == CAR, number, 0).astype(np.int32))


def test_things_have_the_colour_of_their_number_and_keep_it():
    for number in (1, 7, 65535):
        colour = instance_colours(np.array([number]))[0]
        for step in (0, 3):
            drawn = numbered(number, step)
            colours = drawn.colours(EVERY).reshape(*SHAPE, 3)
            car = drawn.class_id == CAR
            assert (colours[car] == colour).all() and (colours[~car] == voxels(step).colours(EVERY)[~car.ravel()]).all()
    assert not np.array_equal(instance_colours(np.array([7]))[0], instance_colours(np.array([8]))[0])


def test_without_numbers_things_have_the_colour_of_their_class():
    nobody = replace(voxels(), instance_id=np.zeros(SHAPE, np.int32))
    one, other = (next(pictures([replace(moment(), predicted=v)], STYLE, CURVE)) for v in (voxels(), nobody))
    assert np.array_equal(one, other)
    assert (one != next(pictures([replace(moment(), predicted=numbered(5))], STYLE, CURVE))).any()


def test_a_gif_opens_with_all_its_frames_and_its_rate(tmp_path):
    path = tmp_path / "drive.gif"
    assert write_animation(path, drive(), 4.0, key_colours(OCC3D)) == 4
    with Image.open(path) as gif:
        assert gif.n_frames == 4 and gif.info["duration"] == 250 and gif.size == drive(1)[0].shape[1::-1]
        last = np.asarray((gif.seek(3), gif.convert("RGB"))[1])
    assert np.abs(last.astype(int) - drive()[3]).mean() < 6
    assert list(tmp_path.iterdir()) == [path]


def test_key_colours_survive_among_many_others(tmp_path):
    """A pedestrian of a few pixels stays red, however many other colours there are."""
    noise = np.random.default_rng(1).integers(0, 120, (120, 160, 3), dtype=np.uint8)
    noise[:4, :4] = OCC3D.colours[PEDESTRIAN]
    write_animation(tmp_path / "one.gif", [noise, noise], 4.0, key_colours(OCC3D))
    with Image.open(tmp_path / "one.gif") as gif:
        pixel = np.asarray(gif.convert("RGB"))[1, 1].astype(int)
    assert np.abs(pixel - OCC3D.colours[PEDESTRIAN]).max() < 20


def test_a_gif_that_would_be_too_large_has_fewer_frames_and_the_same_duration(tmp_path):
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (60, 80, 3), dtype=np.uint8) for _ in range(8)]
    path = tmp_path / "noise.gif"
    write_animation(path, frames, 8.0)
    whole = path.stat().st_size
    kept = write_animation(path, frames, 8.0, max_bytes=round(whole * 0.4))
    assert kept in (2, 3) and path.stat().st_size <= whole * 0.4
    with Image.open(path) as gif:
        assert gif.n_frames == kept and gif.info["duration"] * kept == pytest.approx(1000, abs=130)


def test_an_mp4_has_all_frames(tmp_path):
    path = tmp_path / "drive.mp4"
    assert write_animation(path, drive(), 4.0) == 4
    video = cv2.VideoCapture(str(path))
    read = [frame for done, frame in iter(video.read, (False, None)) if done]
    assert len(read) == 4 and read[0].shape == drive(1)[0].shape and list(tmp_path.iterdir()) == [path]


def test_a_webp_has_all_frames_and_its_rate(tmp_path):
    path = tmp_path / "drive.webp"
    assert write_animation(path, drive(), 4.0) == 4
    with Image.open(path) as film:
        durations = [(film.seek(k), film.load(), film.info["duration"])[-1] for k in range(film.n_frames)]
    assert durations == [250] * 4 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", [".mp4", ".webp", ".gif"])
def test_frames_last_as_long_as_they_are_told(tmp_path, ending):
    path, seconds = tmp_path / f"drive{ending}", (0.5, 2.0, 0.5, 1.0)
    assert write_timed(path, zip(drive(), seconds), 2.0) == (8 if ending == ".mp4" else 4)
    if ending == ".mp4":
        video = cv2.VideoCapture(str(path))
        read = [frame.astype(int) for done, frame in iter(video.read, (False, None)) if done]
        assert [k for k in range(1, 8) if np.abs(read[k] - read[k - 1]).mean() > 0.3] == [1, 5, 6]
    else:
        with Image.open(path) as film:
            durations = [(film.seek(k), film.load(), film.info["duration"])[-1] for k in range(film.n_frames)]
        assert durations == [500, 2000, 500, 1000]


def test_an_mp4_takes_frames_one_by_one(tmp_path):
    """However many: each is gone before the third one after it is made."""
    made = []

    def frames():
        for k in range(12):
            frame = np.full((32, 32, 3), 20 * k, np.uint8)
            made.append(weakref.ref(frame))
            assert sum(one() is not None for one in made) <= 3
            yield frame

    assert write_animation(tmp_path / "drive.mp4", frames(), 4.0) == 12


def test_without_images_the_voxels_stand_alone():
    frame, alone = drive(1, true=False)[0], next(pictures([replace(moment(true=False), images={})], STYLE))
    assert alone.shape[0] < frame.shape[0] and alone.shape[1] == frame.shape[1]
    assert (alone[-100:] == frame[-100:]).all()  # the voxels and the legend


def test_what_cannot_be_an_animation_is_told_and_leaves_nothing(tmp_path):
    frame = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(AnimationError, match=r"\.gif or \.mp4 or \.webp"):
        write_animation(tmp_path / "drive.png", [frame], 4.0)
    for ending in ENDINGS:
        with pytest.raises(AnimationError, match="at least one frame"):
            write_animation(tmp_path / f"drive{ending}", [], 4.0)
        with pytest.raises(AnimationError, match="one size"):
            write_animation(tmp_path / f"drive{ending}", [frame, np.zeros((20, 30, 3), np.uint8)], 4.0)
    with pytest.raises(AnimationError, match=rf"at most {MAX_HELD} frames: choose .mp4"):
        write_animation(tmp_path / "drive.webp", (frame for _ in range(MAX_HELD + 1)), 4.0)
    with pytest.raises(OSError):
        write_animation(tmp_path / "none" / "drive.gif", [frame], 4.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lost", [1, 4])
def test_frames_that_the_video_lost_are_an_error_and_leave_nothing(tmp_path, monkeypatch, lost):
    class Lossy:
        """OpenCV's writer on a disk that fills up: it says nothing."""

        def __init__(self, *arguments):
            self._writer, self._left = written(*arguments), 4 - lost

        def isOpened(self):
            return True

        def write(self, image):
            if self._left:
                self._writer.write(image)
            self._left -= bool(self._left)

        def release(self):
            self._writer.release()

    written = cv2.VideoWriter
    monkeypatch.setattr(cv2, "VideoWriter", Lossy)
    with pytest.raises(OSError, match=rf"drive.*mp4: only {4 - lost} of 4 frames .* disk full"):
        write_animation(tmp_path / "drive.mp4", drive(), 4.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error(tmp_path):
    (tmp_path / "drive.part.mp4").symlink_to("/dev/full")
    with pytest.raises((OSError, AnimationError)):
        write_animation(tmp_path / "drive.mp4", drive(), 4.0)
    assert not list(tmp_path.iterdir())
