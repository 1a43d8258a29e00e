"""Point clouds and grids in time: which grid labels which cloud, and the transform between them.

The grid nearest in time labels a cloud, if it is no further away than `max_age_s`.  Stamps decide, so that a node and
the replay of its bag choose the same one: a cloud waits for a grid that is not older than itself, and for transforms.
Clocks merely end the waiting: then the nearest grid that is there counts.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from panoocc_core.config import ModelConfig
from panoocc_core.geometry import NS_PER_S, Matrix, invert
from panoocc_core.panoptic.labelling import Outside, PointRules, label_points
from panoocc_core.types import Occupancy

from ..messages.clouds import CloudError, labelled, positions_m
from ..messages.fields import stamp_ns
from .edge import TooEarly, TransformError

Loss = Literal["no_grid", "no_transform", "refused", "queue_full", "busy", "failed"]

MAX_GRIDS = 32  # that are kept
FOREVER_NS = 2**61
OTHER_CLOCK_S = 3600.0

# world_from_frame [4, 4] of a frame at a stamp (ns), in the frame that does not move; raises TransformError.
LookUp = Callable[[str, int], Matrix]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A cloud and the grid that labels it."""

    message: Any  # sensor_msgs/PointCloud2
    came_ns: int
    occupancy: Occupancy
    ego_from_cloud: Matrix  # [4, 4], from the cloud's frame at its stamp to the vehicle's at the grid's stamp


@dataclass(frozen=True, slots=True)
class CloudCounts:
    """What became of clouds."""

    clouds: int = 0
    labelled: int = 0
    points: int = 0  # of the labelled clouds
    unknown: int = 0  # of these
    not_finite: int = 0  # of these
    lost: Mapping[Loss, int] = field(default_factory=dict)
    texts: Mapping[Loss, str] = field(default_factory=dict)  # why the last one was lost


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    message: Any
    stamp_ns: int
    came_ns: int


class CloudQueue:
    """Clouds that wait for their grid; for one thread, but for `labelled`, `lose` and `counts`.

    Args:
        base_frame: in which grids are given.
        max_age_s: the furthest grid, in time, that labels a cloud.
        wait_s: how long a cloud waits for a grid that is not older; 0: the newest one labels it at once.
        tf_wait_s: how long it waits for its transforms.
        max_waiting: the oldest cloud is lost when more wait.
    """

    def __init__(
        self, look_up: LookUp, base_frame: str, max_age_s: float, wait_s: float, tf_wait_s: float, max_waiting: int
    ) -> None:
        self._look_up, self._base_frame, self._max_waiting = look_up, base_frame, max_waiting
        self._max_age_ns, self._wait_ns, self._tf_wait_ns = (
            min(FOREVER_NS, round(seconds * NS_PER_S)) for seconds in (max_age_s, wait_s, tf_wait_s)
        )
        self._grids: deque[Occupancy] = deque(maxlen=MAX_GRIDS)  # in the order of their stamps
        self._waiting: deque[_Waiting] = deque()
        self._lock = threading.Lock()
        self._numbers: Counter[str] = Counter()
        self._lost: Counter[Loss] = Counter()
        self._texts: dict[Loss, str] = {}

    @property
    def counts(self) -> CloudCounts:
        """What became of the clouds so far."""
        with self._lock:
            return CloudCounts(**self._numbers, lost=Counter(self._lost), texts=dict(self._texts))

    def add_cloud(self, message: Any, now_ns: int) -> None:
        """Take a sensor_msgs/PointCloud2 that came at `now_ns`, by any clock."""
        if not message.header.frame_id:
            self.refuse("the cloud's header.frame_id is empty: nobody knows where its points are")
            return
        self._count(clouds=1)
        if len(self._waiting) >= self._max_waiting:
            self._waiting.popleft()
            self.lose("queue_full", f"more than {self._max_waiting} clouds wait for grids and transforms")
        self._waiting.append(_Waiting(message, stamp_ns(message.header.stamp), now_ns))

    def refuse(self, text: str) -> None:
        """A cloud has come that cannot be used."""
        self._count(clouds=1)
        self.lose("refused", text)

    def add_grid(self, occupancy: Occupancy) -> list[Pair]:
        """Take the next grid; returns the pairs of what waited, where the clock of the grids went back."""
        before: list[Pair] = []
        if self._grids and occupancy.stamp_ns < self._grids[-1].stamp_ns:
            before = self.finish()
            self._grids.clear()
        self._grids.append(occupancy)
        while self._grids[0].stamp_ns < occupancy.stamp_ns - 2 * self._max_age_ns:
            self._grids.popleft()
        return before

    def poll(self, now_ns: int) -> list[Pair]:
        """The clouds that need not wait longer; call it often."""
        waiting, self._waiting = self._waiting, deque()
        pairs = []
        for one in waiting:
            waited_ns = now_ns - one.came_ns
            pair = self._pair(one, waited_ns if waited_ns >= 0 else FOREVER_NS)  # that clock may go back
            if isinstance(pair, _Waiting):
                self._waiting.append(pair)
            elif pair is not None:
                pairs.append(pair)
        return pairs

    def finish(self) -> list[Pair]:
        """The pairs of all that wait: nothing more will come."""
        return self.poll(FOREVER_NS + max((one.came_ns for one in self._waiting), default=0))

    def labelled(self, pair: Pair, rules: PointRules, new_message: Callable[..., Any]) -> Any | None:
        """The cloud of a pair with its labels; None where it cannot be used, which is counted.  Of any thread.

        Args:
            new_message: makes an empty message of a type.
        """
        try:
            position_m = positions_m(pair.message)
            found = label_points(position_m, pair.ego_from_cloud, pair.occupancy, rules)
            message = labelled(pair.message, found, pair.occupancy.labels, new_message)
        except CloudError as error:
            self.lose("refused", str(error))
            return None
        not_finite = int((~np.isfinite(position_m).all(axis=1)).sum())
        self._count(labelled=1, points=len(position_m), unknown=found.unknown, not_finite=not_finite)
        return message

    def _count(self, **more: int) -> None:
        with self._lock:
            self._numbers.update(more)

    def lose(self, why: Loss, text: str, count: int = 1) -> None:
        """So many clouds are lost; of any thread."""
        with self._lock:
            self._lost[why] += count
            self._texts[why] = text

    def _pair(self, one: _Waiting, waited_ns: int) -> Pair | _Waiting | None:
        """None: the cloud is lost."""
        has_later = bool(self._grids) and self._grids[-1].stamp_ns >= one.stamp_ns
        if not has_later and waited_ns < self._wait_ns:
            return one
        grid = min(self._grids, key=lambda grid: abs(grid.stamp_ns - one.stamp_ns), default=None)
        if grid is None or abs(grid.stamp_ns - one.stamp_ns) > self._max_age_ns:
            self.lose("no_grid", self._no_grid(one, grid))
            return None
        try:
            world_from_cloud = self._look_up(one.message.header.frame_id, one.stamp_ns)
            world_from_ego = self._look_up(self._base_frame, grid.stamp_ns)
        except TransformError as error:
            if waited_ns < self._tf_wait_ns and not isinstance(error, TooEarly):
                return one
            self.lose("no_transform", f"pose of the points: {error}")
            return None
        return Pair(one.message, one.came_ns, grid, invert(world_from_ego) @ world_from_cloud)

    def _no_grid(self, one: _Waiting, nearest: Occupancy | None) -> str:
        at, limit = f"the cloud at {one.stamp_ns / NS_PER_S:.3f} s", f"{self._max_age_ns / NS_PER_S:g} s"
        if nearest is None:
            return f"{at} has no grid within {limit}: none came yet"
        apart_s = (nearest.stamp_ns - one.stamp_ns) / NS_PER_S
        where = f"{abs(apart_s):.3f} s {'later' if apart_s > 0 else 'earlier'}"
        doubt = ": are cloud and images stamped by one clock?" if abs(apart_s) > OTHER_CLOCK_S else ""
        return f"{at} has no grid within {limit}: the nearest one is {where}{doubt}"


def reads_logits(config: ModelConfig) -> bool:
    """Whether points read the logits of a network rather than its voxels: it has learnt from points."""
    return config.truth == "points"


def point_rules(config: ModelConfig | None, outside: Outside) -> PointRules:
    """How points are labelled by the grids of a network; None: by grids of which no more than a message is known."""
    return PointRules(outside) if config is None else PointRules(outside, config.points, config.panoptic)
