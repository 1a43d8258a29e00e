"""Semantic classes: names, things and stuff, display colours.

The class lists are those of nuScenes lidarseg and Occ3D-nuScenes; the colours are our own.
"""

from dataclasses import dataclass
from typing import Literal

Colour = tuple[int, int, int]  # RGB 0..255
InstanceSource = Literal["boxes", "components", "none"]  # what tells the things of a frame apart


@dataclass(frozen=True, slots=True)
class LabelSet:
    """A named, versioned list of classes.  `free_id` is None where a network has no class for free space."""

    key: str
    version: int
    names: tuple[str, ...]
    is_thing: tuple[bool, ...]
    colours: tuple[Colour, ...]
    free_id: int | None

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.is_thing) == len(self.colours):
            raise ValueError(f"label set {self.key}: names, thing flags and colours differ in number")


BOX_CLASSES = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)

_COLOURS = {
    "others": (90, 90, 90),
    "noise": (90, 90, 90),
    "barrier": (214, 126, 44),
    "bicycle": (226, 82, 152),
    "bus": (236, 200, 60),
    "car": (48, 132, 232),
    "construction_vehicle": (120, 196, 196),
    "motorcycle": (196, 60, 196),
    "pedestrian": (226, 48, 48),
    "traffic_cone": (255, 164, 96),
    "trailer": (142, 106, 60),
    "truck": (116, 84, 206),
    "driveable_surface": (118, 118, 128),
    "other_flat": (146, 128, 116),
    "sidewalk": (182, 166, 190),
    "terrain": (156, 186, 110),
    "manmade": (206, 196, 178),
    "vegetation": (52, 142, 66),
    "free": (255, 255, 255),
}
_SIXTEEN = (
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
    "driveable_surface",
    "other_flat",
    "sidewalk",
    "terrain",
    "manmade",
    "vegetation",
)


def label_set(key: str, names: tuple[str, ...], version: int = 1) -> LabelSet:
    """A label set over any class names; a class called `free` is free space, unknown names get a grey of their own."""
    return LabelSet(
        key=key,
        version=version,
        names=names,
        is_thing=tuple(name in BOX_CLASSES for name in names),
        colours=tuple(_COLOURS.get(name, ((53 * i) % 200 + 40,) * 3) for i, name in enumerate(names)),
        free_id=names.index("free") if "free" in names else None,
    )


OCC3D = label_set("occ3d_nuscenes", ("others", *_SIXTEEN, "free"))
LIDARSEG = label_set("nuscenes_lidarseg", ("noise", *_SIXTEEN))
LIDARSEG_FREE = label_set("nuscenes_lidarseg_free", (*LIDARSEG.names, "free"))  # what the panoptic networks publish
BUILT_IN = {labels.key: labels for labels in (OCC3D, LIDARSEG, LIDARSEG_FREE)}
