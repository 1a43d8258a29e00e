"""Images are decoded before their set is complete, once, and only where that is of use."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from panoocc_core.cameras.lens import calibration
from panoocc_core.config import model_config
from panoocc_ros.frames import pictures
from panoocc_ros.frames.assembler import FrameAssembler
from panoocc_ros.frames.decoder import SETS_AHEAD
from panoocc_ros.frames.pictures import DecodingAhead, Picture
from panoocc_ros.frames.waiting import AssemblerOptions
from test.ros.messages import MS, camera_info, jpeg, picture
from test.ros.test_assembler import NAMES, OFFSETS_NS, RIG, T0, drain, ready_assembler, send_images, send_tf, static


class Decoded(Counter):
    """How often the image of each frame_id was decoded, and a gate in front."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        decode = pictures.decode

        def counted(message, *args, **options):
            assert self.gate.wait(10)
            self[message.header.frame_id] += 1
            return decode(message, *args, **options)

        monkeypatch.setattr(pictures, "decode", counted)


@pytest.fixture
def decoded(monkeypatch):
    return Decoded(monkeypatch)


def settle(assembler):
    """Wait until the pool has nothing left to do."""
    pool = assembler._decoder._pool
    barrier = threading.Barrier(pool._max_workers + 1)
    for _ in range(pool._max_workers):
        pool.submit(barrier.wait, 10)
    barrier.wait(10)


def test_images_are_decoded_while_their_set_waits_and_once(decoded):
    assembler = ready_assembler()
    send_images(assembler, 0)
    settle(assembler)
    assert decoded == {name.lower(): 1 for name in NAMES}
    send_tf(assembler, T0 - 60 * MS, T0 + 60 * MS)
    (ready,) = drain(assembler, T0 + 60 * MS)
    frame = assembler.frame(ready)
    assert decoded.total() == len(NAMES) and len(frame.cameras) == len(NAMES)


def test_an_image_that_serves_again_is_not_decoded_again(decoded):
    assembler = ready_assembler(missing_camera="reuse_last", deadline_s=0.05)
    send_tf(assembler, T0 - 60 * MS, T0 + 300 * MS)
    stale = []
    for k in range(2):
        send_images(assembler, k, names=NAMES if k == 0 else NAMES[:2])
        (ready,) = drain(assembler, T0 + k * 100 * MS + 90 * MS)
        stale.append(assembler.frame(ready).cameras[2])
        assert ready.messages.reused == (("RIGHT",) if k else ())
    assert decoded == {"front": 2, "left": 2, "right": 1}
    assert stale[1].stamp_ns == stale[0].stamp_ns and np.array_equal(stale[0].image, stale[1].image)


def test_without_camera_info_nobody_knows_how_large_an_image_may_be(decoded):
    assembler = FrameAssembler(RIG, AssemblerOptions())
    assembler.on_transforms(static(), static=True)
    send_images(assembler, 0)
    settle(assembler)
    assert not decoded
    send_tf(assembler, T0 - 60 * MS, T0 + 60 * MS)
    for name in NAMES:
        assembler.on_camera_info(name, camera_info(frame_id=name.lower()))
    (ready,) = drain(assembler, T0)
    assert len(assembler.frame(ready).cameras) == len(NAMES) == decoded.total()


def test_where_sets_are_not_used_in_time_no_further_one_is_decoded(decoded):
    """A network of seconds must not share the processor with images that it will never see."""
    assembler = ready_assembler()
    send_tf(assembler, T0 - 60 * MS, T0 + 900 * MS)
    ready = []
    for k in range(6):
        send_images(assembler, k)
        ready += drain(assembler, T0 + k * 100 * MS)
        settle(assembler)
    assert len(ready) == 6 and set(decoded.values()) == {1}
    assembler.frame(ready[-1])
    send_images(assembler, 6)
    settle(assembler)
    assert set(decoded.values()) == {3}


def test_what_waits_is_decoded_up_to_a_limit(decoded):
    assembler = ready_assembler(tf_timeout_s=10)
    for k in range(5):
        send_images(assembler, k)
    settle(assembler)
    assert decoded.total() == SETS_AHEAD * len(NAMES)
    send_tf(assembler, T0 - 60 * MS, T0 + 900 * MS)
    sets = drain(assembler, T0 + 500 * MS)
    frames = [assembler.frame(ready) for ready in sets]
    assert len(frames) == 5 and decoded.total() == 5 * len(NAMES)


def test_what_nobody_holds_any_more_is_not_decoded(decoded):
    decoded.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        ahead, lens = DecodingAhead(pool, 3), lambda: pytest.fail("it was decoded")
        busy = pool.submit(decoded.gate.wait, 10)
        held = [Picture(jpeg(0, "")) for _ in range(5)]
        for one in held:
            ahead.begin(one, lens)
        assert len(ahead._unused) == 3
        del held, one
        assert len(ahead._unused) == 0
        decoded.gate.set()
        assert busy.result()
    assert not decoded


def test_the_calibration_of_the_set_counts(decoded):
    """CameraInfo came anew between an image and the rest of its set, and says less of a lens."""
    assembler = ready_assembler()
    distorted = camera_info(distortion=(-0.2, 0.05, 0, 0, 0), frame_id="left")
    assembler.on_camera_info("LEFT", distorted)
    send_images(assembler, 0)
    settle(assembler)
    assembler.on_camera_info("LEFT", camera_info(frame_id="left"))
    send_tf(assembler, T0 - 60 * MS, T0 + 60 * MS)
    (ready,) = drain(assembler, T0)
    left = assembler.frame(ready).cameras[1]
    assert np.abs(left.image.numpy().astype(int) - picture()).mean() < 3
    assert decoded == {"front": 1, "left": 2, "right": 1}


@pytest.mark.parametrize("roll", [0, 1])
def test_a_network_that_allows_it_gets_small_images_and_intrinsics_that_fit(roll, decoded):
    """A camera that lies on its side is narrower when it is turned: the network needs all of its pixels."""
    size_hw = (480, 1100)
    assembler = FrameAssembler(RIG, AssemblerOptions(), config=model_config("nano"))
    mounts = static()
    turn = {0: (0.5, -0.5, 0.5, -0.5), 1: (0.0, -np.sqrt(0.5), 0.0, -np.sqrt(0.5))}[roll]  # optical frames
    for one in mounts.transforms:
        q = one.transform.rotation
        q.x, q.y, q.z, q.w = turn
    assembler.on_transforms(mounts, static=True)
    for name in NAMES:
        assembler.on_camera_info(name, camera_info(size_hw, 450.0, frame_id=name.lower()))
    send_tf(assembler, T0 - 60 * MS, T0 + 900 * MS)
    for k in range(2):
        for name in NAMES:
            stamp = T0 + k * 100 * MS + OFFSETS_NS[name]
            assembler.on_image(name, jpeg(stamp, name.lower(), picture(0, size_hw)), stamp)
        settle(assembler)
        (ready,) = drain(assembler, T0 + k * 100 * MS)
        for camera in assembler.frame(ready).cameras:
            assert camera.size_hw == ((1100, 480) if roll else (120, 275))
            assert camera.intrinsics[0, 0] == pytest.approx(450.0 if roll else 112.5)
            assert abs(camera.intrinsics[0, 2] - (camera.size_hw[1] - 1) / 2) < 1
    assert decoded == {name.lower(): 2 + roll for name in NAMES}  # the first time nobody knew that it lies


def test_lens_distortion_is_undone_once():
    info = camera_info(distortion=(-0.3, 0.1, 0, 0, 0), frame_id="left")
    assembler = ready_assembler()
    assembler.on_camera_info("LEFT", info)
    send_tf(assembler, T0 - 60 * MS, T0 + 60 * MS)
    send_images(assembler, 0)
    (ready,) = drain(assembler, T0 + 60 * MS)
    image = next(one.image for one in assembler.frame(ready).cameras if one.name == "LEFT")
    taken = pictures.decode(jpeg(T0, "left", picture()), None)
    np.testing.assert_array_equal(image.numpy(), calibration(info, is_rectified=False).rectify(taken))
