"""What an output is, and what all outputs of one occupancy share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from panoocc_core import Frame, Occupancy, Wanted
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

    @cached_property
    def voxels(self) -> VoxelList:
        """The voxels that are not free."""
        return occupied_voxels(self.occupancy)

    @property
    def boxes(self) -> ScoredBoxes:
        """The boxes of the things."""
        assert self.occupancy.boxes is not None  # else the output does not apply
        return self.occupancy.boxes


@dataclass(frozen=True, slots=True)
class Output:
    """One topic: below `~/` of the node, below `/panoocc/` in a bag."""

    topic: str
    type: str
    make: Callable[[Result, NewMessage], Any]  # the message, or its CDR bytes
    needs: frozenset[Need] = frozenset()  # no boxes, no message
    in_node: bool = True
    in_bags: bool = True
    optional: bool = False  # not in the node where the type's package is not installed
    depth: int = 2  # of the publisher's queue

    def applies(self, occupancy: Occupancy) -> bool:
        """Whether there is anything to say: there are no boxes where nobody looked for things."""
        return "boxes" not in self.needs or occupancy.boxes is not None


def wanted_by(outputs: Iterable[Output]) -> Wanted:
    """What a step has to find for some outputs."""
    needs = {need for output in outputs for need in output.needs}
    return Wanted(instances="instances" in needs, visible="visible" in needs)
