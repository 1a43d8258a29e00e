"""The least time that a device could take for a frame: what is counted, at the rates that were measured."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .counting import COUNTED_STAGES, Work
from .rates import Rates

TOTAL = "total"  # of the stages that a grid needs


@dataclass(frozen=True, slots=True)
class Floor:
    """Of one stage, or of several together."""

    gflop: float
    moved_gb: float
    gathered_gb: float
    cpu_ms: float | None  # at the rates of one thread, in CPU time; None on CUDA
    wall_ms: float  # at the rates of all threads, or of the device

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def floors(works: Sequence[Work], one_thread: Rates | None, all_threads: Rates) -> dict[str, Floor]:
    """Stage -> floor, and that of the stages that a grid needs as "total".

    Args:
        one_thread: None on CUDA.
    """
    parts = {stage: [work for work in works if work.stage == stage] for stage in dict.fromkeys(w.stage for w in works)}
    parts[TOTAL] = [work for work in works if work.stage in COUNTED_STAGES]
    return {name: _floor(part, one_thread, all_threads) for name, part in parts.items()}


def _floor(works: Sequence[Work], one_thread: Rates | None, all_threads: Rates) -> Floor:
    return Floor(
        gflop=sum(work.flops for work in works) / 1e9,
        moved_gb=sum(work.moved_bytes for work in works) / 1e9,
        gathered_gb=sum(work.gathered_bytes for work in works) / 1e9,
        cpu_ms=None if one_thread is None else 1e3 * sum(map(one_thread.seconds, works)),
        wall_ms=1e3 * sum(map(all_threads.seconds, works)),
    )
