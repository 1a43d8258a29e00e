"""One set of images from messages to an occupancy: reset, decode, network, and what holds when one of them fails.

The node and the replay of bags take the same step, so that they give the same grids and lose the same sets.
"""

import gc
import time
from dataclasses import dataclass
from typing import Literal

from panoocc_core import Frame, NonFiniteError, Occupancy, OccupancyStream, Wanted
from panoocc_core.base.devices import is_out_of_memory
from panoocc_core.cuda.giving_back import give_back_all

from ..frames.assembler import FrameAssembler
from ..frames.sets import ReadySet, Refused

FAILED_RESET = "the step before failed"
OUT_OF_MEMORY = "out_of_memory"  # why the memory was cleared
MAX_TEXT = 300  # characters of an error


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A set that became an occupancy, and the wall times of its stages."""

    frame: Frame
    occupancy: Occupancy
    times_ms: dict[str, float]
    geometry: tuple[str, ...] | None  # warnings about mounts and intrinsics, where these are new; else None


@dataclass(frozen=True, slots=True)
class Lost:
    """A set that became none: it was refused, e.g. since no image could be used, or the step failed and the memory was
    cleared.
    """

    kind: Literal["refused", "failed"]
    text: str
    geometry: tuple[str, ...] | None = None  # as in `Step`: it may be why the network failed
    is_hopeless: bool = False  # twice in a row, the second time without history: the next set would fare no better


def step(
    assembler: FrameAssembler,
    stream: OccupancyStream,
    ready: ReadySet,
    reset: str | None,
    wanted: Wanted,
) -> Step | Lost:
    """Work on one set; `reset` is why the memory is cleared before it, or None.

    A set that is refused leaves the memory as it was: time goes on without it.  After any other failure, in decoding as
    in the network, the memory is cleared, since nobody knows what is in it.  Where device or host had too little
    memory, or logits were not finite, the history may have been the cause: the same frame is tried once more without.
    """
    begin_s, geometry = time.perf_counter(), None
    frame: Frame | None = None
    if reset is not None:
        stream.reset(reset)
    try:
        frame = assembler.frame(ready)
        decoded_s = time.perf_counter()
        geometry = assembler.judge_geometry(frame, stream.network.config)
        occupancy = _stepped(stream, frame, wanted)
    except Refused as refusal:
        return Lost("refused", str(refusal))
    except Exception as error:  # of any kind: the next set must not meet what this one left behind
        if not isinstance(error, NonFiniteError):  # for which the stream has cleared its memory itself
            stream.reset(FAILED_RESET)
        return Lost("failed", error_text(error), geometry, is_hopeless=frame is not None and _may_be_of_history(error))
    times_ms = {"decode": (decoded_s - begin_s) * 1e3, **occupancy.timings_ms}
    return Step(frame, occupancy, times_ms, geometry)


def _stepped(stream: OccupancyStream, frame: Frame, wanted: Wanted) -> Occupancy:
    try:
        return stream.step(frame, wanted)
    except Exception as error:
        if not _may_be_of_history(error):
            raise
        lacked_memory = is_out_of_memory(error)
    if lacked_memory:  # here, where no traceback holds the tensors of the first try
        stream.reset(OUT_OF_MEMORY)  # else the stream has done it itself
        gc.collect()
        give_back_all(stream.network.device)
    return stream.step(frame, wanted)


def _may_be_of_history(error: Exception) -> bool:
    return isinstance(error, NonFiniteError) or is_out_of_memory(error)


def error_text(error: Exception) -> str:
    """One bounded line; the kind of error stands in front unless its text is one of ours, which needs none."""
    text = str(error) if isinstance(error, (ValueError, NonFiniteError)) else f"{type(error).__name__}: {error}"
    return (text.splitlines() or [""])[0][:MAX_TEXT]
