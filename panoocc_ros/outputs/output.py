"""What an output is, and what all outputs of one occupancy share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from panoocc_core import Frame, Occupancy, Wanted
from panoocc_core.geometry import NS_PER_S, Matrix
from panoocc_core.labels import LabelSet
from panoocc_core.planning import Band, Columns, columns, ground_classes, obstacle_classes
from panoocc_core.planning.columns import from_above
from panoocc_core.types import ScoredBoxes

from ..messages.voxel_grid import VoxelList, occupied_voxels
from .output_options import OutputOptions

NewMessage = Callable[..., Any]  # an empty message of a type such as "panoocc/msg/VoxelGrid"; fields as keywords
Need = Literal["instances", "boxes", "visible"]  # what an output takes from an occupancy beside the classes


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
        band = Band(self.options.obstacles_min_z_m, self.options.obstacles_max_z_m)
        return found.select(band.holds(found.centres_m()[:, 2]))

    @property
    def band_2d(self) -> Band:
        """The band of ~/grid_2d and ~/bev/..."""
        return Band(self.options.grid_2d_min_z_m, self.options.grid_2d_max_z_m)

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


def _array(grid: Tensor | None) -> NDArray[Any] | None:
    return None if grid is None else grid.cpu().numpy()


@dataclass(frozen=True, slots=True)
class Output:
    """One topic with a message for every grid: below `~/` of the node, below `/panoocc/` in a bag."""

    topic: str
    type: str
    make: Callable[[Result, NewMessage], Any]  # the message, or its CDR bytes; None: there is nothing to say
    needs: frozenset[Need] = frozenset()  # no boxes, no message
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

    def applies(self, occupancy: Occupancy) -> bool:
        """Whether there is anything to say: there are no boxes where nobody looked for things."""
        return "boxes" not in self.needs or occupancy.boxes is not None


@dataclass(frozen=True, slots=True)
class Announcement:
    """One topic with a single message about the classes, latched."""

    topic: str
    type: str
    make: Callable[[LabelSet, str, NewMessage], Any]  # of the classes and the name of base_frame
    optional: bool = False  # as in Output


class Pacer:
    """Holds every topic to its rate by the stamps of the grids: topics of one rate are sent for the same grids."""

    def __init__(self, options: OutputOptions) -> None:
        self._options = options
        self._sent: dict[Output, int] = {}  # period in which each was sent last

    def is_due(self, output: Output, stamp_ns: int) -> bool:
        """Whether an output may be sent for the grid of this stamp."""
        period = self._period(output, stamp_ns)
        return period is None or self._sent.get(output) != period

    def sent(self, output: Output, stamp_ns: int) -> None:
        """An output was sent for the grid of this stamp."""
        if (period := self._period(output, stamp_ns)) is not None:
            self._sent[output] = period

    def forget(self, output: Output) -> None:
        """Nobody listens: whoever comes next gets the next grid, so that nothing latched is old for long."""
        self._sent.pop(output, None)

    def _period(self, output: Output, stamp_ns: int) -> int | None:
        rate_hz = self._options.max_rate_hz(output.rate)
        return stamp_ns // round(NS_PER_S / rate_hz) if rate_hz else None


def wanted_by(outputs: Iterable[Output]) -> Wanted:
    """What a step has to find for some outputs."""
    needs = {need for output in outputs for need in output.needs}
    return Wanted(instances="instances" in needs, visible="visible" in needs)
