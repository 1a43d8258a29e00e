"""Which losses a training uses, with what weight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

TERMS = (
    "occupancy_ce",
    "occupancy_lovasz",
    "gate_focal",
    "semantic_focal",
    "semantic_lovasz",
    "thing_focal",
    "box_class",
    "box_l1",
)


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Weights of the terms, 0 = not computed; the published ones are in `PUBLISHED`.

    Raises:
        ValueError: a negative weight, no term at all, or code weights that are not ten.
    """

    # dense voxel truth
    occupancy_ce: float = 0.0  # cross-entropy of the voxels that a camera sees
    occupancy_lovasz: float = 0.0  # Lovász-softmax of the voxels that `lovasz_voxels` names
    gate_focal: float = 0.0  # focal loss of the occupancy gate
    # labelled LiDAR points
    semantic_focal: float = 0.0  # focal loss of all fine voxels
    semantic_lovasz: float = 0.0  # Lovász-softmax of the labelled voxels
    thing_focal: float = 0.0  # focal loss of the coarse voxels
    # boxes
    box_class: float = 0.0
    box_l1: float = 0.0
    code_weights: tuple[float, ...] = (1.0,) * 8 + (0.2, 0.2)  # cx, cy, log w, log l, cz, log h, sin, cos, vx, vy
    match_class_cost: float = 2.0
    match_l1_cost: float = 0.25
    supervised_layers: Literal["last", "all"] = "last"
    # For own training.  "occupied", the published rule: all voxels that are not free, seen or not; "camera_occupied":
    # those of them that a camera sees; "camera": all that a camera sees, free space as one more class.
    lovasz_voxels: Literal["occupied", "camera_occupied", "camera"] = "occupied"
    class_weights: dict = field(default_factory=dict)  # class name -> weight in the cross-entropy, 1 where not named

    def __post_init__(self) -> None:
        for name in (*TERMS, "match_class_cost", "match_l1_cost"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if not any(getattr(self, name) for name in TERMS):
            raise ValueError(f"all weights are 0; give at least one of {', '.join(TERMS)}")
        if len(self.code_weights) != 10:
            raise ValueError(f"code_weights must be 10 values, not {len(self.code_weights)}")
        if not all(0 <= weight < float("inf") for weight in self.code_weights):
            raise ValueError(f"code_weights must be 0 or more, not {self.code_weights}")
        for name, weight in self.class_weights.items():
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
                raise ValueError(f"class_weights.{name} must be a number of 0 or more, not {weight!r}")

    @property
    def uses_boxes(self) -> bool:
        """Whether the network's box branch is trained."""
        return self.box_class > 0 or self.box_l1 > 0

    def check_classes(self, names: Sequence[str]) -> None:
        """Only classes of the network, which are called `names`, have weights.

        Raises:
            ValueError: another one has.
        """
        unknown = sorted(set(map(str, self.class_weights)) - set(names))
        if unknown:
            raise ValueError(f"losses.class_weights: {unknown[0]!r} is not one of {', '.join(names)}")


PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "occ3d": {
        "occupancy_ce": 10.0,
        "occupancy_lovasz": 1.0,
        "gate_focal": 2.0,
        "box_class": 2.0,
        "box_l1": 0.25,
        "supervised_layers": "last",
    },
    "lidar_segmentation": {
        "semantic_focal": 10.0,
        "semantic_lovasz": 10.0,
        "thing_focal": 10.0,  # 5 in "PanoOcc_small_1f"
        "box_class": 2.0,
        "box_l1": 0.25,
        "supervised_layers": "all",
    },
}
