"""What the outputs of a frame cost: the size of their messages, and the CPU time of making and serialising them.

Messages are those of bags (`messages/types.py`), serialised, and sent to nobody.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch

from panoocc_core import Occupancy, Wanted
from panoocc_core.labels import OCC3D
from panoocc_core.types import GridGeometry, HistoryReport

from ..messages.types import VOXEL_GRID, new_message, typestore
from ..messages.voxel_grid import fill_voxel_grid
from .output import Output, Result

REPEATS = 5  # of a frame, after one that is not counted
PUBLISHED_XYZ, OCCUPIED_SHARE = (200, 200, 16), 0.05  # of the published Occ3D networks, and about that of a street


@dataclass(frozen=True, slots=True)
class Cost:
    """Of the messages of one frame, medians over frames."""

    bytes: int  # serialised
    cpu_ms: float  # made and serialised


def output_costs(results: Sequence[Result], outputs: Iterable[Output]) -> dict[str, Cost]:
    """What each output that has something to say costs by itself, by topic.

    Raises:
        ValueError: there is no result.
    """
    found = {}
    for output in outputs:
        told = [result for result in results if output.applies(result.occupancy, Wanted())]
        if told or not results:
            found[output.topic] = _cost([_work((output,), result) for result in told])
    return found


def cost_together(results: Sequence[Result], outputs: Iterable[Output]) -> Cost:
    """What some outputs of a frame cost when all are made, and share what they can.

    Raises:
        ValueError: there is no result.
    """
    outputs = tuple(outputs)
    return _cost([_work(outputs, result) for result in results])


def cost_at_rates(results: Sequence[Result], outputs: Iterable[Output], grids_hz: float) -> Cost:
    """What the outputs of a frame cost on average, when each is made at most as often as the options of results say.

    Raises:
        ValueError: there is no result.
    """
    shares: dict[float, list[Output]] = {}
    for output in outputs:
        rate_hz = results[0].options.max_rate_hz(output.rate) if results and output.in_node else 0.0
        shares.setdefault(min(rate_hz / grids_hz or 1.0, 1.0), []).append(output)
    costs = {share: cost_together(results, some) for share, some in shares.items()}
    size = round(sum(share * cost.bytes for share, cost in costs.items()))
    return Cost(size, sum(share * cost.cpu_ms for share, cost in costs.items()))


def published_grid_costs() -> dict[str, Cost]:
    """What a VoxelGrid of PUBLISHED_XYZ costs, with instances and confidence, without and with what is visible."""
    occupancy = grid_of_share(PUBLISHED_XYZ, OCCUPIED_SHARE)

    def work(one: Occupancy) -> Callable[[], int]:
        return lambda: len(serialised(fill_voxel_grid(new_message(VOXEL_GRID), one, 0), VOXEL_GRID))

    unseen = replace(occupancy, visible=None)
    return {"without visible": _cost([work(unseen)]), "with visible": _cost([work(occupancy)])}


def grid_of_share(shape_xyz: tuple[int, int, int], share: float) -> Occupancy:
    """A grid of which exactly a share is occupied, all of it things with confidence, and half of it visible."""
    count, random = int(np.prod(shape_xyz)), np.random.default_rng(0)
    occupied = random.permutation(count) < round(share * count)
    class_id = np.where(occupied, OCC3D.names.index("car"), OCC3D.names.index("free")).astype(np.uint8)
    instance_id = np.where(occupied, random.integers(1, 200, count), 0).astype(np.int32)
    return Occupancy(
        stamp_ns=0,
        oldest_image_stamp_ns=0,
        newest_image_stamp_ns=0,
        class_id=torch.from_numpy(class_id.reshape(shape_xyz)),
        confidence=torch.from_numpy(random.integers(0, 256, shape_xyz, np.uint8)),
        instance_id=torch.from_numpy(instance_id.reshape(shape_xyz)),
        geometry=GridGeometry(shape_xyz, (0.4, 0.4, 0.4), np.eye(4)),
        labels=OCC3D,
        cameras=(),
        history=HistoryReport(),
        instances="boxes",
        visible=torch.from_numpy(random.random(shape_xyz) < 0.5),
    )


def serialised(message: object, kind: str) -> bytes:
    """CDR of a message, or of what is CDR already."""
    return message if isinstance(message, bytes) else bytes(typestore().serialize_cdr(message, kind))


def costs_table(outputs: Mapping[str, Cost], sums: Mapping[str, Cost]) -> str:
    """Both as text: every output, below them what was measured beside."""
    lines = [f"{'output':56s} {'kB':>10s} {'CPU ms':>10s}"]
    for name, cost in (*outputs.items(), *sums.items()):
        lines.append(f"{name:56s} {cost.bytes / 1e3:10.1f} {cost.cpu_ms:10.2f}")
    return "\n".join(lines)


def _work(outputs: Sequence[Output], result: Result) -> Callable[[], int]:
    """Makes and serialises, and returns the bytes; nothing is left over from one call to the next."""

    def work() -> int:
        fresh = replace(result)
        told = (output for output in outputs if output.applies(fresh.occupancy, Wanted()))
        return sum(len(serialised(output.make(fresh, new_message), output.type)) for output in told)

    return work


def _cost(works: Sequence[Callable[[], int]]) -> Cost:
    if not works:
        raise ValueError("there is no frame whose messages could be measured")
    sizes, times_ms = [work() for work in works], []
    for work in works:
        for _ in range(REPEATS):
            begin_s = time.process_time()
            work()
            times_ms.append((time.process_time() - begin_s) * 1e3)
    return Cost(round(median(sizes)), median(times_ms))
