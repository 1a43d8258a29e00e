"""Which frames are learned from in which order: the same for the same seed, however often a training is interrupted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ground_truth import Drive


@dataclass(frozen=True, slots=True)
class Clip:
    """Consecutive frames of one drive."""

    drive: int
    start: int
    frames: int


def clips_of_epoch(lengths: Sequence[int], clip_frames: int, lanes: int, seed: int, epoch: int) -> list[list[Clip]]:
    """The epoch's rounds: in each, `lanes` clips are driven through side by side.

    Every drive is cut into clips at an offset of its own, and all clips are shuffled; the few at the end that do not
    fill a round wait for another epoch.

    Raises:
        ValueError: there are fewer clips than lanes.
    """
    random = np.random.default_rng([seed, epoch])
    clips: list[Clip] = []
    for drive, length in enumerate(lengths):
        frames = min(clip_frames, length)
        spare = length % frames if frames else 0
        offset = int(random.integers(spare + 1)) if frames else 0
        clips += [Clip(drive, start, frames) for start in range(offset, length - frames + 1, frames) if frames]
    shuffled = [clips[i] for i in random.permutation(len(clips))]
    shuffled.sort(key=lambda clip: clip.frames, reverse=True)  # stable: lanes of a round are equally long
    rounds = [shuffled[i : i + lanes] for i in range(0, len(shuffled) - lanes + 1, lanes)]
    if not rounds:
        raise ValueError(
            f"{len(clips)} clips are too few for {lanes} side by side: give more drives or a smaller batch"
        )
    return [rounds[i] for i in random.permutation(len(rounds))]


def length_of_round(clips: Sequence[Clip]) -> int:
    """Steps that all lanes of a round can take together."""
    return min(clip.frames for clip in clips)


def lengths(drives: Sequence[Drive]) -> list[int]:
    """Frames of every drive."""
    return [len(drive) for drive in drives]
