"""The frames of a bag, as the node makes them for a network."""

import itertools
from contextlib import closing
from pathlib import Path

from panoocc_core import Frame, ModelConfig

from ...bags.bag import BagError, BagReader
from ...bags.source import ready_sets
from ...frames.assembler import FrameAssembler
from ...frames.rig import Rig
from ...frames.waiting import AssemblerOptions
from ...replay.replay import check_topics


def bag_frames(path: Path, config: ModelConfig, rig: Rig, count: int) -> list[Frame]:
    """The first frames of a bag, as the node makes them for a network.

    Raises:
        BagError: the bag cannot be read or gives no frame.
    """
    with (
        BagReader(path) as bag,
        closing(FrameAssembler(rig, AssemblerOptions().patient(), config=config)) as assembler,
    ):
        check_topics(bag, assembler.rig)
        frames = [assembler.frame(ready) for _, ready in itertools.islice(ready_sets(bag, assembler), count)]
        if not frames:
            raise BagError(f"{path}: no complete set of images ({assembler.status(bag.end_ns).last_drop})")
    return frames
