"""Another program beside ours: the protocol, whose time is taken, and what goes wrong."""

import io
import sys
import time

import numpy as np
import pytest

from panoocc_core.bench import RivalError, against, against_table, alternate, read_frame_file, serve, write_frame

from .conftest import street_frame

FRAMES = [street_frame(0.5 * number, 2.0 * number) for number in range(4)]
BUSY = """
import sys, time
import numpy as np
for line in sys.stdin:
    print("some words of its own")
    if line.startswith("load "):
        frame = np.load(line[5:].strip())
        assert frame["images"].shape == (6, 90, 160, 3) and frame["projections"].shape == (6, 3, 4)
        time.sleep(0.05)
    else:
        end = time.process_time() + 0.06
        while time.process_time() < end:
            pass
        time.sleep(0.06)
    print("done", flush=True)
"""


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_both_are_timed_by_turns_and_loading_is_not():
    seen = []
    report = alternate(
        ("ours", lambda frame: (seen.append(frame.stamp_ns), burn(0.03))),
        ("theirs", [sys.executable, "-c", BUSY]),
        FRAMES,
        1,
    )
    assert seen == [frame.stamp_ns for frame in FRAMES] and report.frames == 3
    assert 30 <= report.our_cpu_ms < 45
    assert report.their_cpu_ms is not None and 58 <= report.their_cpu_ms < 90  # without the 50 ms of loading
    assert report.their_wall_ms >= 118
    assert report.cpu_ratio == pytest.approx(report.their_cpu_ms / report.our_cpu_ms, rel=0.3)
    text = against_table(report)
    assert "ours" in text and "theirs" in text and f"{report.cpu_ratio:.2f}" in text


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("import sys; print('no GPU'); sys.exit(3)", "it ended with status 3 before it answered.*no GPU"),
        ("import time; time.sleep(60)", "no line 'done' came within 0.5 s of 'load "),
    ],
)
def test_a_program_that_does_not_answer_is_said(program, text, monkeypatch):
    monkeypatch.setattr(against, "ANSWER_S", 0.5 if "sleep" in program else 30.0)
    monkeypatch.setattr(against, "END_S", 0.5 if "sleep" in program else 30.0)
    with pytest.raises(RivalError, match=text):
        alternate(("ours", lambda frame: None), ("theirs", [sys.executable, "-c", program]), FRAMES[:2], 1)


def test_what_cannot_be_started_or_measured():
    with pytest.raises(RivalError, match="nowhere cannot be started"):
        alternate(("ours", lambda frame: None), ("theirs", ["nowhere"]), FRAMES[:2], 1)
    with pytest.raises(ValueError, match="two frames at least"):
        alternate(("ours", lambda frame: None), ("theirs", ["true"]), FRAMES[:1], 1)
    assert against.cpu_seconds_of(2**22 + 1) is None


def test_a_frame_comes_back_from_its_file(tmp_path):
    path = tmp_path / "frame.npz"
    write_frame(path, FRAMES[1])
    frame = read_frame_file(path)
    assert frame.stamp_ns == FRAMES[1].stamp_ns and np.array_equal(frame.world_from_ego, FRAMES[1].world_from_ego)
    for found, camera in zip(frame.cameras, FRAMES[1].cameras, strict=True):
        assert found.name == camera.name and found.stamp_ns == camera.stamp_ns
        assert found.image.equal(camera.image) and np.array_equal(found.intrinsics, camera.intrinsics)
        assert np.array_equal(found.ego_from_camera, camera.ego_from_camera)
    with np.load(path) as arrays:  # a point 10 m ahead of the vehicle is in the middle of the front camera's image
        names, projections = list(arrays["names"]), arrays["projections"]
    u, v, depth = projections[names.index("CAM_FRONT")] @ (10.0, 0, 1.5, 1)
    assert (u / depth, v / depth) == pytest.approx((80, 45)) and depth > 0
    np.savez(path, images=np.zeros(3))
    with pytest.raises(ValueError, match="no frame of panoocc bench"):
        read_frame_file(path)
    mixed = [*FRAMES[0].cameras[:5], street_frame(0, size_hw=(40, 60)).cameras[5]]
    with pytest.raises(ValueError, match="images of one size"):
        write_frame(path, type(FRAMES[0])(0, np.eye(4), tuple(mixed)))


def test_the_other_side_answers_every_line(tmp_path):
    answers, steps = io.StringIO(), []
    serve(lambda path: path.name, steps.append, io.StringIO("load /a/b.npz\nstep\nstep\nload c\nstep\n"), answers)
    assert steps == ["b.npz", "b.npz", "c"] and answers.getvalue() == "done\n" * 5
    for line in ("step\n", "load\n", "stop\n"):
        with pytest.raises(ValueError, match="is none of: load PATH, and then step"):
            serve(lambda path: path, steps.append, io.StringIO(line), answers)
