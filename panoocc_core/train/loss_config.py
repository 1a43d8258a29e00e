"""Which losses a training uses, with what weight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ..base.ranges import Length, Within, check_ranges, shown

TERMS = (
    "occupancy_ce",
    "occupancy_lovasz",
    "gate_focal",
    "semantic_focal",
    "semantic_lovasz",
    "thing_focal",
    "box_class",
    "box_l1",
    "sparse_focal",
)
Weight = Annotated[float, Within(0, 1_000_000)]


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Weights of the terms, 0 = not computed; the published ones are in `PUBLISHED`.

    Raises:
        ValueError: a negative weight, no term at all, or code weights that are not ten.
    """

    # dense voxel truth
    occupancy_ce: Weight = 0.0  # cross-entropy of the voxels that a camera sees
    occupancy_lovasz: Weight = 0.0  # Lovász-softmax of the voxels that `lovasz_voxels` names
    gate_focal: Weight = 0.0  # focal loss of the occupancy gate
    # labelled LiDAR points
    semantic_focal: Weight = 0.0  # focal loss of all fine voxels
    semantic_lovasz: Weight = 0.0  # Lovász-softmax of the labelled voxels
    thing_focal: Weight = 0.0  # focal loss of the coarse voxels
    # boxes
    box_class: Weight = 0.0
    box_l1: Weight = 0.0
    # occupancy heads of a sparse decoder, by either kind of truth: focal loss of every stage
    sparse_focal: Weight = 0.0
    # of cx, cy, log w, log l, cz, log h, sin, cos, vx, vy
    code_weights: Annotated[tuple[Weight, ...], Length(10, 10)] = (1.0,) * 8 + (0.2, 0.2)
    match_class_cost: Weight = 2.0
    match_l1_cost: Weight = 0.25
    supervised_layers: Literal["last", "all"] = "last"
    # For own training.  "occupied", the published rule: all voxels that are not free, seen or not; "camera_occupied":
    # those of them that a camera sees; "camera": all that a camera sees, free space as one more class.
    lovasz_voxels: Literal["occupied", "camera_occupied", "camera"] = "occupied"
    class_weights: dict[str, Weight] = field(default_factory=dict)  # by class, in the cross-entropy; 1 where not named

    def __post_init__(self) -> None:
        check_ranges(self)
        if not any(getattr(self, name) for name in TERMS):
            raise ValueError(f"all weights are 0; give at least one of {', '.join(TERMS)}")

    @property
    def uses_boxes(self) -> bool:
        """Whether the network's box branch is trained."""
        return self.box_class > 0 or self.box_l1 > 0

    def check_classes(self, names: Sequence[str]) -> None:
        """Only classes of the network, which are called `names`, have weights.

        Raises:
            ValueError: another one has.
        """
        unknown = [name for name in self.class_weights if name not in names]
        if unknown:
            raise ValueError(f"losses.class_weights: {shown(unknown[0])} is not one of {', '.join(names)}")


PUBLISHED: Mapping[str, Mapping[str, Any]] = {  # by the network's kind of truth
    "voxels": {
        "occupancy_ce": 10.0,
        "occupancy_lovasz": 1.0,
        "gate_focal": 2.0,
        "box_class": 2.0,
        "box_l1": 0.25,
        "supervised_layers": "last",
    },
    "points": {
        "semantic_focal": 10.0,
        "semantic_lovasz": 10.0,
        "thing_focal": 10.0,  # 5 in "PanoOcc_small_1f"
        "box_class": 2.0,
        "box_l1": 0.25,
        "supervised_layers": "all",
    },
}
