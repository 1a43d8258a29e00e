"""Black, grey and frozen pictures are told of, and nothing else is."""

import time

import numpy as np

from panoocc_core.geometry import rigid
from panoocc_ros.frames.picture_watch import MANY_SETS, PictureWatch

RANDOM = np.random.default_rng(0)


def noise(mean=90, spread=40, size_hw=(225, 400)):
    return RANDOM.normal(mean, spread, (*size_hw, 3)).clip(0, 255).astype(np.uint8)


def look(watch, pictures, start_ns=0, speed_m=1.0):
    """One set after the other, `speed_m` apart."""
    for number, picture in enumerate(pictures):
        watch.look("A", start_ns + number, picture, rigid(np.eye(3), np.array([speed_m * number, 0, 0])))


def test_a_black_camera_is_told_until_it_sees_again():
    watch = PictureWatch()
    covered = [noise(2, 1) for _ in range(MANY_SETS)]
    look(watch, covered[:-1])
    assert watch.findings() == {} and not watch.sets()
    look(watch, covered[-1:], 100)
    assert watch.findings() == {
        "A": f"the picture is black since {MANY_SETS} sets: a covered lens, or a camera that failed?"
    }
    look(watch, [noise()], 200)
    assert watch.findings() == {} and watch.sets() == {("black", "A"): 1}


def test_a_picture_of_one_colour_is_told():
    watch = PictureWatch()
    look(watch, [np.full((90, 160, 3), (0, 135, 0), np.uint8)] * MANY_SETS)
    assert "of one colour since" in watch.findings()["A"]


def test_a_frozen_driver_is_told_and_a_picture_that_serves_twice_is_none():
    watch, picture = PictureWatch(), noise()
    for _ in range(3 * MANY_SETS):
        watch.look("A", 7, picture, np.eye(4))  # reused, with its own stamp
    assert watch.findings() == {}
    look(watch, [picture] * (MANY_SETS + 2), 100)
    assert watch.findings()["A"].startswith(f"the same picture for {MANY_SETS + 3} sets, though")
    assert watch.sets() == {("frozen", "A"): 4}


def test_night_and_a_standing_vehicle_are_no_faults():
    watch, dark = PictureWatch(), noise(3, 2)
    dark[50:70, 100:180] = 255  # a lamp
    look(watch, [np.maximum(dark, noise(3, 2)) for _ in range(3 * MANY_SETS)])
    street = noise()
    look(watch, [street] * 3 * MANY_SETS, 500, speed_m=0.001)  # a simulated one has no noise
    assert watch.findings() == {}
    look(watch, [street + RANDOM.integers(0, 2, street.shape, dtype=np.uint8) for _ in range(3 * MANY_SETS)], 1000)
    assert watch.findings() == {}


def test_a_look_at_a_large_picture_is_cheap():
    watch, picture = PictureWatch(), noise(size_hw=(900, 1600))
    begin_s = time.process_time()
    for number in range(20):
        watch.look("A", number, picture, np.eye(4))
    assert (time.process_time() - begin_s) / 20 < 0.02  # decoding takes about 10 ms; this, less than one


def test_pictures_of_any_size_are_looked_at():
    watch = PictureWatch()
    for size in ((1, 1), (1, 500), (500, 1)):
        watch.look("B", size[1], np.zeros((*size, 3), np.uint8), np.eye(4))
