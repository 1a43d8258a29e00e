"""Numbers stay with things: hand-worked motion, the vehicle's own motion, births, deaths, the wrap of numbers."""

from dataclasses import replace

import numpy as np
import pytest

from panoocc_core.config import TrackingConfig
from panoocc_core.geometry import invert, rigid
from panoocc_core.labels import BOX_CLASSES
from panoocc_core.panoptic import Tracks, follow
from panoocc_core.types import ScoredBoxes

from .conftest import heading

CAR, TRUCK, WALKER = (BOX_CLASSES.index(name) for name in ("car", "truck", "pedestrian"))
RULES, STEP_NS = TrackingConfig(), 200_000_000


def boxes(*places, kinds=None, speed=(0.0, 0.0)) -> ScoredBoxes:
    """Boxes at (x, y), 2 m large."""
    n = len(places)
    return ScoredBoxes(
        centre_m=np.array([(*place, 1.0) for place in places], np.float32).reshape(-1, 3),
        size_m=np.full((n, 3), 2.0, np.float32),
        yaw_rad=np.zeros(n, np.float32),
        velocity_mps=np.tile(np.array(speed, np.float32), (n, 1)),
        class_id=np.array(kinds or [CAR] * n, np.int64),
        score=np.full(n, 0.5, np.float32),
    )


def drive(frames, poses=None, rules=RULES, tracks=None, know_velocity=True):
    """The boxes that `follow` gives for each of the frames, and the tracks at the end."""
    tracks, out = tracks or Tracks(), []
    for i, found in enumerate(frames):
        tracks, numbered = follow(
            tracks, found, i * STEP_NS, np.eye(4) if poses is None else poses[i], rules, know_velocity=know_velocity
        )
        out.append(numbered)
    return out, tracks


def test_two_cars_that_pass_each_other_keep_their_numbers():
    """They meet side by side, 3 m apart, and then each is nearer to where the other was a moment ago."""
    frames = [boxes((-4 + 2 * i, 0), (4 - 2 * i, 3)) for i in range(5)]
    seen, _ = drive(frames, know_velocity=False)
    assert [box.instance_id.tolist() for box in seen] == [[1, 2]] * 5
    speed = np.array([box.velocity_mps[0, 0] for box in seen])  # 10 m/s, and 0 in the first frame
    assert (np.diff(speed) > 0).all() and 7 < speed[-1] < 10


def test_the_order_of_the_boxes_does_not_matter():
    seen, _ = drive([boxes((0, 0), (9, 0)), boxes((9, 0), (0, 0))])
    assert seen[1].instance_id.tolist() == [2, 1]


def test_what_stands_keeps_its_number_and_its_speed_while_the_vehicle_turns_and_drives():
    place = np.array([12.0, 5.0, 1.0])
    poses = [rigid(heading(25.0 * i), np.array([3.0 * i, 1.0 * i, 0.0])) for i in range(6)]
    frames = [boxes((invert(pose) @ (*place, 1))[:2]) for pose in poses]
    seen, _ = drive(frames, poses)
    assert [box.instance_id.tolist() for box in seen] == [[1]] * 6
    assert np.abs(seen[-1].velocity_mps).max() < 1e-5


def test_velocities_are_those_over_ground_along_the_ego_frame():
    """A car that drives along the world's x at 5 m/s, seen from a vehicle that looks along y and stands."""
    pose = rigid(heading(90.0), np.zeros(3))
    frames = [boxes((invert(pose) @ (10 + 1.0 * i, 0, 0, 1))[:2], speed=(0, -5)) for i in range(30)]
    seen, _ = drive(frames, [pose] * 30)
    assert np.allclose(seen[-1].velocity_mps, [[0, -5]], atol=1e-3)


def test_noise_of_the_network_s_velocity_is_smoothed():
    random = np.random.default_rng(0)
    frames = [boxes((1.0 * i, 0), speed=random.normal((5, 0), 4)) for i in range(60)]
    seen, _ = drive(frames)
    smooth, noisy = (
        np.linalg.norm([box.velocity_mps[0] - (5, 0) for box in found[20:]], axis=1).mean() for found in (seen, frames)
    )
    assert smooth < 0.6 * noisy


def test_a_thing_that_was_hidden_for_a_second_has_its_number_again_and_after_more_than_two_it_has_not():
    def after(frames_hidden: int) -> list[int]:
        frames = [boxes((1.0 * i, 0), speed=(5, 0)) for i in range(10)]
        hidden = [boxes()] * frames_hidden
        back = boxes((1.0 * (10 + frames_hidden), 0), speed=(5, 0))
        return drive([*frames, *hidden, back])[0][-1].instance_id.tolist()

    assert after(4) == [1] and after(11) == [2]


def test_what_jumps_further_than_the_reach_is_another_thing():
    seen, tracks = drive([boxes((0, 0)), boxes((2.7, 0)), boxes((20, 0))])
    assert [box.instance_id.tolist() for box in seen] == [[1], [1], [2]] and len(tracks.tracks) == 2


def test_a_row_keeps_its_numbers_when_one_end_is_hidden_and_the_other_comes_into_sight():
    row = [boxes(*[(1.5 * k, 0) for k in range(first, first + 5)]) for first in range(4)]
    assert [box.instance_id.tolist() for box in drive(row)[0]] == [[*range(1 + k, 6 + k)] for k in range(4)]


def test_another_class_is_taken_only_where_it_is_near():
    near, far = boxes((0.5, 0), kinds=[TRUCK]), boxes((2.5, 0), kinds=[TRUCK])
    assert drive([boxes((0, 0)), near])[0][1].instance_id.tolist() == [1]
    assert drive([boxes((0, 0)), far])[0][1].instance_id.tolist() == [2]
    both = drive([boxes((0, 0)), boxes((0.2, 0), (0.6, 0), kinds=[WALKER, CAR])])[0][1]
    assert both.instance_id.tolist() == [2, 1]  # the car goes on


def test_numbers_wrap_and_pass_over_those_that_go_on():
    tracks = Tracks(next_number=65_534)
    seen, tracks = drive([boxes((0, 0), (9, 0), (18, 0))], tracks=tracks)
    assert seen[0].instance_id.tolist() == [65_534, 65_535, 1] and tracks.next_number == 2
    tracks, again = follow(
        replace(tracks, next_number=65_535), boxes((0, 0), (50, 0)), STEP_NS, np.eye(4), RULES, know_velocity=True
    )
    assert again.instance_id.tolist() == [65_534, 2] and tracks.next_number == 3


def test_numbers_go_on_when_the_tracks_are_forgotten():
    _, tracks = drive([boxes((0, 0), (9, 0))])
    seen, _ = drive([boxes((0, 0))], tracks=tracks.forgotten())
    assert seen[0].instance_id.tolist() == [3]


def test_a_frame_without_things_changes_nothing_and_more_things_than_numbers_are_refused():
    _, tracks = drive([boxes((0, 0))])
    after, nothing = follow(tracks, boxes(), STEP_NS, np.eye(4), RULES, know_velocity=True)
    assert len(nothing) == 0 and nothing.instance_id.dtype == np.int32
    assert after.next_number == tracks.next_number and [track.number for track in after.tracks] == [1]
    with pytest.raises(ValueError, match="65536 instances"):
        follow(Tracks(), boxes(*[(0, 0)] * 65_536), 0, np.eye(4), RULES, know_velocity=True)


def test_noise_does_not_make_tracks_without_end():
    """A thousand new things in every frame: numbers are given, and what goes on has a limit."""
    random = np.random.default_rng(1)
    frames = [boxes(*random.uniform(-1e6, 1e6, (1000, 2))) for _ in range(7)]
    seen, tracks = drive(frames)
    assert len(tracks.tracks) <= 3000 and np.unique(seen[-1].instance_id).size == 1000


def test_input_is_left_as_it_was():
    """State is a value: the same tracks may be followed twice."""
    _, tracks = drive([boxes((0, 0))])
    found = boxes((0.5, 0))
    first, second = (follow(tracks, found, STEP_NS, np.eye(4), RULES, know_velocity=True) for _ in range(2))
    assert found.instance_id is None and len(tracks.tracks) == 1
    assert first[1].instance_id.tolist() == second[1].instance_id.tolist() == [1]
