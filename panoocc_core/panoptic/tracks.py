"""Numbers that stay with a thing from frame to frame.

Every track expects its thing where its last place and its velocity put it, in the world frame, so that the vehicle's
own motion does not matter.  Instances and tracks are paired so that the sum of distances in the world's x and y, with a
surcharge for another class, is smallest (Hungarian algorithm); a pair further apart than the reach is none, and counts
as far as the reach: so a row of barriers is not moved on by one for the sake of one more pair.  What finds no track
begins one at once; a track that was not seen for `max_age_s` has ended.

Numbers are 1 to 65,535, the width of `VoxelGrid.instance_id`.  The next number is one higher than the last one given;
after 65,535 comes 1, and numbers of tracks that go on are passed over.  They go on counting when the memory is cleared.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ..config import TrackingConfig
from ..geometry import NS_PER_S, Matrix
from ..types import ScoredBoxes

LAST_NUMBER = 0xFFFF
MAX_TRACKS = 2000  # that go on; of more those that were seen last


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One thing, as it was last seen."""

    number: int
    stamp_ns: int
    class_id: int  # index into labels.BOX_CLASSES
    centre_m: NDArray[np.float64]  # [3], in the world frame
    velocity_mps: NDArray[np.float64]  # [2], along the world frame's x and y, smoothed
    seen: int = 1  # in how many frames


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """All tracks that go on: a value, which a stream keeps in its memory."""

    tracks: tuple[Track, ...] = ()  # those that were seen last in front
    next_number: int = 1

    def forgotten(self) -> "Tracks":
        """No tracks; numbers go on."""
        return Tracks(next_number=self.next_number)


def follow(
    tracks: Tracks,
    boxes: ScoredBoxes,
    stamp_ns: int,
    world_from_ego: Matrix,
    config: TrackingConfig,
    *,
    know_velocity: bool,
) -> tuple[Tracks, ScoredBoxes]:
    """The tracks after a frame, and its boxes with the numbers and velocities of their tracks.

    Args:
        know_velocity: the boxes say how fast things move; else it follows from how far they moved.

    Raises:
        ValueError: there are more boxes than numbers.
    """
    if len(boxes) > LAST_NUMBER - MAX_TRACKS:
        raise ValueError(f"{len(boxes)} instances in one frame: there are numbers for {LAST_NUMBER - MAX_TRACKS}")
    oldest_ns = stamp_ns - int(config.max_age_s * NS_PER_S)
    going_on = [track for track in tracks.tracks if track.stamp_ns >= oldest_ns][:MAX_TRACKS]
    centre_m = boxes.centre_m.astype(np.float64) @ world_from_ego[:3, :3].T + world_from_ego[:3, 3]
    measured_mps = boxes.velocity_mps.astype(np.float64) @ world_from_ego[:2, :2].T
    track_of = _paired(going_on, boxes.class_id, centre_m, stamp_ns, config)

    fresh = _free_numbers(tracks.next_number, {track.number for track in going_on})
    last_number, seen = None, []
    for row, place in enumerate(track_of):
        if place >= 0:
            track = going_on[place]
            measured = measured_mps[row] if know_velocity else None
            velocity = _smoothed(track, centre_m[row], measured, stamp_ns, config)
            number, count = track.number, track.seen + 1
        else:
            number = last_number = next(fresh)
            velocity, count = measured_mps[row], 1
        seen.append(Track(number, stamp_ns, int(boxes.class_id[row]), centre_m[row], velocity, count))
    unseen = [track for place, track in enumerate(going_on) if place not in track_of]
    next_number = tracks.next_number if last_number is None else last_number % LAST_NUMBER + 1
    velocity_mps = np.array([track.velocity_mps for track in seen]).reshape(-1, 2) @ world_from_ego[:2, :2]
    numbered = replace(
        boxes,
        velocity_mps=velocity_mps.astype(np.float32),
        instance_id=np.array([track.number for track in seen], np.int32),
    )
    return Tracks((*seen, *unseen), next_number), numbered


def _paired(
    tracks: list[Track],
    class_id: NDArray[np.int64],
    centre_m: NDArray[np.float64],
    stamp_ns: int,
    config: TrackingConfig,
) -> list[int]:
    """Which track each instance continues, as a place in `tracks`; -1 for none."""
    track_of = [-1] * len(centre_m)
    if not tracks or not len(centre_m):
        return track_of
    age_s = np.array([(stamp_ns - track.stamp_ns) / NS_PER_S for track in tracks])
    expected_m = np.array([track.centre_m[:2] for track in tracks])
    expected_m = expected_m + age_s[:, None] * np.array([track.velocity_mps for track in tracks])
    distance_m = np.linalg.norm(centre_m[:, None, :2] - expected_m, axis=2)  # [n, track]
    other = class_id[:, None] != np.array([track.class_id for track in tracks])
    cost_m = distance_m + config.other_class_m * other
    reach_m = config.reach_m + config.reach_mps * age_s  # [track]
    in_reach = cost_m <= reach_m
    for row, place in zip(*linear_sum_assignment(np.where(in_reach, cost_m, reach_m))):
        if in_reach[row, place]:
            track_of[row] = int(place)
    return track_of


def _smoothed(
    track: Track,
    centre_m: NDArray[np.float64],
    measured_mps: NDArray[np.float64] | None,
    stamp_ns: int,
    config: TrackingConfig,
) -> NDArray[np.float64]:
    """Velocity [2]: that of the track, drawn to what is measured, or to how far the thing moved where nothing is.

    A young track is drawn more, so that its velocity is a mean over all frames so far.
    """
    seconds = (stamp_ns - track.stamp_ns) / NS_PER_S
    if seconds <= 0:
        return track.velocity_mps
    now_mps = (centre_m[:2] - track.centre_m[:2]) / seconds if measured_mps is None else measured_mps
    weight = max(1 - np.exp(-seconds / config.velocity_time_s), 1 / (track.seen + 1))
    return (1 - weight) * track.velocity_mps + weight * now_mps


def _free_numbers(number: int, taken: set[int]) -> Iterator[int]:
    while True:
        if number not in taken:
            taken.add(number)
            yield number
        number = number % LAST_NUMBER + 1
