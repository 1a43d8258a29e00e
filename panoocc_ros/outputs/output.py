"""What an output is, and what all outputs of one occupancy share."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from panoocc_core import Frame, Occupancy, Wanted
from panoocc_core.geometry import NS_PER_S, Matrix
from panoocc_core.labels import InstanceSource, LabelSet
from panoocc_core.planning import Band, Columns, columns, ground_classes, obstacle_classes
from panoocc_core.planning.columns import from_above
from panoocc_core.planning.obstacles import layers_in
from panoocc_core.types import GridGeometry, ScoredBoxes

from ..messages.voxel_grid import VoxelList, occupied_voxels
from ..ros.parameter_fields import SettingsError
from .output_options import OutputOptions

NewMessage = Callable[..., Any]  # an empty message of a type such as "panoocc/msg/VoxelGrid"; fields as keywords
Need = Literal["instances", "boxes", "visible", "free"]  # what an output takes from an occupancy beside the classes


@dataclass(frozen=True)
class Result:
    """One occupancy, and what its outputs share."""

    occupancy: Occupancy
    frame: Frame  # that it was made of
    sequence: int
    frame_id: str
    rig_cameras: Sequence[str]
    options: OutputOptions = field(default_factory=OutputOptions)
    map_from_ego: Matrix | None = None  # [4, 4] of `grid_frame`, at the stamp of the occupancy; None: it is not known

    @cached_property
    def voxels(self) -> VoxelList:
        """The voxels that are not free."""
        return occupied_voxels(self.occupancy)

    @cached_property
    def obstacles(self) -> VoxelList:
        """The voxels that are obstacles, in the band of ~/obstacles."""
        found = self.voxels.select(self._is_obstacle[self.voxels.class_id])
        band = checked_band(self.options, "obstacles", self.occupancy.geometry)
        return found.select(band.holds(found.centres_m()[:, 2]))

    @property
    def band_2d(self) -> Band:
        """The band of ~/grid_2d and ~/bev/..."""
        return checked_band(self.options, "grid_2d", self.occupancy.geometry)

    @cached_property
    def columns(self) -> Columns:
        """The columns of the grid in `band_2d`."""
        occupancy = self.occupancy
        class_id, confidence, visible = map(_array, (occupancy.class_id, occupancy.confidence, occupancy.visible))
        assert class_id is not None
        return columns(
            class_id,
            confidence,
            visible,
            occupancy.geometry,
            self.band_2d,
            is_obstacle=self._is_obstacle,
            is_ground=ground_classes(occupancy.labels),
            free_id=occupancy.labels.free_id,
        )

    def seen_from_above(self, of_columns: NDArray[Any]) -> NDArray[Any]:
        """[X, Y, ...] -> [row, column, ...] of the pictures ~/bev/..."""
        return from_above(of_columns, self.occupancy.geometry.ego_from_grid)

    @cached_property
    def _is_obstacle(self) -> NDArray[np.bool_]:
        return obstacle_classes(self.occupancy.labels, self.options.obstacle_names)

    @property
    def boxes(self) -> ScoredBoxes:
        """The boxes of the things."""
        assert self.occupancy.boxes is not None  # else the output does not apply
        return self.occupancy.boxes


def checked_band(options: OutputOptions, name: str, geometry: GridGeometry) -> Band:
    """One of the bands of heights, "obstacles" or "grid_2d".

    Raises:
        SettingsError: it holds no voxel of the grid.
    """
    low, high = f"{name}_min_z_m", f"{name}_max_z_m"
    band = Band(getattr(options, low), getattr(options, high))
    try:
        layers_in(band, geometry)
    except ValueError as error:
        raise SettingsError(str(error), low, high) from error
    return band


def _array(grid: Tensor | None) -> NDArray[Any] | None:
    return None if grid is None else grid.cpu().numpy()


@dataclass(frozen=True, slots=True)
class Output:
    """One topic with a message for every grid: below `~/` of the node, below `/panoocc/` in a bag."""

    topic: str
    type: str
    make: Callable[[Result, NewMessage], Any]  # the message, or its CDR bytes; None: there is nothing to say
    needs: frozenset[Need] = frozenset()  # no message without them, except where the network never has them
    in_node: bool = True
    in_bags: bool = True
    by_default: bool = True  # in bags, where nobody has chosen
    optional: bool = False  # not in the node where the type's package is not installed
    latched: bool = False
    depth: int = 2  # of the publisher's queue
    rate_of: str = ""  # the topic whose rate it has; empty: its own
    frame: str = "base_frame"  # the parameter that names it

    @property
    def rate(self) -> str:
        """The topic whose parameter says how often it may be sent."""
        return self.rate_of or self.topic

    def lacks(self, source: InstanceSource, labels: LabelSet) -> Need | None:
        """What a network never has that the output cannot do without."""
        if "boxes" in self.needs and source == "none":
            return "boxes"
        return "free" if "free" in self.needs and labels.free_id is None else None

    def applies(self, occupancy: Occupancy, wanted: Wanted) -> bool:
        """Whether an occupancy of a step that was asked for `wanted` has what is needed."""
        return (
            self.lacks(occupancy.instances, occupancy.labels) is None
            and ("boxes" not in self.needs or occupancy.boxes is not None)
            and all(getattr(wanted, need) for need in self.needs & {"instances", "visible"})
        )


def no_free_space(labels: LabelSet) -> str:
    """Why an output that needs "free" is left out."""
    return f"the classes {labels.key} have none for free space"


@dataclass(frozen=True, slots=True)
class Announcement:
    """One topic with a single message about the classes, latched."""

    topic: str
    type: str
    make: Callable[[LabelSet, str, NewMessage], Any]  # of the classes and the name of base_frame
    optional: bool = False  # as in Output


class TopicRates:
    """Holds every topic to its rate by the stamps of the grids: topics of one rate are sent for the same grids.

    A rate has as many turns as periods, but each may come `EARLY` of a period before its time: stamps that tremble lose
    no grid.  Stamps that go back begin anew.
    """

    EARLY = 0.25

    def __init__(self, options: OutputOptions, outputs: Collection[Output]) -> None:
        rates_hz = {output: options.max_rate_hz(output.rate) for output in outputs}
        self._periods_ns = {output: round(NS_PER_S / rate_hz) for output, rate_hz in rates_hz.items() if rate_hz}
        self._turns: dict[int, tuple[int, int]] = {}  # period -> stamp of its last turn, and of the next as planned
        self._served: set[Output] = set()  # outputs that were sent, and wait for their next turn

    def is_due(self, output: Output, stamp_ns: int) -> bool:
        """Whether an output is sent for the grid of this stamp: it is its turn, or it is new."""
        period_ns = self._periods_ns.get(output)
        return period_ns is None or output not in self._served or self._is_turn(period_ns, stamp_ns)

    def sent(self, output: Output) -> None:
        """An output has had its grid."""
        self._served.add(output)

    def forget(self, output: Output) -> None:
        """Nobody listens, or there was nothing to send: the next grid is due, so that nothing latched is old."""
        self._served.discard(output)

    def next_grid(self, stamp_ns: int) -> None:
        """All that was due for the grid of this stamp has been dealt with."""
        for period_ns in set(self._periods_ns.values()):
            if self._is_turn(period_ns, stamp_ns):
                last_ns, planned_ns = self._turns.get(period_ns, (stamp_ns, stamp_ns))
                planned_ns = stamp_ns if stamp_ns < last_ns else planned_ns
                self._turns[period_ns] = stamp_ns, max(planned_ns + period_ns, stamp_ns)

    def _is_turn(self, period_ns: int, stamp_ns: int) -> bool:
        if period_ns not in self._turns:
            return True
        last_ns, planned_ns = self._turns[period_ns]
        early_ns = round(self.EARLY * period_ns)
        return stamp_ns < last_ns or stamp_ns >= max(last_ns + period_ns, planned_ns) - early_ns


def wanted_by(outputs: Iterable[Output]) -> Wanted:
    """What a step has to find for some outputs."""
    needs = {need for output in outputs for need in output.needs}
    return Wanted(instances="instances" in needs, visible="visible" in needs)
