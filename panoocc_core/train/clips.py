"""Which frames are learned from in which order: the same for the same seed, however often a training is interrupted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .train_config import TrainConfig


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames of one drive, `stride` apart."""

    drive: int
    start: int
    frames: int
    stride: int = 1

    def index(self, number: int) -> int:
        """Where frame `number` of the clip stands in the drive."""
        return self.start + number * self.stride


def consecutive_clips(lengths: Sequence[int], frames: int, random: np.random.Generator) -> list[Clip]:
    """Every drive cut into clips that follow each other, from an offset of its own; a short drive is one clip."""
    clips: list[Clip] = []
    for drive, length in enumerate(lengths):
        if length:
            own = min(frames, length)
            offset = int(random.integers(length % own + 1))
            clips += [Clip(drive, start, own) for start in range(offset, length - own + 1, own)]
    return clips


def windows(lengths: Sequence[int], frames: int, stride: int) -> list[Clip]:
    """One clip for every frame, which is its last; at the start of a drive there are fewer before it."""
    clips = []
    for drive, length in enumerate(lengths):
        for last in range(length):
            before = min(frames - 1, last // stride)
            clips.append(Clip(drive, last - before * stride, before + 1, stride))
    return clips


def rounds_of_epoch(lengths: Sequence[int], config: TrainConfig, lanes: int, epoch: int) -> list[list[Clip]]:
    """The epoch's rounds in order: in each, `lanes` clips are driven through side by side.

    The few clips that do not fill a round wait for another epoch.

    Raises:
        ValueError: there are fewer clips than lanes.
    """
    random = np.random.default_rng([config.seed, epoch])
    if config.supervise == "all":
        clips = consecutive_clips(lengths, config.clip_frames, random)
    else:
        clips = windows(lengths, config.clip_frames, config.clip_stride)
    shuffled = [clips[i] for i in random.permutation(len(clips))]
    shuffled.sort(key=lambda clip: clip.frames, reverse=True)  # stable; so the lanes of most rounds are equally long
    rounds = [shuffled[i : i + lanes] for i in range(0, len(shuffled) - lanes + 1, lanes)]
    if not rounds:
        raise ValueError(
            f"{len(clips)} clips are too few for {lanes} side by side: give more drives or a smaller batch"
        )
    return [rounds[i] for i in random.permutation(len(rounds))]


def length_of_round(clips: Sequence[Clip]) -> int:
    """Steps that all lanes of a round take together; their last frames are the clips' last ones."""
    return min(clip.frames for clip in clips)
